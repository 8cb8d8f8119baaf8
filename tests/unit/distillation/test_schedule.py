"""A schedule advances on falling and rising losses, and only after enough of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from raydistill.distillation.schedule import (
    Decision,
    Fixed,
    Schedule,
    ScheduleState,
    SelfAdaptive,
    StepwiseWindow,
)
from raydistill.distillation.schedule.self_adaptive import correlation_with_time, effective_number

LAST = 10  # the largest start epoch that these experts allow
EAGER = SelfAdaptive(min_duration=1, test_every=1)


def run(schedule: Schedule, losses: list[float], last_epoch: int = LAST) -> list[tuple[ScheduleState, Decision]]:
    state, history = schedule.init(), []
    for loss in losses:
        state, decision = schedule.step(state, loss, last_epoch)
        history.append((state, decision))
    return history


def first(history: list[tuple[ScheduleState, Decision]], decision: Decision) -> int | None:
    """Return the iteration of the first such decision; None if there is none."""
    return next((i for i, (_, taken) in enumerate(history, start=1) if taken is decision), None)


@pytest.mark.parametrize("n", [3, 4, 10, 257])
def test_correlation_is_numpy_s(n: int) -> None:
    losses = np.random.default_rng(n).normal(5, 0.1, n)
    expected = np.corrcoef(losses, np.arange(n))[0, 1]
    assert correlation_with_time(tuple(losses)) == pytest.approx(expected, abs=1e-12)


def test_correlation_of_constant_or_short_series_is_zero() -> None:
    for losses in ((), (1.0,), (1.0, 2.0), (0.3,) * 50):
        assert correlation_with_time(losses) == 0.0


@pytest.mark.parametrize("significance", [3.0, 4.0, 5.0, 6.5])
def test_no_advance_on_a_fall_before_n_exceeds_lambda_squared_plus_two(significance: float) -> None:
    schedule = SelfAdaptive(significance=significance, min_duration=1, test_every=1)
    falling = run(schedule, [1 - 0.001 * i for i in range(100)])  # r = -1: the strongest evidence there is
    assert first(falling, Decision.ADVANCE) == math.floor(significance**2 + 2) + 1


def test_advance_needs_min_duration_and_a_test() -> None:
    falling = [1 - 0.001 * i for i in range(100)]
    assert first(run(SelfAdaptive(min_duration=50, test_every=10), falling), Decision.ADVANCE) == 50
    assert first(run(SelfAdaptive(min_duration=45, test_every=10), falling), Decision.ADVANCE) == 50
    assert first(run(SelfAdaptive(min_duration=1, test_every=7), falling), Decision.ADVANCE) == 28


def test_rise_advances_at_three_sigma_and_fall_at_lambda() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 200)
    noise -= np.polyval(np.polyfit(np.arange(200), noise, 1), np.arange(200))  # no trend of its own

    def series(r: float) -> list[float]:
        """Return losses whose correlation with time is r."""
        t = np.arange(200) - 99.5
        return list(r * t / t.std() + math.sqrt(1 - r * r) * noise / noise.std())

    once = SelfAdaptive(min_duration=200, test_every=200)
    sigma = 1 / math.sqrt(198)
    for r, advances in ((3.1, True), (2.9, False), (-3.1, False), (-4.9, False), (-5.1, True)):
        decision = run(once, series(r * sigma))[-1][1]
        assert (decision is Decision.ADVANCE) == advances, r


def test_advance_raises_the_cap_by_one_and_clears_the_losses() -> None:
    history = run(EAGER, [1 - 0.001 * i for i in range(28)])
    state, decision = history[-1]
    assert decision is Decision.ADVANCE
    assert state == ScheduleState(cap=2, iteration=28, since_advance=0, losses=())


@pytest.mark.parametrize(("given", "experts", "limit"), [(None, 4, 5), (2, 4, 3), (9, 4, 5)])
def test_cap_stops_at_the_limit(given: int | None, experts: int, limit: int) -> None:
    schedule = SelfAdaptive(min_duration=1, test_every=1, max_start_epoch=given, max_duration=10_000)
    assert run(schedule, [1 - 0.001 * i for i in range(400)], experts)[-1][0].cap == limit


def test_fine_tuning_starts_after_max_duration_and_ends_below_the_floor() -> None:
    schedule = SelfAdaptive(max_duration=200, fine_tune_every=5, fine_tune_factor=0.5, fine_tune_floor=0.1)
    history = run(schedule, [0.5] * 300)
    assert first(history, Decision.FINE_TUNE) == 200
    # 1/2, 1/4, 1/8, 1/16: the fourth is the first below a tenth.
    assert first(history, Decision.STOP) == 200 + 4 * 5
    scales = [state.image_lr_scale for state, _ in history]
    assert scales[:204] == [1.0] * 204
    assert scales[204] == 0.5
    assert scales[219] == 0.0625
    assert all(decision is not Decision.ADVANCE for _, decision in history)


def test_defaults_fine_tune_for_fourteen_reductions() -> None:
    assert first(run(SelfAdaptive(), [0.5] * 2000), Decision.STOP) == 1000 + 50 * math.ceil(math.log(0.05, 0.8))


def test_run_ends_after_max_duration_when_the_cap_is_at_its_limit() -> None:
    schedule, state = SelfAdaptive(min_duration=10, max_duration=20), SelfAdaptive().init()
    for _ in range(50):
        state, decision = schedule.step(state, None, 0)
        if decision is Decision.FINE_TUNE:
            break
    assert decision is Decision.FINE_TUNE
    assert state.cap == 1


@pytest.mark.parametrize("schedule", [SelfAdaptive(max_duration=60), Fixed(), StepwiseWindow(every=7)])
def test_state_restored_from_json_continues_the_same(schedule: Schedule) -> None:
    losses = list(np.random.default_rng(1).normal(1, 0.1, 150))
    whole = run(schedule, losses)
    saved = json.loads(json.dumps(whole[69][0]._asdict()))
    state = ScheduleState.from_json(saved)
    for loss, expected in zip(losses[70:], whole[70:], strict=True):
        state, decision = schedule.step(state, loss, LAST)
        assert (state, decision) == expected


def test_fixed_window_never_changes() -> None:
    history = run(Fixed(max_start_epoch=3), [1 - 0.01 * i for i in range(90)])
    assert {(state.cap, decision) for state, decision in history} == {(4, Decision.STAY)}
    assert history[-1][0].iteration == 90


def test_stepwise_window_advances_at_intervals_up_to_its_limit() -> None:
    history = run(StepwiseWindow(every=10, max_start_epoch=3), [0.0] * 100)
    advances = [i for i, (_, decision) in enumerate(history, start=1) if decision is Decision.ADVANCE]
    assert advances == [10, 20, 30]
    assert history[-1][0].cap == 4


def test_stepwise_window_is_the_sequential_generation_of_datm() -> None:
    """The window ends at 10 + int((20 - 10) * iteration / 1000), at most 20.

    This is DATM's config for ten CIFAR-10 images per class.
    """
    history = run(StepwiseWindow(every=100, first_max_start_epoch=9, max_start_epoch=19), [0.0] * 1500, last_epoch=98)
    assert [state.cap for state, _ in history] == [min(20, 10 + (i * 10) // 1000) for i in range(1, 1501)]


def test_stepwise_window_stays_within_the_experts_epochs() -> None:
    assert run(StepwiseWindow(every=1, max_start_epoch=50), [0.0] * 100, last_epoch=6)[-1][0].cap <= 6 + 1


def noise(phi: float, length: int, seed: int) -> np.ndarray:
    """Return AR(1) noise of coefficient phi; its shocks have a deviation of 1."""
    value, losses = 0.0, []
    for shock in np.random.default_rng([seed, int(100 * phi)]).normal(size=length + 100):
        value = phi * value + shock
        losses.append(value)
    return np.array(losses[100:])


def advance_rate(phi: float, slope: float = 0.0, trials: int = 80, length: int = 500, **options: Any) -> float:
    """Return how often a default schedule advances on noise with a trend."""
    schedule, fired = SelfAdaptive(max_duration=10 * length, **options), 0
    for trial in range(trials):
        losses = noise(phi, length, trial) + slope * np.arange(length)
        fired += first(run(schedule, losses.tolist()), Decision.ADVANCE) is not None
    return fired / trials


def test_false_advances_are_rare_on_white_noise() -> None:
    """Repeated tests of autocorrelated losses make "3 sigma" and "5 sigma" common."""
    white, correlated = advance_rate(0.0), advance_rate(0.9)
    print(f"\nfalse advances within 500 iterations: white noise {white:.3f}, AR(1) with 0.9 {correlated:.3f}")
    assert 0 <= white < 0.1
    assert 0.5 < correlated <= 1


def test_effective_number_of_losses_keeps_false_advances_rare() -> None:
    white, correlated = (advance_rate(phi, effective_sample_size=True) for phi in (0.0, 0.9))
    print(f"\nfalse advances with the effective number: white noise {white:.3f}, AR(1) with 0.9 {correlated:.3f}")
    assert white < 0.1
    assert correlated < 0.1


def test_effective_number_of_losses_still_advances_on_a_trend() -> None:
    """Let the losses fall by eight deviations of the noise, which is 2.3.

    500 of them are worth 26, and 5 sigma needs 27.
    """
    assert advance_rate(0.9, slope=-18 / 500, effective_sample_size=True, significance=3) > 0.9


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_effective_number_is_that_of_the_mean_of_the_noise(phi: float) -> None:
    """Compare with AR(1) noise, of which n losses are worth n (1 - phi) / (1 + phi)."""
    numbers = [effective_number(tuple(noise(phi, 5000, seed))) for seed in range(5)]
    assert np.mean(numbers) == pytest.approx(5000 * (1 - phi) / (1 + phi), rel=0.1)


def test_effective_number_does_not_exceed_the_number_of_losses() -> None:
    for losses in ((), (1.0, 2.0), (0.3,) * 50, (1.0, -1.0) * 25):
        assert effective_number(losses) == len(losses)
    line = tuple(range(50))
    assert effective_number(line) == 50
    trend = np.random.default_rng(0).normal(size=50) + 100 * np.arange(50)
    assert effective_number(tuple(trend)) > 20  # a trend is not a correlation of the noise


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SelfAdaptive(test_every=0), "test_every must be at least 1, got 0"),
        (lambda: SelfAdaptive(fine_tune_every=0), "fine_tune_every must be at least 1, got 0"),
        (lambda: SelfAdaptive(max_start_epoch=0), "max_start_epoch must be at least 1, got 0"),
        (lambda: SelfAdaptive(fine_tune_factor=1.0), r"fine_tune_factor must lie in \(0, 1\), got 1.0"),
        (lambda: SelfAdaptive(fine_tune_floor=0.0), r"fine_tune_floor must lie in \(0, 1\), got 0.0"),
        (lambda: SelfAdaptive(fine_tune_floor=1.0), r"fine_tune_floor must lie in \(0, 1\), got 1.0"),
        (lambda: SelfAdaptive(significance=0.0), "significance must be positive, got 0.0"),
        (lambda: SelfAdaptive(significance=-5.0), "significance must be positive, got -5.0"),
        (lambda: SelfAdaptive(significance=math.nan), "significance must be positive, got nan"),
        (lambda: SelfAdaptive(min_duration=0), "min_duration must be at least 1, got 0"),
        (lambda: SelfAdaptive(max_duration=20), "max_duration must be at least min_duration = 50, got 20"),
        (lambda: Fixed(max_start_epoch=-1), "max_start_epoch must be at least 0, got -1"),
        (lambda: StepwiseWindow(every=0), "every must be at least 1, got 0"),
        (lambda: StepwiseWindow(max_start_epoch=-1), "max_start_epoch must be at least 0, got -1"),
        (
            lambda: StepwiseWindow(min_start_epoch=5, first_max_start_epoch=4),
            "first_max_start_epoch must be at least 5, got 4",
        ),
        (lambda: StepwiseWindow(min_start_epoch=9), "max_start_epoch must be at least 9, got 7"),
        (lambda: Fixed(min_start_epoch=3), "max_start_epoch must be at least 3, got 2"),
    ],
)
def test_invalid_schedules_are_rejected(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
