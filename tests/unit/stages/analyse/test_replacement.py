"""Deletion and insertion, against a classifier with curves in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.stages.analyse.science.counterfactuals import (
    area,
    bright_first,
    centre_first,
    first_to_last,
    occlusion_order,
    patch_means,
    random_order,
    replacement_curve,
)
from raydistill.stages.analyse.science.occlusion import patch_grid

SIDE, PATCHES = 8, patch_grid(8, 8, 2)
WEIGHTS = torch.linspace(1, 31, 16) ** 2
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # of the patches; they sum to 1
LABELS = torch.zeros(3, dtype=torch.long)


def classify(pictures_NHWC: Tensor) -> Tensor:
    """Return a probability linear in the patches: the sum of weight times brightness."""
    scores = patch_means(pictures_NHWC.mean(dim=3), PATCHES) @ WEIGHTS
    return torch.stack([scores, 1 - scores], dim=1)


def areas(order_NL: Tensor) -> tuple[np.ndarray, np.ndarray]:
    white, black = torch.ones(3, SIDE, SIDE, 3), torch.zeros(3, SIDE, SIDE, 3)
    deletion = replacement_curve(classify, white, black, LABELS, PATCHES, order_NL, 16)
    insertion = replacement_curve(classify, black, white, LABELS, PATCHES, order_NL, 16)
    return area(deletion), area(insertion)


def test_area_of_a_linear_classifier_is_the_weighted_rank() -> None:
    """A patch of rank r keeps its weight w for r + 1/2 of the 16 steps.

    The area is the sum of w (r + 1/2) / 16.
    """
    order = random_order(3, 16, seed=1)
    expected = (WEIGHTS * (order.argsort(dim=1) + 0.5) / 16).sum(dim=1).numpy()
    deletion, insertion = areas(order)
    assert deletion == pytest.approx(expected, abs=1e-6)
    assert insertion == pytest.approx(1 - expected, abs=1e-6)


def test_order_of_importance_has_the_extreme_areas() -> None:
    white, black = torch.ones(3, SIDE, SIDE, 3), torch.zeros(3, SIDE, SIDE, 3)
    order = occlusion_order(classify, white, black, LABELS, PATCHES)
    assert torch.equal(order[0], first_to_last(WEIGHTS[None])[0])
    deletion, insertion = areas(order)
    for seed in range(20):
        other_deletion, other_insertion = areas(random_order(3, 16, seed))
        assert (deletion < other_deletion).all()
        assert (insertion > other_insertion).all()


def test_curves_start_and_end_with_the_whole_pictures() -> None:
    start, end = torch.full((3, SIDE, SIDE, 3), 0.9), torch.full((3, SIDE, SIDE, 3), 0.2)
    curve = replacement_curve(classify, start, end, LABELS, PATCHES, random_order(3, 16, 0), 5)
    assert curve.shape == (3, 6)
    assert curve[:, 0] == pytest.approx(0.9, abs=1e-6)
    assert curve[:, -1] == pytest.approx(0.2, abs=1e-6)
    assert (np.diff(curve, axis=1) < 0).all()


def test_orders_name_every_patch_once() -> None:
    bright = torch.rand(3, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    bright[:, 6:, 6:] = 2.0
    orders = {
        "random": random_order(3, 16, 0),
        "centre": centre_first(3, PATCHES),
        "bright": bright_first(bright, PATCHES),
    }
    for order in orders.values():
        assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(3, -1))
    assert set(orders["centre"][0, :4].tolist()) == {5, 6, 9, 10}
    assert (orders["bright"][:, 0] == 15).all()
    assert not torch.equal(orders["random"][0], orders["random"][1])


def test_grid_covers_frames_that_patches_do_not_divide() -> None:
    grid = patch_grid(5, 7, 3)
    assert grid.unique().tolist() == list(range(6))
    assert grid[4, 6] == 5
    assert (grid == 0).sum() == 9
