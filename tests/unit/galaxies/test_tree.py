"""Tests of the decision tree: counts, order, and the numbering of the release."""

import re

import pytest

from raydistill.errors import ConfigError
from raydistill.galaxies.trees import GZ2


def test_tree_has_11_tasks_and_37_answers_numbered_as_in_the_release():
    assert [task.number for task in GZ2.tasks] == list(range(1, 12))
    assert [len(task.answers) for task in GZ2.tasks] == [3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6]
    numbers = [answer.number for task in GZ2.tasks for answer in task.answers]
    assert len(GZ2.answers) == len(set(GZ2.answers)) == 37
    assert sorted(numbers) == [n for n in range(1, 39) if n != 35]
    assert GZ2.task_of["t08_odd_feature_a38_dust_lane"].key == "odd_feature"


def test_stems_contain_task_and_answer_numbers():
    for task in GZ2.tasks:
        for answer in task.answers:
            assert re.fullmatch(rf"t{task.number:02d}_{task.key}_a{answer.number:02d}_{answer.key}", answer.column)
    assert GZ2.answers[0] == "t01_smooth_or_features_a01_smooth"
    assert GZ2.answers[-1] == "t11_arms_number_a37_cant_tell"


def test_task_columns_partition_the_responses():
    assert [GZ2.answers[i] for task in GZ2.tasks for i in range(37)[GZ2.columns_of(task)]] == list(GZ2.answers)


def test_tasks_except_1_and_6_have_an_earlier_predecessor():
    for task in GZ2.tasks:
        for preset in GZ2.thresholds.values():
            assert (task.number in preset) == bool(task.asked_after)
        assert all(GZ2.task_of[stem].number < task.number for stem in task.asked_after)
    assert [t.number for t in GZ2.tasks if not t.asked_after] == [1, 6]


def test_threshold_for_20_votes_is_higher_than_for_10():
    n10, n20 = GZ2.thresholds["n10"], GZ2.thresholds["n20"]
    assert all(0 < n10[task] < n20[task] < 1 for task in n10)
    assert (n10[2], n20[9], n20[11]) == (0.227, 0.602, 0.619)


@pytest.mark.parametrize("word", ["t09_bulge_shape_a27_no_bulge", "a27", "a27_no_bulge", "Bulge shape no-bulge"])
def test_answer_has_several_spellings(word):
    assert GZ2.resolve(word) == "t09_bulge_shape_a27_no_bulge"


def test_every_stem_resolves_to_itself():
    assert [GZ2.resolve(stem) for stem in GZ2.answers] == list(GZ2.index)


def test_ambiguous_answer_is_an_error_with_its_meanings():
    with pytest.raises(ConfigError, match=r"t05_bulge_prominence_a10_no_bulge, t09_bulge_shape_a27_no_bulge"):
        GZ2.resolve("no_bulge")
    with pytest.raises(ConfigError, match="ambiguous"):
        GZ2.resolve("yes")


def test_unknown_answer_is_an_error_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'completely_round'"):
        GZ2.resolve("completly_round")
