"""generate: train a generator of galaxy pictures, conditioned on known properties.

    driver             -> how votes, classes, sizes and colours become conditions
    Ray Data tasks     -> decode the pictures of each worker, in the order of the training
    Ray Train workers  -> each computes shards of every batch, and gathers the others' gradients
    worker 0           -> validates, draws previews, saves checkpoints, sends updates to the driver

The result has the same bits on any number of workers. When a worker dies, all start again from the
last checkpoint; a command that was killed continues from it too.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import ray
import ray.train
import ray.train.torch
from ray.util.queue import Queue

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import decode_images
from raydistill.config import Resources
from raydistill.errors import ArtifactIncompatible, ClusterError
from raydistill.galaxies.pictures.perceptual_hash import BYTES, find_nearest, perceptual_hashes
from raydistill.galaxies.selection import Split
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import WORKER_FAILURES, one_line, translate_errors
from raydistill.runtime.ray_train import ExitAfterReport, IndependentWorkers
from raydistill.runtime.resources import (
    Processor,
    choose_num_workers,
    ensure_schedulable,
    group_options,
    on_driver_node,
)
from raydistill.runtime.signals import preserve_sigint, run_in_background
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet, row_groups
from raydistill.stages.curate.select.conditions import ConditionEncoding, fit_encoding
from raydistill.stages.experts.classify.embedding import Embedder, Expert, open_expert
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.feed import GenerateTask, Pictures, UsedGroup, used_groups
from raydistill.stages.generate.monitor import Monitor
from raydistill.stages.generate.worker import MAX_STATISTICS, train_generator
from raydistill.storage import Folder, arrow_filesystem
from raydistill.tracking.tracker import Run, Tracker

# Train a generator on further curated sets too.
#
# Galaxies that the main set holds out are left out.

log = get_logger(__name__)

FIX = "leave the set out of generate.extra_sets, or curate it again"


class ExtraSet(NamedTuple):
    """A further curated set, and the ids of its training galaxies that are not used."""

    uri: str
    left_out: frozenset[str]


def open_extra_sets(folders: Sequence[Folder], main: CuratedSet) -> list[CuratedSet]:
    """Open and verify further curated sets.

    Parameters
    ----------
    folders
        Where they are.
    main
        The set whose validation and test galaxies are held out.

    Raises
    ------
    ArtifactIncompatible
        A set has another image size, crop or alignment than `main`, votes of another survey's
        questions, or no training galaxy.
    ArtifactMissing, ArtifactCorrupt
        A set cannot be used.
    """
    opened = [CuratedSet.open(folder) for folder in folders]
    for extra in opened:
        extra.require_splits("train")
        _check_alike(extra, main)
    return opened


def _check_alike(extra: CuratedSet, main: CuratedSet) -> None:
    """Raise ArtifactIncompatible if two sets' pictures or votes do not fit together."""
    theirs, wanted = extra.summary, main.summary
    for key, value, expected in (
        ("image_size", theirs.image_size, wanted.image_size),
        ("crop_fraction", theirs.crop_fraction, wanted.crop_fraction),
        ("align", theirs.aligned, wanted.aligned),
    ):
        if value != expected:
            fix = f"curate it again with curate.{key}={expected}".replace("True", "true").replace("False", "false")
            what = f"this extra set has the {key} {value}, and the survey's own set {expected}"
            raise ArtifactIncompatible(what, extra.folder.uri, fix)
    votes = extra.table("train", ["votes"])["votes"]
    if theirs.tree != wanted.tree and votes.null_count < len(votes):
        what = f"its votes answer the questions of {theirs.tree or 'gz2'}, those of the own set {wanted.tree or 'gz2'}"
        raise ArtifactIncompatible(what, extra.folder.uri, FIX)


