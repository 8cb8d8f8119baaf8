"""A schedule of one's own that is wrong is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from raydistill.distillation import Decision, Recipe, ScheduleBase, ScheduleState
from raydistill.distillation.schedule.base import check_step


@dataclass(frozen=True)
class Mine(ScheduleBase):
    """A schedule of one's own."""


@pytest.mark.parametrize(
    "stepped",
    [ScheduleState(cap=1), (ScheduleState(cap=1.0), Decision.STAY), (ScheduleState(cap=0), Decision.STAY),
     (ScheduleState(cap=1), "stay"), None],
)  # fmt: skip
def test_wrong_step_names_the_schedule(stepped: Any) -> None:
    with pytest.raises(TypeError, match=r"^Mine.step must return a ScheduleState, .* and a Decision; got "):
        check_step(Mine(), stepped)


def test_step_is_returned() -> None:
    stepped = ScheduleState(cap=3), Decision.ADVANCE
    assert check_step(Mine(), stepped) == stepped


def test_misspelt_choice_of_a_recipe_is_rejected() -> None:
    with pytest.raises(ValueError, match="start_epochs must be one of cycle, random, continuous, got 'randm'"):
        Recipe(start_epochs="randm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="schedule must be a ScheduleBase, got 'mine'"):
        Recipe(schedule="mine")  # type: ignore[arg-type]
