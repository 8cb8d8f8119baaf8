r"""Define schedules: the start epochs that the images are trained on, and how they change.

*Self-adaptive* (Guan et al. 2023, arXiv:2311.17967): the images are trained on start epochs below a
`cap`, which starts at 1. Every iteration also computes the matching loss at start epoch = cap,
which the images are not trained on. The hypothesis test takes Pearson's r of the n losses since the
last advance against time:

- r < -significance / sqrt(n - 2): the loss of the unseen epoch falls, so the images generalise to
  it: advance.
- r > RISING / sqrt(n - 2): it rises, so the images overfit the earlier epochs: advance.
- neither for `max_duration` iterations: fine-tune (the image step shrinks), then stop.

The test runs every `test_every` iterations on losses that are correlated in time. "5 sigma" is
therefore a rule and not a calibrated significance; `tests/unit/core/test_schedule.py` measures how
often it fires on noise. Since |r| <= 1, a fall cannot advance before n > significance^2 + 2, nor a
rise before n > RISING^2 + 2.

*Fixed* is the window of MTT (Cazenavette et al. 2022, arXiv:2203.11932). *StepwiseWindow* grows at
regular intervals, as in DATM's sequential generation (Guo et al. 2024, arXiv:2310.05773), and may
leave out the first epochs.

*LossWeighted* has no window. It draws any start epoch, with a probability that follows from the
losses that matching has produced there: epochs at which the images can bring a student nearer to
its target are drawn often.

A schedule is a frozen record of hyper-parameters; `init` and `step` return new state and a
`Decision`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Literal, NamedTuple

from raydistill.core.checks import at_least, at_least_0_below_1, positive, strictly_between_0_and_1

ALL_EPOCHS = 2**31  # a cap above every number of epochs
LARGEST_LOSS = 2.0  # of a moving average: larger ones say as little, and would take long to forget
RISING = 3.0  # sigma at which a rising next-epoch loss ends a stage (the authors' code)


class Decision(Enum):
    """The decision after one iteration."""

    STAY = "stay"
    ADVANCE = "advance"
    FINE_TUNE = "fine-tune"
    STOP = "stop"


class ScheduleState(NamedTuple):
    """The state of a schedule; plain numbers, stored as JSON.

    Parameters
    ----------
    cap
        The images are trained on start epochs min_start_epoch ... cap - 1.
    iteration, since_advance
        Iterations in total, and since the last advance.
    image_lr_scale
        Factor of the image step.
    fine_tuning
        Iterations since fine-tuning started, -1 before.
    losses
        Next-epoch losses since the last advance.
    group_losses
        Moving average of the matching losses by group of successive start epochs; None where no
        segment began. Empty if the schedule does not need them.
    """

    cap: int
    iteration: int = 0
    since_advance: int = 0
    image_lr_scale: float = 1.0
    fine_tuning: int = -1
    losses: tuple[float, ...] = ()
    group_losses: tuple[float | None, ...] = ()

    def after_iteration(self) -> ScheduleState:
        """Return the state with one more iteration counted."""
        return self._replace(iteration=self.iteration + 1, since_advance=self.since_advance + 1)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ScheduleState:
        """Return the state of `_asdict()` after its way through JSON, which has no tuples."""
        return cls(**values)._replace(
            losses=tuple(values["losses"]), group_losses=tuple(values.get("group_losses", ()))
        )


class Matched(NamedTuple):
    """The matching loss of a segment; NaN where the expert does not move."""

    start_epoch: float
    loss: float


def correlation_with_time(losses: tuple[float, ...]) -> float:
    """Return Pearson's r of the losses against their index; 0 if they are constant or fewer than three."""
    n = len(losses)
    if n < 3:
        return 0.0
    mean = math.fsum(losses) / n
    middle = (n - 1) / 2
    covariance = math.fsum((i - middle) * (loss - mean) for i, loss in enumerate(losses))
    variance = math.fsum((loss - mean) ** 2 for loss in losses) * n * (n * n - 1) / 12
    return max(-1.0, min(1.0, covariance / math.sqrt(variance))) if variance > 0 else 0.0


class _Window:
    """The common part of schedules that draw all epochs of their window alike."""

    def watches(self, state: ScheduleState, last_epoch: int) -> bool:
        """Return whether the loss at start epoch = cap is needed: no loss decides when the window grows."""
        return False

    def probabilities(self, state: ScheduleState, window: range) -> list[float] | None:
        """Return the probability of each start epoch of the window; None: all are drawn alike."""
        return None

    def first_epochs(self, window: range) -> tuple[int, int]:
        """Return two start epochs that are typical of the first iterations."""
        return window[0], window[-1]


@dataclass(frozen=True)
class SelfAdaptive(_Window):
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
        """Return the state before the first iteration."""
        return ScheduleState(cap=1)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int, matched: Sequence[Matched] = ()
    ) -> tuple[ScheduleState, Decision]:
        """Return the state after one more iteration. last_epoch: the last possible start epoch."""
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
        """Return True while an advance is possible, so the loss at start epoch = cap is needed."""
        return state.fine_tuning < 0 and state.cap <= self._limit(last_epoch)

    def _limit(self, last_epoch: int) -> int:
        return last_epoch if self.max_start_epoch is None else min(self.max_start_epoch, last_epoch)


