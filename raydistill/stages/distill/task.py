"""The task of a trainer: what it opens, its checkpoints and its validations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Distill
from raydistill.diffusion.noised import Noised
from raydistill.distillation.coreset import classes_of
from raydistill.distillation.cost_model import WorkEstimate, estimate_distillation
from raydistill.distillation.distiller import Distiller, Record
from raydistill.distillation.heads import HeadDistiller
from raydistill.distillation.options import ImageGenerator, ImageSpace
from raydistill.distillation.outcome import RealImages
from raydistill.distillation.recipe import ResolvedRecipe
from raydistill.distillation.segments import SegmentEvaluator
from raydistill.distillation.space import Space, image_space
from raydistill.distillation.trajectories import SomeTrajectories, Trajectories, final_parameters
from raydistill.errors import DivergenceError
from raydistill.galaxies.classes import ClassTree
from raydistill.learning.architectures import Architecture
from raydistill.learning.encoders import Encoder, features_of, frozen_encoders
from raydistill.learning.metrics import balanced_accuracy, confusion, summarise
from raydistill.learning.networks import Network, build_network, initial_parameters
from raydistill.learning.normalise import AnyNormalisation, Normalisation, one_hot
from raydistill.learning.options import Training
from raydistill.learning.training import evaluate, lr_schedule, train
from raydistill.pipeline.checks import check_epochs
from raydistill.pipeline.plan import Plan
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import resolve
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import SyntheticImages
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.drawing import drawn_images
from raydistill.stages.pretrain.artifact import EncoderArtifact
from raydistill.storage import Folder, checked
from raydistill.tracking.tracker import Run

# The task of a trainer, and the artifacts that a Ray worker opens from it.

AnyDistiller = Distiller | HeadDistiller


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
    processor: Processor
    memory_mb: float | None
    checkpoint_seconds: float
    extra_workers: int  # that evaluate segments in addition to the trainer
    max_restarts: int
    tree: ClassTree | None  # turns votes into labels; None if the recipe needs no votes
    encoders: tuple[str, ...] = ()  # URIs; empty: the experts give the features
    named_networks: tuple[Architecture, ...] = ()  # whose code the user names
    generator: str | None = None  # URI, if images begin with its samples or are stored as its noised states

    @property
    def ray_options(self) -> dict[str, Any]:
        """Return the arguments of `ray.remote` for a trainer or a worker of its pool."""
        return {"num_cpus": self.processor.threads, "num_gpus": self.processor.gpus}


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
    processor = Processor(threads, resources.distill_gpus)
    arithmetic = resolve(folder, run, config.distill, work, processor)
    recipe = replace(recipe, arithmetic=arithmetic)
    return DistillTask(
        folder.uri, curated.folder.uri, plan.trajectories.folder.uri, plan.expert_network, config.distill, recipe,
        spec.seed, processor, memory_mb=resources.distill_memory_mb,
        checkpoint_seconds=resources.checkpoint_seconds, extra_workers=workers - 1, max_restarts=resources.max_restarts,
        tree=plan.class_tree if config.distill.needs_votes else None,
        encoders=tuple(encoder.folder.uri for encoder in plan.encoders), named_networks=config.pretrain.networks,
        generator=plan.generator.folder.uri if config.distill.needs_generator else None,
    )  # fmt: skip


def recipe_and_estimate(plan: Plan, curated: CuratedSet) -> tuple[ResolvedRecipe, WorkEstimate]:
    """Return the recipe with its number of student steps, and the estimated work."""
    config = plan.config
    side, num_train = curated.summary.image_size, curated.summary.num_train
    images = torch.Size((config.distill.num_images(curated.num_classes), 3, side, side))
    snapshots = config.experts.snapshots(num_train)
    check_epochs(config, snapshots.num_epochs, snapshots.steps_between)
    recipe = config.distill.resolved(snapshots.steps_between, epochs=snapshots.num_epochs)
    return recipe, estimate_distillation(recipe, build_network(plan.expert_network, curated.num_classes, side), images)


class TrainerInputs(NamedTuple):
    """The opened artifacts of a task, its network, device and seed."""

    curated: CuratedSet
    trajectories: Trajectories | None  # None: encoders take their place
    network: Network
    device: str
    seed: int

    @classmethod
    def of(cls, task: DistillTask) -> TrainerInputs:
        """Open the inputs of a task; the driver has verified them. Set the threads."""
        device = task.processor.enter()
        curated = CuratedSet.open(task.curated, verify=False)
        trajectories: Trajectories | None = None
        if not task.encoders:
            trajectories = TrajectoryStore.open(task.trajectories, verify=False)
            if task.distill.experts is not None:
                trajectories = SomeTrajectories(trajectories, task.distill.experts)
        network = build_network(task.architecture, curated.num_classes, curated.summary.image_size)
        seed = fold_in(task.seed, "distill", task.distill.seed)
        return cls(curated, trajectories, network, device, seed)

    def distiller(self, task: DistillTask, images_SCHW: Tensor, labels_SK: Tensor) -> AnyDistiller:
        """Return the task's distiller, on the device of this worker."""
        images, labels = images_SCHW.to(self.device), labels_SK.to(self.device)
        recipe, real = task.distill, self._real(task)
        space: Space | None = None
        if real is not None:
            space = image_space(recipe.space, real.images_NCHW, self.curated.normalisation, self.seed)
        if recipe.space.kind == "generator":
            assert task.generator is not None
            classes_S = classes_of(recipe.counts([entry.train for entry in self.curated.summary.classes]))
            space = self._noised(task.generator, recipe.space, classes_S)
        if recipe.objective.kind == "ridge":
            assert real is not None
            encoders = self.encoders(task, real.images_NCHW)
            return HeadDistiller(recipe, encoders, images, labels, real, self._steps_seed, space)
        assert self.trajectories is not None
        return Distiller(
            task.recipe, self.network, self.trajectories, images, labels, self._steps_seed, task.memory_mb, real, space
        )  # fmt: skip

    def drawn(self, task: DistillTask, images: Tensor, labels: Tensor, counts: Sequence[int]) -> Tensor | None:
        """Return the initial images that a generator draws; None if none does."""
        recipe, normalisation = task.distill, self.curated.normalisation
        if not recipe.draws:
            return None
        assert task.generator is not None
        assert isinstance(normalisation, Normalisation)  # checks.py
        artifact, how = GeneratorArtifact.open(task.generator, verify=False), recipe.init
        seed = fold_in(self.seed, "drawn")
        return drawn_images(artifact, how, images, labels, normalisation, counts, seed, self.device)  # type: ignore[arg-type]

    def _noised(self, uri: str, space: ImageSpace, classes_S: Tensor) -> Space:
        """Return the space of the generator's noised states, for images of these classes."""
        assert isinstance(space, ImageGenerator)
        assert isinstance(self.curated.normalisation, Normalisation)  # checks.py
        artifact = GeneratorArtifact.open(uri, verify=False)
        conditions = artifact.encoding.encode(len(classes_S), labels_N=classes_S.numpy()).to(self.device)
        return Noised(
            artifact.load().to(self.device),
            conditions,
            self.curated.normalisation,
            space.steps,
            space.strength,
            self.seed,
        )

    def evaluator(self, task: DistillTask) -> SegmentEvaluator:
        """Return the segment evaluator of the task's distiller."""
        assert self.trajectories is not None
        return SegmentEvaluator(
            task.recipe, self.network, self.trajectories, self._steps_seed, task.memory_mb, self._real(task)
        )

    def encoders(self, task: DistillTask, images_NCHW: Tensor) -> list[Encoder]:
        """Return the frozen encoders, standardised on the training images."""
        if self.trajectories is not None:
            return frozen_encoders(self.network, final_parameters(self.trajectories), images_NCHW)
        opened = [EncoderArtifact.open(uri, verify=False) for uri in task.encoders]  # the driver has verified them
        return [artifact.encoder(images_NCHW, self.curated.normalisation, task.named_networks) for artifact in opened]

    def _real(self, task: DistillTask) -> RealImages | None:
        """Return the training images on this worker's device, or None if not needed."""
        recipe = task.distill
        if recipe.outcome is None and recipe.objective.kind == "trajectories" and recipe.space.kind == "pixels":
            return None
        images, labels = self.curated.to_torch("train").tensors
        return RealImages(images.to(self.device), one_hot(labels, self.curated.num_classes).to(self.device))

    @property
    def _steps_seed(self) -> int:
        return fold_in(self.seed, "steps")


