"""The task of a trainer, and the artifacts that a Ray worker opens from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.config import Distill
from raydistill.distillation.cost_model import WorkEstimate, estimate_distillation
from raydistill.distillation.distiller import Distiller
from raydistill.distillation.outcome import RealImages
from raydistill.distillation.recipe import ResolvedRecipe
from raydistill.distillation.segments import SegmentEvaluator
from raydistill.distillation.trajectories import SomeTrajectories, Trajectories
from raydistill.galaxies.classes import ClassTree
from raydistill.learning.architectures import Architecture
from raydistill.learning.networks import Network, build_network
from raydistill.learning.normalise import one_hot
from raydistill.pipeline.checks import check_epochs
from raydistill.pipeline.plan import Plan
from raydistill.runtime.resources import device_of
from raydistill.runtime.stages import resolve
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.storage import Folder
from raydistill.tracking.tracker import Run


@dataclass(frozen=True)
class DistillTask:
    """The arguments of a trainer; they are pickled."""

    folder: str
    curated: str
    trajectories: str
    architecture: Architecture
    distill: Distill
    recipe: ResolvedRecipe  # that of `distill`, without "auto"
    seed: int
    threads: int
    gpus: float
    memory_mb: float | None
    checkpoint_seconds: float
    extra_workers: int  # that evaluate segments in addition to the trainer
    max_restarts: int
    tree: ClassTree | None  # turns votes into labels; None if the recipe needs no votes


def make_task(
    plan: Plan, curated: CuratedSet, run: Run, threads: int, folder: Folder | None = None, workers: int = 1
) -> DistillTask:
    """Return the task of a plan's distilled set; `auto` is resolved for this hardware.

    Parameters
    ----------
    plan
        The plan of the run.
    curated
        The curated set of the plan.
    run
        MLflow run, which gets the resolved arithmetic as a tag.
    threads
        CPU threads of the trainer, and of each worker of its pool.
    folder
        Where to write, if not in the artifact's folder.
    workers
        The trainer and the workers of its pool.
    """
    config, spec, resources = plan.config, plan.distilled, plan.config.resources
    folder = folder or spec.folder
    recipe, work = recipe_and_estimate(plan, curated)
    arithmetic = resolve(folder, run, config.distill, work, resources.distill_gpus, threads)
    recipe = replace(recipe, arithmetic=arithmetic)
    return DistillTask(
        folder.uri, curated.folder.uri, plan.trajectories.folder.uri, plan.expert_network, config.distill, recipe,
        spec.seed, threads=threads, gpus=resources.distill_gpus, memory_mb=resources.distill_memory_mb,
        checkpoint_seconds=resources.checkpoint_seconds, extra_workers=workers - 1, max_restarts=resources.max_restarts,
        tree=plan.class_tree if config.distill.needs_votes else None,
    )  # fmt: skip


def recipe_and_estimate(plan: Plan, curated: CuratedSet) -> tuple[ResolvedRecipe, WorkEstimate]:
    """Return the recipe with its number of student steps, and the estimated work."""
    config = plan.config
    side, num_train = curated.summary.image_size, curated.summary.num_train
    images = torch.Size((curated.num_classes * config.distill.images_per_class, 3, side, side))
    snapshots = config.experts.snapshots(num_train)
    check_epochs(config, snapshots.num_epochs)
    recipe = config.distill.resolved(snapshots.steps_between, epochs=snapshots.num_epochs)
    return recipe, estimate_distillation(recipe, build_network(plan.expert_network, curated.num_classes, side), images)


class TrainerInputs(NamedTuple):
    """The opened artifacts of a task, its network, device and seed."""

    curated: CuratedSet
    trajectories: Trajectories
    network: Network
    device: str
    seed: int

    @classmethod
    def of(cls, task: DistillTask) -> TrainerInputs:
        """Open the inputs of a task; the driver has verified them."""
        curated = CuratedSet.open(task.curated, verify=False)
        trajectories: Trajectories = TrajectoryStore.open(task.trajectories, verify=False)
        if task.distill.experts is not None:
            trajectories = SomeTrajectories(trajectories, task.distill.experts)
        network = build_network(task.architecture, curated.num_classes, curated.summary.image_size)
        seed = fold_in(task.seed, "distill", task.distill.seed)
        return cls(curated, trajectories, network, device_of(task.gpus), seed)

    def distiller(self, task: DistillTask, images_SCHW: Tensor, labels_SK: Tensor) -> Distiller:
        """Return the task's distiller, on the device of this worker."""
        images, labels = images_SCHW.to(self.device), labels_SK.to(self.device)
        return Distiller(
            task.recipe, self.network, self.trajectories, images, labels, self._steps_seed, task.memory_mb, self._real(task)
        )  # fmt: skip

    def evaluator(self, task: DistillTask) -> SegmentEvaluator:
        """Return the segment evaluator of the task's distiller."""
        return SegmentEvaluator(
            task.recipe, self.network, self.trajectories, self._steps_seed, task.memory_mb, self._real(task)
        )

    def _real(self, task: DistillTask) -> RealImages | None:
        """Return the training images on this worker's device, or None if not needed."""
        if task.distill.outcome is None:
            return None
        images, labels = self.curated.to_torch("train").tensors
        return RealImages(images.to(self.device), one_hot(labels, self.curated.num_classes).to(self.device))

    @property
    def _steps_seed(self) -> int:
        return fold_in(self.seed, "steps")
