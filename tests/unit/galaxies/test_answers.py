"""Answers requested by a user: sums, contradictions with the tree, their messages."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.answers import SUM_TOLERANCE, check_votes, parse_answers, replace_answers
from raydistill.galaxies.trees import GZ2, GZ_CANDELS, TREES

SMOOTH, FEATURES, ARTIFACT = (GZ2.index[stem] for stem in GZ2.answers[:3])


def test_named_questions_are_filled_and_others_are_unknown() -> None:
    votes = parse_answers({"smooth": 0.9, "features_or_disk": 0.1, "completely_round": 1}, GZ2)
    assert votes.dtype == np.float32
    np.testing.assert_allclose(votes[[SMOOTH, FEATURES, ARTIFACT]], [0.9, 0.1, 0])
    rounded = GZ2.columns_of(GZ2.tasks[6])
    assert votes[rounded].tolist() == [1, 0, 0]
    assert np.isnan(np.delete(votes, [SMOOTH, FEATURES, ARTIFACT, *range(rounded.start, rounded.stop)])).all()


def test_no_answers_are_all_unknown() -> None:
    assert np.isnan(parse_answers({}, GZ2)).all()


@pytest.mark.parametrize("total", [1 - 0.9 * SUM_TOLERANCE, 1 + 0.9 * SUM_TOLERANCE])
def test_a_sum_may_be_off_by_the_tolerance(total: float) -> None:
    first = total - 0.5
    assert parse_answers({"smooth": first, "features_or_disk": 0.5}, GZ2)[SMOOTH] == np.float32(first)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"smooth": 1.2}, r"the fraction of 'smooth' is 1.2, outside \[0, 1\]"),
        ({"smooth": -0.1}, r"the fraction of 'smooth' is -0.1, outside \[0, 1\]"),
        ({"smooth": float("inf")}, r"is inf, outside \[0, 1\]"),
        ({"smooth": float("nan")}, "the fraction of 'smooth' is not a number"),
        ({"smoth": 1.0}, "has no answer 'smoth'; did you mean 'smooth'?"),
        ({"yes": 1.0}, "the answer 'yes' is ambiguous"),
        ({"smooth": 0.5, "a01": 0.5}, "two keys name the answer 't01_smooth_or_features_a01_smooth'"),
        ({"smooth": 0.9}, "'smooth_or_features' sum to 0.9, not to 1 .*give all its answers: smooth_or_features_smooth, "),
        ({"edgeon_yes": 0.7, "edgeon_no": 0.7}, "'edgeon' sum to 1.4, not to 1 .*; correct them"),
    ],
)  # fmt: skip
def test_a_wrong_fraction_has_its_sentence(answers: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_answers(answers, GZ2)


def test_a_question_behind_an_answer_of_fraction_0_is_a_contradiction() -> None:
    with pytest.raises(
        ConfigError, match=r"the question 'edgeon' is only asked after 't01_.*_a02_features_or_disk', whose"
    ):
        parse_answers({"smooth": 1, "edgeon_yes": 1}, GZ2)


def test_a_contradiction_is_found_across_questions_that_are_not_named() -> None:
    """Arms are counted after spiral, not edge-on and disk: only the last is named."""
    with pytest.raises(
        ConfigError, match=r"the question 'arms_number' is only asked after 't01_.*_a02_features_or_disk'"
    ):
        parse_answers({"smooth": 1, "arms_number_2": 1}, GZ2)
    parse_answers({"smooth": 0.99, "features_or_disk": 0.01, "arms_number_2": 1}, GZ2)


def test_a_question_after_two_answers_needs_one_of_them() -> None:
    parse_answers({"smooth-or-featured_smooth": 1, "merging_merger": 1}, GZ_CANDELS)
    with pytest.raises(ConfigError, match="'smooth-or-featured_smooth' or 'smooth-or-featured_features', whose"):
        parse_answers({"smooth-or-featured_artifact": 1, "merging_merger": 1}, GZ_CANDELS)


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_every_answer_of_every_tree_can_be_asked_for(tree) -> None:
    for stem in tree.answers:
        votes = parse_answers({stem: 1}, tree)
        assert votes[tree.index[stem]] == 1
        assert np.nansum(votes) == 1


def test_the_first_contradicting_row_of_a_table_is_named() -> None:
    votes = np.full((3, 37), np.nan)
    votes[:, :3] = [0.5, 0.5, 0]
    votes[:, GZ2.columns_of(GZ2.tasks[1])] = [0.3, 0.7]
    check_votes(votes, GZ2, "t.csv")
    votes[2, :3] = [1, 0, 0]
    with pytest.raises(CatalogError, match=r"t\.csv: row 3: the question 'edgeon' is only asked after"):
        check_votes(votes, GZ2, "t.csv")


def test_a_row_whose_fractions_do_not_sum_to_1_is_named() -> None:
    votes = np.full((3, 37), np.nan)
    votes[1, :3] = [0.5, 0.3, 0]
    with pytest.raises(CatalogError, match=r"row 2: the fractions of the question 'smooth_or_features' sum to 0\.8"):
        check_votes(votes, GZ2, "t.csv")
    check_votes(votes, GZ2, "t.csv", sums=False)


def test_replacing_answers_forgets_unreachable_questions() -> None:
    votes = np.random.default_rng(0).uniform(0.1, 0.9, (2, 37)).astype(np.float32)
    odd = parse_answers({"odd_yes": 1}, GZ2)
    edited = replace_answers(votes, odd, GZ2)
    task = GZ2.columns_of(GZ2.tasks[5])
    assert edited[:, task].tolist() == [[1, 0], [1, 0]]
    np.testing.assert_array_equal(np.delete(edited, task, axis=1), np.delete(votes, task, axis=1))
    smooth = replace_answers(votes, parse_answers({"smooth": 1}, GZ2), GZ2)
    reachable = [GZ2.columns_of(task) for task in GZ2.tasks if task.number in (1, 6, 7, 8)]
    known = ~np.isnan(smooth)
    assert known.sum() == 2 * sum(columns.stop - columns.start for columns in reachable)
    assert all(known[:, columns].all() for columns in reachable)
