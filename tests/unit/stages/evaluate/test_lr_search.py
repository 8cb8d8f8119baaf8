"""The search for a learning rate: which rates are tried next, and which one wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from raydistill.learning.architectures import ConvNet
from raydistill.learning.grids import MAX_ROUNDS
from raydistill.learning.options import Training
from raydistill.stages.evaluate.fits import NUM_TRIALS, Fit, LearningRate, LrSearch, TrainingSet

GRID = (0.001, 0.003, 0.01)


def lr_search(lrs: tuple[LearningRate, ...] = GRID, networks: int = 5) -> LrSearch:
    data = TrainingSet("random_real", 0, torch.zeros(1, 3, 8, 8), torch.ones(1, 1))
    return LrSearch(tuple(Fit(data, "paper", Training(), None, ConvNet(), seed) for seed in range(networks)), lrs)


def search_of(search: LrSearch, validation: Callable[[float], float]) -> tuple[list[list[float]], float]:
    """Return the rates tried in each round, and the winner.

    `validation` gives the validation accuracy of each rate.
    """
    scores: dict[float, float] = {}
    rounds = []
    for _ in range(MAX_ROUNDS):
        if not (rates := search.next_lrs(scores)):
            break
        rounds.append(rates)
        scores |= {lr: validation(lr) for lr in rates}
    (lr,) = {fit.lr for fit in search.selected_fits(scores)}
    assert lr is not None
    return rounds, lr


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        pytest.param(0.003, [[*GRID]], id="inside the grid"),
        pytest.param(0.01, [[*GRID], [0.033]], id="at the upper end: one rate beyond it"),
        pytest.param(0.033, [[*GRID], [0.033], [0.11]], id="beyond the upper end"),
        pytest.param(0.001, [[*GRID], [0.00033]], id="at the lower end"),
        pytest.param(
            1e-9, [[*GRID], [0.00033], [0.00011], [3.7e-5]], id="never reached: the last rate after MAX_ROUNDS"
        ),
    ],
)
def test_one_rate_beyond_the_grid_is_tried_while_the_best_rate_is_at_its_end(
    best: float, tried: list[list[float]]
) -> None:
    rounds, winner = search_of(lr_search(), lambda lr: -abs(torch.tensor(lr / best).log().item()))
    assert rounds == [pytest.approx(rates) for rates in tried]
    assert winner == pytest.approx(best if best > 1e-9 else 3.7e-5)


def test_smaller_rate_wins_a_tie_so_a_flat_search_ends() -> None:
    rounds, winner = search_of(lr_search(), lambda lr: 0.2 if lr >= 0.001 else 0.1)
    assert (len(rounds), winner) == (2, 0.001)


def test_diverged_rate_never_wins() -> None:
    assert search_of(lr_search(), lambda lr: -1.0 if lr > 0.005 else lr)[1] == 0.003


@pytest.mark.parametrize(("lrs", "expected"), [((None,), None), ((0.02,), 0.02), ((0.02, 0.02), 0.02)])
def test_single_rate_is_not_searched(lrs: tuple[LearningRate, ...], expected: LearningRate) -> None:
    assert lr_search(lrs).next_lrs({}) == []
    assert {fit.lr for fit in lr_search(lrs).selected_fits({})} == {expected}


def test_finalists_are_tried_by_further_networks_of_the_search() -> None:
    search = lr_search()
    tried = [search.first_trial(0.01), *search.final_trials(0.01)]
    assert [fit.seed for fit in tried] == list(range(NUM_TRIALS))
    assert {fit.lr for fit in tried} == {0.01}
    assert len(lr_search(networks=2).final_trials(0.01)) == 1
    assert search.finalists({0.001: 0.2, 0.003: 0.5, 0.01: 0.3}) == [0.003, 0.01]
    assert search.finalists({0.001: 0.5, 0.003: 0.5, 0.01: 0.5}) == [0.001, 0.003]
    assert lr_search((0.02,)).finalists({}) == []


def test_choice_of_a_rate_costs_at_most_three_networks_per_figure() -> None:
    for networks in (3, 5, 10):
        assert lr_search((0.001, 0.003, 0.01, 0.03), networks).min_networks - networks <= 3 * networks


def test_warning_names_the_rate_at_the_end_of_those_tried() -> None:
    assert lr_search().boundary_warning({0.001: 0.2, 0.003: 0.1}) == (
        "random_images under paper: the best learning rate (0.001) is at the end of those tried; "
        "widen lr_grid of the protocol"
    )


def test_title_of_a_fit_without_a_protocol_is_its_training_set() -> None:
    fit = lr_search().fits[0]
    assert fit.title == "random_images under paper"
    assert replace(fit, protocol="").title == "random_images"


def test_learned_rate_competes_with_the_grid() -> None:
    search = lr_search((None, *GRID))
    assert search.next_lrs({}) == [None, *GRID]
    scores = {None: 0.5, 0.001: 0.1, 0.003: 0.2, 0.01: 0.3}
    assert search.next_lrs(scores) == [], "the learned rate is best, so no rate beyond the grid is tried"
    assert {fit.lr for fit in search.selected_fits(scores)} == {None}
    better = scores | {0.01: 0.6}
    assert search.next_lrs(better) == [0.033]
    assert {fit.lr for fit in search.selected_fits(better)} == {0.01}
    assert search.best_lr(scores | {0.01: 0.5}) is None, "the learned rate must win a tie"
    assert lr_search((None, 0.01)).next_lrs({None: 0.1, 0.01: 0.2}) == [], (
        "a grid of one rate has no direction to extend"
    )
