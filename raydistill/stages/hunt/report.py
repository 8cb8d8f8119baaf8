"""Write the report of a comparison: tables, figure, summary, and the next sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from raydistill.artifacts.tables import write_rows
from raydistill.figures.drawing import (
    BLUE,
    CHART_DPI,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    VERMILION,
    Floats,
    Target,
    save,
    styled,
)
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
from raydistill.stages.hunt.config import REFERENCE, Oracle
from raydistill.stages.hunt.inputs.labels import COLUMNS, FILENAME, LABEL, WORDS, new_labels, read_labels
from raydistill.stages.hunt.inputs.survey import Scripted
from raydistill.stages.hunt.learn.ranking import Candidate, Reason
from raydistill.stages.hunt.round import write_sheet
from raydistill.stages.hunt.trials import RANKED_METRICS, discovery_curve
from raydistill.statistics.intervals import NO_INTERVAL, mean_interval, paired_difference
from raydistill.text import shown_name
from raydistill.tracking.tracker import Run

log = get_logger(__name__)


def write_files(
    plan: Plan, spec: ArtifactSpec, curated: CuratedSet, scripted: Scripted, trials: Trials,
    run: Run,
) -> None:  # fmt: skip
    """Write the tables, the figure, the summary and the round after the first trial."""
    config, folder, survey = plan.config.hunt, spec.folder, scripted.survey
    oracle, curves, metrics = config.scripted, discovery_curves(trials), metric_rows(trials)
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
        num_examples=int(scripted.truth[next(iter(trials.values()))[0]["start_rows"]].sum()),
        rounds=oracle.rounds,
        per_round=config.per_round,
        seeds=oracle.seeds,
        purity=oracle.purity,
        strategies=config.strategies,
    )
    folder.write(SUMMARY, summary.to_json())
    known = f"{oracle.num_examples} known examples" if oracle.examples is None else "known examples of a file"
    save_figure(spec, run, FIGURE, lambda path: draw_discovery_curves(path, curves, config.target, known, oracle.seeds))
    _write_next_round(plan, spec, scripted, trials)
    _log(metrics, run)


def _write_next_round(plan: Plan, spec: ArtifactSpec, scripted: Scripted, trials: Trials) -> None:
    """Write the labels of a learning strategy's first seed, and the next sheet."""
    config, survey = plan.config.hunt, scripted.survey
    oracle = config.scripted
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


# Return the curves and the rows of the tables of a comparison of strategies.

Trials = Mapping[str, Sequence[dict[str, Any]]]  # strategy -> the results of `TrialRunner.run` by seed


def discovery_curves(trials: Trials) -> dict[str, Curve]:
    """Return the mean curve of each strategy over its seeds.

    It ends at the number of labels that all trials spent.
    """
    spent = min(len(trial["rows"]) for trials_of in trials.values() for trial in trials_of)
    return {name: _curve(trials_of, np.arange(0, spent + 1)) for name, trials_of in trials.items()}


def _curve(trials_of: Sequence[dict[str, Any]], labels: npt.NDArray[np.int64]) -> Curve:
    found_SL = np.array([discovery_curve(np.array(trial["found"], bool), labels) for trial in trials_of], float)
    intervals = np.array([mean_interval(found_SL[:, n]) for n in range(len(labels))])
    return Curve(labels.astype(float), *intervals.T)


def curve_rows(curves: Mapping[str, Curve]) -> list[Mapping[str, Any]]:
    """Return the rows of the table of curves."""
    return [
        {"strategy": name, "labels": int(count), "mean": mean, "low": low, "high": high}
        for name, curve in curves.items()
        for count, mean, low, high in zip(curve.labels, curve.mean, curve.low, curve.high, strict=True)
    ]


