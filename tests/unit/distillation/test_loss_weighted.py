"""Start epochs are drawn by their losses; the run stops when these no longer fall."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from raydistill.distillation.schedule import Decision, LossWeighted, Matched, ScheduleState
from raydistill.distillation.schedule.base import RecentLoss
from raydistill.distillation.schedule.loss_weighted import trend


def after(schedule: LossWeighted, matched: list[Matched], last_epoch: int = 3) -> ScheduleState:
    """Return the state after iterations of one segment each."""
    state = schedule.init()
    for r in matched:
        state, decision = schedule.step(state, None, last_epoch, [r])
        assert decision is Decision.STAY
    return state


def test_epochs_are_drawn_where_much_is_learned_and_much_is_left() -> None:
    schedule = LossWeighted(explore=0.04, power=1.0)
    state = after(schedule, [Matched(0, 0.5), Matched(1, 0.8), Matched(2, 1.2), Matched(3, 0.9)])
    weights = np.array([0.25, 0.16, 0.0, 0.09])
    expected = 0.96 * weights / weights.sum() + 0.01
    assert schedule.probabilities(state, range(4)) == pytest.approx(expected)


def test_power_draws_what_can_be_learned_more_alike() -> None:
    schedule = LossWeighted(explore=0.04, power=0.5)
    state = after(schedule, [Matched(0, 0.36), Matched(1, 0.84), Matched(2, 1.2), Matched(3, 0.91)])
    weights = np.sqrt([0.36 * 0.64, 0.84 * 0.16, 0.0, 0.91 * 0.09])
    assert schedule.probabilities(state, range(4)) == pytest.approx(0.96 * weights / weights.sum() + 0.01)


def test_averages_forget_and_are_bounded() -> None:
    schedule = LossWeighted(decay=0.75)
    assert after(schedule, [Matched(1, 0.4), Matched(1, 0.8)]).group_losses == (None, pytest.approx(0.5), None, None)
    assert after(schedule, [Matched(1, math.inf)]).group_losses[1] == 2.0
    assert after(schedule, [Matched(2, math.nan)]).group_losses[2] == 1.0  # an expert that does not move


def test_epochs_of_a_group_share_their_losses() -> None:
    schedule = LossWeighted(max_groups=2, decay=0.5, explore=0.03, power=1.0)
    state = after(schedule, [Matched(0, 0.5), Matched(2, 0.7), Matched(4, 0.8)], last_epoch=4)
    assert state.group_losses == (pytest.approx(0.6), pytest.approx(0.8))  # epochs 0 to 2, and 3 to 4
    weights = np.array([0.24, 0.24, 0.24, 0.16, 0.16])
    assert schedule.probabilities(state, range(5)) == pytest.approx(0.97 * weights / weights.sum() + 0.03 / 5)


def test_epochs_without_a_segment_are_drawn_like_the_most_drawn_ones() -> None:
    schedule = LossWeighted()
    first, second, third, fourth = schedule.probabilities(after(schedule, [Matched(0, 0.9), Matched(1, 0.6)]), range(4))
    assert second == third == fourth > first


def test_all_epochs_are_drawn_alike_before_anything_is_learned() -> None:
    schedule = LossWeighted()
    assert schedule.probabilities(schedule.init(), range(4)) is None
    assert schedule.probabilities(after(schedule, [Matched(t, 1.1) for t in range(4)]), range(4)) is None


def test_loss_weighted_state_survives_json() -> None:
    state = after(LossWeighted(), [Matched(1, 0.4)])
    assert ScheduleState.from_json(json.loads(json.dumps(state._asdict()))) == state


@pytest.mark.parametrize("late", [1.1, 0.3])
def test_draws_find_the_epochs_that_can_be_learned(late: float) -> None:
    """Noisy losses are 0.6 in the first half of the epochs and `late` in the second."""
    schedule, rng, epochs = LossWeighted(power=1.0), np.random.default_rng(0), 20
    state, drawn = schedule.init(), []
    for _ in range(1200):
        p = schedule.probabilities(state, range(epochs)) or [1 / epochs] * epochs
        epoch = int(rng.choice(epochs, p=p))
        loss = (0.6 if epoch < epochs // 2 else late) + rng.normal(0, 0.03)
        state, _ = schedule.step(state, None, epochs - 1, [Matched(epoch, loss)])
        drawn.append(epoch)
    result = float(np.mean([epoch >= epochs // 2 for epoch in drawn[200:]]))
    expected = late * max(1 - late, 0) / (late * max(1 - late, 0) + 0.24)
    assert result == pytest.approx(0.97 * expected + 0.015, abs=0.04)


def fall(rng: np.random.Generator, slope: float, iterations: int = 400) -> list[Matched]:
    """Return noisy losses of ten epochs with levels of their own.

    The draws move from late to early epochs.
    """
    levels = np.linspace(0.3, 0.9, 10)
    epochs = [int(rng.binomial(9, 0.8 - 0.6 * i / iterations)) for i in range(iterations)]
    return [Matched(e, levels[e] + slope * i + rng.normal(0, 0.05)) for i, e in enumerate(epochs)]


def stops_at(schedule: LossWeighted, matched: list[Matched]) -> int | None:
    state = schedule.init()
    for iteration, r in enumerate(matched, start=1):
        state, decision = schedule.step(state, None, 9, [r])
        if decision is Decision.STOP:
            return iteration
    return None


def test_trend_is_the_t_value_of_a_slope_beside_a_level_of_each_group() -> None:
    rng = np.random.default_rng(0)
    losses = [RecentLoss(i, r.start_epoch, r.loss) for i, r in enumerate(fall(rng, -0.002, 50))]
    columns = [[r.iteration, *(float(r.group == group) for group in range(10))] for r in losses]
    x, y = np.array(columns), np.array([r.loss for r in losses])
    x = x[:, x.any(axis=0)]
    solution, (rss,), rank, _ = np.linalg.lstsq(x, y)
    expected = solution[0] / np.sqrt(rss / (len(y) - rank) * np.linalg.inv(x.T @ x)[0, 0])
    assert trend(losses) == pytest.approx(expected, rel=1e-9)


def test_trend_needs_three_losses_of_a_group() -> None:
    losses = [RecentLoss(i, 0, loss) for i, loss in enumerate((0.9, 0.5, 0.6))]
    fit = stats.linregress([0, 1, 2], [0.9, 0.5, 0.6])
    assert trend(losses) == pytest.approx(fit.slope / fit.stderr)
    assert trend(losses[:2]) == -math.inf


def test_trend_of_few_or_noiseless_losses() -> None:
    assert trend([]) == -math.inf
    assert trend([RecentLoss(i, i, 0.5) for i in range(5)]) == -math.inf  # one loss in each group
    assert trend([RecentLoss(i, i // 2, 0.5 - i / 8) for i in range(3)]) == -math.inf  # no degree of freedom
    assert trend([RecentLoss(i, 0, 0.5) for i in range(5)]) == 0
    assert trend([RecentLoss(i, 0, 0.5 - i / 8) for i in range(5)]) == -math.inf


def test_run_stops_when_losses_no_longer_fall() -> None:
    """The test is calibrated: a fall by chance continues 2.3 % of the runs.

    This holds whatever the draws do.
    """
    rng = np.random.default_rng(0)
    stops = [stops_at(LossWeighted(patience=50), fall(rng, 0.0, 60)) for _ in range(400)]
    assert float(np.mean([stop == 50 for stop in stops])) == pytest.approx(0.977, abs=0.025)


def test_run_goes_on_while_losses_fall() -> None:
    rng = np.random.default_rng(0)
    stops = [stops_at(LossWeighted(), fall(rng, -0.001)) for _ in range(30)]
    assert stops.count(None) >= 29
    until_200 = [[*fall(rng, -0.002, 200), *(r._replace(loss=r.loss - 0.4) for r in fall(rng, 0.0))] for _ in range(30)]
    for patience, first, last in ((100, 200, 330), (200, 300, 430)):
        result = [stops_at(LossWeighted(patience=patience), matched) for matched in until_200]
        assert all(stop is not None and first < stop <= last for stop in result)


def test_slow_fall_is_found_in_twice_as_many_losses() -> None:
    """The losses fall by .06 in 200 iterations, a little more than their noise of .05."""
    rng = np.random.default_rng(0)
    slow = [fall(rng, -0.0003, 200) for _ in range(50)]
    assert [stops_at(LossWeighted(), matched) for matched in slow].count(None) >= 45
    assert [stops_at(LossWeighted(patience=100), matched) for matched in slow].count(None) <= 15


def test_run_without_patience_never_stops_and_keeps_no_losses() -> None:
    schedule = LossWeighted(patience=None)
    assert stops_at(schedule, [Matched(0, 0.5)] * 300) is None
    assert after(schedule, [Matched(0, 0.5)] * 3).recent == ()
    assert [r.iteration for r in after(LossWeighted(patience=10), [Matched(0, 0.5)] * 9).recent] == [*range(1, 10)]


def test_longer_students_get_as_many_losses_before_the_next_test() -> None:
    schedule = LossWeighted(patience=20)
    flat = fall(np.random.default_rng(0), 0.0, 60)
    state = after(schedule, flat[:19], last_epoch=9)
    state, decision = schedule.step(state, None, 9, [flat[19]])
    assert decision is Decision.STOP
    state = schedule.with_longer_students(state)
    assert state.lengthened
    assert schedule.with_longer_students(state) is None
    decisions = []
    for r in flat[20:40]:
        state, decision = schedule.step(state, None, 9, [r])
        decisions.append(decision)
    assert decisions == [Decision.STAY] * 19 + [Decision.STOP]