def without_held_out(extras: Sequence[CuratedSet], main: CuratedSet) -> tuple[ExtraSet, ...]:
    """Return which training galaxies of the extra sets are not used.

    These are the galaxies that the validation or the test split of `main` holds too: with the same
    object id, the same file (sha256), or a picture that looks alike (`perceptual_hashes`).
    """
    if not extras:
        return ()
    held_out, extra_sets = _Galaxies.read(main, ["validation", "test"]), []
    known_ids, known_files = set(held_out.ids), set(held_out.files) - {None}
    for extra in extras:
        galaxies = _Galaxies.read(extra, ["train"])
        alike = set(galaxies.places[find_nearest(galaxies.hashes, held_out.hashes)[0]].tolist())
        left_out = frozenset(
            name
            for n, (name, file) in enumerate(zip(galaxies.ids, galaxies.files, strict=True))
            if name in known_ids or file in known_files or n in alike
        )
        used = len(galaxies.ids) - len(left_out)
        what = "generate: %d pictures of %s, without %d that the validation or test split of %s holds too"
        log.info(what, used, extra.summary.survey, len(left_out), main.summary.survey)
        extra_sets.append(ExtraSet(extra.folder.uri, left_out))
    return tuple(extra_sets)


def extra_row_groups(extra: ExtraSet, main: CuratedSet) -> tuple[UsedGroup, ...]:
    """Return the row groups of an extra set, without the galaxies that are left out.

    A class counts as known if `main` has one of the same name.
    """
    opened = CuratedSet.open(extra.uri, verify=False)
    label_of = {name: label for label, name in enumerate(main.class_names)} if main.has_classes else {}
    groups = []
    for group in used_groups(opened, "train"):
        ids = group.read(["object_id"])["object_id"].to_pylist() if extra.left_out else []
        used = tuple(n for n, name in enumerate(ids) if name not in extra.left_out) if extra.left_out else None
        groups.append(replace(group, label=label_of.get(opened.class_names[group.label], -1), used=used))
    return tuple(groups)


class _Galaxies(NamedTuple):
    """Ids, files and hashes of the N galaxies of some splits.

    Parameters
    ----------
    ids
        Object ids.
    files
        The sha256 of the original files; None where unknown.
    places, hashes
        Places among the N of the H pictures that can be compared, and their hashes uint8 [H, BYTES].
    """

    ids: list[str]
    files: list[str | None]
    places: np.ndarray
    hashes: np.ndarray

    @classmethod
    def read(cls, curated: CuratedSet, splits: Sequence[Split]) -> _Galaxies:
        """Read the galaxies of some splits.

        The pictures of one row group are in memory at a time.
        """
        ids, files, hashes = [], [], []
        for group in (group for split in splits for group in row_groups(curated, split)):
            rows = group.read(["object_id", "source", "image"])
            ids += rows["object_id"].to_pylist()
            files += [None if source is None else source["sha256"] for source in rows["source"].to_pylist()]
            hashes += perceptual_hashes(np.asarray(decode_images(rows["image"], curated.summary.image_size)))
        places = [n for n, picture_hash in enumerate(hashes) if picture_hash is not None]
        usable = b"".join(picture_hash for picture_hash in hashes if picture_hash is not None)
        return cls(ids, files, np.array(places, np.int64), np.frombuffer(usable, np.uint8).reshape(-1, BYTES))