# The checkpoint from which distillation resumes: one file, written atomically.
#
# It holds images, labels, learning rates, momenta, schedule, history and the best images so far. On
# one machine a resumed run has the same bits as an undisturbed one.

STATE = f"{PARTIAL}/state.safetensors"
FORMAT = 1  # of that file; increase it whenever `save_checkpoint` or the distiller's state changes


class Checkpoint(NamedTuple):
    """The content of a checkpoint."""

    tensors: dict[str, Tensor]  # of the distiller, with `images` and `labels`
    distiller: Any  # its state that is not tensors
    best: SyntheticImages
    records: list[Record]
    validations: list[Validation]


def save_checkpoint(
    folder: Folder,
    distiller: AnyDistiller,
    best: SyntheticImages,
    records: Sequence[Record],
    validations: Sequence[Validation],
) -> None:
    """Write the checkpoint in place of the previous one."""
    tensors, state = distiller.state_dict()
    best_tensors = {
        "best/images": best.images_SCHW,
        "best/targets": best.targets_SK,
        "best/student_lrs": best.student_lrs,
    }
    metadata = {
        "format": FORMAT,
        "distiller": state,
        "best_iteration": best.iteration,
        "validations": [list(validation) for validation in validations],
    }
    history = {"records": torch.frombuffer(bytearray(_serialise(records)), dtype=torch.uint8)}
    checked.write(folder, STATE, pack_tensors(tensors | best_tensors | history, metadata))


