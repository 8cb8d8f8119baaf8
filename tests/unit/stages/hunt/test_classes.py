"""Several classes: the head, whom it asks for, and the accuracy on labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from raydistill.errors import CatalogError
from raydistill.stages.hunt.config import Hunt
from raydistill.stages.hunt.inputs.labels import read_labels
from raydistill.stages.hunt.learn.classes import ClassHead, ClassShortlists, accuracy_on_labels
from raydistill.stages.hunt.learn.ranking import FOR_CLASSES, Quotas, Reason
from raydistill.statistics.standardise import Standardiser

K = 3


def galaxies(seed: int, per_class: tuple[int, ...] = (40, 40, 40)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(range(len(per_class)), per_class)
    return rng.normal(size=(len(labels), 5)) + 3 * np.eye(len(per_class), 5)[labels], labels


def head_of(features: np.ndarray, labels: np.ndarray) -> ClassHead:
    return ClassHead.fit(features, labels, K, Standardiser.of([features]), 10.0)


def test_head_is_the_regression_of_sklearn_with_equal_classes() -> None:
    features, labels = galaxies(0, (50, 10, 20))
    weights = (1 / np.bincount(labels))[labels] / K
    standard = Standardiser.of([features]).apply(features)
    expected = LogisticRegression(C=10.0, max_iter=2000).fit(standard, labels, sample_weight=weights)
    probabilities = head_of(features, labels).probabilities(features)
    np.testing.assert_allclose(probabilities, expected.predict_proba(standard), atol=1e-4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(head_of(features, labels).probabilities(features[7:9]), probabilities[7:9])


def test_two_known_classes_give_the_third_no_probability() -> None:
    features, labels = galaxies(1)
    known = labels != 1
    probabilities = head_of(features[known], labels[known]).probabilities(features)
    assert (probabilities[:, 1] == 0).all()
    standard = Standardiser.of([features[known]])
    weights = np.full(known.sum(), 1 / known.sum())
    model = LogisticRegression(C=10.0, max_iter=2000).fit(
        standard.apply(features[known]), labels[known], sample_weight=weights
    )
    np.testing.assert_allclose(probabilities[:, [0, 2]], model.predict_proba(standard.apply(features)), atol=1e-4)


def test_uncertain_objects_of_every_class_are_asked_for() -> None:
    rng = np.random.default_rng(2)
    probabilities = np.concatenate([rng.dirichlet([20, 1, 1], 200), rng.dirichlet([1, 20, 1], 20), [[0.51, 0.49, 0]]])
    features, rows = rng.normal(size=(221, 4)), np.arange(221)
    lists = ClassShortlists(Quotas(0, 1, 0, 0), 9, 0, K)
    for part in np.array_split(rows, 5):
        lists.add(part, probabilities[part], features[part])
    chosen = lists.candidates()
    assert len({candidate.row for candidate in chosen}) == 9
    asked = [candidate for candidate in chosen if candidate.reason is Reason.UNCERTAIN]
    likely = [int(probabilities[candidate.row].argmax()) for candidate in asked]
    assert likely.count(0) == likely.count(1) == 3  # a tenth of the objects is of class 1
    assert chosen[0].row == 220
    assert chosen[0].score == pytest.approx(0.51)
    assert [candidate.reason for candidate in chosen if candidate not in asked] == [
        Reason.RANDOM
    ] * 3  # no object is of class 2


def test_choice_depends_neither_on_blocks_nor_on_their_order() -> None:
    features, labels = galaxies(3)
    probabilities = head_of(features[::4], labels[::4]).probabilities(features)

    def chosen(parts: list[np.ndarray]) -> list[int]:
        lists = ClassShortlists(FOR_CLASSES, 12, 5, K)
        for part in parts:
            lists.add(part, probabilities[part], features[part])
        return [candidate.row for candidate in lists.candidates()]

    rows = np.arange(len(labels))
    assert chosen([rows]) == chosen(np.array_split(rows, 7)[::-1])


def test_nothing_is_learned_from_no_label_and_the_round_explores() -> None:
    features, _ = galaxies(4)
    lists = ClassShortlists(FOR_CLASSES, 10, 0, 0)
    lists.add(np.arange(len(features)), None, features)
    reasons = [candidate.reason for candidate in lists.candidates()]
    assert reasons == [Reason.DIVERSE] * 5 + [Reason.RANDOM] * 5


def test_accuracy_on_held_out_labels_is_that_of_new_galaxies() -> None:
    features, labels = galaxies(5)
    standardiser = Standardiser.of([features])
    measured = accuracy_on_labels(features, labels, K, standardiser, 10.0, 0)
    others, true = galaxies(6, (500,) * 3)
    predicted = head_of(features, labels).probabilities(others).argmax(axis=1)
    assert measured == pytest.approx((predicted == true).mean(), abs=0.05)
    shuffled = np.random.default_rng(7).permutation(labels)
    assert accuracy_on_labels(features, shuffled, K, standardiser, 10.0, 0) < 0.5
    assert math.isnan(accuracy_on_labels(features[:42], labels[:42], K, standardiser, 10.0, 0))


def test_labels_are_names_of_classes() -> None:
    text = b"filename,label\na.jpg,spiral\nb.jpg,edge_on\na.jpg,spiral\n"
    assert read_labels(text, "l.csv", ("spiral", "edge_on")).by_filename(str) == {"a.jpg": "spiral", "b.jpg": "edge_on"}
    with pytest.raises(CatalogError, match="row 3 has the label 'edge_on', and the classes are spiral, round"):
        read_labels(text, "l.csv", ("spiral", "round"))


@pytest.mark.parametrize("values", [{"classes": ("a",)}, {"classes": ("a", "a")}, {"classes": tuple("abcdefghij")}])
def test_classes_are_two_to_nine(values: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="two to 9 different classes"):
        Hunt(**values)
