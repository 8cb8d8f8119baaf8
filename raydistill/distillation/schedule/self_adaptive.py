r"""Grow the window by a test of next-epoch losses: STM's self-adaptive schedule.

*Self-adaptive* (Guan et al. 2023, arXiv:2311.17967): the images are trained on start epochs below a
`cap`, which starts at 1. Every iteration also computes the matching loss at start epoch = cap,
which the images are not trained on. The hypothesis test takes Pearson's r of the n losses since the
last advance against time:

- r < -significance / sqrt(n - 2): the loss of the unseen epoch falls, so the images generalise to
  it: advance.
- r > RISING / sqrt(n - 2): it rises, so the images overfit the earlier epochs: advance.
- neither for `max_duration` iterations: fine-tune (the image step shrinks), then stop.

The test runs every `test_every` iterations on losses that are correlated in time. "5 sigma" is
therefore a rule and not a calibrated significance; `tests/unit/distillation/test_schedule.py` measures how
often it fires on noise. Since |r| <= 1, a fall cannot advance before n > significance^2 + 2, nor a
rise before n > RISING^2 + 2.

*Effective number of losses*: an option, which the paper lacks, takes

    n_e = n (1 - rho) / (1 + rho)

in place of n. rho is the correlation of successive residuals of a straight line in time, or 0 if it
is negative (Santer et al. 2000, J. Geophys. Res. 105, 7337). 5 sigma then need losses that are
worth 27 independent ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from raydistill.distillation.schedule.base import Decision, Matched, ScheduleBase, ScheduleState
from raydistill.learning.checks import at_least, positive, strictly_between_0_and_1

RISING = 3.0  # sigma at which a rising next-epoch loss ends a stage (the authors' code)


def correlation_with_time(losses: tuple[float, ...]) -> float:
    """Return Pearson's r of losses against index; 0 if constant or fewer than three."""
    n = len(losses)
    if n < 3:
        return 0.0
    _, deviations, covariance = _against_time(losses)
    variance = math.fsum(d**2 for d in deviations) * n * (n * n - 1) / 12
    return max(-1.0, min(1.0, covariance / math.sqrt(variance))) if variance > 0 else 0.0


def effective_number(losses: tuple[float, ...]) -> float:
    """Return n_e, the number of independent losses that say as much about a trend.

    It is between 0 and n; n for fewer than three losses, and if all residuals are 0.
    """
    n = len(losses)
    if n < 3:
        return n
    times, deviations, covariance = _against_time(losses)
    slope = covariance / (n * (n * n - 1) / 12)
    residuals = [d - slope * t for t, d in zip(times, deviations, strict=True)]
    square = math.fsum(e * e for e in residuals)
    product = math.fsum(a * b for a, b in pairwise(residuals))
    rho = max(0.0, product / square) if square > 0 else 0.0
    return n * (1 - rho) / (1 + rho)


def _against_time(losses: tuple[float, ...]) -> tuple[list[float], list[float], float]:
    """Return indices and losses, each less its mean, and the sum of their products."""
    mean, middle = math.fsum(losses) / len(losses), (len(losses) - 1) / 2
    times, deviations = [i - middle for i in range(len(losses))], [loss - mean for loss in losses]
    return times, deviations, math.fsum(t * d for t, d in zip(times, deviations, strict=True))


@dataclass(frozen=True)
class SelfAdaptive(ScheduleBase):
    """The schedule of arXiv:2311.17967.

    Parameters
    ----------
    significance
        lambda, in units of 1/sqrt(n - 2); 5 in the paper.
    min_duration
        Iterations after an advance before the first test.
    max_duration
        Iterations after an advance before fine-tuning starts.
    max_start_epoch
        The largest start epoch of the window. None: the last possible one, the experts' epochs
        minus `expert_epochs`.
    test_every
        Iterations between two tests.
    fine_tune_every
        Fine-tuning shrinks the image step at this interval of iterations.
    fine_tune_factor
        Factor of the image step each time.
    fine_tune_floor
        Fine-tuning stops when the image step, relative to the initial one, is below this value.
        (The authors' code stops at an absolute step of 50.)
    effective_sample_size
        Test with n_e, the number of independent losses that are worth as much as the n correlated
        ones: noise then rarely advances the window. False: the paper's test.
    """

    kind: Literal["self-adaptive"] = "self-adaptive"
    significance: float = 5.0
    min_duration: int = 50
    max_duration: int = 1000
    max_start_epoch: int | None = None
    test_every: int = 10
    fine_tune_every: int = 50
    fine_tune_factor: float = 0.8
    fine_tune_floor: float = 0.05
    effective_sample_size: bool = False

    def __post_init__(self) -> None:
        positive(self, "significance")
        at_least(
            1, test_every=self.test_every, fine_tune_every=self.fine_tune_every, max_start_epoch=self.max_start_epoch,
            min_duration=self.min_duration,
        )  # fmt: skip
        if self.max_duration < self.min_duration:
            raise ValueError(
                f"max_duration must be at least min_duration = {self.min_duration}, got {self.max_duration}"
            )
        strictly_between_0_and_1(fine_tune_factor=self.fine_tune_factor, fine_tune_floor=self.fine_tune_floor)

    def init(self) -> ScheduleState:
        """Return the state before the first iteration."""
        return ScheduleState(cap=1)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int, matched: Sequence[Matched] = ()
    ) -> tuple[ScheduleState, Decision]:
        """Return the next state; `last_epoch` is the last possible start epoch."""
        state = state.after_iteration()
        if state.fine_tuning >= 0:
            return self._fine_tune(state)
        if next_epoch_loss is not None:
            state = state._replace(losses=(*state.losses, next_epoch_loss))
        if state.since_advance % self.test_every or state.since_advance < self.min_duration:
            return state, Decision.STAY
        if state.cap <= self._limit(last_epoch) and self._significant(state.losses):
            return state._replace(cap=state.cap + 1, since_advance=0, losses=()), Decision.ADVANCE
        if state.since_advance >= self.max_duration:
            return state._replace(fine_tuning=0, losses=()), Decision.FINE_TUNE
        return state, Decision.STAY

    def _significant(self, losses: tuple[float, ...]) -> bool:
        n = effective_number(losses) if self.effective_sample_size else len(losses)
        if n <= 2:
            return False
        r, sigma = correlation_with_time(losses), 1 / math.sqrt(n - 2)
        return r < -self.significance * sigma or r > RISING * sigma

    def _fine_tune(self, state: ScheduleState) -> tuple[ScheduleState, Decision]:
        state = state._replace(fine_tuning=state.fine_tuning + 1)
        if state.fine_tuning % self.fine_tune_every:
            return state, Decision.STAY
        state = state._replace(image_lr_scale=state.image_lr_scale * self.fine_tune_factor)
        return state, Decision.STOP if state.image_lr_scale < self.fine_tune_floor else Decision.STAY

    def needs_next_epoch_loss(self, state: ScheduleState, last_epoch: int) -> bool:
        """Return True while an advance, which needs the loss at epoch = cap, is possible."""
        return state.fine_tuning < 0 and state.cap <= self._limit(last_epoch)

    def _limit(self, last_epoch: int) -> int:
        return last_epoch if self.max_start_epoch is None else min(self.max_start_epoch, last_epoch)
