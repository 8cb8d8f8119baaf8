"""The choice of candidates: quotas, reasons, and independence of the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.stages.hunt.learn import ranking
from raydistill.stages.hunt.learn.ranking import Quotas, Reason, Shortlist, _mix, farthest_first, hunt, random_keys

QUOTAS = Quotas(high_score=4, uncertain=3, diverse=2, random=1)


def survey(size=500, seed=0):
    rng = np.random.default_rng(seed)
    return np.arange(size), rng.random(size).round(2), rng.normal(size=(size, 3))


def choose(rows, scores, features, quotas=QUOTAS, count=20, seed=0, blocks=1):
    shortlist = Shortlist(quotas, count, seed)
    for part in np.array_split(np.arange(len(rows)), blocks):
        shortlist.add(rows[part], None if scores is None else scores[part], features[part])
    return shortlist.candidates()


def best_rows(scores, count):
    return np.argsort(-scores, kind="stable")[:count].tolist()


def test_each_reason_gets_its_quota_and_no_object_is_shown_twice():
    rows, scores, features = survey()
    chosen = choose(rows, scores, features)
    counts = {reason: sum(pick.reason == reason for pick in chosen) for reason in Reason}
    assert counts == {Reason.HIGH_SCORE: 8, Reason.UNCERTAIN: 6, Reason.DIVERSE: 4, Reason.RANDOM: 2}
    assert len({pick.row for pick in chosen}) == 20
    by_reason = {reason: [pick.row for pick in chosen if pick.reason == reason] for reason in Reason}
    assert by_reason[Reason.HIGH_SCORE] == np.lexsort((rows, -scores))[:8].tolist()
    assert abs(scores[by_reason[Reason.UNCERTAIN]] - 0.5).max() <= np.sort(abs(scores - 0.5))[6 + 8]
    assert all(pick.score == scores[pick.row] for pick in chosen)


@pytest.mark.parametrize("blocks", [2, 7, 500])
def test_choice_does_not_depend_on_the_blocks(blocks):
    rows, scores, features = survey()
    assert choose(rows, scores, features, blocks=blocks) == choose(rows, scores, features)


def test_choice_does_not_depend_on_the_order_of_the_blocks():
    rows, scores, features = survey()
    order = np.random.default_rng(1).permutation(len(rows))
    assert choose(rows[order], scores[order], features[order], blocks=9) == choose(rows, scores, features)


def test_other_seed_changes_random_candidates_alone():
    rows, scores, features = survey()
    first, second = ({pick.row: pick.reason for pick in choose(rows, scores, features, seed=seed)} for seed in (0, 1))
    assert {row for row, reason in first.items() if reason != Reason.RANDOM} <= set(second)
    assert set(first) != set(second)


def test_without_scores_candidates_are_diverse_and_random():
    rows, _, features = survey()
    chosen = choose(rows, None, features, quotas=Quotas(0, 0, 1, 1))
    assert {pick.reason for pick in chosen} == {Reason.DIVERSE, Reason.RANDOM}
    assert all(np.isnan(pick.score) for pick in chosen)


def test_survey_smaller_than_a_round_is_shown_completely():
    rows, scores, features = survey(5)
    assert sorted(pick.row for pick in choose(rows, scores, features)) == [0, 1, 2, 3, 4]


def test_rows_that_tie_with_the_last_one_are_chosen_in_their_order():
    rows, scores, features = survey(50)
    only_scores = Quotas(1, 0, 0, 0)
    assert [pick.row for pick in choose(rows, np.full(50, 0.5), features, only_scores, 3)] == [0, 1, 2]
    assert [pick.row for pick in choose(rows[:4], scores[:4], features[:4], only_scores, 3)] == best_rows(scores[:4], 3)
    assert [pick.row for pick in choose(rows, scores, features, only_scores, 9)] == best_rows(scores, 9)


def test_memory_does_not_grow_with_the_survey():
    shortlist = Shortlist(QUOTAS, 20, 0)
    for block in range(50):
        rows, scores, features = survey(1000, block)
        shortlist.add(rows + 1000 * block, scores, features)
    assert all(len(best.rows) <= 60 for best in shortlist._best.values())


def test_quotas_share_a_round_by_largest_remainders():
    assert list(Quotas().counts(20).values()) == [12, 4, 2, 2]
    assert list(Quotas(1, 1, 1, 0).counts(10).values()) == [4, 3, 3, 0]
    assert list(Quotas(0.6, 0.2, 0.1, 0.1).counts(7).values()) == [4, 1, 1, 1]
    with pytest.raises(ValueError, match="at least one quota must be positive"):
        Quotas(0, 0, 0, 0)


def test_farthest_first_by_hand():
    points = np.array([[0.0], [1.0], [9.0], [5.0]])
    assert farthest_first(points, np.array([[0.0]]), 3) == [2, 3, 1]
    assert farthest_first(points, np.array([[9.0]]), 3) == [0, 3, 1]
    assert farthest_first(np.array([[-3.0], [3.0], [1.0]]), np.empty((0, 1)), 3) == [0, 1, 2]
    assert farthest_first(points, np.empty((0, 1)), 2) == [0, 2]
    assert farthest_first(points, np.empty((0, 1)), 9) == [0, 2, 3, 1]


def test_random_keys_are_those_of_splitmix64():
    """Its first number for the seed 0 is published."""
    assert int(_mix(np.zeros(1, np.uint64))[0]) == 0xE220A8397B1DCDAF
    expected = _mix(np.array([(0xE220A8397B1DCDAF + 5) % 2**64], np.uint64)) >> np.uint64(11)
    assert random_keys(np.array([5]), 0).tolist() == [float(expected[0]) / 2**53]


def test_random_keys_depend_on_row_and_seed_alone():
    rows = np.arange(100_000)
    keys = random_keys(rows, 7)
    np.testing.assert_array_equal(random_keys(rows[5:9], 7), keys[5:9])
    assert np.histogram(keys, 10, (0, 1))[0].min() > 9_600
    assert abs(np.corrcoef(keys, random_keys(rows, 8))[0, 1]) < 0.01
    assert abs(np.corrcoef(keys[:-1], keys[1:])[0, 1]) < 0.01


def test_choice_considers_every_block_of_a_survey(monkeypatch):
    rng = np.random.default_rng(0)
    scores, features, shown = rng.random(50), rng.normal(size=(50, 3)), rng.random(50) < 0.4
    whole = ranking.choose(scores, features, shown, Quotas(1, 1, 1, 1), 12, 3)
    monkeypatch.setattr(ranking, "BLOCK", 7)
    assert ranking.choose(scores, features, shown, Quotas(1, 1, 1, 1), 12, 3) == whole
    rows = [candidate.row for candidate in whole]
    assert len(set(rows)) == 12
    assert not shown[rows].any()
    assert max(rows) >= 35


def test_hunt_learns_from_all_labels_so_far():
    truth, calls = np.arange(40) % 4 == 0, []

    def score(rows, labels, number):
        calls.append((rows.tolist(), labels.tolist(), number))
        return truth + number / 10

    start = np.array([0, 1])
    trace = hunt(score, np.zeros((40, 2)), truth, start, Quotas(1, 0, 0, 0), rounds=2, per_round=3, seed=0)
    assert len(trace.rows) == len(set(trace.rows)) == len(trace.reasons) == 6
    assert not set(trace.rows) & {0, 1}
    assert truth[trace.rows].all()  # the best scores are those of the target class
    assert [number for _, _, number in calls] == [0, 1, 2]
    assert [rows for rows, _, _ in calls] == [[0, 1, *trace.rows[:count]] for count in (0, 3, 6)]
    assert all(labels == truth[rows].tolist() for rows, labels, _ in calls)
    np.testing.assert_array_equal(trace.first_N, truth + 0.0)
    np.testing.assert_array_equal(trace.last_N, truth + 0.2)


def test_hunt_without_rounds_or_without_scores_has_no_scores():
    arguments = np.zeros((40, 2)), np.arange(40) % 4 == 0, np.array([0, 1]), Quotas(1, 0, 0, 0)
    nothing = hunt(lambda *_: np.zeros(40), *arguments, rounds=0, per_round=3, seed=0)
    assert (len(nothing.rows), nothing.first_N, nothing.last_N) == (0, None, None)
    blind = hunt(None, *arguments, rounds=2, per_round=3, seed=0)
    assert (len(set(blind.rows)), blind.first_N, blind.last_N) == (6, None, None)
