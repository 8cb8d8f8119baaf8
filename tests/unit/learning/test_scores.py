"""The scores equal known answers and the lines of DD-Ranking.

Their interval has its nominal coverage.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from raydistill.learning.metrics import augmentation_robust, label_robust, unit

E = math.e


def test_known_answers() -> None:
    assert label_robust([0.5], [0.5], [0.5])["score"] == pytest.approx(1 / (E + 1), rel=1e-15)
    assert augmentation_robust([0.3], [0.3], [0.6], [0.6])["score"] == pytest.approx(1 / (E + 1), rel=1e-15)
    assert label_robust([0.0], [1.0], [0.0])["score"] == 1  # better than the survey by all, than random by all
    assert label_robust([1.0], [0.0], [1.0])["score"] == 0
    assert augmentation_robust([1.0], [0.0], [1.0], [0.0])["score"] == 1
    assert augmentation_robust([0.0], [1.0], [0.0], [1.0])["score"] == 0
    # as good as all the survey, where random images are at .4: alpha = .5 (.8 - .4)
    assert label_robust([0.8], [0.8], [0.4])["score"] == pytest.approx((math.exp(0.2) - 1 / E) / (E - 1 / E), rel=1e-15)


def test_terms_of_the_scores_are_returned() -> None:
    lrs = label_robust([0.8], [0.7], [0.5], syn_hard=[0.6])
    assert lrs["hard_label_recovery"] == pytest.approx(0.2)
    assert lrs["improvement_over_random"] == pytest.approx(0.2)
    assert lrs["score"] == pytest.approx(1 / (E + 1)), "the gain of soft labels and the loss with hard labels cancel"
    ars = augmentation_robust([0.7], [0.5], [0.4], [0.3])
    assert ars["improvement_augmented"] == pytest.approx(0.2)
    assert ars["improvement_plain"] == pytest.approx(0.1)
    assert ars["score"] == pytest.approx(unit(0.15))


@pytest.mark.parametrize("seed", range(5))
def test_one_round_equals_the_package(seed: int) -> None:
    """The expected scores repeat lines of the package, on fractions.

    The lines are from ddranking/metrics/soft_label.py and aug_robust.py of v0.2.0.
    """
    real, syn_hard, syn, random, syn_plain, random_plain = np.random.default_rng(seed).random(6)
    hlr, ior = 1.00 * (real - syn_hard), 1.00 * (syn - random)
    alpha = 0.5 * ior - (1 - 0.5) * hlr
    lrs = (np.exp(alpha) - np.exp(-1)) / (np.exp(1) - np.exp(-1))
    assert label_robust([real], [syn], [random], [syn_hard])["score"] == pytest.approx(lrs, rel=1e-14)
    beta = 0.5 * (syn - random) + (1 - 0.5) * (syn_plain - random_plain)
    ars = (np.exp(beta) - np.exp(-1)) / (np.exp(1) - np.exp(-1))
    assert augmentation_robust([syn], [random], [syn_plain], [random_plain])["score"] == pytest.approx(ars, rel=1e-14)


def test_interval_is_that_of_welch() -> None:
    """If only two groups vary, alpha is half a difference of two means.

    scipy gives the interval of this difference.
    """
    from scipy import stats

    syn, random = [0.61, 0.64, 0.60, 0.66, 0.63], [0.41, 0.50, 0.37]
    scores = label_robust([0.8, 0.8], syn, random, syn_hard=[0.6, 0.6])
    ends = stats.ttest_ind(syn, random, equal_var=False).confidence_interval(0.95)
    assert scores["low"] == pytest.approx(unit((ends.low - 0.2) / 2), rel=1e-12)
    assert scores["high"] == pytest.approx(unit((ends.high - 0.2) / 2), rel=1e-12)
    assert scores["low"] < scores["score"] < scores["high"]


def test_networks_on_hard_labels_count_once_in_each_term() -> None:
    """As two independent halves, their error would be smaller by the factor sqrt(2)."""
    syn, still = [0.60, 0.70], [0.5, 0.5]
    scores, apart = label_robust(still, syn, still), label_robust(still, syn, still, syn_hard=syn)
    assert scores["score"] == apart["score"]
    width, halves = (math.log(b * (E - 1 / E) + 1 / E) for b in (scores["high"], apart["high"]))
    assert width - 0.15 == pytest.approx(12.7062047 * 0.05, rel=1e-6)  # t of one degree of freedom, s / sqrt(2) = .05
    assert halves - 0.15 < width - 0.15


def test_interval_has_about_its_nominal_coverage() -> None:
    g = np.random.default_rng(0)
    truth = unit(0.5 * (0.65 - 0.45) - 0.5 * (0.8 - 0.6))
    scores = [
        label_robust(*(list(g.normal(mean, 0.02, n)) for mean, n in ((0.8, 3), (0.65, 5), (0.45, 5), (0.6, 5))))
        for _ in range(1500)
    ]
    covered = np.mean([score["low"] < truth < score["high"] for score in scores])
    assert 0.93 < covered < 0.98


def test_too_few_networks_give_none() -> None:
    single = label_robust([0.8], [0.6, 0.62], [0.4, 0.42])
    assert single["score"] is not None
    assert (single["low"], single["high"]) == (None, None)
    none = label_robust([], [0.6, 0.62], [0.4, 0.42])
    assert (none["score"], none["low"], none["hard_label_recovery"]) == (None, None, None)
    same = augmentation_robust([0.5, 0.5], [0.4, 0.4], [0.5, 0.5], [0.4, 0.4])
    assert same["low"] == same["score"] == same["high"]
