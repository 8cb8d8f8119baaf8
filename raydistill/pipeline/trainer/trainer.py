"""One distilling session: a distiller with its history, its judge and its memory on disk.

The task of `distill` runs it, or a trial of `tune` (`team.distilling`). The state file holds images, labels, learning rates, momenta,
schedule, history and the best iterate so far, in one atomic write; on one machine a resumed session ends with the same bits as an
undisturbed one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from raydistill.artifacts.curated import CuratedSet, Split
from raydistill.artifacts.distilled import LAST, SEEN, SELECTED, SyntheticImages, write_images, write_seen
from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import read_tensors, write_tensors
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.config import Config, Distill
from raydistill.core.architectures import Architecture
from raydistill.core.coreset import Coreset, random_real
from raydistill.core.cost_model import WorkEstimate, estimate_distillation
from raydistill.core.diagnostics import MatchingDiagnostics
from raydistill.core.distiller import Distiller, Record
from raydistill.core.initial import initial_images, initial_labels, margin
from raydistill.core.networks import Network, build
from raydistill.core.segments import SegmentEvaluator, SegmentResult
from raydistill.errors import ArtifactCorrupt, DivergenceError
from raydistill.galaxies.classes import ClassTree
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.resources import device_of
from raydistill.pipeline.runtime.stages import resolve
from raydistill.pipeline.tracking.tracker import Run
from raydistill.pipeline.trainer.publish import draw_grid
from raydistill.pipeline.trainer.validation import Validation, Validator
from raydistill.seeding import fold_in, generator
from raydistill.storage import Folder

STATE = f"{PARTIAL}/state.safetensors"
FORMAT = 1  # of that file; it changes with what `Session.save` and `Distiller.state` write
BEST = f"{PARTIAL}/images.safetensors"  # what a run that diverged leaves to look at
TYPICAL_SETS = 3  # of real images, by which class means find their first rate
NOTHING_LEARNED = (
    "on validation no iterate was better than the images it began with, and these are published; look at history.png: a loss that does "
    "not fall wants other rates (distill.student_lr, distill.image_step.lr) or better experts, one that falls more iterations"
)
TAUGHT_BY: tuple[Split, ...] = ("train", "validation")
WRITTEN = (SELECTED, LAST, SEEN, "history.parquet", "validation.parquet")  # by the worker


@dataclass(frozen=True)
class DistillTask:
    """What the worker needs to know."""

    folder: str
    curated: str
    trajectories: str
    architecture: Architecture
    distill: Distill
    seed: int
    threads: int
    gpus: float
    memory_mb: float | None
    checkpoint_seconds: float
    helpers: int  # that measure pieces beside the leader
    max_restarts: int
    tree: ClassTree | None  # that turns votes into labels, where they are wanted


def make_task(
    plan: Plan, curated: CuratedSet, run: Run, threads: int, folder: Folder | None = None, workers: int = 1
) -> DistillTask:
    """The job of a plan's distilled set, nothing of it left to `auto` that hangs on this machine. folder: elsewhere than in its place."""
    config, spec, resources = plan.config, plan.distilled, plan.config.resources
    folder = folder or spec.folder
    recipe = resolve(folder, run, *recipe_and_estimate(config, curated), resources.distill_gpus, threads)
    return DistillTask(
        folder.uri, curated.folder.uri, plan.trajectories.folder.uri, config.network, recipe, spec.seed,
        threads=threads, gpus=resources.distill_gpus, memory_mb=resources.distill_memory_mb,
        checkpoint_seconds=resources.checkpoint_seconds, helpers=workers - 1, max_restarts=resources.max_restarts,
        tree=plan.class_tree if config.distill.needs_votes else None,
    )  # fmt: skip


def recipe_and_estimate(config: Config, curated: CuratedSet) -> tuple[Distill, WorkEstimate]:
    """The recipe with its number of steps, and what it has to compute."""
    side, taught = curated.summary.image_size, sum(entry.train for entry in curated.summary.classes)
    images = torch.Size((curated.num_classes * config.distill.images_per_class, 3, side, side))
    wanted = config.distill.stepping(config.experts.training.steps_per_epoch(taught))
    return wanted, estimate_distillation(wanted, build(config.network, curated.num_classes, side), images)


def is_finished(folder: Folder) -> bool:
    """True for a folder in which a session has written all that it has to."""
    return all(map(folder.exists, WRITTEN)) and not folder.exists(STATE)


class ProgressUpdate(NamedTuple):
    """What the worker tells the driver."""

    iteration: int
    records: list[Record]
    validations: list[Validation]
    pictures: list[str]
    warnings: tuple[str, ...] = ()


