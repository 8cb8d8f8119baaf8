"""Write the report of a comparison: tables, figure, summary, and the next sheet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raydistill.artifacts.tables import write_rows
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.simulation.config import SimulatedSurvey
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.hunt.artifact import (
    CURVES,
    CURVES_SCHEMA,
    FIGURE,
    LABELS,
    METRICS,
    METRICS_SCHEMA,
    SEEN,
    SEEN_SCHEMA,
    SUMMARY,
    TRIALS,
    TRIALS_SCHEMA,
    HuntSummary,
    RoundSummary,
)
from raydistill.stages.hunt.config import REFERENCE
from raydistill.stages.hunt.curves import discovery_curves as draw_curves
from raydistill.stages.hunt.labels import COLUMNS
from raydistill.stages.hunt.objects import Scripted, oracle_of
from raydistill.stages.hunt.round import write_sheet
from raydistill.stages.hunt.science.labels import FILENAME, LABEL, WORDS, new_labels, read_labels
from raydistill.stages.hunt.science.ranking import Candidate, Reason
from raydistill.stages.hunt.scripted_tables import (
    Trials,
    curve_rows,
    discovery_curves,
    metric_rows,
    seen_rows,
    trial_rows,
)
from raydistill.text import shown_name
from raydistill.tracking.tracker import Run

log = get_logger(__name__)


def write_files(
    plan: Plan, spec: ArtifactSpec, curated: CuratedSet, scripted: Scripted, trials: Trials,
    run: Run,
) -> None:  # fmt: skip
    """Write the tables, the figure, the summary and the round after the first trial."""
    config, folder, survey = plan.config.hunt, spec.folder, scripted.survey
    oracle, curves, metrics = oracle_of(config), discovery_curves(trials), metric_rows(trials)
    every_id = survey.ids
    ids = [every_id[row] for row in scripted.rows.tolist()]
    write_rows(folder, CURVES, curve_rows(curves), CURVES_SCHEMA)
    write_rows(folder, METRICS, metrics, METRICS_SCHEMA)
    write_rows(folder, TRIALS, trial_rows(trials, ids), TRIALS_SCHEMA)
    write_rows(folder, SEEN, seen_rows(curated, scripted, oracle), SEEN_SCHEMA)
    summary = HuntSummary(
        target=config.target,
        survey=survey.pictures.name,
        simulated=isinstance(plan.config.survey, SimulatedSurvey) and config.survey is None,
        positive=oracle.positive,
        setting=oracle.setting,
        num_objects=len(scripted.rows),
        num_positive=int(scripted.truth.sum()),
        num_examples=oracle.num_examples,
        rounds=oracle.rounds,
        per_round=config.per_round,
        seeds=oracle.seeds,
        purity=oracle.purity,
        strategies=config.strategies,
    )
    folder.write(SUMMARY, summary.to_json())
    known = f"{oracle.num_examples} known examples" if oracle.examples is None else "known examples of a file"
    save_figure(spec, run, FIGURE, lambda path: draw_curves(path, curves, config.target, known, oracle.seeds))
    _write_next_round(plan, spec, scripted, trials)
    _log(metrics, run)


def _write_next_round(plan: Plan, spec: ArtifactSpec, scripted: Scripted, trials: Trials) -> None:
    """Write the labels of a learning strategy's first seed, and the next sheet."""
    config, survey = plan.config.hunt, scripted.survey
    oracle = oracle_of(config)
    learning = [name for name in (*config.synthetic, REFERENCE, "network", "fixmatch") if name in trials]
    trial = trials[(learning or list(trials))[0]][0]
    rows = [*trial["start_rows"], *trial["rows"]]
    numbers = [0] * len(trial["start_rows"]) + [1 + n // config.per_round for n in range(len(trial["rows"]))]
    names = survey.filenames(scripted.rows[rows].tolist())
    reasons = ["example"] * len(trial["start_rows"]) + trial["reasons"]
    added = [
        {FILENAME: name, LABEL: WORDS["normal"][int(scripted.truth[row])], "round": str(number), "reason": reason}
        for name, row, number, reason in zip(names, rows, numbers, reasons, strict=True)
    ]
    labels = read_labels(new_labels(COLUMNS).with_rows(added).encode(), LABELS)
    candidates = [
        Candidate(int(scripted.rows[row]), np.nan if score is None else score, Reason(reason))
        for row, score, reason in trial["next"]
    ]
    summary = RoundSummary(
        target=config.target,
        survey=survey.pictures.name,
        number=oracle.rounds + 1,
        num_objects=len(scripted.rows),
        num_labels=len(rows),
        num_found=int(scripted.truth[rows].sum()),
        threshold=config.threshold,
        scale=labels.scale,
        learner=config.learner.kind,
        sources=tuple(source.name for source in scripted.sources),
    )
    write_sheet(plan, spec.folder, survey, labels, candidates, summary, spec.identity)


def _log(metrics: list[Mapping[str, Any]], run: Run) -> None:
    """Log what each strategy found, and record the metrics."""
    for row in metrics:
        if row["metric"] == "found":
            versus = "" if np.isnan(row["difference"]) else (
                f", {row['difference']:+.1f} [{row['difference_low']:.1f}, {row['difference_high']:.1f}] against {shown_name(REFERENCE)}"
            )  # fmt: skip
            log.info("hunt: %-12s found %6.1f%s", shown_name(row["strategy"]), row["mean"], versus)
    recorded = {
        f"hunt/{shown_name(row['strategy'])}/{row['moment']}/{row['metric']}": row["mean"]
        for row in metrics
        if not np.isnan(row["mean"])
    }
    run.metrics(recorded, 0)
