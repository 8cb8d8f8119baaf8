"""Augmentation is a function of sampled parameters; flips alone reverse a spiral."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.learning.augment import DSA, Augmentation, Operation
from raydistill.seeding import generator
from tests import zoo

AUGMENTATIONS = pytest.mark.parametrize("augmentation", zoo.AUGMENTATIONS.values(), ids=zoo.AUGMENTATIONS)


def spiral(size: int = 33, turns: int = 1) -> Tensor:
    """Return a two-armed logarithmic spiral [1, 1, H, W]; `turns` = -1 mirrors it."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, size, dtype=torch.float64),) * 2, indexing="ij")
    radius, angle = torch.hypot(x, y), torch.atan2(y, x)
    wave = torch.cos(2 * (angle - turns * 2.5 * torch.log(radius + 0.05)))
    return ((1 + wave) * torch.exp(-3 * radius**2))[None, None]


def handedness(images_BCHW: Tensor) -> list[float]:
    """Return the m = 2 phase drift with log radius; its sign is the winding sense."""

    def drift(image_HW: Tensor) -> float:
        size = len(image_HW)
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, size, dtype=torch.float64),) * 2, indexing="ij")
        weight = image_HW.clamp_min(0).double()
        x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
        radius, angle = torch.hypot(x, y), torch.atan2(y, x)
        rings = [(0.2 + 0.08 * i, 0.28 + 0.08 * i) for i in range(6)]
        phases = []
        for low, high in rings:
            ring = (radius >= low) & (radius < high)
            component = (weight[ring] * torch.exp(2j * angle[ring])).sum()
            phases.append(float(component.angle()))
        return float(np.polyfit(np.log([low for low, _ in rings]), np.unwrap(phases), 1)[0])

    return [drift(image[0]) for image in images_BCHW]


