"""Straight trajectories: the nearest point of the line between an expert's ends.

Any real epoch is valid.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raydistill.distillation.trajectories import (
    InMemoryTrajectories,
    SomeTrajectories,
    Straight,
    final_parameters,
    progress,
)
from tests import zoo


class Given:
    """Trajectories from arrays [T + 1, P]."""

    def __init__(self, *paths: np.ndarray) -> None:
        self._paths = paths
        self.num_experts, self.num_epochs = len(paths), len(paths[0]) - 1

    def __call__(self, expert: int, epoch: int) -> torch.Tensor:
        return torch.from_numpy(self._paths[expert][epoch])

    def progress(self, expert: int) -> list[float]:
        return progress(self._paths[expert])


def path(points: list[list[float]]) -> np.ndarray:
    return np.array(points, dtype=np.float32)


def test_trajectories_in_memory_have_one_shape() -> None:
    paths = [torch.zeros(4, 2), torch.ones(4, 2)]
    assert InMemoryTrajectories(paths).num_epochs == 3
    for wrong in ([], [*paths, torch.zeros(3, 2)]):
        with pytest.raises(ValueError, match="at least one expert, and the same shape"):
            InMemoryTrajectories(wrong)


def test_straight_trajectory_is_not_changed() -> None:
    straight = path([[0, 1], [1, 3], [3, 7], [4, 9]])
    assert progress(straight) == pytest.approx([0, 0.25, 0.75, 1])
    for epoch in range(4):
        torch.testing.assert_close(Straight(Given(straight))(0, epoch), torch.from_numpy(straight[epoch]))


def test_points_are_projected_on_the_line() -> None:
    bent = path([[0, 0], [1, 5], [3, -2], [4, 0]])
    assert progress(bent) == pytest.approx([0, 0.25, 0.75, 1])
    torch.testing.assert_close(Straight(Given(bent))(0, 1), torch.tensor([1.0, 0.0]))


def test_projection_is_the_nearest_point() -> None:
    wild = zoo.normal(0, 6, 9, dtype=torch.float32).cumsum(0).numpy()
    given = Given(wild)
    straight, beta = Straight(given), progress(wild)
    for epoch in range(1, 5):
        if beta[epoch] in (0.0, 1.0, beta[epoch - 1]):
            continue  # clipped, or held from going back
        away = straight(0, epoch) - given(0, epoch)
        assert abs(float(away @ (given(0, 5) - given(0, 0)))) < 1e-4


def test_progress_rises_from_0_to_1() -> None:
    beta = progress(path([[0], [-1], [3], [2], [9], [4]]))
    assert beta == pytest.approx([0, 0, 0.75, 0.75, 1, 1])


def test_expert_that_returns_to_its_start_has_no_line() -> None:
    assert progress(path([[1], [5], [1]])) == [0, 0, 1]


def test_any_real_epoch_is_valid() -> None:
    straight = Straight(Given(path([[0, 0], [1, 5], [3, -2], [4, 0]])))
    assert straight.beta(0, 1.5) == pytest.approx(0.5)
    assert straight.beta(0, 3) == 1
    torch.testing.assert_close(straight(0, 0.5), torch.tensor([0.5, 0.0]))


def test_each_expert_has_its_own_line() -> None:
    straight = Straight(Given(path([[0], [1], [4]]), path([[0], [3], [4]])))
    assert [straight.beta(expert, 1) for expert in (0, 1)] == [0.25, 0.75]


def test_some_experts_are_numbered_anew() -> None:
    paths = [path([[number, 0], [number, 1], [number, 3]]) for number in range(3)]
    some = SomeTrajectories(Given(*paths), (2, 0))
    assert (some.num_experts, some.num_epochs) == (2, 2)
    assert [some(expert, 0)[0].item() for expert in range(2)] == [2, 0]
    assert some.progress(1) == progress(paths[0])
    assert [theta.tolist() for theta in final_parameters(some)] == [[2, 3], [0, 3]]
