"""Test the features of a network that was trained on synthetic galaxies."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.learning.architectures import ConvNet
from raydistill.learning.normalise import Normalisation
from raydistill.stages.hunt.config import FixMatchLearner, Hunt, HuntTraining, NetworkLearner, SyntheticSource
from raydistill.stages.hunt.learn.learning import fit_source_network
from raydistill.stages.hunt.learn.regression import Group, collect, fit_regression
from raydistill.statistics.standardise import Standardiser
from tests.unit.stages.hunt.test_pixels import pictures

LEARNER = NetworkLearner(
    network=ConvNet(depth=2, width=8), training=HuntTraining(steps=80, batch_size=16, lr=0.05, average=10.0)
)
NORMAL = Normalisation((0.2, 0.2, 0.2), (0.2, 0.2, 0.2))


def noise(count: int, seed: int) -> np.ndarray:
    """Return features of `predict` that say nothing about the pictures."""
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float16)


@pytest.fixture(scope="module")
def synthetic() -> Group:
    pixels = np.concatenate([pictures(40, True, 0), pictures(40, False, 1)])
    return Group(pixels, np.arange(80) < 40)


def test_features_of_sources_help_a_regression_with_few_labels(synthetic):
    network = fit_source_network([synthetic], pictures(60, False, 2), LEARNER, NORMAL, seed=0)
    pixels = np.concatenate([pictures(50, True, 3), pictures(50, False, 4)])
    wanted, plain = np.arange(100) < 50, noise(100, 5)
    result = {}
    for name, features in {"predict": plain, "joined": network.join(plain, pixels)}.items():
        labelled = [*range(3), *range(50, 53)]
        scale = Standardiser.of([features])
        scorer = fit_regression(collect([Group(features[labelled], wanted[labelled])]), scale, strength=1.0)
        scores = scorer.score(features)
        result[name] = np.mean(scores[:50, None] > scores[50:])
    assert result["joined"] > 0.95 > 0.8 > result["predict"]


def test_joined_features_begin_with_those_of_predict(synthetic):
    pixels, plain = pictures(5, True, 6), noise(5, 7)
    joined = [
        fit_source_network([synthetic], pictures(60, False, 2), LEARNER, NORMAL, seed).join(plain, pixels)
        for seed in (0, 0, 1)
    ]
    assert joined[0].dtype == np.float16
    np.testing.assert_array_equal(joined[0][:, :6], plain)
    np.testing.assert_array_equal(joined[0], joined[1])
    assert not np.array_equal(joined[0], joined[2])


def test_background_of_the_survey_is_not_taken_for_targets():
    """Pictures of a kind that no synthetic galaxy shows, similar to the wanted one."""

    def similar(count: int, seed: int) -> np.ndarray:
        pixels = pictures(count, True, seed)
        pixels[:, 0:4, 0:4, 0] += 80
        return pixels

    synthetic = Group(np.concatenate([pictures(40, True, 0), pictures(40, False, 1)]), np.arange(80) < 40)
    with_it = fit_source_network([synthetic], similar(60, 2), LEARNER, NORMAL, seed=0)
    without = fit_source_network([synthetic], similar(0, 2), LEARNER, NORMAL, seed=0)
    shares = [np.mean(network.scorer.score(similar(50, 8)) > 0.5) for network in (with_it, without)]
    assert shares[0] < 0.1 < 0.5 < shares[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "source_network needs a source of synthetic galaxies"),
        (
            {"learner": FixMatchLearner(), "synthetic": {"a": SyntheticSource("one", "two")}},
            "source_network gives features to the learner 'regression'",
        ),
    ],
)
def test_a_network_without_a_use_is_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        Hunt(source_network=LEARNER, **options)