@dataclass(frozen=True)
class Fixed(_Window):
    """The window from `min_start_epoch` to `max_start_epoch`, for all iterations (MTT).

    Parameters
    ----------
    min_start_epoch
        First start epoch.
    max_start_epoch
        Last start epoch.
    """

    kind: Literal["fixed"] = "fixed"
    min_start_epoch: int = 0
    max_start_epoch: int = 2

    def __post_init__(self) -> None:
        at_least(0, min_start_epoch=self.min_start_epoch)
        at_least(self.min_start_epoch, max_start_epoch=self.max_start_epoch)

    def init(self) -> ScheduleState:
        """Return the state before the first iteration."""
        return ScheduleState(cap=self.max_start_epoch + 1)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int, matched: Sequence[Matched] = ()
    ) -> tuple[ScheduleState, Decision]:
        """Return the state after one more iteration; the window stays."""
        return state.after_iteration(), Decision.STAY


@dataclass(frozen=True)
class StepwiseWindow(_Window):
    """A window that grows by one epoch at regular intervals (DATM).

    Parameters
    ----------
    every
        Iterations between two steps.
    min_start_epoch
        First epoch of the window. Earlier epochs are too easy for sets of many images.
    first_max_start_epoch
        Last epoch of the first window; None: `min_start_epoch`.
    max_start_epoch
        Last epoch of the final window.
    """

    kind: Literal["clocked"] = "clocked"
    every: int = 100
    min_start_epoch: int = 0
    first_max_start_epoch: int | None = None
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
        """Return the state before the first iteration."""
        return ScheduleState(cap=self._first + 1)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int, matched: Sequence[Matched] = ()
    ) -> tuple[ScheduleState, Decision]:
        """Return the state after one more iteration. last_epoch: the last possible start epoch."""
        state = state.after_iteration()
        if state.since_advance >= self.every and state.cap <= min(self.max_start_epoch, last_epoch):
            return state._replace(cap=state.cap + 1, since_advance=0), Decision.ADVANCE
        return state, Decision.STAY


@dataclass(frozen=True)
class LossWeighted(_Window):
    r"""Draw start epochs by their own losses; the window is all epochs.

    The T epochs form G groups of successive epochs. m_g is the moving average of the matching losses
    of segments that began in group g. A group without a segment has the smallest m of the others,
    and so is soon drawn. Group g, with T_g epochs, is drawn with the probability

        p_g = (1 - explore) w_g / sum_h w_h + explore T_g / T,    w_g = T_g max(1 - m_g, 0)^power

    and all epochs of it alike. While every w_g is 0, all epochs are drawn alike. A loss of 1 means
    that the student ends as far from its target as it began, so 1 - m_g is the part of the way that
    the images teach. Late epochs, in which experts move in directions of their own, are left out
    without being named, and come back if their losses fall.

    The losses are those of the iterations themselves: the schedule costs no evaluation.

    Parameters
    ----------
    decay
        Of the moving averages, in [0, 1).
    explore
        Share of segments that begin at any epoch alike, above 0 and below 1.
    power
        Smaller ones draw more alike what can be learned at all, above 0.
    max_groups
        G is this or T, whichever is smaller. Few groups are known after few iterations.
    """

    kind: Literal["loss-weighted"] = "loss-weighted"
    decay: float = 0.7
    explore: float = 0.03
    power: float = 0.5
    max_groups: int = 24
    min_start_epoch: ClassVar[int] = 0

    def __post_init__(self) -> None:
        at_least_0_below_1(decay=self.decay)
        strictly_between_0_and_1(explore=self.explore)
        at_least(1, max_groups=self.max_groups)
        positive(self, "power")

    def init(self) -> ScheduleState:
        """Return the state before the first iteration."""
        return ScheduleState(cap=ALL_EPOCHS)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int, matched: Sequence[Matched] = ()
    ) -> tuple[ScheduleState, Decision]:
        """Return the state after one more iteration, with the losses of its segments."""
        epochs = last_epoch + 1
        averages = list(state.group_losses) or [None] * min(self.max_groups, epochs)
        for one in matched:
            group = int(one.start_epoch) * len(averages) // epochs
            loss = 1.0 if math.isnan(one.loss) else min(one.loss, LARGEST_LOSS)
            before = averages[group]
            averages[group] = loss if before is None else self.decay * before + (1 - self.decay) * loss
        return state.after_iteration()._replace(group_losses=tuple(averages)), Decision.STAY

    def probabilities(self, state: ScheduleState, window: range) -> list[float] | None:
        """Return the probability of each start epoch of the window; None: all are drawn alike."""
        known = [loss for loss in state.group_losses if loss is not None]
        if not known:
            return None
        losses = [min(known) if loss is None else loss for loss in state.group_losses]
        of_group = [max(1 - loss, 0.0) ** self.power for loss in losses]
        weights = [of_group[epoch * len(of_group) // len(window)] for epoch in range(len(window))]
        total = math.fsum(weights)
        if total == 0:
            return None
        return [(1 - self.explore) * weight / total + self.explore / len(weights) for weight in weights]

    def first_epochs(self, window: range) -> tuple[int, int]:
        """Return the first and the middle epoch: experts hardly move in the last ones."""
        return window[0], window[len(window) // 2]


Schedule = SelfAdaptive | Fixed | StepwiseWindow | LossWeighted
