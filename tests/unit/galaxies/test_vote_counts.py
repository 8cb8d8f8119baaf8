"""Test the recovery of vote counts from fractions and totals.

Test which questions the classes need.
"""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.errors import ConfigError
from raydistill.galaxies.classes import GZ2_FIVE, GZ2_NINE, load_class_tree
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import GZ2, GZ_DECALS
from raydistill.galaxies.votes import ASSUMED_VOLUNTEERS, PathQuestions, vote_counts


def ask(tree: DecisionTree, volunteers: int, rng: np.random.Generator) -> np.ndarray:
    """Return the counts of volunteers who go through the tree with their own answers."""
    counts = np.zeros(len(tree.answers))
    for _ in range(volunteers):
        given: set[str] = set()
        for task in tree.tasks:
            if not task.asked_after or given.intersection(task.asked_after):
                answer = task.answers[rng.integers(len(task.answers))].column
                given.add(answer)
                counts[tree.index[answer]] += 1
    return counts


@pytest.mark.parametrize("tree", [GZ2, GZ_DECALS])
def test_counts_follow_from_fractions_of_three_decimals_and_the_total(tree: DecisionTree) -> None:
    rng = np.random.default_rng(0)
    counts = np.array([ask(tree, int(rng.integers(1, 70)), rng) for _ in range(50)])
    fractions = np.full_like(counts, np.nan)
    for task in tree.tasks:
        columns = tree.columns_of(task)
        votes = counts[:, columns].sum(axis=1, keepdims=True)
        fractions[:, columns] = np.where(votes > 0, np.round(counts[:, columns] / np.maximum(votes, 1), 3), np.nan)
    assert np.isnan(fractions).any(), "the test needs questions that no volunteer was asked"
    np.testing.assert_array_equal(vote_counts(fractions, counts.sum(axis=1), tree), counts)


def test_galaxy_without_a_total_counts_as_an_assumed_number_of_volunteers() -> None:
    fractions = np.full((2, 37), np.nan)
    fractions[:, :3], fractions[:, 3:5] = [0.25, 0.75, 0.0], [1.0, 0.0]
    counts = vote_counts(fractions, np.array([np.nan, 35.0]), GZ2)
    assert counts[:, :5].tolist() == [
        [0.25 * ASSUMED_VOLUNTEERS, 0.75 * ASSUMED_VOLUNTEERS, 0, 30, 0],
        [5, 15, 0, 15, 0],
    ]
    assert not counts[:, 5:].any()


def test_questions_of_classes_are_those_on_their_paths() -> None:
    five, nine = PathQuestions.of(GZ2_FIVE), PathQuestions.of(GZ2_NINE)
    assert nine.keys == ("smooth_or_features", "edgeon", "bar", "spiral", "rounded", "bulge_shape")
    assert nine.sizes == (3, 2, 2, 2, 3, 3)
    assert set(five.keys) <= set(nine.keys)
    for questions, tree in ((five, GZ2_FIVE), (nine, GZ2_NINE)):
        answers = [GZ2.answers[column] for column in questions.columns]
        paths = [tuple(tuple(answers[a] for a in step) for step in path) for path in questions.paths]
        assert paths == [galaxy_class.path for galaxy_class in tree.classes]


def test_classes_without_paths_are_rejected() -> None:
    with pytest.raises(ConfigError, match="has no path in the decision tree"):
        PathQuestions.of(load_class_tree(["cat", "dog"]))
