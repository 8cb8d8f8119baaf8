"""hunt: find rare objects in a survey by the features of `predict`.

Without `hunt.oracle` a round ranks the survey for a person: a contact sheet, whose labels the next
round reads. With it a table of the truth answers, and strategies are compared.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa

from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.ray_data import finish_blocks
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.ensemble import check_experts
from raydistill.stages.hunt.artifact import HuntReport, HuntRound
from raydistill.stages.hunt.classes import write_class_round
from raydistill.stages.hunt.config import Hunt
from raydistill.stages.hunt.inputs.labels import known_labels, read_label_file
from raydistill.stages.hunt.inputs.sources import attribute_scores
from raydistill.stages.hunt.inputs.survey import HuntedSurvey, Scripted, open_hunted, open_objects
from raydistill.stages.hunt.learn.learners import (
    choose_arithmetic,
    hunt_of,
    prepare_pictures,
    read_block,
    reads_pictures,
)
from raydistill.stages.hunt.report import write_files
from raydistill.stages.hunt.round import write_round
from raydistill.stages.hunt.specs import hunt_spec
from raydistill.stages.hunt.trials import INPUTS, Inputs, TrialRunner, trial_name
from raydistill.storage import Folder, checked, disk_errors
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)


def hunt(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> HuntRound | HuntReport:
    """Write a round or a report of a hunt, or open the existing one.

    Raises
    ------
    ArtifactMissing
        The curated set, the experts, the predictions or a synthetic set do not exist.
    ArtifactIncompatible
        The predictions have no features, or a synthetic set does not fit.
    CatalogError
        The labels or the table of the truth cannot be used.
    ConfigError
        The condition of the oracle is wrong.
    """
    spec = hunt_spec(plan)
    scripted = spec.kind == kinds.HUNT
    if not is_complete(spec):
        if plan.config.hunt.labels is not None:  # a wrong file is reported before anything is opened
            file = read_label_file(plan.config.hunt.labels, plan.config.hunt.classes)
            if plan.config.hunt.classes:
                file.by_filename(str)
            else:
                file.decisions(plan.config.hunt.threshold)
        curated = CuratedSet.open(plan.curated.folder)
        if kinds.TRAJECTORIES in spec.parents:
            check_experts(TrajectoryStore.open(plan.trajectories.folder), curated)
        survey = open_hunted(plan, curated)
        with (
            stage_context(plan),
            tracked_run(plan, spec, tracker, parent_run, curated) as run,
            disk_errors(spec.folder.uri),
        ):
            if scripted:
                write_report(plan, spec, curated, survey, run)
            elif plan.config.hunt.classes:
                write_class_round(plan, spec, survey)
            else:
                write_round(plan, spec, curated, survey, run)
    return HuntReport.open(spec.folder) if scripted else HuntRound.open(spec.folder)


# Compare strategies with a scripted labeller, and write the report.
#
# driver    -> inputs of all trials: features, pictures, truth, synthetic sources
# Ray Data  -> {strategy, seed} -> a file per trial
# driver    -> curves, tables, figure; sheet and labels of the first trial (`scripted_report`)


def write_report(plan: Plan, spec: ArtifactSpec, curated: CuratedSet, survey: HuntedSurvey, run: Run) -> None:
    """Run all trials that are not finished, and write the files of the report."""
    config, partial = plan.config.hunt, spec.folder / PARTIAL
    scripted = open_objects(plan, curated, survey)
    if not checked.is_intact(partial, INPUTS):
        checked.write(partial, INPUTS, pack_tensors(_inputs(plan, curated, scripted, partial).tensors()))
    arithmetic = choose_arithmetic(plan, spec, run, curated.summary.image_size)
    _run_trials(plan, curated, partial, hunt_of(plan, arithmetic))
    trials = {
        strategy: [
            json.loads(checked.require(partial, trial_name(strategy, seed))) for seed in range(config.scripted.seeds)
        ]
        for strategy in config.strategies
    }
    write_files(plan, spec, curated, scripted, trials, run)


def _inputs(plan: Plan, curated: CuratedSet, scripted: Scripted, partial: Folder) -> Inputs:
    """Return what the trials read."""
    config, survey = plan.config.hunt, scripted.survey
    oracle = config.scripted
    pixels = None
    if reads_pictures(config) or {"network", "fixmatch"} & set(config.strategies):
        prepare_pictures(plan, survey, partial)
        parts = []
        for number, (rows, _) in enumerate(survey.blocks()):
            if len(rows):
                parts.append(read_block(partial, number)[np.isin(rows, scripted.rows)])
        pixels = np.concatenate(parts)
    features = np.concatenate([values[np.isin(rows, scripted.rows)] for rows, values in survey.blocks()])
    attributes = None
    if "attributes" in config.strategies:
        attributes = attribute_scores(plan, curated, features, scripted.held_out)
    examples = None
    if oracle.examples is not None:
        labelled = known_labels(survey, oracle.examples, config.threshold).rows
        examples = np.flatnonzero(np.isin(scripted.rows, labelled))
    return Inputs(features, pixels, scripted.truth, attributes, examples, scripted.sources)


def _run_trials(plan: Plan, curated: CuratedSet, partial: Folder, config: Hunt) -> None:
    """Write the files of missing trials; those of one strategy share compiled code."""
    resources = plan.config.resources
    trials = (
        (trial_name(name, seed), 1, pa.table({"strategy": [name], "seed": [seed]}))
        for name in config.strategies
        for seed in range(config.scripted.seeds)
    )
    runner = TrialRunner(partial.uri, config, curated.normalisation, replace(Processor.of(resources), gpus=0))
    finish_blocks(partial, trials, runner, resources, stage="hunt", doing="hunting", unit="trials")
