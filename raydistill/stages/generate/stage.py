"""generate: train a generator of galaxy pictures, conditioned on known properties.

    driver             -> how votes, classes, sizes and colours become conditions
    Ray Data tasks     -> decode the pictures of each worker, in the order of the training
    Ray Train workers  -> each computes shards of every batch, and gathers the others' gradients
    worker 0           -> validates, draws previews, saves checkpoints, sends updates to the driver

The result has the same bits on any number of workers. When a worker dies, all start again from the
last checkpoint; a command that was killed continues from it too.
"""

from __future__ import annotations

from dataclasses import replace

from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.group_training import GroupTraining, num_workers
from raydistill.runtime.resources import Processor, ensure_schedulable
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.extra_sets import (
    ExtraSet,
    extra_row_groups,
    open_extra_sets,
    without_held_out,
)
from raydistill.stages.curate.feeding.feed import Pictures, used_groups
from raydistill.stages.curate.select.conditions import ConditionEncoding, fit_encoding
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.monitor import GenerateTask, GeneratorMonitor
from raydistill.stages.generate.worker import MAX_STATISTICS, train_generator
from raydistill.stages.pretrain.describers import Describer, Embedder, open_describer
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)


def generate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> GeneratorArtifact:
    """Train the generator of the plan, or open the existing one.

    Raises
    ------
    ArtifactMissing
        If the curated set does not exist, or the experts or the encoder for a condition "embedding".
    ArtifactIncompatible
        If the curated set lacks a split, or a quantity that `generate.conditions` names. If an extra
        set does not fit it.
    DivergenceError
        If the loss is not finite.
    ClusterError
        If workers cannot start, or die too often.
    """
    spec = plan.generator
    if not is_complete(spec):
        curated = CuratedSet.open(plan.curated.folder)
        curated.require_splits("train", "validation")
        extras = open_extra_sets([extra.folder for extra in plan.extra_sets], curated, "generate.extra_sets")
        options = plan.config.generate
        encoding = fit_encoding(curated, options.conditions, extras, options.embedding_size)
        describer = open_describer(plan, curated) if options.needs_features else None
        used = without_held_out(extras, curated, "generate")
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            _train(plan, curated, encoding, describer, used, run)
    return GeneratorArtifact.open(spec.folder)


def _train(
    plan: Plan,
    curated: CuratedSet,
    encoding: ConditionEncoding,
    describer: Describer | None,
    extras: tuple[ExtraSet, ...],
    run: Run,
) -> None:
    """Train the generator to its end. Raise the error that ended it."""
    config, spec = plan.config, plan.generator
    resources, training = config.resources, config.generate.training
    ensure_schedulable(resources)
    workers = num_workers(training, resources)
    size, further = curated.summary.image_size, [extra_row_groups(extra, curated) for extra in extras]
    pictures = Pictures(sum(further, used_groups(curated, "train")), size, encoding)
    validation = Pictures(used_groups(curated, "validation"), size, encoding)
    if describer is not None:
        chosen_NHWC = pictures.choose_images(MAX_STATISTICS, spec.seed, "embedding")
        embedder = Embedder.fit(describer, chosen_NHWC, config.generate.embedding_size)
        pictures, validation = replace(pictures, embedder=embedder), replace(validation, embedder=embedder)
    log.info(
        "generate: %d steps of %d pictures, from %d galaxies, on %d %s; conditions: %s",
        training.steps,
        training.batch_size,
        len(pictures),
        workers,
        "worker" if workers == 1 else "workers",
        ", ".join(encoding.groups) or "none",
    )
    task = GenerateTask(
        spec.folder.uri, curated.folder.uri, pictures, validation, spec.seed, Processor.of(resources),
        resources.checkpoint_seconds, config.generate.with_digest(), curated.summary.survey,
    )  # fmt: skip
    job = GroupTraining("generate", train_generator, task, spec.folder, resources)
    job.run(workers, lambda updates: GeneratorMonitor(plan, updates, run))