def generate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> GeneratorArtifact:
    """Train the generator of the plan, or open the existing one.

    Parameters
    ----------
    plan
        Where the artifacts of the run are.
    tracker
        Where the run is recorded.
    parent_run
        MLflow id of the enclosing run, if any.

    Returns
    -------
    GeneratorArtifact

    Raises
    ------
    ArtifactMissing
        If the curated set does not exist, or the experts for a condition "embedding".
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
        extras = open_extra_sets([extra.folder for extra in plan.extra_sets], curated)
        options = plan.config.generate
        encoding = fit_encoding(curated, options.conditions, extras, options.embedding_size)
        expert = open_expert(plan, curated) if options.needs_experts else None
        used = without_held_out(extras, curated)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            _train(plan, curated, encoding, expert, used, run)
    return GeneratorArtifact.open(spec.folder)


def _train(
    plan: Plan,
    curated: CuratedSet,
    encoding: ConditionEncoding,
    expert: Expert | None,
    extras: tuple[ExtraSet, ...],
    run: Run,
) -> None:
    """Train the generator to its end. Raise the error that ended it."""
    config, spec = plan.config, plan.generator
    resources, training = config.resources, config.generate.training
    ensure_schedulable(resources)
    workers = num_workers(training.shards, choose_num_workers(resources, training.shards))
    size, further = curated.summary.image_size, [extra_row_groups(extra, curated) for extra in extras]
    pictures = Pictures(sum(further, used_groups(curated, "train")), size, encoding)
    validation = Pictures(used_groups(curated, "validation"), size, encoding)
    if expert is not None:
        chosen_NHWC = pictures.choose_images(MAX_STATISTICS, spec.seed, "embedding")
        embedder = Embedder.fit(expert, chosen_NHWC, config.generate.embedding_size)
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
        spec.folder.uri, curated.folder.uri, pictures, validation, config.generate.with_digest(),
        curated.summary.survey, spec.seed, Processor.of(resources), resources.checkpoint_seconds,
    )  # fmt: skip
    updates = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": on_driver_node()})
    monitor = Monitor(plan, updates, run)
    with translate_errors("generate"):
        with run_in_background(monitor.show, timeout=60):
            _run_groups(resources, plan, task, updates, workers, monitor)
        updates.shutdown(force=True)
    if monitor.error is not None:
        raise monitor.error


def num_workers(shards: int, available: int) -> int:
    """Return the largest number of workers that computes equally many shards each."""
    return max(count for count in range(1, max(1, available) + 1) if shards % count == 0)


def _run_groups(
    resources: Resources, plan: Plan, task: GenerateTask, updates: Queue, workers: int, monitor: Monitor
) -> None:
    """Run groups of workers until one has reached the end, or has sent an error.

    Ray Train counts all failures of a run. Each group is a run of its own, so that only failures in a
    row without a checkpoint in between count.

    Raises
    ------
    ClusterError
        The workers died more often than `resources.max_restarts`, or cannot start.
    """
    failures = saved = 0
    while True:
        reason = _run_group(resources, plan, task, updates, workers)
        if reason is None:
            return
        before, saved = saved, monitor.wait_for_saved_step()
        if monitor.error is not None:
            return
        failures = 1 if saved > before else failures + 1
        if failures > resources.max_restarts:
            limit = f"more than resources.max_restarts={resources.max_restarts} times in a row"
            what = f"the workers died {limit}, or cannot start ({reason})"
            raise ClusterError(what, "generate", "run the same command again; it continues from the last checkpoint")
        log.warning("generate: a worker died (%s); all start again from step %d", reason, saved)


def _run_group(resources: Resources, plan: Plan, task: GenerateTask, updates: Queue, workers: int) -> str | None:
    """Run a group of workers; return why it failed, or None."""
    system, path = arrow_filesystem((plan.generator.folder / PARTIAL / "ray").uri)
    callbacks: Any = [ExitAfterReport()]  # typed as callbacks of Tune
    trainer = ray.train.torch.TorchTrainer(
        train_generator,
        train_loop_config={"task": task, "updates": updates},
        torch_config=IndependentWorkers(),  # they start their own process group
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            **group_options(resources),
        ),
        run_config=ray.train.RunConfig(
            # A new name keeps Ray from resuming a finished run: the stage has its own checkpoints.
            name=f"generate-{uuid.uuid4().hex[:8]}",
            storage_path=path,
            storage_filesystem=system,
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg]  # mypy sees the class of Ray AIR
                max_failures=0,
                controller_failure_limit=resources.max_restarts,  # deaths before the training starts
            ),
            callbacks=callbacks,
        ),
    )
    try:
        with preserve_sigint():
            trainer.fit()
    except (ray.train.TrainingFailedError, *WORKER_FAILURES) as error:
        return one_line(error)
    return None
