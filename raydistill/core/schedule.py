r"""Which part of the experts' trajectories the images are trained on, and when to go further.

*Self-adaptive* (Guan et al. 2023, arXiv:2311.17967): the images are trained on start epochs below a `cap`, which begins at 1. At
every iteration the matching loss at start epoch = cap is computed as well; the images have not been trained on it. The hypothesis
test: over the n losses since the last advance, Pearson's r of loss against time.
  - r < -significance / sqrt(n - 2): the unseen epoch's loss is falling, so what has been learned carries over: advance.
  - r > RISING / sqrt(n - 2): it is rising, the images overfit the epochs so far: advance too.
  - neither for `max_duration` iterations: nothing more carries over: fine-tune (the image step shrinks), then stop.

The test is taken every `test_every` iterations on losses that are correlated in time, so "5 sigma" is a rule, not a calibrated
significance: `tests/unit/core/test_schedule.py` measures how often it fires on noise. Since |r| <= 1 a fall cannot advance before
n > significance^2 + 2, nor a rise before n > RISING^2 + 2.

*Fixed* is MTT's window (Cazenavette et al. 2022, arXiv:2203.11932). *StepwiseWindow* widens it every so many iterations, as DATM's
sequential generation does (Guo et al. 2024, arXiv:2310.05773), and may leave out the first epochs.

A schedule is a frozen record of hyper-parameters; `init` and `step` return new state and a `Decision` that a test can assert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Literal, NamedTuple

from raydistill.core.checks import at_least, positive, strictly_between_0_and_1

RISING = 3.0  # sigma at which a rising next-epoch loss ends a stage (the authors' code)


class Decision(Enum):
    """What one iteration's evidence says."""

    STAY = "stay"
    ADVANCE = "advance"
    FINE_TUNE = "fine-tune"
    STOP = "stop"


class ScheduleState(NamedTuple):
    """Everything a schedule remembers; plain numbers, so that it can be saved as JSON.

    cap: start epochs min_start_epoch..cap-1 are trained on. image_lr_scale: factor on the image step. losses: next-epoch losses
    since the last advance. fine_tuning: iterations since fine-tuning began, -1 before.
    """

    cap: int
    iteration: int = 0
    since_advance: int = 0
    image_lr_scale: float = 1.0
    fine_tuning: int = -1
    losses: tuple[float, ...] = ()


def correlation_with_time(losses: tuple[float, ...]) -> float:
    """Pearson's r of the losses against their index; 0 for a constant series or fewer than three points."""
    n = len(losses)
    if n < 3:
        return 0.0
    mean = math.fsum(losses) / n
    middle = (n - 1) / 2
    covariance = math.fsum((i - middle) * (loss - mean) for i, loss in enumerate(losses))
    spread = math.fsum((loss - mean) ** 2 for loss in losses) * n * (n * n - 1) / 12
    return max(-1.0, min(1.0, covariance / math.sqrt(spread))) if spread > 0 else 0.0


@dataclass(frozen=True)
class SelfAdaptive:
    """The schedule of arXiv:2311.17967.

    Parameters
    ----------
    significance
        lambda, in units of 1/sqrt(n - 2); 5 in the paper.
    min_duration, max_duration
        Iterations of a stage before the first test, and after which fine-tuning begins.
    max_start_epoch
        The largest start epoch of the window. None: as far as the experts go (their last epoch minus `expert_epochs`).
    test_every
        Iterations between two tests.
    fine_tune_every, fine_tune_factor, fine_tune_floor
        While fine-tuning the image step is multiplied by the factor every so often; below the floor, relative to the initial
        step, distilling stops. (The authors' code stops at an absolute step of 50, which means nothing for other steps.)
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
    min_start_epoch: ClassVar[int] = 0

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
        return ScheduleState(cap=1)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int
    ) -> tuple[ScheduleState, Decision]:
        """The state after one more iteration. `last_epoch` is the largest start epoch that the experts allow."""
        state = state._replace(iteration=state.iteration + 1, since_advance=state.since_advance + 1)
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
        n = len(losses)
        if n < 3:
            return False
        r, sigma = correlation_with_time(losses), 1 / math.sqrt(n - 2)
        return r < -self.significance * sigma or r > RISING * sigma

    def _fine_tune(self, state: ScheduleState) -> tuple[ScheduleState, Decision]:
        state = state._replace(fine_tuning=state.fine_tuning + 1)
        if state.fine_tuning % self.fine_tune_every:
            return state, Decision.STAY
        state = state._replace(image_lr_scale=state.image_lr_scale * self.fine_tune_factor)
        return state, Decision.STOP if state.image_lr_scale < self.fine_tune_floor else Decision.STAY

    def watches(self, state: ScheduleState, last_epoch: int) -> bool:
        """True while an advance is possible: then the loss at start epoch = cap is wanted."""
        return state.fine_tuning < 0 and state.cap <= self._limit(last_epoch)

    def _limit(self, last_epoch: int) -> int:
        return last_epoch if self.max_start_epoch is None else min(self.max_start_epoch, last_epoch)


@dataclass(frozen=True)
class Fixed:
    """Start epochs min_start_epoch..max_start_epoch from the first iteration to the last (MTT)."""

    kind: Literal["fixed"] = "fixed"
    min_start_epoch: int = 0
    max_start_epoch: int = 2

    def __post_init__(self) -> None:
        at_least(0, min_start_epoch=self.min_start_epoch)
        at_least(self.min_start_epoch, max_start_epoch=self.max_start_epoch)

    def init(self) -> ScheduleState:
        return ScheduleState(cap=self.max_start_epoch + 1)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int
    ) -> tuple[ScheduleState, Decision]:
        return state._replace(iteration=state.iteration + 1, since_advance=state.since_advance + 1), Decision.STAY

    def watches(self, state: ScheduleState, last_epoch: int) -> bool:
        return False


@dataclass(frozen=True)
class StepwiseWindow:
    """The window min_start_epoch..first_max_start_epoch grows by one epoch every `every` iterations until `max_start_epoch` is in:
    easy epochs first, by the clock. Epochs before `min_start_epoch` are never matched: too easy for so many images."""

    kind: Literal["clocked"] = "clocked"
    every: int = 100
    min_start_epoch: int = 0
    first_max_start_epoch: int | None = None  # None: min_start_epoch
    max_start_epoch: int = 7

    def __post_init__(self) -> None:
        at_least(1, every=self.every)
        at_least(0, min_start_epoch=self.min_start_epoch)
        at_least(self.min_start_epoch, first_max_start_epoch=self.first_max_start_epoch)
        at_least(self._first, max_start_epoch=self.max_start_epoch)

    @property
    def _first(self) -> int:
        return self.min_start_epoch if self.first_max_start_epoch is None else self.first_max_start_epoch

    def init(self) -> ScheduleState:
        return ScheduleState(cap=self._first + 1)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int
    ) -> tuple[ScheduleState, Decision]:
        state = state._replace(iteration=state.iteration + 1, since_advance=state.since_advance + 1)
        if state.since_advance >= self.every and state.cap <= min(self.max_start_epoch, last_epoch):
            return state._replace(cap=state.cap + 1, since_advance=0), Decision.ADVANCE
        return state, Decision.STAY

    def watches(self, state: ScheduleState, last_epoch: int) -> bool:
        return False


Schedule = SelfAdaptive | Fixed | StepwiseWindow