def trial_rows(trials: Trials, ids: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return a row per label spent; `ids` are those of the objects of the hunt."""
    return [
        {"strategy": name, "seed": seed, "label": n + 1, "object_id": ids[row], "found": is_target, "reason": reason}
        for name, trials_of in trials.items()
        for seed, trial in enumerate(trials_of)
        for n, (row, is_target, reason) in enumerate(zip(trial["rows"], trial["found"], trial["reasons"], strict=True))
    ]


def metric_rows(trials: Trials) -> list[Mapping[str, Any]]:
    """Return the rows of the table of metrics; differences are paired by seed.

    A seed in which nothing could be learned at the start has no metrics there, and is left out.
    """
    values: dict[tuple[str, str, str], npt.NDArray[np.float64]] = {}
    for name, trials_of in trials.items():
        values[name, "end", "found"] = np.array([sum(trial["found"]) for trial in trials_of], float)
        for moment in ("start", "end"):
            for n, metric in enumerate(RANKED_METRICS):
                values[name, moment, metric] = np.array(
                    [np.nan if trial[moment] is None else trial[moment][n] for trial in trials_of], float
                )
    rows: list[Mapping[str, Any]] = []
    for (name, moment, metric), own_S in values.items():
        reference_S = values.get((REFERENCE, moment, metric), np.full(len(own_S), np.nan))
        both = ~np.isnan(own_S) & ~np.isnan(reference_S)
        level = mean_interval(own_S[~np.isnan(own_S)]) if (~np.isnan(own_S)).any() else NO_INTERVAL
        paired = both.any() and name != REFERENCE
        difference = paired_difference(own_S[both], reference_S[both]) if paired else NO_INTERVAL
        rows.append(
            {
                "strategy": name, "moment": moment, "metric": metric,
                "mean": level.value, "low": level.low, "high": level.high,
                "difference": difference.value, "difference_low": difference.low, "difference_high": difference.high,
                "seeds": int((~np.isnan(own_S)).sum()),
            }
        )  # fmt: skip
    return rows


def seen_rows(curated: CuratedSet, scripted: Scripted, oracle: Oracle) -> list[Mapping[str, Any]]:
    """Return how many targets the experts and the synthetic sources have seen."""
    targets = scripted.targets
    training = set(curated.table("train", ["object_id"])["object_id"].to_pylist())
    seen: dict[str, set[str]] = {"experts": training}
    if oracle.attributes:
        seen["attributes"] = training - scripted.held_out
    seen |= {source.name: set(source.seen) for source in scripted.sources}
    return [{"by": name, "targets": len(rows & targets), "galaxies": len(rows)} for name, rows in seen.items()]


# Draw the curves of a hunt: objects found for labels spent.

COLOURS = (GREEN, VERMILION, PURPLE, "#e69f00", "#56b4e9")  # of sources and learners (Okabe and Ito 2008)
FIXED = {"real": (BLUE, "-"), "random": (MUTED, ":"), "upper_bound": (INK, "--"), "attributes": (FAINT, "-.")}


@dataclass(frozen=True)
class Curve:
    """Mean and 95 % interval of the objects found, at each number of labels."""

    labels: Floats
    mean: Floats
    low: Floats
    high: Floats


@styled
def draw_discovery_curves(path: Target, curves: Mapping[str, Curve], target: str, start: str, seeds: int) -> None:
    """Draw one line per strategy, with the 95 % interval over the seeds as a band.

    Parameters
    ----------
    curves
        By strategy, in the order of the legend.
    target
        Name of the target class.
    start
        What was known at the start, in words.
    seeds
        Number of repetitions.
    """
    figure = Figure(figsize=(5.6, 3.8), dpi=CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    free = iter(COLOURS * len(curves))
    for name, curve in curves.items():
        colour, style = FIXED.get(name) or (next(free), "-")
        axes.fill_between(curve.labels, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(curve.labels, curve.mean, color=colour, linestyle=style, linewidth=1.8, label=shown_name(name))
    axes.set_xlabel("labels spent")
    axes.set_ylabel(f"found: {target}")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{start}; mean and 95 % interval of {seeds} seeds" if seeds > 1 else start, loc="left")
    axes.legend(loc="upper left")
    save(figure, path)