def load_checkpoint(folder: Folder, normalisation: AnyNormalisation) -> Checkpoint | str | None:
    """Return the checkpoint; None if there is none; the reason, if it cannot be used."""
    if not folder.exists(STATE):
        return None
    data = checked.read(folder, STATE)
    if data is None:
        return f"'{STATE}' is damaged"
    tensors, metadata = unpack_tensors(data)
    if metadata.get("format") != FORMAT:
        return f"'{STATE}' was written by another version of raydistill"
    images, targets, student_lrs = (tensors.pop(f"best/{name}") for name in ("images", "targets", "student_lrs"))
    best = SyntheticImages(images, targets, student_lrs, normalisation, metadata["best_iteration"])
    records = pa.ipc.open_stream(tensors.pop("records").numpy().tobytes()).read_all().to_pylist()
    validations = [Validation(*row) for row in metadata["validations"]]
    return Checkpoint(tensors, metadata["distiller"], best, [Record(**row) for row in records], validations)


def table_of(rows: Sequence[NamedTuple], kind: type[NamedTuple]) -> pa.Table:
    """Return named tuples as a table, one column per field."""
    return pa.table({field: [getattr(row, field) for row in rows] for field in kind._fields})


def _serialise(records: Sequence[Record]) -> pa.Buffer:
    """Return the records as an Arrow stream.

    A long run has a million records, too many for the JSON header of safetensors.
    """
    buffer, table = pa.BufferOutputStream(), table_of(records, Record)
    with pa.ipc.new_stream(buffer, table.schema) as stream:
        stream.write_table(table)
    return buffer.getvalue()


# Validate distilled images: train fresh networks on them, and score the networks.
#
# The scores are balanced accuracies on the validation split.


class Validation(NamedTuple):
    """A row of `validation.parquet`: balanced accuracy of fresh networks."""

    iteration: int
    balanced_accuracy: float  # mean
    std: float  # NaN for a single network


class Validator:
    """Score iterates with networks of the experts' architecture.

    The seeds of the networks do not depend on the iteration.

    Parameters
    ----------
    recipe
        The recipe, with the number, epochs and augmentation of the networks.
    network
        The architecture of the experts.
    images_NCHW, labels_N
        The validation split, normalised, on the device that trains.
    num_classes
        Number of classes.
    seed
        Seed of the distillation.
    """

    def __init__(
        self, recipe: Distill, network: Network, images_NCHW: Tensor, labels_N: Tensor, num_classes: int, seed: int
    ) -> None:
        self._recipe, self._network, self._seed = recipe, network, seed
        self._images, self._labels, self._num_classes = images_NCHW, labels_N, num_classes

    def evaluate(self, images: SyntheticImages) -> Validation:
        """Return the mean accuracy, and its deviation, of networks trained on `images`."""
        recipe = self._recipe
        training = Training(
            epochs=recipe.validation_epochs, momentum=0.9, weight_decay=5e-4, lr_decay_at=0.5, class_weights=False,
            augmentation=recipe.augmentation,
        ).with_even_batches(len(images.images_SCHW))  # fmt: skip
        return _validation(
            images, [self._score(images, training, number) for number in range(recipe.validation_networks)]
        )

    def _score(self, images: SyntheticImages, training: Training, number: int) -> float:
        """Return the balanced accuracy of one network; 0 if its training diverges."""
        theta_P = initial_parameters(self._network, fold_in(self._seed, "judge", number)).to(self._images)
        seed = fold_in(self._seed, "judge", number, "training")
        data = (images.images_SCHW.to(self._images), images.targets_SK.to(self._images))
        try:
            theta_P = train(self._network, theta_P, *data, training, seed, lr_schedule(images.student_lrs, training))
        except DivergenceError:
            return 0.0
        return evaluate(self._network, theta_P, self._images, self._labels, self._num_classes).balanced_accuracy


class HeadValidator:
    """Score iterates by heads on the encoders they are made for.

    Parameters
    ----------
    distiller
        Has the encoders, and the head.
    images_NCHW, labels_N
        The validation split, normalised, on the device that trains.
    num_classes
        Number of classes.
    """

    def __init__(self, distiller: HeadDistiller, images_NCHW: Tensor, labels_N: Tensor, num_classes: int) -> None:
        self._distiller, self._labels, self._num_classes = distiller, labels_N, num_classes
        self._features = [features_of(encoder, images_NCHW) for encoder in distiller.encoders]

    def evaluate(self, images: SyntheticImages) -> Validation:
        """Return the mean accuracy, and its deviation, of the heads."""
        heads = self._distiller.heads(images.images_SCHW.to(self._features[0]))
        predicted = [(features @ head).argmax(dim=1) for features, head in zip(self._features, heads, strict=True)]
        confusions = [confusion(labels, self._labels, self._num_classes) for labels in predicted]
        return _validation(images, [balanced_accuracy(counts) for counts in confusions])


def _validation(images: SyntheticImages, accuracies: list[float]) -> Validation:
    scores = summarise(accuracies)
    return Validation(images.iteration, scores["mean"], math.nan if scores["std"] is None else scores["std"])
