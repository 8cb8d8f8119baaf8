"""The trainer, which distils a set from initial images to its artifact's files.

It runs in the Ray task of `distill` or in a trial of `tune` (`worker_pool.run_trainer`), and
resumes from its checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import WHITENING
from raydistill.distillation.coreset import Coreset, classes_of, random_real
from raydistill.distillation.diagnostics import (
    WINDOW,
    Finding,
    LossAboveOne,
    MatchingDiagnostics,
    MostSkipped,
    MostStationary,
)
from raydistill.distillation.distiller import Distiller, Record
from raydistill.distillation.divergence import NotFinite, StudentLrOutOfRange
from raydistill.distillation.heads import HeadDistiller
from raydistill.distillation.initial import initial_images, initial_labels, margin
from raydistill.distillation.recipe import ResolvedRecipe
from raydistill.distillation.segments import SegmentResult, StationaryExperts
from raydistill.distillation.trajectories import final_parameters
from raydistill.errors import ArtifactIncompatible, DivergenceError
from raydistill.galaxies.selection import Split
from raydistill.learning.encoders import features_of
from raydistill.learning.networks import Network
from raydistill.seeding import generator
from raydistill.stages.distill.artifact import (
    INITIAL,
    LAST,
    SEEN,
    SELECTED,
    SyntheticImages,
    write_frame,
    write_images,
)
from raydistill.stages.distill.counts import header_of
from raydistill.stages.distill.report import draw_grid
from raydistill.stages.distill.task import (
    STATE,
    AnyDistiller,
    Checkpoint,
    DistillTask,
    HeadValidator,
    TrainerInputs,
    Validation,
    Validator,
    load_checkpoint,
    save_checkpoint,
    table_of,
)
from raydistill.storage import Folder, checked

BEST = f"{PARTIAL}/images.safetensors"  # the best images of a run that diverged
NUM_FRAMES = 20  # that show how the images change
TYPICAL_SETS = 3  # of real images, from which `init: mean` chooses the student's learning rate
NOTHING_LEARNED = (
    "on validation no iterate was better than the initial images, which are published; see history.png: if the loss does "
    "not fall, try other rates (distill.student_lr, distill.image_step.lr) or better experts; if it falls, more iterations"
)
USED_SPLITS: tuple[Split, ...] = ("train", "validation")
WRITTEN = (SELECTED, LAST, INITIAL, SEEN, "history.parquet", "validation.parquet")  # by the trainer
FINISHED = f"{PARTIAL}/written.json"  # record of these files


def is_finished(folder: Folder) -> bool:
    """Return whether a folder holds all files of a trainer, intact."""
    return not folder.exists(STATE) and checked.recorded(folder, FINISHED) is not None


class ProgressUpdate(NamedTuple):
    """The progress since the last update; the worker sends it to the driver."""

    iteration: int
    records: list[Record]
    validations: list[Validation]
    pictures: list[str]
    warnings: tuple[str, ...] = ()


class Trainer:
    """Distil one set, with its history, validations and checkpoint.

    Parameters
    ----------
    task
        What to distil. If its folder holds a checkpoint, the trainer resumes from it.
    """

    def __init__(self, task: DistillTask) -> None:
        self.task, self.folder = task, Folder(task.folder)
        inputs = TrainerInputs.of(task)
        self.curated, _, self.network, device, self.seed = inputs
        self.normalisation = self.curated.normalisation
        self.counts = task.distill.counts([entry.train for entry in self.curated.summary.classes])
        validation = self.curated.load("validation")
        split = self.normalisation.apply(validation.images_NHWC).to(device), validation.labels_N.to(device)
        self.records: list[Record] = []
        self.diagnostics = MatchingDiagnostics()
        self.validations: list[Validation] = []
        self.best: SyntheticImages | None = None
        self._warnings: tuple[str, ...] = ()
        self._num_reported = (0, 0)  # records and validations
        self._new_pictures: list[str] = []
        self._saved_at = time.monotonic()
        checkpoint = load_checkpoint(self.folder, self.normalisation)
        self.distiller: AnyDistiller = (
            self._resume(inputs, checkpoint) if isinstance(checkpoint, Checkpoint) else self._start(inputs)
        )
        self._validator: Validator | HeadValidator = (
            HeadValidator(self.distiller, *split, self.curated.num_classes)
            if isinstance(self.distiller, HeadDistiller)
            else Validator(task.distill, self.network, *split, self.curated.num_classes, self.seed)
        )
        if isinstance(checkpoint, Checkpoint):
            return
        if checkpoint is not None:
            self.warn(f"distilling starts over: {checkpoint}")
        write_images(self.folder, INITIAL, self.current_images(), self._info())
        self._validate()
        write_frame(self.folder, self.current_images(), self.counts)

    def _start(self, inputs: TrainerInputs) -> AnyDistiller:
        """Return the distiller before its first step."""
        recipe, curated = self.task.distill, self.curated
        train = curated.load("train")
        pixels = self.normalisation.apply(train.images_NHWC)
        votes = None if self.task.tree is None else curated.probabilities("train", self.task.tree)
        # The final parameters of 1000 experts are gigabytes: read them only if the recipe needs
        # them.
        known = inputs.trajectories
        experts = (self.network, final_parameters(known) if known is not None and recipe.needs_experts else [])
        device = inputs.device if recipe.starts_by_matching else "cpu"
        images = pixels.to(device), train.labels_N.to(device)
        herd_by = None
        if recipe.objective.kind == "ridge" and recipe.init == "herding":
            normalised = pixels.to(inputs.device)
            herd_by = torch.cat([features_of(one, normalised) for one in inputs.encoders(self.task, normalised)], dim=1)
        g = generator(self.seed, "initial")
        drawn = inputs.drawn(self.task, pixels, train.labels_N, self.counts)
        initial = initial_images(recipe, *images, self.counts, *experts, known, g, herd_by, drawn)
        if recipe.init == "correct":
            self._warn_of_misclassified(initial, *experts)
        labels = initial_labels(recipe, initial, self.counts, *experts, votes)
        distiller = inputs.distiller(self.task, initial.images_SCHW, labels)
        if isinstance(distiller, HeadDistiller):
            return distiller
        try:
            distiller.begin(self._typical_sets(distiller.images, pixels, train.labels_N))
        except StationaryExperts as error:
            raise translate_stationary(error) from error
        except DivergenceError as error:
            raise translate_divergence(error, self.task.recipe) from error
        return distiller

    def _resume(self, inputs: TrainerInputs, checkpoint: Checkpoint) -> AnyDistiller:
        """Return the distiller of a checkpoint, and take over its history."""
        self.best, self.records, self.validations = checkpoint.best, checkpoint.records, checkpoint.validations
        for _, records in groupby(self.records, key=lambda record: record.iteration):
            self.diagnostics.read(list(records))  # its warnings were logged before the checkpoint
        tensors = checkpoint.tensors
        size = self.curated.summary.image_size
        any_images = torch.zeros(len(tensors["labels"]), 3, size, size)
        distiller = inputs.distiller(self.task, any_images, tensors["labels"])
        distiller.load_state_dict(tensors, checkpoint.distiller)
        return distiller

    def _typical_sets(self, initial_SCHW: Tensor, train_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Return image sets [D, S, C, H, W] for the choice of the student's learning rate.

        They move a student as distilled images will. Class means move it too little, so real images
        replace them; otherwise these are the initial images.
        """
        if self.task.distill.init != "mean" or self.task.recipe.student_lr is not None:
            return initial_SCHW[None]
        g = generator(self.seed, "typical")
        sets = [random_real(train_NCHW, labels_N, self.counts, g).images_SCHW for _ in range(TYPICAL_SETS)]
        return torch.stack(sets).to(initial_SCHW)

    def _warn_of_misclassified(self, initial: Coreset, network: Network, experts_P: list[Tensor]) -> None:
        """Warn of classes with too few correctly classified galaxies (`init: correct`)."""
        names = self.curated.class_names
        labels_S = classes_of(self.counts)
        wrong_S = margin(network, experts_P, initial.images_SCHW, labels_S) <= 0
        wrong = labels_S[wrong_S.cpu()].bincount(minlength=len(names)).tolist()
        if classes := ", ".join(f"{name} ({count})" for name, count in zip(names, wrong, strict=True) if count):
            self.warn(
                "the experts classify too few galaxies correctly; some initial images are the least misclassified "
                f"galaxies: {classes}"
            )

    def step(self, evaluate: Callable[[Distiller], list[SegmentResult]] = Distiller.measure_all) -> None:
        """Run one iteration. evaluate: returns the results of its segments, in order."""
        try:
            new = self._advance(evaluate)
        except DivergenceError as cause:
            error = translate_divergence(cause, self.task.recipe)
            assert self.best is not None
            self.save()  # the state before the iteration that failed
            write_images(self.folder, BEST, self.best, self._info())
            saved = f"the best images so far, of iteration {self.best.iteration}, are in {self.folder.uri}/{BEST}"
            raise DivergenceError(error.what, error.where, f"{error.fix}; {saved}") from cause
        self.records += new
        if finding := self.diagnostics.read(new):
            self.warn(describe_finding(finding, self.task.recipe))
        iteration, recipe = self.distiller.iteration, self.task.distill
        if iteration % recipe.validate_every == 0 or self.distiller.finished:
            self._validate()
        if iteration % recipe.picture_every == 0:
            name = f"prototypes/iteration-{iteration:06d}.png"
            draw_grid(self.folder, name, self.current_images(), self.curated.class_names, self.counts)
            self._new_pictures.append(name)
        if iteration % max(1, recipe.iterations // NUM_FRAMES) == 0 or self.distiller.finished:
            write_frame(self.folder, self.current_images(), self.counts)
        if time.monotonic() - self._saved_at > self.task.checkpoint_seconds:
            self.save()

    def _advance(self, evaluate: Callable[[Distiller], list[SegmentResult]]) -> list[Record]:
        if isinstance(self.distiller, HeadDistiller):
            return self.distiller.step()
        return self.distiller.advance(evaluate(self.distiller))

    def warn(self, message: str) -> None:
        """Add a warning to the next update; the driver logs it."""
        self._warnings += (message,)

    def progress_update(self) -> ProgressUpdate:
        """Return what happened since the last call."""
        num_records, num_validations = self._num_reported
        self._num_reported = (len(self.records), len(self.validations))
        pictures, self._new_pictures = self._new_pictures, []
        warnings, self._warnings = self._warnings, ()
        new = self.records[num_records:], self.validations[num_validations:]
        return ProgressUpdate(self.distiller.iteration, *new, pictures, warnings)

    def save(self) -> None:
        """Write the checkpoint."""
        assert self.best is not None
        save_checkpoint(self.folder, self.distiller, self.best, self.records, self.validations)
        self._saved_at = time.monotonic()

    def write(self) -> None:
        """Write the artifact's data files, then remove the checkpoint.

        If the process is killed in between, the files are written again.
        """
        assert self.best is not None
        if self.best.iteration == 0:
            self.warn(NOTHING_LEARNED)
        info = self._info()
        write_images(self.folder, SELECTED, self.best, info)
        write_images(self.folder, LAST, self.current_images(), info)
        used = pa.concat_tables([self.curated.table(split, ["object_id", "source"]) for split in USED_SPLITS])
        pictures = pc.struct_field(used["source"], "sha256")
        for name, table in (
            ("history", table_of(self.records, Record)),
            ("validation", table_of(self.validations, Validation)),
            ("seen", pa.table({"object_id": used["object_id"], "sha256": pictures}).sort_by("object_id")),
        ):
            with self.folder.writing(f"{name}.parquet") as path:
                pq.write_table(table, path)
        names = [name for name in (*WRITTEN, WHITENING) if self.folder.exists(name)]
        checked.record(self.folder, FINISHED, {name: self.folder.sha256(name) for name in names})
        self.folder.remove(STATE)

    def current_images(self) -> SyntheticImages:
        """Return a copy of the current iterate."""
        distiller = self.distiller
        images, targets = distiller.published_images.cpu().clone(), distiller.targets().cpu().clone()
        return SyntheticImages(images, targets, distiller.student_lrs.cpu(), self.normalisation, distiller.iteration)

    def _validate(self) -> None:
        """Train fresh networks on the current images, and store the best images so far."""
        images = self.current_images()
        validation = self._validator.evaluate(images)
        if self.best is None or validation.balanced_accuracy > max(v.balanced_accuracy for v in self.validations):
            self.best = images
        self.validations.append(validation)

    def _info(self) -> dict[str, Any]:
        return {
            "class_names": self.curated.class_names,
            **header_of(self.counts),
            "multi_formation": self.task.distill.multi_formation,
            **self.curated.summary.origin,
            "network": self.task.architecture.name,
        }


# Warnings and errors of a distillation in config keys; `core` reports quantities.


def describe_finding(finding: Finding, recipe: ResolvedRecipe) -> str:
    """Return a warning that names the config keys to change."""
    where = f"iteration {finding.iteration}"
    if isinstance(finding, LossAboveOne):
        return (
            f"{where}: the matching loss stays above 1 (median {finding.median_loss:.2f}): the student ends farther from its target "
            f"than it began; lower distill.student_lr (now {finding.student_lr:.3g}) or distill.student_steps "
            f"(now {recipe.student_steps})"
        )
    if isinstance(finding, MostSkipped):
        return (
            f"{where}: in the last {WINDOW} iterations {finding.fraction:.0%} of the segments were skipped, because their loss was above "
            f"distill.skip_above = {recipe.options.skip_above:g}: little is learned; lower distill.student_lr "
            f"(now {finding.student_lr:.3g}) or raise it"
        )
    if isinstance(finding, MostStationary):
        return (
            f"{where}: in the last {WINDOW} iterations {finding.fraction:.0%} of the segments had nothing to match, because the experts "
            "did not move from start to target: little is learned; match earlier epochs (distill.schedule) or longer segments "
            "(distill.expert_epochs)"
        )
    return (
        f"{where}: the student's learning rate fell from {finding.first_lr:.3g} to {finding.student_lr:.3g}: its steps do not lead "
        f"where the experts went; begin with distill.student_lr={finding.student_lr:.2g}, or, if it falls from there too, train "
        "smoother experts (a lower experts.training.lr)"
    )


def translate_divergence(error: DivergenceError, recipe: ResolvedRecipe) -> DivergenceError:
    """Return the error with the stage and the config keys to change."""
    return DivergenceError(error.what, f"distill, {error.where}", _fix(error, recipe))


def _fix(error: DivergenceError, recipe: ResolvedRecipe) -> str:
    if isinstance(error, StudentLrOutOfRange):
        lr = recipe.options.lr_step.lr
        return f"lower distill.lr_step.lr (now {lr:.3g}), or start from another distill.student_lr"
    if not isinstance(error, NotFinite):
        return error.fix
    if recipe.options.objective.kind == "ridge":
        return f"lower distill.image_step.lr (now {recipe.options.image_step.lr:.3g})"
    fix = f"lower distill.student_lr (now {error.student_lr:.3g})"
    if error.image_lr is not None:
        fix += f" or distill.image_step.lr (now {error.image_lr:.3g})"
        if recipe.options.image_step.kind == "sgd":
            fix += ", or use distill.image_step={kind: adam, lr: 0.03}"
    return fix


def translate_stationary(error: StationaryExperts) -> ArtifactIncompatible:
    """Return the error with the stage and the config keys to change."""
    first, last = error.epochs
    return ArtifactIncompatible(
        f"the experts do not move at start epochs {first} and {last}, so no learning rate can be chosen from their displacement",
        "distill",
        "match earlier epochs (distill.schedule), or give the rates that are auto",
    )
