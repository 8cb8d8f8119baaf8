"""Choose step sizes that a recipe leaves to "auto", on the initial images."""

from __future__ import annotations

import math
import statistics
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.distillation.divergence import STUDENT_LR_RANGE
from raydistill.distillation.matching import Batch
from raydistill.distillation.segments import SegmentEvaluator
from raydistill.seeding import generator

# `student_lr: auto`: the student's displacement on the initial images, relative to the experts'
# (dev/log.md, 2026-11-21).
TARGET_DISPLACEMENT_RATIO = 0.8
RATES_PER_OCTAVE = 8  # resolution of `student_lr: auto`
FIRST_STEP = 0.03  # `image_step: {kind: sgd, lr: auto}`: first displacement of a pixel, in standard deviations


class StationaryExperts(ValueError):
    """No expert moves at these start epochs, so displacements give no step size."""

    def __init__(self, epochs: tuple[int, int]) -> None:
        super().__init__(epochs)
        self.epochs = epochs

    def __str__(self) -> str:
        return f"the experts do not move at start epochs {self.epochs[0]} and {self.epochs[1]}"


class InitialSegment(NamedTuple):
    """A segment from which step sizes are chosen."""

    start_P: Tensor
    target_P: Tensor
    batches: list[Batch]


class StepSizes:
    """Step sizes that fit moving segments of up to three experts at two start epochs.

    Raises
    ------
    StationaryExperts
        If the experts do not move at these start epochs.
    """

    def __init__(
        self, segments: SegmentEvaluator, epochs: tuple[int, int], images_SCHW: Tensor, targets_SK: Tensor
    ) -> None:
        self._segments, self._images, self._targets = segments, images_SCHW, targets_SK
        g, steps = generator(segments.seed, "first cases"), segments.resolved.student_steps
        self._initial = []
        for expert in range(min(3, segments.trajectories.num_experts)):
            for epoch in sorted(set(epochs)):
                start, target = segments.ends(expert, epoch, images_SCHW)
                if not segments.matcher.is_stationary(start, target):
                    self._initial.append(InitialSegment(start, target, segments.batches(g, images_SCHW, steps)))
        if not self._initial:
            raise StationaryExperts(epochs)

    def student_lr(self, typical_DSCHW: Tensor) -> float:
        """Return the largest rate 2^(k / RATES_PER_OCTAVE) of allowed displacement.

        Its displacement ratio is at most `TARGET_DISPLACEMENT_RATIO`. The ratio is the geometric
        mean of |theta_N - theta_0| / |theta* - theta_0| over the segments, each with one of the
        sets in turn. As long as the images are untrained, the student moves mostly sideways; one
        that moves farther ends farther from its target than it began.
        """
        low, high = (math.ceil(math.log2(bound) * RATES_PER_OCTAVE) for bound in STUDENT_LR_RANGE)
        while high - low > 1:  # bisection: a larger rate moves farther
            middle = (low + high) // 2
            ratio = self.displacement_ratio(2 ** (middle / RATES_PER_OCTAVE), typical_DSCHW)
            low, high = (middle, high) if ratio <= TARGET_DISPLACEMENT_RATIO else (low, middle)
        return 2 ** (low / RATES_PER_OCTAVE)

    def image_gradient(self, lr: Tensor) -> float:
        """Return the root mean square of the gradient over the pixels and the segments.

        The image rate follows from lr g / (1 - m) = `FIRST_STEP`, whose left side is the asymptotic
        step of SGD with momentum m along a constant gradient g.
        """
        squares = []
        for start, target, batches in self._initial:
            matched = self._segments.matcher.match(start, target, self._images, self._targets, lr, batches)
            squares.append(float(matched.d_images_SCHW.double().square().mean()))
        return math.sqrt(statistics.fmean(squares))

    def displacement_ratio(self, lr: float, sets_DSCHW: Tensor) -> float:
        """Return the geometric mean of the displacement ratios; inf if one is not finite."""
        lr_tensor, logs = torch.tensor(lr).to(self._images), []
        matcher = self._segments.matcher
        for (start, target, batches), images_SCHW in zip(self._initial, cycle(sets_DSCHW), strict=False):
            moved = matcher.displacement(start, images_SCHW, self._targets, lr_tensor, batches)
            logs.append(float((moved / (target - start)[matcher.skip :].norm()).log()))
        overflowed = any(math.isnan(log) or log == math.inf for log in logs)
        return math.inf if overflowed else math.exp(math.fsum(logs) / len(logs))