@AUGMENTATIONS
def test_apply_is_deterministic_given_its_parameters(augmentation: Augmentation) -> None:
    images = zoo.normal(0, 4, 3, 8, 8)
    first, second, other = (augmentation.sample(generator(seed), 4) for seed in (1, 1, 2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(augmentation.apply(images, first), augmentation.apply(images, first))
    if augmentation.operations:
        assert not torch.equal(augmentation.apply(images, first), augmentation.apply(images, other))


@AUGMENTATIONS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_apply_keeps_shape_and_dtype(augmentation: Augmentation, dtype: torch.dtype) -> None:
    images = zoo.normal(0, 4, 3, 8, 8, dtype=dtype)
    out = augmentation.apply(images, augmentation.sample(generator(0), 4))
    assert (out.shape, out.dtype) == (images.shape, dtype)


@AUGMENTATIONS
def test_input_images_are_not_modified(augmentation: Augmentation) -> None:
    images = zoo.normal(0, 4, 3, 8, 8)
    copy = images.clone()
    augmentation.apply(images, augmentation.sample(generator(0), 4))
    assert torch.equal(images, copy)


def test_without_operations_apply_is_the_identity_and_draws_nothing() -> None:
    g = generator(0)
    before = g.get_state()
    assert Augmentation().sample(g, 5) == {}
    assert torch.equal(g.get_state(), before)
    images = zoo.normal(0, 2, 3, 8, 8)
    assert torch.equal(Augmentation().apply(images, {}), images)


@pytest.mark.parametrize("eighth", range(8))
def test_dihedral_is_numpy_s_rot90_then_a_mirror(eighth: int) -> None:
    image = torch.arange(2 * 3 * 5 * 5).double().view(2, 3, 5, 5)
    turned = np.rot90(image.numpy(), eighth % 4, axes=(2, 3))
    expected = turned[..., ::-1] if eighth >= 4 else turned
    out = Augmentation(("dihedral",)).apply(image, {"dihedral": torch.tensor([eighth] * 2)})
    np.testing.assert_array_equal(out.numpy(), expected)


def test_dihedral_draws_all_eight_symmetries_per_image() -> None:
    counts = Augmentation(("dihedral",)).sample(generator(0), 8000)["dihedral"].bincount(minlength=8)
    assert len(counts) == 8
    assert ((counts - 1000).abs() < 5 * 30).all()


def test_mirror_draws_the_four_symmetries_that_keep_a_horizontal_axis() -> None:
    counts = Augmentation(("mirror",)).sample(generator(0), 8000)["dihedral"].bincount(minlength=8)
    assert counts[1::2].sum() == 0
    assert ((counts[::2] - 2000).abs() < 5 * 40).all()
    level = torch.zeros(8, 1, 5, 5)
    level[:, :, 2, :] = 1
    augmentation = Augmentation(("mirror",))
    assert torch.equal(augmentation.apply(level, augmentation.sample(generator(0), 8)), level)


def test_dihedral_needs_square_images() -> None:
    augmentation = Augmentation(("dihedral",))
    with pytest.raises(ValueError, match=r"square images, got \(4, 6\)"):
        augmentation.apply(torch.zeros(1, 3, 4, 6), augmentation.sample(generator(0), 1))


@pytest.mark.parametrize("degrees", [0.0, 360.0])
def test_rotation_by_360_degrees_changes_nothing(degrees: float) -> None:
    from raydistill.learning.augmenting import _affine

    first, images = torch.ones(2, dtype=torch.float64), zoo.normal(0, 2, 3, 8, 8)
    affine = _affine(first * np.deg2rad(degrees), torch.ones(2, 2).double(), torch.zeros(2, 2).double(), first)
    out = Augmentation(("rotate",)).apply(images, {"affine": affine})
    torch.testing.assert_close(out, images, rtol=0, atol=1e-12)


def test_ranges_of_zero_width_change_nothing() -> None:
    still = Augmentation(("crop", "scale", "rotate"), max_rotation=0, max_scale=1, crop_fraction=0)
    images = zoo.normal(0, 3, 3, 8, 8)
    torch.testing.assert_close(still.apply(images, still.sample(generator(0), 3)), images, rtol=0, atol=1e-6)


def test_interpolated_quarter_turn_is_a_permutation_of_pixels() -> None:
    from raydistill.learning.augmenting import _affine

    first, images = torch.ones(1, dtype=torch.float64), zoo.normal(0, 1, 3, 8, 8)
    affine = _affine(first * np.pi / 2, torch.ones(1, 2).double(), torch.zeros(1, 2).double(), first)
    out = Augmentation(("rotate",)).apply(images, {"affine": affine})
    turns = [torch.rot90(images, r, (2, 3)) for r in (1, 3)]
    assert min(float((out - turn).abs().max()) for turn in turns) < 1e-12


def test_mirrored_spiral_has_the_opposite_handedness() -> None:
    (result,), (other,) = handedness(spiral()), handedness(spiral().flip(3))
    assert result * other < 0
    assert abs(result + other) < 0.1 * abs(result)


@pytest.mark.parametrize("operations", [("rotate",), ("scale",), ("crop",), ("rotate", "scale", "crop")])
def test_handedness_survives_rotation_scale_and_crop(operations: Any) -> None:
    augmentation = Augmentation(operations, max_rotation=180.0)
    images = spiral().expand(32, 1, -1, -1)
    (sense,) = handedness(spiral())
    seen = handedness(augmentation.apply(images, augmentation.sample(generator(0), 32)))
    assert all(value * sense > 0 for value in seen)


def test_flip_mirrors_half_of_the_images() -> None:
    augmentation = Augmentation(("flip",))
    images = spiral().expand(64, 1, -1, -1)
    (sense,) = handedness(spiral())
    reversed_ = sum(
        v * sense < 0 for v in handedness(augmentation.apply(images, augmentation.sample(generator(0), 64)))
    )
    assert 16 < reversed_ < 48
    out = augmentation.apply(images, augmentation.sample(generator(0), 64))
    for image in out:
        assert min(float((image - t).abs().max()) for t in (images[0], images[0].flip(2))) < 1e-5


@pytest.mark.parametrize("eighth", range(8))
def test_half_of_the_dihedral_group_mirrors(eighth: int) -> None:
    (sense,) = handedness(spiral())
    (seen,) = handedness(Augmentation(("dihedral",)).apply(spiral(), {"dihedral": torch.tensor([eighth])}))
    assert (seen * sense < 0) == (eighth >= 4)


@pytest.mark.parametrize("operations", [DSA, ("dihedral",), ("mirror",)])
def test_shared_parameters_are_equal_across_the_batch(operations: Any) -> None:
    shared = Augmentation(operations, shared=True).sample(generator(0), 6)
    separate = Augmentation(operations).sample(generator(0), 6)
    assert shared.keys() == separate.keys()
    for key in shared:
        assert len(shared[key]) == 6
        assert (shared[key] == shared[key][:1]).all()
        assert not (separate[key] == separate[key][:1]).all()


def test_single_mode_applies_one_operation_per_batch_and_eventually_all() -> None:
    augmentation = Augmentation(("color", "cutout", "dihedral"), mode="single")
    drawn = [set(augmentation.sample(generator(seed), 2)) for seed in range(60)]
    assert all(len(keys) == 1 for keys in drawn)
    assert set.union(*drawn) == {"tone", "hole", "dihedral"}


def test_switching_one_operation_off_does_not_change_the_others() -> None:
    every = Augmentation(("color", "rotate", "cutout", "dihedral")).sample(generator(0), 3)
    fewer = Augmentation(("color", "dihedral")).sample(generator(0), 3)
    assert set(fewer) == {"tone", "dihedral"}
    assert all(torch.equal(fewer[key], every[key]) for key in fewer)


@pytest.mark.parametrize("operation", [*DSA, "dihedral", "mirror"])
def test_apply_is_differentiable(operation: Any) -> None:
    augmentation = Augmentation((operation,))
    images = zoo.normal(0, 2, 3, 4, 4).requires_grad_()
    parameters = augmentation.sample(generator(1), 2)
    assert torch.autograd.gradcheck(lambda x: augmentation.apply(x, parameters), images)


def test_cutout_blanks_a_square_of_at_most_half_the_side() -> None:
    augmentation = Augmentation(("cutout",))
    blank = augmentation.apply(torch.ones(200, 1, 16, 16), augmentation.sample(generator(0), 200)) == 0
    rows, columns = blank[:, 0].any(dim=2).sum(dim=1), blank[:, 0].any(dim=1).sum(dim=1)
    assert torch.equal(blank.sum(dim=(1, 2, 3)), rows * columns)  # a rectangle, cut by the border where it hangs over
    assert int(rows.max()) == int(columns.max()) == 8
    assert int(rows.min()) >= 3


def test_padding_is_the_mean_colour_or_the_sky_of_the_image() -> None:
    sky = torch.full((2, 3, 16, 16), -0.8)
    draws = Augmentation(("rotate",), max_rotation=45).sample(generator(0), 2)
    turned = {
        padding: Augmentation(("rotate",), padding=padding).apply(sky, draws)
        for padding in ("zeros", "border", "reflection")
    }
    assert turned["zeros"].amax() > -0.4  # a corner with the mean colour
    torch.testing.assert_close(turned["border"], sky)
    torch.testing.assert_close(turned["reflection"], sky)


def test_crop_shifts_by_at_most_its_fraction() -> None:
    augmentation = Augmentation(("crop",))
    dot = torch.zeros(300, 1, 33, 33)
    dot[:, :, 16, 16] = 1
    out = augmentation.apply(dot, augmentation.sample(generator(0), 300))[:, 0]
    at = torch.arange(33.0)
    for moved in ((out * at).sum(dim=(1, 2)) / out.sum(dim=(1, 2)) - 16, (out * at[:, None]).sum(dim=(1, 2)) - 16):
        assert float(moved.abs().max()) <= 33 / 8 + 1e-3
        assert float(moved.abs().max()) > 0.9 * 33 / 8


def test_color_with_neutral_tone_is_the_identity() -> None:
    images = zoo.normal(0, 2, 3, 4, 4)
    neutral = {"tone": torch.tensor([[0.0, 1.0, 1.0]] * 2)}
    torch.testing.assert_close(Augmentation(("color",)).apply(images, neutral), images, rtol=0, atol=1e-14)


def test_color_parameters_lie_in_the_ranges_of_dsa() -> None:
    tone = Augmentation(("color",)).sample(generator(0), 5000)["tone"]
    assert (tone.min(dim=0).values - torch.tensor([-0.5, 0.0, 0.5])).abs().max() < 0.01
    assert (tone.max(dim=0).values - torch.tensor([0.5, 2.0, 1.5])).abs().max() < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_scale": 0.9}, "max_scale must be at least 1, got 0.9"),
        ({"max_scale": math.nan}, "max_scale must be at least 1, got nan"),
        ({"crop_fraction": 1.1}, r"crop_fraction must lie in \[0, 1\], got 1.1"),
        ({"cutout_fraction": -0.5}, r"cutout_fraction must lie in \[0, 1\], got -0.5"),
        ({"max_rotation": -15.0}, "max_rotation must not be negative, got -15.0"),
        ({"brightness": -1.0}, "brightness must not be negative, got -1.0"),
        ({"saturation": -1.0}, "saturation must not be negative, got -1.0"),
        ({"contrast": -1.0}, "contrast must not be negative, got -1.0"),
        (
            {"operations": ("crop", "flip", "crop")},
            r"operations must each be named once, got \['crop', 'flip', 'crop'\]",
        ),
        ({"operations": ("mirror", "dihedral")}, "operations must not name mirror beside dihedral, which holds it"),
    ],
)
def test_invalid_augmentations_are_rejected(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(Augmentation(), **change)


def test_all_other_pairs_of_operations_are_valid() -> None:
    for pair in itertools.combinations(get_args(Operation), 2):
        assert set(pair) == {"mirror", "dihedral"} or Augmentation(pair).operations == pair
    Augmentation(
        DSA, max_scale=1, crop_fraction=0, cutout_fraction=1, max_rotation=0, brightness=0, saturation=0, contrast=0
    )
