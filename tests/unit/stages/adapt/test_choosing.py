"""The alignment is the strongest that keeps the source's validation accuracy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from raydistill.stages.adapt.config import Adapt
from raydistill.stages.adapt.stage import choose_fits
from raydistill.stages.adapt.worker import Fit


class Scores:
    """Give each fit a score by its strength.

    Networks that lose accuracy when they are aligned would have such scores.
    """

    def __init__(self, by_strength: dict[float, float]) -> None:
        self.by_strength = by_strength

    def train(self, fits: list[Fit], what: str) -> list[Any]:
        return [SimpleNamespace(validation=self.by_strength[fit.strength]) for fit in fits]


@pytest.mark.parametrize(
    ("scores", "taken"),
    [
        ({0: 0.80, 0.1: 0.80, 1: 0.79, 10: 0.70}, 1),  # 10 costs too much
        ({0: 0.80, 0.1: 0.75, 1: 0.76, 10: 0.81}, 10),
        ({0: 0.80, 0.1: 0.75, 1: 0.76, 10: 0.70}, 0.1),  # all cost too much: the weakest
    ],
)
def test_largest_strength_that_keeps_the_source_is_taken(scores: dict[float, float], taken: float) -> None:
    options = Adapt(strengths=(0.1, 10, 1), max_source_loss=0.02, seeds=2, lr_grid=(0.01,))
    fits = choose_fits(Scores(scores), options, ["source"])  # type: ignore[arg-type]
    assert [(fit.seed, fit.strength) for fit in fits if fit.method == "adapted"] == [(0, taken), (1, taken)]
