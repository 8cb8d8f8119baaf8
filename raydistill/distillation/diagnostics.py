"""Find symptoms of bad hyper-parameters in losses, learning rates and accuracies.

The matching loss is |theta_N - theta*|^2 / |theta_0 - theta*|^2. At 1 the student ends as far from
its target as it began; above 1 it moves away, most often because its steps are too long. A learning
rate that keeps falling says that the images point in the wrong direction. `distillation.divergence` handles
values that are not finite, and rates out of range.

The functions return findings as numbers; the pipeline turns them into sentences.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from statistics import mean, median
from typing import NamedTuple

from raydistill.distillation.distiller import Record
from raydistill.distillation.segments import OUTCOME
from raydistill.learning.options import Training

WINDOW = 50  # iterations of the moving median
PATIENCE = 100  # iterations before the first finding: initial noise needs some to become images
FALLEN = 5.0  # factor by which the learning rate has fallen
STILL_LEARNING = 0.03  # rise of the balanced accuracy in the last quarter of an expert's epochs


class Undertrained(NamedTuple):
    """The experts' mean balanced accuracy rose by `rise` from epoch `since` to `end`."""

    rise: float
    since: int
    end: int


class LossAboveOne(NamedTuple):
    """The median loss of the last `WINDOW` iterations is above 1."""

    iteration: int
    median_loss: float
    student_lr: float


class MostSkipped(NamedTuple):
    """More than half of the last segments were skipped for a loss above `skip_above`."""

    iteration: int
    fraction: float
    student_lr: float


class MostStationary(NamedTuple):
    """More than half of the last segments had a stationary expert."""

    iteration: int
    fraction: float


class LearningRateFell(NamedTuple):
    """The student's learning rate fell from `first_lr` by a factor above `FALLEN`."""

    iteration: int
    first_lr: float
    student_lr: float


Finding = LossAboveOne | MostSkipped | MostStationary | LearningRateFell


def check_undertrained(accuracies_by_expert: Sequence[Sequence[float]], training: Training) -> Undertrained | None:
    """Return a finding if experts still improved at the end of training, else None.

    Parameters
    ----------
    accuracies_by_expert
        Balanced accuracies on validation images after every epoch, those of the initial network
        first.
    training
        Its learning-rate decay lifts accuracies by itself, so only the epochs before the decay
        count.
    """
    end = max(1, min(training.epochs, math.floor(training.lr_decay_at * training.epochs)))
    since = end - max(1, end // 4)
    rise = mean(accuracies[end] - accuracies[since] for accuracies in accuracies_by_expert)
    return None if rise < STILL_LEARNING else Undertrained(rise, since, end)


class MatchingDiagnostics:
    """Read the records of a run, and return each kind of finding once."""

    def __init__(self) -> None:
        self._window: deque[list[Record]] = deque(maxlen=WINDOW)  # the segments of each iteration
        self._reported: set[type[Finding]] = set()
        self._first_lr: float | None = None

    def read(self, segments: list[Record]) -> Finding | None:
        """Return a new finding of one more iteration, or None.

        There is none where the iteration matched the outcome.
        """
        if segments[0].expert == OUTCOME:
            return None
        self._window.append(segments)
        if self._first_lr is None:
            self._first_lr = segments[-1].student_lr
        for finding in self._findings(segments[-1], self._first_lr):
            if type(finding) not in self._reported:
                self._reported.add(type(finding))
                return finding
        return None

    def _findings(self, record: Record, first_lr: float) -> Iterator[Finding]:
        if record.iteration < PATIENCE or len(self._window) < WINDOW:
            return
        segments = [segment for iteration in self._window for segment in iteration]
        losses = [segment.loss for segment in segments if not math.isnan(segment.loss)]
        stationary = sum(segment.student_steps == 0 for segment in segments) / len(segments)
        skipped = sum(segment.skipped for segment in segments) / len(segments) - stationary
        if losses and (median_loss := median(losses)) > 1:
            yield LossAboveOne(record.iteration, median_loss, record.student_lr)
        if skipped > 0.5:
            yield MostSkipped(record.iteration, skipped, record.student_lr)
        if stationary > 0.5:
            yield MostStationary(record.iteration, stationary)
        if record.student_lr * FALLEN < first_lr:
            yield LearningRateFell(record.iteration, first_lr, record.student_lr)
