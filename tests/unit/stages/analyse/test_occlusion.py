"""Rings, fills, drops: against geometry and classifiers that look at a known spot."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from raydistill.stages.analyse.science.occlusion import (
    ANNULI,
    CIRCLE,
    NUM_CONTROLS,
    Classifier,
    completeness_losses,
    occlude,
    ring_masks,
    ring_means,
)
from raydistill.stages.distill.figures import class_means
from raydistill.statistics.resampling import bootstrap_mean, mean_change, share_changed
from raydistill.statistics.testing import holm
from tests.zoo import normal

SIDE = 32
INNER = ANNULI[1]


def pictures(count: int, seed: int = 0) -> Tensor:
    return normal(seed, count, SIDE, SIDE, 3, dtype=torch.float32) * 0.1 + 0.5


def test_rings_share_out_the_circle_in_equal_areas() -> None:
    masks = torch.stack([annulus.mask(512, 512) for annulus in ANNULI])
    assert torch.equal(masks.sum(dim=0), CIRCLE.mask(512, 512).long())
    shares = masks.double().mean(dim=(1, 2))
    torch.testing.assert_close(shares, torch.full_like(shares, math.pi / 4 / len(ANNULI)), rtol=0.01, atol=0)


def test_rings_follow_the_shorter_side() -> None:
    mask = CIRCLE.mask(20, 40)
    assert not mask[:, :10].any()
    assert mask[:, 10:30].double().mean().item() == pytest.approx(math.pi / 4, rel=0.05)


def test_controls_have_as_many_pixels_of_the_circle() -> None:
    for ring, controls in ring_masks(pictures(1), seed=0):
        assert (controls.sum(dim=(1, 2)) == ring.sum()).all()
        assert not controls[:, ~CIRCLE.mask(SIDE, SIDE)].any()
        assert len({control.numpy().tobytes() for control in controls}) == NUM_CONTROLS


def test_ring_mean_keeps_the_profile_and_hides_the_structure() -> None:
    before = pictures(5)
    filled = ring_means(before)
    for annulus in ANNULI:
        mask = annulus.mask(SIDE, SIDE)
        after = occlude(before, mask, filled)
        torch.testing.assert_close(after.sum(dim=(1, 2)), before.sum(dim=(1, 2)))
        assert after[:, mask].std(dim=1).max() < 1e-6
        assert torch.equal(after[:, ~mask], before[:, ~mask])


X = torch.linspace(-1, 1, SIDE)[None, :].expand(SIDE, SIDE)
CONTRAST = X.abs() - X.T.abs()  # horizontal minus vertical; its mean in a ring is about 0


def evidence(mask_HW: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Classifier]:
    """Return pictures, labels, class means, and a classifier that sees the mask alone.

    In the mask, class 1 has horizontal contrast and class 0 vertical contrast, as much in each pixel.
    """
    labels = torch.arange(count) % 2
    template = CONTRAST.sign() * mask_HW
    real = pictures(count) + 0.02 * (2 * labels - 1)[:, None, None, None] * template[..., None]

    def classify(pictures_NHWC: Tensor) -> Tensor:
        score = (pictures_NHWC.mean(dim=3) * template).sum(dim=(1, 2)) - 1e-3  # a tie is class 0
        return torch.stack([-score, score], dim=1).softmax(dim=1)

    return real, labels, torch.from_numpy(class_means(real.numpy(), labels.numpy(), 2)), classify


def test_only_the_ring_that_the_classifier_sees_matters() -> None:
    real, labels, means, classify = evidence(INNER.mask(SIDE, SIDE), 200)
    losses = completeness_losses(classify, real, labels, means, seed=0)
    assert len(losses) == len(ANNULI) * 2 * 3  # rings, fills, two classes and their mean
    for loss in losses:
        assert loss.excess.n == (200 if loss.label is None else 100)
        if loss.ring != INNER.name:
            assert loss.loss.interval == (0, 0, 0)
            assert loss.excess.interval.value < 0.01  # the controls hide some of the ring
        elif loss.fill == "class mean":
            assert loss.loss.interval.value <= 0  # the typical contrast is still there
    balanced = next(x for x in losses if x.ring == INNER.name and x.fill == "ring mean" and x.label is None)
    assert balanced.before > 0.9
    assert balanced.excess.interval.low > 0.2  # a constant ring has no contrast, so one class takes all


def test_even_evidence_gives_a_flat_curve() -> None:
    """With equal evidence everywhere, a ring costs as much as random patches."""
    real, labels, means, classify = evidence(CIRCLE.mask(SIDE, SIDE), 2000)
    noisy = real + normal(1, *real.shape, dtype=torch.float32) * 0.3
    losses = completeness_losses(classify, noisy, labels, means, seed=0)
    of_all = [loss for loss in losses if loss.label is None and loss.fill == "ring mean"]
    assert all(0.7 < loss.before < 0.999 for loss in of_all)
    assert max(abs(loss.excess.interval.value) for loss in of_all) < 0.01
    p_values = holm(np.array([x.excess.p_value for x in losses if x.label is not None and x.fill == "ring mean"]))
    assert p_values.min() > 0.05


def test_share_changed_is_mcnemars_test() -> None:
    before = np.repeat([True, True, False, False], [40, 12, 3, 45])
    after = np.repeat([True, False, True, False], [40, 12, 3, 45])
    change = share_changed(before, after, seed=0)
    assert change.interval.value == pytest.approx(0.09)
    assert change.p_value == pytest.approx(stats.binom.cdf(3, 15, 0.5) * 2)
    error = math.sqrt((15 / 100 - 0.09**2) / 100)  # of a mean of paired differences
    assert change.interval.low == pytest.approx(0.09 - 1.96 * error, abs=0.015)
    assert change.interval.high == pytest.approx(0.09 + 1.96 * error, abs=0.015)
    assert share_changed(before, before, seed=0).p_value == 1


def test_bootstrap_intervals_cover_the_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        interval = bootstrap_mean(rng.normal(3, 1, 60), seed)
        covered += interval.low <= 3 <= interval.high
    assert 178 <= covered <= 198  # 190 expected; the percentile interval is a little narrow


def test_changes_of_no_and_of_one_picture_have_no_interval() -> None:
    assert all(math.isnan(end) for end in bootstrap_mean(np.empty(0), 0))
    single = mean_change(np.array([1.0]), np.array([0.25]), 0)
    assert single.interval.value == 0.75
    assert math.isnan(single.interval.low)
    assert mean_change(np.ones(5), np.ones(5), 0).p_value == 1
