"""Everything a person may choose of trajectory matching."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from raydistill.core.augment import DSA, Augmentation
from raydistill.core.checks import at_least_0_below_1, positive
from raydistill.core.engines import EngineName
from raydistill.core.matching import Precision
from raydistill.core.schedule import Schedule, SelfAdaptive

SMALLEST_GRADIENT = 1e-12  # that anything is divided by; images that are all zero have none
FEWEST_STEPS, MOST_STEPS = 10, 50  # of a student, where they are left to `auto`


@dataclass(frozen=True, kw_only=True)
class SGD:
    """Plain SGD with momentum, the papers' step. `lr` for images is 100 to 10000, for matching gradients are small; or "auto", by the
    gradient's scale on the initial images, see `Distiller.begin`."""

    kind: Literal["sgd"] = "sgd"
    lr: float | Literal["auto"]
    momentum: float = 0.5

    def __post_init__(self) -> None:
        if self.lr != "auto":
            positive(self, "lr")
        at_least_0_below_1(momentum=self.momentum)

    def weight(self, length: float) -> float:
        """What the gradients of a piece are multiplied by, given the length of that of its images."""
        return 1.0

    def build(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        # What is left to `auto` is set before the first step.
        return torch.optim.SGD(parameters, lr=0.0 if self.lr == "auto" else self.lr, momentum=self.momentum)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam; for images, `lr` is in units of the channel's standard deviation.

    unit_gradients: the gradients of every piece are divided by the length of that of its images. Now and then a student amplifies what
    it is taught some thousandfold; Adam would remember one such gradient for 1 / (1 - beta_2) iterations, in which nothing else moves.
    """

    kind: Literal["adam"] = "adam"
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    unit_gradients: bool = True

    def __post_init__(self) -> None:
        positive(self, "lr")
        at_least_0_below_1(**{f"beta {number}": beta for number, beta in enumerate(self.betas, 1)})

    def weight(self, length: float) -> float:
        """As of `SGD`."""
        return 1 / max(length, SMALLEST_GRADIENT) if self.unit_gradients else 1.0

    def build(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas)


Step = SGD | Adam


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of trajectory matching; symbols as in `docs/method.md`.

    Parameters
    ----------
    images_per_class
        Synthetic images per class (ipc).
    iterations
        Matching iterations at most; the schedule may stop earlier.
    student_steps, expert_epochs
        N, the student's steps of one unroll; M, how many expert epochs ahead the target lies. N "auto": a third of the steps that
        the experts take in M epochs, see `stepping`.
    student_lr
        Initial learning rate of the student (its logarithm is learned). "auto": such that on the initial images (with `init: mean`, on
        real ones) the student goes 0.8 times as far as the experts did, see `Distiller.begin`. Far above it the student walks away
        (loss above 1).
    lr_per_epoch
        One learning rate per start epoch instead of one for all.
    trajectories_per_step
        Pieces of trajectories that an iteration matches, each with draws of its own; the images follow the mean of their gradients. Workers
        may share them, see `pipeline.team`; one costs what another does.
    start_epochs
        "cycle": t walks through the window, one epoch a piece; "random": uniform over its epochs; "continuous": uniform over
        the real numbers between its first and its last epoch (straight trajectories only).
    trajectories
        "sgd": as the experts went; "straight": convexified, the line between an expert's two ends (MCT).
    match_at
        "end": the loss is taken after the N-th student step; "nearest": after that of the N which ends nearest to the target (ATT).
    skip_layers
        Share of the network's layers, counted from the image, that the loss leaves out, rounded down (PAD).
    skip_above
        A piece whose loss is above moves nothing (DATM: 1.0 to 1.1); None: every one counts.
    batch_size
        Synthetic images per student step; None: all of them; "auto": half of them where a class has several. Every image is seen
        before one is seen again, but for a remainder that does not fill a batch.
    labels, label_step
        "hard": one-hot; "votes": the volunteers' probability of each class, of the real images that an image begins from, and fixed;
        "soft": logits, learned.
    label_init
        What soft labels begin with: "experts" (the mean logits of those that classify the image correctly, DATM), "votes", or "hard".
    init
        "noise", "real" (random training images of the class), "correct" (such that the experts classify correctly, DATM), "mean"
        (means of disjoint parts of the class) or "herding" (the training images whose mean is nearest to that of the class).
    precision, compile
        bfloat16: the student's arithmetic, parameters and adjoint stay float32. "auto": by the work ahead and the machine
        (`core.effort`); where nobody settles it, float32 and not compiled.
    ema
        Decay of the moving average of the images, which is what is validated and published; 0: the iterate itself.
    """

    images_per_class: int = 1
    iterations: int = 1000
    student_steps: int | Literal["auto"] = "auto"
    expert_epochs: int = 1
    student_lr: float | Literal["auto"] = "auto"
    lr_per_epoch: bool = False
    trajectories_per_step: int = 1
    start_epochs: Literal["cycle", "random", "continuous"] = "cycle"
    trajectories: Literal["sgd", "straight"] = "sgd"
    match_at: Literal["end", "nearest"] = "end"
    skip_layers: float = 0.0
    skip_above: float | None = None
    batch_size: int | Literal["auto"] | None = None
    labels: Literal["hard", "votes", "soft"] = "hard"
    label_init: Literal["experts", "votes", "hard"] = "experts"
    init: Literal["noise", "real", "correct", "mean", "herding"] = "real"
    ema: float = 0.0
    schedule: Schedule = field(default_factory=SelfAdaptive)
    image_step: Step = field(default_factory=lambda: Adam(lr=0.03))
    lr_step: Step = field(default_factory=lambda: Adam(lr=0.005))
    label_step: Step = field(default_factory=lambda: SGD(lr=5.0, momentum=0.9))
    augmentation: Augmentation = Augmentation(operations=DSA)
    engine: EngineName = "exact"
    precision: Precision | Literal["auto"] = "float32"
    compile: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        positive(self, "images_per_class", "iterations", "expert_epochs", "trajectories_per_step")
        if self.student_steps != "auto":
            positive(self, "student_steps")
        if self.student_lr != "auto":
            positive(self, "student_lr")
        if self.batch_size is not None and self.batch_size != "auto" and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}; null takes all images")
        if self.skip_above is not None:
            positive(self, "skip_above")
        for name, step in (("lr_step", self.lr_step), ("label_step", self.label_step)):
            if step.lr == "auto":
                raise ValueError(f"{name}: lr must be a number; auto is for image_step")
        at_least_0_below_1(ema=self.ema, skip_layers=self.skip_layers)
        if self.label_init != "experts" and self.labels != "soft":
            raise ValueError(
                f"label_init: {self.label_init} goes with labels: soft; labels: {self.labels} are not learned"
            )
        if self.start_epochs == "continuous" and self.trajectories != "straight":
            raise ValueError(
                "start_epochs: continuous goes with trajectories: straight; SGD's are known at whole epochs only"
            )
        if self.engine == "unrolled" and self.compile is True:
            raise ValueError(
                "compile goes with engine: exact or constant-adjoint; the unrolled engine differentiates a graph twice"
            )

    @property
    def num_steps(self) -> int:
        """N, where it is a number: see `stepping`."""
        if self.student_steps == "auto":
            raise ValueError("student_steps is auto: `stepping` makes a number of it")
        return self.student_steps

    def stepping(self, steps_per_epoch: int) -> Self:
        """This recipe with a number of student steps, given those of an expert's epoch.

        A student step sees every synthetic image or `batch_size` of them, and may be longer than an expert's, so a third is enough: on
        galaxies more cost more and were no better (docs/log.md, 2026-11-21). Within `FEWEST_STEPS` and `MOST_STEPS`, the papers' 50.
        """
        if self.student_steps != "auto":
            return self
        steps = round(self.expert_epochs * steps_per_epoch / 3)
        return replace(self, student_steps=min(max(steps, FEWEST_STEPS), MOST_STEPS))

    def batch_of(self, num_images: int) -> int:
        """How many of the synthetic images a student step sees.

        Half of fifty or ninety teach more than fewer, whose gradients are noisier, and cost half of what all do (docs/log.md, 2026-11-23).
        """
        if self.batch_size == "auto":
            return num_images if self.images_per_class == 1 else num_images // 2
        return min(self.batch_size or num_images, num_images)

    @property
    def needs_experts(self) -> bool:
        """True where the experts at their ends choose the initial images, or label them."""
        return self.init == "correct" or (self.labels == "soft" and self.label_init == "experts")

    @property
    def needs_votes(self) -> bool:
        """True where labels come, or begin, from the volunteers' votes."""
        return self.labels == "votes" or self.label_init == "votes"
