"""Each finding is reported once, for runs that need it, and never for others."""

from __future__ import annotations

import math

import pytest

from raydistill.distillation.diagnostics import (
    FALLEN,
    PATIENCE,
    Finding,
    LearningRateFell,
    LossAboveOne,
    MatchingDiagnostics,
    MostSkipped,
    MostStationary,
    check_undertrained,
)
from raydistill.distillation.distiller import Record
from raydistill.learning.options import Training


def record(iteration: int, loss: float = 0.7, lr: float = 0.01, skipped: bool = False) -> Record:
    steps = 0 if math.isnan(loss) else 20
    return Record(iteration, 0, 0.0, 1, loss, float("nan"), lr, 1.0, steps, skipped, "stay")


def findings(records: list[Record], segments: int = 1) -> list[Finding]:
    diagnostics = MatchingDiagnostics()
    return [finding for record in records if (finding := diagnostics.read([record] * segments))]


def test_good_run_has_no_findings() -> None:
    good = [record(i, loss=5.0 if i % 3 == 0 else 0.8, lr=0.01 / (1 + i / 200)) for i in range(1, 400)]
    assert findings(good) == []


def test_initial_noise_has_time_to_become_images() -> None:
    assert findings([record(i, loss=1.5 if i < PATIENCE - 30 else 0.8) for i in range(1, 300)]) == []


def test_stationary_experts_are_found_and_their_missing_losses_left_out() -> None:
    records = [record(i, loss=float("nan") if i % 3 else 0.8, skipped=i % 3 > 0) for i in range(1, 300)]
    assert findings(records) == [MostStationary(PATIENCE, pytest.approx(0.66))]
    fewer = [record(i, loss=float("nan") if i % 3 == 0 else 0.8, skipped=i % 3 == 0) for i in range(1, 300)]
    assert findings(fewer) == []


def test_bad_iterations_count_once_whatever_their_number_of_segments() -> None:
    bad = [record(i, loss=1.5 if 110 <= i < 113 else 0.8, skipped=110 <= i < 113) for i in range(1, 300)]
    assert findings(bad, segments=10) == []


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([record(i, loss=1.2) for i in range(1, 300)], LossAboveOne(PATIENCE, 1.2, 0.01)),
        ([record(i, lr=0.01 * 0.98**i) for i in range(1, 300)], LearningRateFell(PATIENCE, 0.0098, 0.01 * 0.98**100)),
        ([record(i, skipped=i % 3 > 0) for i in range(1, 300)], MostSkipped(PATIENCE, pytest.approx(0.66), 0.01)),
        ([record(i, loss=1.01 if i > 200 else 0.9) for i in range(1, 300)], LossAboveOne(226, 1.01, 0.01)),
        ([record(i, lr=0.01 if i < 250 else 0.0099 / FALLEN) for i in range(1, 300)],
         LearningRateFell(250, 0.01, 0.0099 / FALLEN)),
    ],
)  # fmt: skip
def test_each_finding_is_reported_once(records: list[Record], expected: Finding) -> None:
    assert findings(records) == [expected]


def test_experts_that_still_improve_are_found() -> None:
    rising = [[0.1 + 0.02 * epoch for epoch in range(13)], [0.1 + 0.01 * epoch for epoch in range(13)]]
    assert check_undertrained(rising, Training(epochs=12)) == (pytest.approx(0.045), 9, 12)


def test_experts_that_have_converged_give_no_finding() -> None:
    converged = [[0.8 - 0.7 * 0.5**epoch for epoch in range(13)]] * 3
    assert check_undertrained(converged, Training(epochs=12)) is None


def test_rise_after_the_learning_rate_decay_does_not_count() -> None:
    lifted = [[0.7 if epoch <= 9 else 0.8 for epoch in range(13)]]
    assert check_undertrained(lifted, Training(epochs=12, lr_decay_at=0.75)) is None
    assert check_undertrained(lifted, Training(epochs=12)) is not None, "without a decay it counts"


@pytest.mark.parametrize("training", [Training(epochs=1), Training(epochs=1, lr_decay_at=0)])
def test_single_epoch_is_never_enough(training: Training) -> None:
    assert check_undertrained([[0.2, 0.6]], training) is not None