class TrainerInputs(NamedTuple):
    """What a job's distiller is made from."""

    curated: CuratedSet
    store: TrajectoryStore
    network: Network
    device: str
    seed: int

    @classmethod
    def of(cls, job: DistillTask) -> TrainerInputs:
        curated = CuratedSet.open(job.curated, verify=False)  # the driver has verified both
        store = TrajectoryStore.open(job.trajectories, verify=False)
        network = build(job.architecture, curated.num_classes, curated.summary.image_size)
        return cls(curated, store, network, device_of(job.gpus), fold_in(job.seed, "distill", job.distill.seed))

    def distiller(self, job: DistillTask, images_SCHW: Tensor, labels_SK: Tensor) -> Distiller:
        """On this worker's device."""
        images, labels = images_SCHW.to(self.device), labels_SK.to(self.device)
        return Distiller(job.distill, self.network, self.store, images, labels, self._steps_seed, job.memory_mb)

    def measurer(self, job: DistillTask) -> SegmentEvaluator:
        """That of the job's distiller, for who measures pieces for it."""
        return SegmentEvaluator(job.distill, self.network, self.store, self._steps_seed, job.memory_mb)

    @property
    def _steps_seed(self) -> int:
        return fold_in(self.seed, "steps")


class Trainer:
    """A distiller with its history, its judge and its memory on disk."""

    def __init__(self, job: DistillTask) -> None:
        self.job, self.folder = job, Folder(job.folder)
        sources = TrainerInputs.of(job)
        curated, _, self.network, device, self.seed = sources
        self.curated, self.normalisation = curated, curated.normalisation
        judging = curated.load("validation")
        split = self.normalisation.apply(judging.images_NHWC).to(device), judging.labels_N.to(device)
        self._validator = Validator(job.distill, self.network, *split, curated.num_classes, self.seed)
        self.records: list[Record] = []
        self.guard = MatchingDiagnostics(job.distill)
        self.validations: list[Validation] = []
        self.best: SyntheticImages | None = None
        self._warnings: tuple[str, ...] = ()
        self._told = (0, 0)
        self._new_pictures: list[str] = []
        self._saved = time.monotonic()
        if (saved := self._saved_state()) is not None:
            self.distiller = self._resumed(sources, *saved)
        else:
            self.distiller = self._begun(sources)
            self._judge()

    def _saved_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        if not self.folder.exists(STATE):
            return None
        try:
            tensors, memory = read_tensors(self.folder, STATE)
        except ArtifactCorrupt as error:
            self.warn(f"distilling begins anew: {error.what}")
            return None
        if memory.get("format") != FORMAT:
            self.warn(f"distilling begins anew: '{STATE}' was saved by another release of raydistill")
            return None
        return tensors, memory

    def _begun(self, sources: TrainerInputs) -> Distiller:
        """Before its first step."""
        wanted, curated = self.job.distill, self.curated
        taught = curated.load("train")
        pixels = self.normalisation.apply(taught.images_NHWC)
        votes = None if self.job.tree is None else curated.probabilities("train", self.job.tree)
        experts = (self.network, sources.store.ends() if wanted.needs_experts else [])
        chosen = initial_images(
            wanted, pixels, taught.labels_N, curated.num_classes, *experts, generator(self.seed, "initial")
        )
        self._warnings += _misclassified(wanted, chosen, curated.class_names, *experts)
        labels = initial_labels(wanted, chosen, curated.num_classes, *experts, votes)
        distiller = sources.distiller(self.job, chosen.images_SCHW, labels)
        distiller.begin(self._typical(distiller.images, pixels, taught.labels_N))
        return distiller

    def _typical(self, initial_SCHW: Tensor, taught_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Sets of images that move a student as distilled ones will, [D, S, C, H, W]: the initial one, or real ones for class means."""
        wanted = self.job.distill
        if wanted.init != "mean" or wanted.student_lr != "auto":
            return initial_SCHW[None]
        g = generator(self.seed, "typical")
        classes, ipc = self.curated.num_classes, wanted.images_per_class
        drawn = [random_real(taught_NCHW, labels_N, classes, ipc, g).images_SCHW for _ in range(TYPICAL_SETS)]
        return torch.stack(drawn).to(initial_SCHW)

    def step(self, measure: Callable[[Distiller], list[SegmentResult]] = Distiller.measure_all) -> None:
        """One iteration. measure: its pieces, by whoever helps."""
        measured = measure(self.distiller)
        try:
            new = self.distiller.advance(measured)
        except DivergenceError as error:
            assert self.best is not None
            self.save()  # the state before the iteration that failed
            write_images(self.folder, BEST, self.best, self._info())
            saved = f"the best images so far, of iteration {self.best.iteration}, are in {self.folder.uri}/{BEST}"
            raise DivergenceError(error.what, error.where, f"{error.fix}; {saved}") from error
        self.records += new
        if sentence := self.guard.read(new):
            self.warn(sentence)
        iteration, every = self.distiller.iteration, self.job.distill
        if iteration % every.validate_every == 0 or self.distiller.finished:
            self._judge()
        if iteration % every.picture_every == 0:
            self._draw()
        if time.monotonic() - self._saved > self.job.checkpoint_seconds:
            self.save()

    def warn(self, sentence: str) -> None:
        """For the driver's log, with the next news."""
        self._warnings += (sentence,)

    def news(self) -> ProgressUpdate:
        """What happened since the last call."""
        records, validations = self._told
        self._told = (len(self.records), len(self.validations))
        pictures, self._new_pictures = self._new_pictures, []
        warnings, self._warnings = self._warnings, ()
        seen = self.records[records:], self.validations[validations:]
        return ProgressUpdate(self.distiller.iteration, *seen, pictures, warnings)

    def write(self) -> None:
        """The artifact's data files; the state is dropped last, so a kill in between only writes them again."""
        assert self.best is not None
        if self.best.iteration == 0:
            self.warn(NOTHING_LEARNED)
        info = self._info()
        write_images(self.folder, SELECTED, self.best, info)
        write_images(self.folder, LAST, self._iterate(), info)
        splits = [self.curated.table(split, ["object_id", "source"]) for split in TAUGHT_BY]
        write_seen(self.folder, pa.concat_tables(splits))
        for name, table in (
            ("history", _table(self.records, Record)),
            ("validation", _table(self.validations, Validation)),
        ):
            with self.folder.writing(f"{name}.parquet") as path:
                pq.write_table(table, path)
        self.folder.remove(STATE)

    def _info(self) -> dict[str, Any]:
        summary = self.curated.summary
        return {
            "class_names": self.curated.class_names,
            "images_per_class": self.job.distill.images_per_class,
            "survey": summary.survey,
            "simulated": summary.simulated,
            "image_size": summary.image_size,
            "crop_fraction": summary.crop_fraction,
            "aligned": summary.aligned,
            "network": self.job.architecture.name,
        }

    def _iterate(self) -> SyntheticImages:
        distiller = self.distiller
        images, targets = distiller.published_images.cpu().clone(), distiller.targets().cpu().clone()
        return SyntheticImages(images, targets, distiller.student_lrs.cpu(), self.normalisation, distiller.iteration)

    def _judge(self) -> None:
        """Train fresh networks on the present images; keep the images if these are the best so far."""
        now = self._iterate()
        validation = self._validator(now)
        if self.best is None or validation.balanced_accuracy > max(v.balanced_accuracy for v in self.validations):
            self.best = now
        self.validations.append(validation)

    def _draw(self) -> None:
        name = f"prototypes/iteration-{self.distiller.iteration:06d}.png"
        draw_grid(self.folder, name, self._iterate(), self.curated.class_names, self.job.distill.images_per_class)
        self._new_pictures.append(name)

    def save(self) -> None:
        """The state, from which another session goes on bit for bit."""
        assert self.best is not None
        tensors, strings = self.distiller.state()
        best = {
            "best/images": self.best.images_SCHW,
            "best/targets": self.best.targets_SK,
            "best/student_lrs": self.best.student_lrs,
        }
        memory = {
            "format": FORMAT,
            "distiller": strings,
            "best_iteration": self.best.iteration,
            "validations": [list(validation) for validation in self.validations],
        }
        history = {"records": torch.frombuffer(bytearray(_packed(self.records)), dtype=torch.uint8)}
        write_tensors(self.folder, STATE, tensors | best | history, memory)
        self._saved = time.monotonic()

    def _resumed(self, sources: TrainerInputs, tensors: dict[str, Tensor], memory: dict[str, Any]) -> Distiller:
        """From what `save` wrote."""
        best = {name.removeprefix("best/"): tensors.pop(name) for name in list(tensors) if name.startswith("best/")}
        self.best = SyntheticImages(
            best["images"], best["targets"], best["student_lrs"], self.normalisation, memory["best_iteration"]
        )
        self.records = _unpacked(tensors.pop("records").numpy().tobytes())
        for _, pieces in groupby(self.records, key=lambda record: record.iteration):
            self.guard.read(list(pieces))  # what it had to say then was said
        self.validations = [Validation(*row) for row in memory["validations"]]
        distiller = sources.distiller(self.job, tensors["images"], tensors["labels"])
        distiller.load(tensors, memory["distiller"])
        return distiller


def _table(rows: Sequence[NamedTuple], kind: type[NamedTuple]) -> pa.Table:
    return pa.table({field: [getattr(row, field) for row in rows] for field in kind._fields})


def _packed(records: list[Record]) -> pa.Buffer:
    """As columns: a long run has a million, more than a header in JSON may hold."""
    packed, table = pa.BufferOutputStream(), _table(records, Record)
    with pa.ipc.new_stream(packed, table.schema) as stream:
        stream.write_table(table)
    return packed.getvalue()


def _unpacked(packed: bytes) -> list[Record]:
    return [Record(**row) for row in pa.ipc.open_stream(packed).read_all().to_pylist()]


def _misclassified(
    wanted: Distill, chosen: Coreset, class_names: list[str], network: Network, experts_P: list[torch.Tensor]
) -> tuple[str, ...]:
    """Of which classes the experts get too few galaxies right for `init: correct`."""
    if wanted.init != "correct":
        return ()
    ipc = wanted.images_per_class
    labels_S = torch.arange(len(class_names)).repeat_interleave(ipc)
    wrong = (margin(network, experts_P, chosen.images_SCHW, labels_S) <= 0).view(-1, ipc).sum(dim=1).tolist()
    short = ", ".join(f"{name} ({count})" for name, count in zip(class_names, wrong, strict=True) if count)
    if not short:
        return ()
    return (f"the experts classify too few galaxies correctly; some images begin with the nearest to it: {short}",)
