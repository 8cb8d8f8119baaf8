"""Define trajectory-matching options: `Recipe`, `ResolvedRecipe` (without "auto")."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from raydistill.distillation.options import (
    SGD,
    Adam,
    ImagePixels,
    ImageSpace,
    MatchTrajectories,
    Objective,
    OutcomeMatching,
    Step,
)
from raydistill.distillation.schedule import LossWeighted, Schedule, ScheduleBase
from raydistill.distillation.snapshots import EXPERT_STEPS
from raydistill.learning.arithmetic import EAGER, Arithmetic, EngineName, Precision, fill_auto
from raydistill.learning.augment import DSA, GROUPS, Augmentation, Symmetries
from raydistill.learning.checks import among, at_least_0_below_1, positive

FEWEST_STEPS, MOST_STEPS = 10, 50  # limits of `student_steps: auto`; the papers take 50


Allocation = Literal["equal", "frequency"]
StartEpochs = Literal["cycle", "random", "continuous"]
TrajectoryKind = Literal["sgd", "straight"]
MatchAt = Literal["end", "nearest"]
Labels = Literal["hard", "votes", "soft"]
LabelInit = Literal["experts", "votes", "hard"]
MATCHED_INITS = frozenset(("dm", "tgdd"))  # initial images that are matched to features
Drawn = Literal["samples", "mgd3"]  # by a generator
Init = Literal["noise", "real", "correct", "mean", "clusters", "herding", "dm", "tgdd", "samples", "mgd3"]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of trajectory matching; `docs/method.md` has the symbols.

    Parameters
    ----------
    images_per_class
        Number of synthetic images per class (ipc).
    allocation
        How the classes share `images_per_class` times their number of images. "equal": equally;
        "frequency": as the training images, each class at least one.
    iterations
        Largest number of iterations; the schedule may stop earlier.
    student_steps
        N, the number of SGD steps of the student. "auto": a third of the experts' steps in M
        epochs, and a quarter with one image per class; a half once the schedule `loss-weighted`
        finds that losses no longer fall; from 10 to 50.
    expert_epochs
        M, the number of expert epochs from the start to the target. "auto": those with about 75
        steps, at least one.
    student_lr
        Initial learning rate of the student; its logarithm is learned. "auto": the largest rate at
        which, on the initial images, the student moves at most 0.8 times as far as the experts, see
        `Distiller.begin`. With `init: mean`, real images are used. A rate far too large makes the
        student move away from its target (loss above 1).
    lr_per_epoch
        Learn one student learning rate per start epoch, instead of one for all.
    trajectories_per_step
        Number of trajectory segments per iteration, each with its own random numbers. The images
        follow the mean of their gradients. Several workers may share the segments; the result is
        the same, and each segment costs as much as one.
    start_epochs
        Choice of the start epoch t in the window of the schedule. "cycle": one epoch after another;
        "random": uniform over the epochs; "continuous": uniform over the real numbers between the
        first and the last (straight trajectories only). The schedule `loss-weighted` draws whole
        epochs by its own probabilities, once a loss is known.
    trajectories
        "sgd": the parameters of the experts after each epoch; "straight": the line between an
        expert's first and last parameters (MCT).
    match_at
        "end": match after the last student step; "nearest": match after the step that ends nearest
        to the target (ATT).
    skip_layers
        Fraction of the layers, counted from the input, that the loss leaves out, rounded down
        (PAD).
    skip_above
        Ignore segments whose loss is above this value (DATM: 1.0 to 1.1); None: use all segments.
    batch_size
        Synthetic images per student step. None: all images; "auto": half of them if a class has
        several. The student sees every image once before any image again, apart from a remainder
        smaller than a batch.
    labels
        "hard": one-hot; "votes": the volunteers' class probabilities of the real images behind a
        synthetic one, fixed; "soft": learned logits, optimised by `label_step`.
    label_init
        Initial soft labels. "experts": mean logits of the experts that classify the image correctly
        (DATM); "votes"; "hard".
    init
        Initial images. "noise"; "real": random training images of the class; "correct": real images
        that the experts classify correctly (DATM); "mean": means of disjoint parts of the class;
        "clusters": means of clusters of the class (k-means); "herding": training images whose mean
        is nearest to the class mean, in pixels, or in the features of the frozen encoders of the
        objective "ridge"; "dm": a thousand iterations of distribution matching
        (`distillation.distribution`); "tgdd": the same with random experts at random epochs in place
        of new networks; "samples": galaxies of the class from the run's generator; "mgd3": those
        near modes of its training images (`diffusion.modes`).
    image_step
        Optimiser of the images. In `space: components` its rate is in standard deviations of a
        component.
    lr_step
        Optimiser of the logarithm of the student's learning rate.
    label_step
        Optimiser of learned labels.
    engine
        Gradient engine. "exact": adjoint, which keeps the graph of one step and the parameters of all;
        "constant-adjoint": TESLA's
        approximation; "unrolled": automatic differentiation through all steps, the reference.
    precision
        "bfloat16" applies to the student's matrix products; parameters and adjoint stay float32.
        "auto": decided by the estimated work and the hardware (`distillation.cost_model`); without an
        estimate float32.
    compile
        Compile the student's step with `torch.compile`. "auto": decided by the estimated work and
        the hardware (`distillation.cost_model`); without an estimate not compiled.
    ema
        Decay of the moving average of the images, which is validated and published. 0: the images
        themselves.
    schedule
        The start epochs, how they change, and when the run stops.
    augmentation
        Augmentation of the synthetic images in every student step.
    average_over
        Group of symmetries over which every student step averages its gradient, so that an image
        need not show its class in several orientations. "none": the random symmetry of
        `augmentation`, if any; "mirror": four (see `augmentation`); "dihedral": eight flips and
        turns. A step then costs the time and memory of four or eight times as many images.
    multi_formation
        f: f x f of the images are tiles of one stored image, and are learned at 1/f of the
        resolution (`distillation.space`). `images_per_class` counts the images, and must be a multiple
        of f^2. 1: every image is stored.
    space
        What is optimised, see `distillation.space`. "pixels"; "components": whitened principal
        components of the training images, which have no noise of single pixels and keep the values
        in the range of pictures; "pyramid": images of several sizes, enlarged and added;
        "generator": noised states, which the run's generator turns into galaxies.
    objective
        "trajectories"; "ridge": the outcome of a linear head on the experts' features, see
        `distillation.heads`. It needs hard labels, and uses neither the schedule nor students.
    outcome
        Match the outcome in the last iterations, see `distillation.outcome`. None: trajectories alone.
    """

    images_per_class: int = 1
    allocation: Allocation = "equal"
    iterations: int = 1000
    student_steps: int | Literal["auto"] = "auto"
    expert_epochs: int | Literal["auto"] = 1
    student_lr: float | Literal["auto"] = "auto"
    lr_per_epoch: bool = False
    trajectories_per_step: int = 1
    start_epochs: StartEpochs = "cycle"
    trajectories: TrajectoryKind = "sgd"
    match_at: MatchAt = "end"
    skip_layers: float = 0.0
    skip_above: float | None = None
    batch_size: int | Literal["auto"] | None = None
    labels: Labels = "hard"
    label_init: LabelInit = "experts"
    init: Init = "real"
    ema: float = 0.0
    schedule: Schedule = field(default_factory=LossWeighted)
    image_step: Step = field(default_factory=lambda: Adam(lr=0.03))
    lr_step: Step = field(default_factory=lambda: Adam(lr=0.005))
    label_step: Step = field(default_factory=lambda: SGD(lr=5.0, momentum=0.9))
    augmentation: Augmentation = Augmentation(operations=DSA)
    engine: EngineName = "exact"
    precision: Precision | Literal["auto"] = "float32"
    compile: bool | Literal["auto"] = "auto"
    average_over: Symmetries = "none"
    outcome: OutcomeMatching | None = None
    multi_formation: int = 1
    space: ImageSpace = field(default_factory=ImagePixels)
    objective: Objective = field(default_factory=MatchTrajectories)

    def __post_init__(self) -> None:
        positive(self, "images_per_class", "iterations", "trajectories_per_step", "multi_formation")
        among(StartEpochs, start_epochs=self.start_epochs)
        among(TrajectoryKind, trajectories=self.trajectories)
        among(MatchAt, match_at=self.match_at)
        among(Labels, labels=self.labels)
        among(LabelInit, label_init=self.label_init)
        among(Init, init=self.init)
        among(Allocation, allocation=self.allocation)
        if not isinstance(self.schedule, ScheduleBase):
            raise ValueError(f"schedule must be a ScheduleBase, got {self.schedule!r}")
        if self.images_per_class % self.multi_formation**2:
            raise ValueError(
                f"images_per_class must be a multiple of {self.multi_formation**2} for multi_formation = {self.multi_formation}, "
                f"got {self.images_per_class}"
            )
        if self.allocation == "frequency" and (self.images_per_class == 1 or self.multi_formation > 1):
            raise ValueError("allocation: frequency needs several images_per_class, and multi_formation: 1")
        if self.multi_formation > 1 and self.space.kind != "pixels":
            raise ValueError(f"multi_formation goes with space: pixels, not with {self.space.kind}")
        if self.objective.kind == "ridge":
            self._check_ridge()
        if self.expert_epochs != "auto":
            positive(self, "expert_epochs")
        if self.student_steps != "auto":
            positive(self, "student_steps")
        if self.student_lr != "auto":
            positive(self, "student_lr")
        if self.batch_size is not None and self.batch_size != "auto" and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}; null takes all images")
        if self.skip_above is not None:
            positive(self, "skip_above")
        if self.image_step.lr == "auto" and (self.space.kind != "pixels" or self.multi_formation > 1):
            raise ValueError("image_step: lr: auto fits a step of plain pixels; give a number in another space")
        for name, step in (("lr_step", self.lr_step), ("label_step", self.label_step)):
            if step.lr == "auto":
                raise ValueError(f"{name}: lr must be a number; auto is for image_step")
        at_least_0_below_1(ema=self.ema, skip_layers=self.skip_layers)
        if self.outcome is not None and self.outcome.after >= self.iterations:
            raise ValueError(
                f"outcome.after must be below iterations = {self.iterations}, got {self.outcome.after}: it would match no outcome"
            )
        if self.label_init != "experts" and self.labels != "soft":
            raise ValueError(
                f"label_init: {self.label_init} goes with labels: soft; labels: {self.labels} are not learned"
            )
        if self.start_epochs == "continuous" and self.trajectories != "straight":
            raise ValueError(
                "start_epochs: continuous goes with trajectories: straight; SGD's are known at whole epochs only"
            )
        if self.engine == "unrolled" and self.compile != "auto" and self.compile:
            raise ValueError(
                "compile goes with engine: exact or constant-adjoint; the unrolled engine differentiates a graph twice"
            )

    def _check_ridge(self) -> None:
        """Raise ValueError if the recipe names what a head has no use for."""
        for name, needed in (("labels", "hard"), ("outcome", None), ("trajectories_per_step", 1)):
            if getattr(self, name) != needed:
                raise ValueError(f"objective: ridge needs {name}: {'null' if needed is None else needed}")
        if self.image_step.lr == "auto":
            raise ValueError("objective: ridge needs a number as the lr of image_step")

    def resolved(self, steps_per_epoch: int | None = None, epochs: int | None = None) -> ResolvedRecipe:
        """Return this recipe with a number in place of each "auto".

        Its arithmetic is as requested, and eager float32 where that is "auto".

        Parameters
        ----------
        steps_per_epoch
            SGD steps in an epoch of the experts; needed for `student_steps` and `expert_epochs: auto`.
        epochs
            Epochs of the experts, of which `expert_epochs: auto` takes at most half. None: any
            number.

        Raises
        ------
        ValueError
            If `student_steps` or `expert_epochs` is "auto" and `steps_per_epoch` is not given.

        Notes
        -----
        A student step sees all synthetic images or `batch_size` of them, and may be longer than an
        expert's. So a third of the experts' steps is enough, and a quarter with one image per class.
        In equal time, more iterations are worth more than longer students, until losses no longer
        fall (dev/log.md, "Start epochs that choose themselves").
        """
        expert_epochs = self._resolve_expert_epochs(steps_per_epoch, epochs)
        student_steps, longer = self._resolve_student_steps(expert_epochs, steps_per_epoch)
        return ResolvedRecipe(
            self,
            student_steps=student_steps,
            longer_student_steps=longer,
            expert_epochs=expert_epochs,
            student_lr=None if self.student_lr == "auto" else self.student_lr,
            image_lr=None if self.image_step.lr == "auto" else self.image_step.lr,
            arithmetic=fill_auto(self),
        )

    def _resolve_expert_epochs(self, steps_per_epoch: int | None, epochs: int | None) -> int:
        if self.expert_epochs != "auto":
            return self.expert_epochs
        if steps_per_epoch is None:
            raise ValueError("expert_epochs is auto: give the experts' steps per epoch, or a number of epochs")
        most = EXPERT_STEPS if epochs is None else epochs // 2
        return max(1, min(round(EXPERT_STEPS / steps_per_epoch), most))

    def _resolve_student_steps(self, expert_epochs: int, steps_per_epoch: int | None) -> tuple[int, int]:
        """Return the number of steps at first, and after `Decision.LENGTHEN`."""
        if self.student_steps != "auto":
            return self.student_steps, self.student_steps
        if steps_per_epoch is None:
            raise ValueError("student_steps is auto: give the experts' steps per epoch, or a number of steps")

        def one_of(expert_steps: int) -> int:
            return min(max(round(expert_epochs * steps_per_epoch / expert_steps), FEWEST_STEPS), MOST_STEPS)

        return one_of(4 if self.images_per_class == 1 else 3), one_of(2)

    def batch_of(self, num_images: int) -> int:
        """Return the number of synthetic images per student step.

        "auto" halves the images of several per class: a step costs half as much as one on all
        images. Smaller batches have noisier gradients; 50 and 90 images distilled with them were
        worse (dev/log.md, 2026-11-23).
        """
        if self.batch_size == "auto":
            return num_images if self.images_per_class == 1 else num_images // 2
        return min(self.batch_size or num_images, num_images)

    def num_images(self, num_classes: int) -> int:
        """Return the number of synthetic images of all classes."""
        return num_classes * self.images_per_class

    def counts(self, totals_K: Sequence[int]) -> tuple[int, ...]:
        """Return the number of synthetic images of each class, for classes of these sizes."""
        classes, budget = len(totals_K), self.num_images(len(totals_K))
        counts = [self.images_per_class] * classes
        if self.allocation == "frequency":  # one for each class, the others by the method of Webster
            counts = [1] * classes
            queue = [(-total / 3, k) for k, total in enumerate(totals_K)]
            heapq.heapify(queue)
            for _ in range(budget - classes):
                k = queue[0][1]
                counts[k] += 1
                heapq.heapreplace(queue, (-totals_K[k] / (2 * counts[k] + 1), k))
        return tuple(counts)

    @property
    def versions(self) -> int:
        """Return the number of symmetric versions of an image in a student step."""
        return len(GROUPS[self.average_over])

    @property
    def needs_experts(self) -> bool:
        """Return whether experts' final parameters choose or label the initial images."""
        return self.init == "correct" or (self.labels == "soft" and self.label_init == "experts")

    @property
    def starts_by_matching(self) -> bool:
        """Return whether the initial images are computed by matching features.

        They are then not chosen or averaged.
        """
        return self.init in MATCHED_INITS

    @property
    def draws(self) -> bool:
        """Return whether a generator draws the initial images."""
        return self.init in get_args(Drawn)

    @property
    def needs_generator(self) -> bool:
        """Return whether the images begin with, or live in, a generator's images."""
        return self.draws or self.space.kind == "generator"

    @property
    def needs_votes(self) -> bool:
        """Return whether labels are the volunteers' votes, or start from them."""
        return self.labels == "votes" or self.label_init == "votes"


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe whose automatic choices are made; `Recipe.resolved` builds it.

    Parameters
    ----------
    options
        The recipe as requested. Read the quantities below here, not there.
    student_steps, expert_epochs
        N and M.
    longer_student_steps
        N after `Decision.LENGTHEN`. The same if the recipe names N.
    student_lr, image_lr
        Learning rates of the student and of the images. None: `Distiller.begin` chooses it from the
        initial images.
    arithmetic
        Compiled or eager, and the precision.
    """

    options: Recipe
    student_steps: int
    longer_student_steps: int
    expert_epochs: int
    student_lr: float | None
    image_lr: float | None
    arithmetic: Arithmetic = EAGER


def resolve_recipe(recipe: Recipe | ResolvedRecipe) -> ResolvedRecipe:
    """Return the recipe, resolved if needed without an estimate of the work."""
    return recipe.resolved() if isinstance(recipe, Recipe) else recipe
