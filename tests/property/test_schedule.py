"""Properties of a schedule for any losses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raydistill.distillation.schedule import (
    Decision,
    Fixed,
    LossWeighted,
    Matched,
    Schedule,
    SelfAdaptive,
    StepwiseWindow,
)
from raydistill.distillation.schedule.self_adaptive import RISING, correlation_with_time

losses = st.floats(0, 1e6, allow_nan=False, width=32)
series = st.lists(losses, min_size=3, max_size=60).map(tuple)

self_adaptive = st.builds(
    lambda durations, **rest: SelfAdaptive(min_duration=min(durations), max_duration=max(durations), **rest),
    durations=st.tuples(st.integers(1, 40), st.integers(1, 80)),
    significance=st.floats(1, 6),
    max_start_epoch=st.none() | st.integers(1, 6),
    test_every=st.integers(1, 10),
    fine_tune_every=st.integers(1, 10),
    fine_tune_factor=st.floats(0.1, 0.9),
    fine_tune_floor=st.floats(0.01, 0.5),
)
schedules = (
    self_adaptive
    | st.builds(Fixed, max_start_epoch=st.integers(0, 5))
    | st.builds(LossWeighted, decay=st.floats(0, 0.99), explore=st.floats(0.01, 0.99))
    | st.builds(StepwiseWindow, every=st.integers(1, 20), max_start_epoch=st.integers(0, 7))
)


@st.composite
def trends(draw: st.DrawFn) -> list[float]:
    """Return a trend with noise, of up to 150 iterations.

    A schedule rarely advances on noise alone.
    """
    seed, slope, length = draw(st.integers(0, 99)), draw(st.floats(-0.1, 0.1)), draw(st.integers(1, 150))
    noise = draw(st.sampled_from([0.0, 0.01, 1.0]))
    return list(10 + slope * np.arange(length) + noise * np.random.default_rng(seed).normal(size=length))


@given(series)
def test_correlation_lies_between_minus_one_and_one(values: tuple[float, ...]) -> None:
    assert -1 <= correlation_with_time(values) <= 1


@given(series)
def test_correlation_is_antisymmetric_in_time(values: tuple[float, ...]) -> None:
    assert correlation_with_time(values[::-1]) == pytest.approx(-correlation_with_time(values), abs=1e-9)


@given(series, st.floats(0.01, 100), st.floats(-100, 100))
def test_correlation_is_invariant_to_scale(values: tuple[float, ...], scale: float, offset: float) -> None:
    # Otherwise the correlation is that of the offset's rounding errors.
    assume(scale * np.ptp(values) > 1e-6 * max(abs(offset), scale * max(values), 1e-90))
    moved = tuple(scale * value + offset for value in values)
    assert correlation_with_time(moved) == pytest.approx(correlation_with_time(values), abs=1e-6)


@given(series)
def test_correlation_is_numpy_s(values: tuple[float, ...]) -> None:
    assume(np.ptp(values) > 1e-3 * max(*values, 1e-90))  # squares of less underflow
    expected = np.corrcoef(values, np.arange(len(values)))[0, 1]
    assert correlation_with_time(values) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(schedules, trends(), st.integers(0, 6))
def test_invariants_hold_for_any_losses(schedule: Schedule, values: list[float], last_epoch: int) -> None:
    state, decisions = schedule.init(), []
    first_cap = state.cap
    for iteration, loss in enumerate(values, start=1):
        before = state
        state, decision = schedule.step(before, loss, last_epoch)
        decisions.append(decision)
        assert state.iteration == iteration
        assert state.cap - before.cap == (decision is Decision.ADVANCE)
        assert first_cap <= state.cap <= max(first_cap, last_epoch + 1)
        assert 0 < state.image_lr_scale <= before.image_lr_scale
        assert (decision, state) == schedule.step(before, loss, last_epoch)[::-1]  # a pure function
        if decision is Decision.ADVANCE and isinstance(schedule, SelfAdaptive):
            n = before.since_advance + 1
            assert n >= schedule.min_duration
            assert n > min(schedule.significance, RISING) ** 2 + 2
            assert state.losses == ()
        if before.fine_tuning >= 0:
            assert decision in (Decision.STAY, Decision.STOP)
    assert decisions.count(Decision.FINE_TUNE) <= 1
    if Decision.STOP in decisions:
        assert Decision.FINE_TUNE in decisions[: decisions.index(Decision.STOP)]
    if not isinstance(schedule, SelfAdaptive):
        assert set(decisions) <= {Decision.STAY, Decision.ADVANCE}


@given(
    st.builds(LossWeighted, decay=st.floats(0, 0.99), explore=st.floats(0.01, 0.99)),
    st.lists(st.builds(Matched, st.integers(0, 5), st.floats(0) | st.just(float("nan"))), max_size=30),
)
def test_probabilities_sum_to_one_and_leave_no_epoch_out(schedule: LossWeighted, matched: list[Matched]) -> None:
    state, _ = schedule.step(schedule.init(), None, 5, matched)
    result = schedule.probabilities(state, range(6))
    if result is not None:
        assert sum(result) == pytest.approx(1)
        assert min(result) >= schedule.explore / 6 * (1 - 1e-9)
