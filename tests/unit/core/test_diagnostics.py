"""The guard speaks when it should, once, and keeps quiet otherwise."""

from __future__ import annotations

import math

import pytest

from raydistill.core.diagnostics import FALLEN, PATIENCE, WINDOW, MatchingDiagnostics, check_undertrained
from raydistill.core.distiller import Record
from raydistill.core.recipe import Recipe
from raydistill.core.training import Training


def record(iteration: int, loss: float = 0.7, lr: float = 0.01, skipped: bool = False) -> Record:
    steps = 0 if math.isnan(loss) else 20
    return Record(iteration, 0, 0.0, 1, loss, float("nan"), lr, 1.0, steps, skipped, "stay")


def said(records: list[Record], pieces: int = 1) -> list[str]:
    guard = MatchingDiagnostics(Recipe(skip_above=1.1))
    return [sentence for one in records if (sentence := guard.read([one] * pieces))]


def test_a_run_that_goes_well_is_left_alone() -> None:
    single = [record(i, loss=5.0 if i % 3 == 0 else 0.8, lr=0.01 / (1 + i / 200)) for i in range(1, 400)]
    assert said(single) == []


def test_images_that_begin_as_noise_have_time_to_become_something() -> None:
    assert said([record(i, loss=1.5 if i < PATIENCE - 30 else 0.8) for i in range(1, 300)]) == []


def test_experts_that_stand_still_are_named_and_their_missing_losses_are_left_out() -> None:
    records = [record(i, loss=float("nan") if i % 3 else 0.8, skipped=i % 3 > 0) for i in range(1, 300)]
    (sentence,) = said(records)
    assert f"in the last {WINDOW} iterations 66% of the pieces had nothing to match" in sentence
    assert said([record(i, loss=float("nan") if i % 3 == 0 else 0.8, skipped=i % 3 == 0) for i in range(1, 300)]) == []


def test_three_bad_iterations_of_many_pieces_are_three_bad_iterations() -> None:
    bad = [record(i, loss=1.5 if 110 <= i < 113 else 0.8, skipped=110 <= i < 113) for i in range(1, 300)]
    assert said(bad, pieces=10) == []


@pytest.mark.parametrize(
    ("records", "iteration", "words"),
    [
        ([record(i, loss=1.2) for i in range(1, 300)], PATIENCE, "stays above 1 (median 1.20)"),
        ([record(i, lr=0.01 * 0.98**i) for i in range(1, 300)], PATIENCE, "fell from 0.0098 to 0.00133"),
        ([record(i, skipped=i % 3 > 0) for i in range(1, 300)], PATIENCE, "in the last 50 iterations 66% of the pieces were skipped"),
        ([record(i, loss=1.01 if i > 200 else 0.9) for i in range(1, 300)], 226, "stays above 1"),
        ([record(i, lr=0.01 if i < 250 else 0.0099 / FALLEN) for i in range(1, 300)], 250, "fell from 0.01 to"),
    ],
)  # fmt: skip
def test_each_sign_is_told_once_with_what_to_change(records: list[Record], iteration: int, words: str) -> None:
    (sentence,) = said(records)
    assert sentence.startswith(f"iteration {iteration}: ")
    assert words in sentence
    assert "lower" in sentence


def test_experts_that_were_still_learning_are_told_of() -> None:
    rising = [[0.1 + 0.02 * epoch for epoch in range(13)], [0.1 + 0.01 * epoch for epoch in range(13)]]
    sentence = check_undertrained(rising, Training(epochs=12, lr=0.01))
    assert sentence is not None
    assert "rose by 0.045 from epoch 9 to 12" in sentence
    assert "experts.training.lr (now 0.01) or experts.training.epochs (now 12)" in sentence


def test_experts_that_were_done_are_left_alone() -> None:
    done = [[0.8 - 0.7 * 0.5**epoch for epoch in range(13)]] * 3
    assert check_undertrained(done, Training(epochs=12)) is None


def test_what_a_decay_of_the_rate_lifts_is_no_learning() -> None:
    lifted = [[0.7 if epoch <= 9 else 0.8 for epoch in range(13)]]
    assert check_undertrained(lifted, Training(epochs=12, lr_decay_at=0.75)) is None
    assert check_undertrained(lifted, Training(epochs=12)) is not None, "without a decay it is"


@pytest.mark.parametrize("training", [Training(epochs=1), Training(epochs=1, lr_decay_at=0)])
def test_a_single_epoch_is_never_enough(training: Training) -> None:
    assert check_undertrained([[0.2, 0.6]], training) is not None
