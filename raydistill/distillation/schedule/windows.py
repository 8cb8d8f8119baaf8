"""Draw start epochs from a window whose size ignores losses (MTT, DATM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raydistill.distillation.schedule.base import Decision, Matched, ScheduleBase, ScheduleState
from raydistill.learning.checks import at_least


@dataclass(frozen=True)
class Fixed(ScheduleBase):
    """The window from `min_start_epoch` to `max_start_epoch`, for all iterations.

    MTT (Cazenavette et al. 2022, arXiv:2203.11932) takes such a window.

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


@dataclass(frozen=True)
class StepwiseWindow(ScheduleBase):
    """A window that grows by an epoch at regular intervals and may omit the first.

    DATM's sequential generation (Guo et al. 2024, arXiv:2310.05773) takes such a window.

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
        """Return the next state; `last_epoch` is the last possible start epoch."""
        state = state.after_iteration()
        if state.since_advance >= self.every and state.cap <= min(self.max_start_epoch, last_epoch):
            return state._replace(cap=state.cap + 1, since_advance=0), Decision.ADVANCE
        return state, Decision.STAY
