"""Rings, fills, drops: against geometry and classifiers that look at a known spot."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from raydistill.stages.analyse.science.occlusion import ANNULI, Annulus, completeness_drops, occlude
from raydistill.stages.distill.figures import class_means
from raydistill.statistics.resampling import bootstrap_mean, mean_change, share_changed
from tests.zoo import normal

SIDE = 32
BAR = next(annulus for annulus in ANNULI if annulus.name == "bar")


def pictures(count: int, seed: int = 0) -> Tensor:
    return normal(seed, count, SIDE, SIDE, 3, dtype=torch.float32) * 0.1 + 0.5


def test_rings_share_out_the_frame() -> None:
    masks = torch.stack([annulus.mask(SIDE, SIDE) for annulus in ANNULI])
    assert (masks.sum(dim=0) == 1).all()


@pytest.mark.parametrize("annulus", ANNULI[:3], ids=lambda value: value.name)
def test_area_of_a_ring_is_that_of_the_annulus(annulus: Annulus) -> None:
    share = annulus.mask(512, 512).double().mean().item()
    assert share == pytest.approx(math.pi / 4 * (annulus.outer**2 - annulus.inner**2), rel=0.01)


def test_rings_follow_the_shorter_side() -> None:
    mask = Annulus("disk", 0.0, 1.0).mask(20, 40)
    assert not mask[:, :10].any()
    assert mask[:, 10:30].double().mean().item() == pytest.approx(math.pi / 4, rel=0.05)


def test_ring_mean_keeps_the_light_and_hides_the_structure() -> None:
    mask = BAR.mask(SIDE, SIDE)
    before = pictures(5)
    after = occlude(before, mask)
    torch.testing.assert_close(after.sum(dim=(1, 2)), before.sum(dim=(1, 2)))
    assert after[:, mask].std(dim=1).max() < 1e-6
    assert torch.equal(after[:, ~mask], before[:, ~mask])


def ring_brightness(annulus: Annulus) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures, labels and class means.

    In the ring, class 1 has horizontal contrast and class 0 vertical contrast.
    """
    labels = torch.arange(200) % 2
    x = torch.linspace(-1, 1, SIDE)[None, :].expand(SIDE, SIDE)
    pattern = torch.stack([x.T.abs(), x.abs()]) * annulus.mask(SIDE, SIDE)
    real = pictures(200) + pattern[labels][..., None]
    return real, labels, torch.from_numpy(class_means(real.numpy(), labels.numpy(), 2))


def contrast_classifier(pictures_NHWC: Tensor) -> Tensor:
    """Return probabilities that depend on the contrast in the bar ring alone."""
    x = torch.linspace(-1, 1, SIDE)[None, :].expand(SIDE, SIDE)
    template = (x.abs() - x.T.abs()) * BAR.mask(SIDE, SIDE)
    score = (pictures_NHWC.mean(dim=3) * template).sum(dim=(1, 2))
    return torch.stack([-score, score], dim=1).softmax(dim=1)


def test_only_the_ring_that_the_classifier_sees_matters() -> None:
    real, labels, means = ring_brightness(BAR)
    drops = completeness_drops(contrast_classifier, real, labels, means, seed=0)
    assert len(drops) == len(ANNULI) * 2 * 3  # rings, fills, two classes and their mean
    for drop in drops:
        interval, n = drop.change.interval, drop.change.n
        assert n == (200 if drop.label is None else 100)
        if drop.annulus != "bar":
            assert interval == (0, 0, 0)
        elif drop.fill == "class mean":
            assert interval.value <= 0  # the typical contrast is still there
    balanced = next(d for d in drops if d.annulus == "bar" and d.fill == "ring mean" and d.label is None)
    assert balanced.before > 0.95
    assert balanced.change.interval.low > 0.3  # a constant ring has no contrast, so one class takes all


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
