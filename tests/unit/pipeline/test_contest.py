"""How a learning rate is chosen: what is tried next, and what wins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from raydistill.core.architectures import ConvNet
from raydistill.core.training import Training
from raydistill.pipeline.evaluate.evaluator import ROUNDS, TRIALS, Fit, LrSearch, Rate, TrainingSet

GRID = (0.001, 0.003, 0.01)


def contest(lrs: tuple[Rate, ...] = GRID, networks: int = 5) -> LrSearch:
    data = TrainingSet("random_real", 0, torch.zeros(1, 3, 8, 8), torch.ones(1, 1))
    return LrSearch(tuple(Fit(data, "paper", Training(), None, ConvNet(), seed) for seed in range(networks)), lrs)


def search(one: LrSearch, validation: Callable[[float], float]) -> tuple[list[list[float]], float]:
    """(rates tried in each round, the winner) where a rate's validation is known."""
    scores: dict[float, float] = {}
    rounds = []
    for _ in range(ROUNDS):
        if not (rates := one.untried(scores)):
            break
        rounds.append(rates)
        scores |= {lr: validation(lr) for lr in rates}
    (lr,) = {fit.lr for fit in one.chosen(scores)}
    assert lr is not None
    return rounds, lr


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        pytest.param(0.003, [[*GRID]], id="inside: the grid is enough"),
        pytest.param(0.01, [[*GRID], [0.033]], id="at the upper end: one beyond, and no more"),
        pytest.param(0.033, [[*GRID], [0.033], [0.11]], id="beyond it"),
        pytest.param(0.001, [[*GRID], [0.00033]], id="at the lower end"),
        pytest.param(
            1e-9, [[*GRID], [0.00033], [0.00011], [3.7e-5]], id="never reached: after so many rounds the last"
        ),
    ],
)
def test_beyond_a_best_rate_at_the_end_of_the_grid_another_is_tried(best: float, tried: list[list[float]]) -> None:
    rounds, winner = search(contest(), lambda lr: -abs(torch.tensor(lr / best).log().item()))
    assert rounds == [pytest.approx(rates) for rates in tried]
    assert winner == pytest.approx(best if best > 1e-9 else 3.7e-5)


def test_of_equal_rates_the_smaller_wins_so_a_search_without_a_slope_ends() -> None:
    rounds, winner = search(contest(), lambda lr: 0.2 if lr >= 0.001 else 0.1)
    assert (len(rounds), winner) == (2, 0.001)


def test_a_rate_that_diverges_is_as_bad_as_can_be() -> None:
    assert search(contest(), lambda lr: -1.0 if lr > 0.005 else lr)[1] == 0.003


@pytest.mark.parametrize(("lrs", "expected"), [((None,), None), ((0.02,), 0.02), ((0.02, 0.02), 0.02)])
def test_without_a_choice_nothing_is_tried(lrs: tuple[Rate, ...], expected: Rate) -> None:
    assert contest(lrs).untried({}) == []
    assert {fit.lr for fit in contest(lrs).chosen({})} == {expected}


def test_a_rate_is_tried_by_the_networks_that_will_be_judged() -> None:
    assert [fit.seed for fit in contest().trials(0.01)] == list(range(TRIALS))
    assert {fit.lr for fit in contest().trials(0.01)} == {0.01}
    assert len(contest(networks=2).trials(0.01)) == 2


def test_a_search_that_does_not_end_says_so() -> None:
    assert contest().at_the_end({0.001: 0.2, 0.003: 0.1}) == (
        "of all rates that random_real tried under paper, the best lies at the end (0.001); widen its lr_grid"
    )


def test_a_learned_rate_is_a_candidate_beside_the_grid() -> None:
    one = contest((None, *GRID))
    assert one.untried({}) == [None, *GRID]
    scores = {None: 0.5, 0.001: 0.1, 0.003: 0.2, 0.01: 0.3}
    assert one.untried(scores) == [], "the best is the learned one, nothing beyond the grid is of interest"
    assert {fit.lr for fit in one.chosen(scores)} == {None}
    better = scores | {0.01: 0.6}
    assert one.untried(better) == [0.033]
    assert {fit.lr for fit in one.chosen(better)} == {0.01}
    assert one.best(scores | {0.01: 0.5}) is None, "of equals the learned one"
    assert contest((None, 0.01)).untried({None: 0.1, 0.01: 0.2}) == [], "a grid of one has no slope"
