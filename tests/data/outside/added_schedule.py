"""A schedule of another package: the window grows at regular intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raydistill.distillation import Decision, Matched, ScheduleBase, ScheduleState


@dataclass(frozen=True)
class Growing(ScheduleBase):
    """A window that grows by one epoch after every `every` iterations."""

    kind: Literal["growing"] = "growing"
    every: int = 2

    def init(self) -> ScheduleState:
        return ScheduleState(cap=1)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int, matched: Sequence[Matched] = ()
    ) -> tuple[ScheduleState, Decision]:
        state = state.after_iteration()
        if state.since_advance < self.every or state.cap > last_epoch:
            return state, Decision.STAY
        return state._replace(cap=state.cap + 1, since_advance=0), Decision.ADVANCE
