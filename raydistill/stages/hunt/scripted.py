"""Compare strategies with a scripted labeller, and write the report.

driver    -> inputs of all trials: features, pictures, truth, synthetic sources
Ray Data  -> {strategy, seed} -> a file per trial
driver    -> curves, tables, figure; sheet and labels of the first trial (`scripted_report`)
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.ray_data import finish_blocks
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.hunt.attributes import attribute_scores
from raydistill.stages.hunt.config import Hunt
from raydistill.stages.hunt.labels import known_labels
from raydistill.stages.hunt.learners import choose_arithmetic, hunt_of, reads_pictures
from raydistill.stages.hunt.objects import Scripted, open_objects, oracle_of
from raydistill.stages.hunt.pictures import prepare_pictures, read_block
from raydistill.stages.hunt.scripted_report import write_files
from raydistill.stages.hunt.survey import HuntedSurvey
from raydistill.stages.hunt.trials import INPUTS, Inputs, TrialRunner, trial_name
from raydistill.storage import Folder, checked
from raydistill.tracking.tracker import Run


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
            json.loads(checked.require(partial, trial_name(strategy, seed))) for seed in range(oracle_of(config).seeds)
        ]
        for strategy in config.strategies
    }
    write_files(plan, spec, curated, scripted, trials, run)


def _inputs(plan: Plan, curated: CuratedSet, scripted: Scripted, partial: Folder) -> Inputs:
    """Return what the trials read."""
    config, survey = plan.config.hunt, scripted.survey
    oracle = oracle_of(config)
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
        for seed in range(oracle_of(config).seeds)
    )
    runner = TrialRunner(partial.uri, config, curated.normalisation, resources.worker_threads)
    finish_blocks(partial, trials, runner, resources, stage="hunt", doing="hunting", unit="trials")
