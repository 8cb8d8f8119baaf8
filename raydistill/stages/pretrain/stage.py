"""pretrain: train an encoder of pictures without labels.

    Ray Data tasks     -> decode the pictures of each worker, in the order of the training
    Ray Train workers  -> each computes shards of every batch, and gathers the others' gradients
    worker 0           -> measures, saves checkpoints, sends updates to the driver

The result has the same bits on any number of workers, and after any restart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ray.util.queue import Queue

from raydistill.artifacts.tables import read_table
from raydistill.errors import ConfigError
from raydistill.figures.drawing import CHART_DPI, save, styled
from raydistill.learning.networks import build_network
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.group_training import GroupTraining, Monitor, num_workers
from raydistill.runtime.resources import Processor, ensure_schedulable
from raydistill.runtime.stages import is_complete, save_figure, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.extra_sets import ExtraSet, extra_row_groups, open_extra_sets, without_held_out
from raydistill.stages.curate.feeding.feed import Pictures, used_groups
from raydistill.stages.curate.select.conditions import fit_encoding
from raydistill.stages.pretrain.artifact import HISTORY, VALIDATION, EncoderArtifact
from raydistill.stages.pretrain.config import Trained
from raydistill.stages.pretrain.given import write_given
from raydistill.stages.pretrain.worker import PretrainTask, train_encoder
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)

COLLAPSED = 2.0  # effective rank below which features say next to nothing


def pretrain(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> EncoderArtifact:
    """Train the encoders of the plan, or open the existing ones; return the first.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        If a curated set does not exist, lacks a split, or does not fit the main one.
    DivergenceError
        If the loss is not finite.
    ClusterError
        If workers cannot start, or die too often.
    """
    spec = plan.encoder
    if not is_complete(spec):
        curated = CuratedSet.open(plan.curated.folder)
        curated.require_splits("train", "validation")
        if isinstance(plan.config.pretrain.source, Trained):
            _train(plan, curated, tracker, parent_run)
        else:
            with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
                row = write_given(plan, curated)
                log.info("pretrain: %s", describe_probe(row))
                run.metrics({name: value for name, value in row.items() if np.isfinite(value)}, 0)
    artifact = EncoderArtifact.open(spec.folder)
    _warn_of_collapse(artifact)
    for member in plan.all_encoders[1:]:
        assert member.plan is not None
        pretrain(member.plan, tracker, parent_run)
    return artifact


def _train(plan: Plan, curated: CuratedSet, tracker: Tracker, parent_run: str | None) -> None:
    """Train the encoder of the plan, and draw its history."""
    spec = plan.encoder
    folders = [extra.folder for extra in plan.pretrain_sets]
    extras = open_extra_sets(folders, curated, "pretrain.extra_sets", same_view=False)
    used = without_held_out(extras, curated, "pretrain")
    with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
        _run_workers(plan, curated, used, run)
        rows = [read_table(spec.folder, name).to_pydict() for name in (HISTORY, VALIDATION)]
        save_figure(spec, run, "history.png", lambda path: draw_history(path, *rows))


def _run_workers(plan: Plan, curated: CuratedSet, extras: tuple[ExtraSet, ...], run: Run) -> None:
    """Train the encoder to its end. Raise the error that ended it."""
    config, spec = plan.config, plan.encoder
    try:
        build_network(config.pretrain.network, 2, curated.summary.image_size)
    except ValueError as error:
        fix = "choose another network, or another curate.image_size"
        raise ConfigError(str(error), "pretrain.network", fix) from error
    resources, training = config.resources, config.pretrain.training
    ensure_schedulable(resources)
    size, encoding = curated.summary.image_size, fit_encoding(curated, (), [], 0)
    further = [extra_row_groups(extra, curated) for extra in extras]
    task = PretrainTask(
        spec.folder.uri, curated.folder.uri, Pictures(sum(further, used_groups(curated, "train")), size, encoding),
        Pictures(used_groups(curated, "validation"), size, encoding), spec.seed, Processor.of(resources),
        resources.checkpoint_seconds, Pictures(used_groups(curated, "train"), size, encoding), config.pretrain,
    )  # fmt: skip
    workers = num_workers(training, resources)
    log.info(
        "pretrain: %d steps of %d pictures, from %d galaxies, on %d %s: %s, %s",
        training.steps,
        training.batch_size,
        len(task.pictures),
        workers,
        "worker" if workers == 1 else "workers",
        config.pretrain.network.name,
        training.loss,
    )
    job = GroupTraining("pretrain", train_encoder, task, spec.folder, resources)
    job.run(workers, lambda updates: EncoderMonitor(updates, run, training.steps))


class EncoderMonitor(Monitor):
    """Read the updates of the workers that train an encoder."""

    def __init__(self, updates: Queue, run: Run, steps: int) -> None:
        super().__init__(updates, run, "training the encoder", steps)

    def describe(self, row: dict[str, Any]) -> str:
        """Return the accuracy of a head, and the rank of the features."""
        return f"pretrain: step {row['step']}: {describe_probe(row)}"


def describe_probe(row: dict[str, Any]) -> str:
    """Return the accuracy of a head, and the rank of the features."""
    accuracy = row["balanced_accuracy"]
    head = "" if np.isnan(accuracy) else f"balanced accuracy {accuracy:.3f} of a linear head, "
    return f"{head}effective rank {row['effective_rank']:.1f} of the features"


def _warn_of_collapse(artifact: EncoderArtifact) -> None:
    rank = artifact.validation()["effective_rank"][-1].as_py()
    if rank < COLLAPSED:
        what = (
            "pretrain: the features have collapsed (effective rank %.1f of %d): pictures can hardly be told apart; %s"
        )
        trained = artifact.summary.source == "trained"
        fix = (
            "raise pretrain.training.batch_size or steps, or lower pretrain.training.lr"
            if trained
            else "check pretrain.source"
        )
        log.warning(what, rank, artifact.summary.num_features, fix)


@styled
def draw_history(path: Any, history: dict[str, list[float]], validation: dict[str, list[float]]) -> None:
    """Draw loss, accuracy of a head, and effective rank over the steps."""
    panels = [("loss", history), ("balanced_accuracy", validation), ("effective_rank", validation)]
    panels = [(name, rows) for name, rows in panels if np.isfinite(rows[name]).any()]
    figure = Figure(figsize=(7.2, 0.9 + 1.6 * len(panels)), dpi=CHART_DPI, layout="constrained")
    for axes, (name, rows) in zip(
        figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True
    ):
        axes.plot(rows["step"], rows[name], marker="" if name == "loss" else "o", markersize=3)
        axes.set_ylabel(name.replace("_", "\n"))
    axes.set_xlabel("step")
    save(figure, path)
