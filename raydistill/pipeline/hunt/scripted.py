"""Compare strategies with a scripted labeller, and write the report.

driver    -> inputs of all trials: features, pictures, truth, synthetic sources
Ray Data  -> {strategy, seed} -> a file per trial
driver    -> curves, tables, figure; sheet and labels of the first trial
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.analysis.hunt_curves import Curve, discovery_curves
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.hunt import (
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
from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import write_rows
from raydistill.artifacts.tensors import write_tensors
from raydistill.config.hunt import Hunt, Oracle
from raydistill.core.intervals import NO_INTERVAL, mean_interval, paired_difference
from raydistill.errors import ArtifactIncompatible
from raydistill.hunting.examples import Bools
from raydistill.hunting.labels import FILENAME, LABEL, WORDS, new_labels, read_labels
from raydistill.hunting.learning import uses_pixels
from raydistill.hunting.metrics import discovery_curve
from raydistill.hunting.pixels import for_aligned
from raydistill.hunting.ranking import Candidate, Reason, Rows
from raydistill.log import get_logger, progress
from raydistill.pipeline.hunt.attributes import attribute_scores
from raydistill.pipeline.hunt.labels import COLUMNS, known_labels
from raydistill.pipeline.hunt.pictures import prepare_pictures, read_block
from raydistill.pipeline.hunt.round import learner_of, write_sheet
from raydistill.pipeline.hunt.sources import Source, open_sources
from raydistill.pipeline.hunt.specs import truth_table
from raydistill.pipeline.hunt.survey import HuntedSurvey
from raydistill.pipeline.hunt.trials import INPUTS, Inputs, TrialRunner, trial_name
from raydistill.pipeline.hunt.trials import METRICS as NAMES
from raydistill.pipeline.hunt.truth import read_truth
from raydistill.pipeline.pictures.embedding import open_expert
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.failures import translate_errors
from raydistill.pipeline.runtime.ray_data import map_blocks
from raydistill.pipeline.runtime.stages import save_figure
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.pipeline.tracking.tracker import Run
from raydistill.simulation.config import SimulatedSurvey
from raydistill.storage import Folder

log = get_logger(__name__)

REFERENCE = "real"  # the loop without synthetics, with which others are compared


@dataclass(frozen=True)
class Scripted:
    """The inputs of a scripted hunt.

    Attributes
    ----------
    survey
        The survey.
    rows
        Rows of its objects with a picture and a truth.
    truth
        Whether each of them is of the wanted kind.
    sources
        The synthetic sources.
    """

    survey: HuntedSurvey
    rows: Rows
    truth: Bools
    sources: list[Source]

    @property
    def targets(self) -> set[str]:
        """Return the ids of the wanted objects."""
        ids = self.survey.ids
        return {ids[row] for row in self.rows[self.truth].tolist()}


def write_report(plan: Plan, spec: ArtifactSpec, curated: CuratedSet, survey: HuntedSurvey, run: Run) -> None:
    """Run all trials that are not finished, and write the files of the report."""
    config, partial = plan.config.hunt, spec.folder / PARTIAL
    oracle = _oracle(config)
    scripted = _open(plan, curated, survey)
    if not partial.exists(INPUTS):
        inputs = _inputs(plan, curated, scripted, partial)
        write_tensors(partial, INPUTS, inputs.tensors(), {})
    _run_trials(plan, curated, partial)
    trials = {
        strategy: [json.loads(partial.read(trial_name(strategy, seed))) for seed in range(oracle.seeds)]
        for strategy in config.strategies
    }
    _write_tables(plan, spec, curated, scripted, trials, run)


def _oracle(config: Hunt) -> Oracle:
    assert config.oracle is not None
    return config.oracle


def _open(plan: Plan, curated: CuratedSet, survey: HuntedSurvey) -> Scripted:
    """Return the objects with a picture and a truth, and the sources."""
    oracle, ids = _oracle(plan.config.hunt), survey.ids
    truth = read_truth(oracle, truth_table(plan), ids)
    rows = np.flatnonzero(survey.usable_N & truth.known_N)
    if missing := int((survey.usable_N & ~truth.known_N).sum()):
        log.warning("hunt: %d objects of the survey have no row in the truth, and are left out", missing)
    positive = truth.positive_N[rows]
    if positive.sum() <= oracle.num_examples:
        what = (
            f"the survey has {positive.sum()} wanted objects, and hunt.oracle.num_examples takes {oracle.num_examples}"
        )
        raise ArtifactIncompatible(what, survey.pictures.uri, "lower it, or take a larger survey")
    scripted = Scripted(survey, rows, positive, [])
    held_out = scripted.targets if oracle.setting == "strict" else set()
    sources = open_sources(plan, curated, open_expert(plan, curated), held_out)
    return Scripted(survey, rows, positive, sources)


def _inputs(plan: Plan, curated: CuratedSet, scripted: Scripted, partial: Folder) -> Inputs:
    """Return what the trials read."""
    config, survey = plan.config.hunt, scripted.survey
    oracle = _oracle(config)
    pixels = None
    if uses_pixels(config.learner) or {"network", "fixmatch"} & set(config.strategies):
        prepare_pictures(plan, survey, partial)
        parts = []
        for number, (rows, _) in enumerate(survey.blocks()):
            if len(rows):
                parts.append(read_block(partial, number)[np.isin(rows, scripted.rows)])
        pixels = np.concatenate(parts)
    features = np.concatenate([values[np.isin(rows, scripted.rows)] for rows, values in survey.blocks()])
    attributes = None
    if "attributes" in config.strategies:
        held_out = scripted.targets if oracle.setting == "strict" else set()
        attributes = attribute_scores(plan, curated, features, held_out)
    examples = None
    if oracle.examples is not None:
        labelled = known_labels(survey, oracle.examples, config.threshold).rows
        examples = np.flatnonzero(np.isin(scripted.rows, labelled))
    empty: Any = None  # the runner computes the scale itself
    return Inputs(features, pixels, scripted.truth, attributes, examples, tuple(scripted.sources), empty, empty)


def _run_trials(plan: Plan, curated: CuratedSet, partial: Folder) -> None:
    """Write the files of all trials that are missing; those of one seed come together."""
    config, resources = plan.config.hunt, plan.config.resources
    wanted = [(name, seed) for seed in range(_oracle(config).seeds) for name in config.strategies]
    todo = [
        pa.table({"strategy": [name], "seed": [seed]})
        for name, seed in wanted
        if not partial.exists(trial_name(name, seed))
    ]
    if len(todo) < len(wanted):
        log.info("hunt: %d of %d trials are finished", len(wanted) - len(todo), len(wanted))
    learning = replace(config, learner=learner_of(plan))
    if plan.config.curate.align:
        oracle = _oracle(config)
        network, fixmatch = for_aligned(oracle.network), for_aligned(oracle.fixmatch)
        learning = replace(learning, oracle=replace(oracle, network=network, fixmatch=fixmatch))
    runner = TrialRunner(partial.uri, learning, curated.normalisation, resources.worker_threads)
    with (
        progress(len(wanted), "hunting", "trials", start=len(wanted) - len(todo)) as shown,
        translate_errors("hunt"),
    ):
        for report in map_blocks(todo, runner.__call__, resources):
            shown.advance(len(report))


def _write_tables(
    plan: Plan, spec: ArtifactSpec, curated: CuratedSet, scripted: Scripted, trials: dict[str, list[dict[str, Any]]],
    run: Run,
) -> None:  # fmt: skip
    config, folder, survey = plan.config.hunt, spec.folder, scripted.survey
    oracle = _oracle(config)
    every_id = survey.ids
    ids = [every_id[row] for row in scripted.rows.tolist()]
    spent = min(len(trial["rows"]) for own in trials.values() for trial in own)
    labels = np.arange(0, spent + 1)
    curves = {name: _curve(own, labels) for name, own in trials.items()}
    curve_rows: list[Mapping[str, Any]] = [
        {"strategy": name, "labels": int(count), "mean": mean, "low": low, "high": high}
        for name, curve in curves.items()
        for count, mean, low, high in zip(labels, curve.mean, curve.low, curve.high, strict=True)
    ]
    write_rows(folder, CURVES, curve_rows, CURVES_SCHEMA)
    metrics = metric_rows(trials)
    write_rows(folder, METRICS, metrics, METRICS_SCHEMA)
    trial_rows: list[Mapping[str, Any]] = [
        {"strategy": name, "seed": seed, "label": n + 1, "object_id": ids[row], "found": found, "reason": reason}
        for name, own in trials.items()
        for seed, trial in enumerate(own)
        for n, (row, found, reason) in enumerate(zip(trial["rows"], trial["found"], trial["reasons"], strict=True))
    ]
    write_rows(folder, TRIALS, trial_rows, TRIALS_SCHEMA)
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
    save_figure(
        spec, run, FIGURE, lambda path: discovery_curves(path, curves, config.target, known, oracle.seeds)
    )  # fmt: skip
    _write_next_round(plan, spec, scripted, trials)
    _log(metrics, run)


def _write_next_round(
    plan: Plan, spec: ArtifactSpec, scripted: Scripted, trials: dict[str, list[dict[str, Any]]]
) -> None:
    """Write the labels of the first seed of a learning strategy, and the sheet of the round that follows."""
    config, survey = plan.config.hunt, scripted.survey
    oracle = _oracle(config)
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


def _curve(own: list[dict[str, Any]], labels: npt.NDArray[np.int64]) -> Curve:
    """Return the mean curve of a strategy over its seeds."""
    found_SL = np.array([discovery_curve(np.array(trial["found"], bool), labels) for trial in own], float)
    intervals = np.array([mean_interval(found_SL[:, n]) for n in range(len(labels))])
    return Curve(labels.astype(float), *intervals.T)


def metric_rows(trials: Mapping[str, list[dict[str, Any]]]) -> list[Mapping[str, Any]]:
    """Return the rows of the table of metrics; differences are paired by seed.

    A seed in which nothing could be learnt at the start has no metrics there, and is left out.
    """
    values: dict[tuple[str, str, str], npt.NDArray[np.float64]] = {}
    for name, own in trials.items():
        values[name, "end", "found"] = np.array([sum(trial["found"]) for trial in own], float)
        for moment in ("start", "end"):
            for n, metric in enumerate(NAMES):
                values[name, moment, metric] = np.array(
                    [np.nan if trial[moment] is None else trial[moment][n] for trial in own], float
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
    """Return how many wanted objects the experts and the synthetic sources have seen."""
    targets = scripted.targets
    training = set(curated.table("train", ["object_id"])["object_id"].to_pylist())
    seen: dict[str, set[str]] = {"experts": training}
    if oracle.attributes:
        seen["attributes"] = training - (targets if oracle.setting == "strict" else set())
    seen |= {source.name: set(source.seen) for source in scripted.sources}
    return [{"by": name, "targets": len(own & targets), "galaxies": len(own)} for name, own in seen.items()]


def _log(metrics: list[Mapping[str, Any]], run: Run) -> None:
    """Log what each strategy found, and record the metrics."""
    for row in metrics:
        if row["metric"] == "found":
            versus = "" if np.isnan(row["difference"]) else (
                f", {row['difference']:+.1f} [{row['difference_low']:.1f}, {row['difference_high']:.1f}] against {REFERENCE}"
            )  # fmt: skip
            log.info("hunt: %-12s found %6.1f%s", row["strategy"], row["mean"], versus)
    recorded = {
        f"hunt/{row['strategy']}/{row['moment']}/{row['metric']}": row["mean"]
        for row in metrics
        if not np.isnan(row["mean"])
    }
    run.metrics(recorded, 0)
