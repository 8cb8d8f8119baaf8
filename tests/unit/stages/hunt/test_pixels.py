"""Networks on pixels: they find a bright spot, and depend on the seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from raydistill.learning.architectures import ConvNet
from raydistill.learning.normalise import Normalisation
from raydistill.learning.options import FixMatch
from raydistill.stages.hunt.config import FixMatchLearner, HuntTraining, NetworkLearner
from raydistill.stages.hunt.learn.learning import fit_learner, for_aligned, uses_pixels
from raydistill.stages.hunt.learn.regression import Group, Regression, collect
from raydistill.statistics.standardise import Standardiser

SMALL = ConvNet(depth=2, width=8)
LEARNERS = [
    NetworkLearner(network=SMALL, training=HuntTraining(steps=60, batch_size=16, lr=0.05, average=10.0)),
    FixMatchLearner(network=SMALL, training=FixMatch(steps=60, batch_size=8, unlabelled=2, lr=0.05, average=10.0)),
]
UNIT = Standardiser(np.zeros(1), np.ones(1))
NORMAL = Normalisation((0.2, 0.2, 0.2), (0.2, 0.2, 0.2))


def pictures(count: int, wanted: bool, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (count, 16, 16, 3))
    if wanted:
        pixels[:, 6:10, 6:10, 0] += 150
    return pixels.astype(np.uint8)


@pytest.mark.parametrize("learner", LEARNERS, ids=["network", "fixmatch"])
def test_network_finds_what_the_examples_show(learner):
    examples = collect(
        [
            Group(np.concatenate([pictures(5, True, 0), pictures(5, False, 1)]), np.arange(10) < 5),
            Group(pictures(60, False, 2), np.zeros(60, bool)),
        ]
    )
    pool = np.concatenate([pictures(20, True, 3), pictures(80, False, 4)])
    fits = [fit_learner(examples, learner, UNIT, NORMAL, pool, seed) for seed in (0, 0, 1)]
    scores = [fit.score(pool) for fit in fits]
    assert np.mean(scores[0][:20, None] > scores[0][20:]) > 0.95
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    assert uses_pixels(learner)
    assert not uses_pixels(Regression())


def test_aligned_galaxies_are_mirrored_and_not_rotated():
    network, fixmatch = for_aligned(NetworkLearner()), for_aligned(FixMatchLearner())
    used = [network.training.augmentation, fixmatch.training.weak, fixmatch.training.strong]
    assert all("mirror" in use.operations and "dihedral" not in use.operations for use in used)
    assert fixmatch.training.strong.operations[1:] == FixMatch().strong.operations[1:]


def test_examples_of_one_kind_teach_nothing():
    examples = collect([Group(pictures(3, True, 0), np.ones(3, bool))])
    assert fit_learner(examples, LEARNERS[0], UNIT, NORMAL, pictures(1, True, 0), 0) is None
