"""Augment images differentiably; the random numbers are data.

`sample` draws every parameter of a batch into plain tensors; `apply` is then a pure, differentiable
function of the images. An augmented student step is therefore exactly repeatable. The adjoint
engine runs each step twice and needs the same augmentation, and so does a resumed run.

The operations are those of DSA (Zhao & Bilen 2021, arXiv:2102.08259) with its ranges: colour
(brightness, saturation, contrast), crop (shift by up to an eighth), cutout (half the side), flip,
scale (up to 1.2), rotate. For the sky there are also rotations by any angle; `dihedral`, the eight
exact symmetries of the square; and `mirror`, the four of them that keep a horizontal axis
horizontal. The last two do not interpolate. DSA resamples once per operation; here all geometry is
one affine map and one bilinear resampling.

`orbit` returns all symmetric versions of an image instead of one at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.core.checks import at_least, between_0_and_1, not_negative

Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate", "dihedral", "mirror"]
AugmentationParameters = dict[str, Tensor]
Symmetries = Literal["none", "mirror", "dihedral"]

DSA: tuple[Operation, ...] = ("color", "crop", "cutout", "flip", "scale", "rotate")
# The elements of each group, in the numbering of `_dihedral`.
GROUPS: dict[Symmetries, tuple[int, ...]] = {"none": (0,), "mirror": (0, 2, 4, 6), "dihedral": tuple(range(8))}


@dataclass(frozen=True)
class Augmentation:
    """Differentiable augmentation: operations and their ranges.

    Parameters
    ----------
    operations
        Names of operations; empty: none. `flip`, `dihedral` and `mirror` can reverse the handedness
        of a spiral: leave them out if the winding sense is a label.
    mode
        "all": every operation on every batch; "single": one random operation per batch (the default
        of other codes).
    shared
        True: the same parameters for the whole batch (DSA's "siamese"); False: parameters per
        image.
    max_rotation
        Largest rotation in degrees, in both directions. 15 is DSA's; 180 has no preferred
        orientation.
    max_scale
        "scale": each side is scaled by its own factor, from 1 / `max_scale` to `max_scale`.
    crop_fraction
        "crop": largest shift in both directions, as a fraction of the side.
    cutout_fraction
        "cutout": side of the erased square, as a fraction of the side.
    brightness
        "color": the added brightness is at most half of this, up or down.
    saturation
        "color": largest factor of the saturation; the smallest is 0.
    contrast
        "color": smallest factor of the contrast; the largest is 1 more.
    padding
        Pixels beyond the edge of a shifted, shrunk or rotated image. "zeros": the mean colour of
        the normalised data set (DSA); "border": the outermost pixel; "reflection". The sky is
        darker than the mean, so "zeros" gives a galaxy bright corners.
    """

    operations: tuple[Operation, ...] = ()
    mode: Literal["all", "single"] = "all"
    shared: bool = False
    max_rotation: float = 15.0
    max_scale: float = 1.2
    crop_fraction: float = 0.125
    cutout_fraction: float = 0.5
    brightness: float = 1.0
    saturation: float = 2.0
    contrast: float = 0.5
    padding: Literal["zeros", "border", "reflection"] = "zeros"

    def __post_init__(self) -> None:
        at_least(1, max_scale=self.max_scale)
        between_0_and_1(crop_fraction=self.crop_fraction, cutout_fraction=self.cutout_fraction)
        not_negative(self, "max_rotation", "brightness", "saturation", "contrast")
        if len(set(self.operations)) < len(self.operations):
            raise ValueError(f"operations must each be named once, got {list(self.operations)}")
        if {"mirror", "dihedral"} <= set(self.operations):
            raise ValueError(
                f"operations must not name mirror beside dihedral, which holds it, got {list(self.operations)}"
            )

    @property
    def largest_tilt(self) -> float:
        """Return the largest tilt of a horizontal axis in degrees, from 0 to 90."""
        rotation = min(self.max_rotation, 90.0) if "rotate" in self.operations else 0.0
        return 90.0 if "dihedral" in self.operations else rotation

    def sample(self, generator: torch.Generator, batch: int) -> AugmentationParameters:
        """Return a batch's parameters: tensors [batch, ...], or {} without operations."""
        if not self.operations:
            return {}
        chosen = self._choose(generator)
        draws = 1 if self.shared else batch

        def uniform(*shape: int) -> Tensor:
            return torch.rand(draws, *shape, generator=generator).expand(batch, *shape)

        # All numbers are always drawn, so switching one operation off does not change the others.
        angle, scale, shift, flip = uniform() * 2 - 1, uniform(2), uniform(2) * 2 - 1, uniform()
        eighth, hole, tone = (uniform() * 8).long(), uniform(2), uniform(3)
        out: AugmentationParameters = {}
        if chosen & {"crop", "flip", "scale", "rotate"}:
            out["affine"] = _affine(
                angle * math.radians(self.max_rotation) if "rotate" in chosen else torch.zeros(batch),
                self.max_scale ** (2 * scale - 1) if "scale" in chosen else torch.ones(batch, 2),
                shift * 2 * self.crop_fraction if "crop" in chosen else torch.zeros(batch, 2),
                torch.where(flip < 0.5, -1.0, 1.0) if "flip" in chosen else torch.ones(batch),
            )
        if "dihedral" in chosen:
            out["dihedral"] = eighth
        elif "mirror" in chosen:
            out["dihedral"] = eighth // 2 * 2  # no or two quarter turns, then a mirror or none
        if "cutout" in chosen:
            out["hole"] = hole
        if "color" in chosen:
            low = torch.tensor([-0.5 * self.brightness, 0.0, self.contrast])
            span = torch.tensor([self.brightness, self.saturation, 1.0])
            out["tone"] = low + span * tone  # added brightness; factor of saturation; factor of contrast
        return out

    def _choose(self, generator: torch.Generator) -> set[Operation]:
        index = int(torch.randint(len(self.operations), (1,), generator=generator))
        return {self.operations[index]} if self.mode == "single" else set(self.operations)

    def apply(self, images_BCHW: Tensor, parameters: AugmentationParameters) -> Tensor:
        """Return augmented images of the same shape and dtype; the map is affine in them."""
        if "tone" in parameters:
            images_BCHW = _color(images_BCHW, parameters["tone"])
        if "dihedral" in parameters:
            images_BCHW = _dihedral(images_BCHW, parameters["dihedral"])
        if "affine" in parameters:
            images_BCHW = _resample(images_BCHW, parameters["affine"], self.padding)
        if "hole" in parameters:
            images_BCHW = _cutout(images_BCHW, parameters["hole"], self.cutout_fraction)
        return images_BCHW


def orbit(images_BCHW: Tensor, symmetries: Symmetries) -> Tensor:
    """Return every image under each symmetry of a group, without interpolation.

    Parameters
    ----------
    images_BCHW
        Square images.
    symmetries
        "none": the images themselves; "mirror": no or two quarter turns, with and without a mirror;
        "dihedral": all eight symmetries of the square.

    Returns
    -------
    Tensor
        [B G, C, H, W] for a group of G symmetries; the versions of one image follow one another.
    """
    group = torch.tensor(GROUPS[symmetries])
    if len(group) == 1:
        return images_BCHW
    return _dihedral(images_BCHW.repeat_interleave(len(group), dim=0), group.repeat(len(images_BCHW)))


def _affine(angle_B: Tensor, scale_B2: Tensor, shift_B2: Tensor, flip_B: Tensor) -> Tensor:
    """Return maps [B, 2, 3] from output to input in [-1, 1], as in `affine_grid`."""
    cos, sin = torch.cos(angle_B), torch.sin(angle_B)
    row_x = torch.stack([flip_B * scale_B2[:, 0] * cos, -flip_B * scale_B2[:, 0] * sin, shift_B2[:, 0]], dim=1)
    row_y = torch.stack([scale_B2[:, 1] * sin, scale_B2[:, 1] * cos, shift_B2[:, 1]], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def _resample(images_BCHW: Tensor, affine_B23: Tensor, padding: str) -> Tensor:
    grid = F.affine_grid(affine_B23.to(images_BCHW), list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _dihedral(images_BCHW: Tensor, eighth_B: Tensor) -> Tensor:
    """Apply symmetry r + 4 m: r quarter turns, then a mirror if m; no interpolation."""
    side = images_BCHW.shape[-1]
    if images_BCHW.shape[-2] != side:
        raise ValueError(f"dihedral augmentation needs square images, got {tuple(images_BCHW.shape[-2:])}")
    index_8N = _dihedral_index(side, images_BCHW.device)
    source = index_8N[eighth_B.to(images_BCHW.device)][:, None, :].expand(-1, images_BCHW.shape[1], -1)
    return images_BCHW.flatten(2).gather(2, source).view_as(images_BCHW)


def _dihedral_index(side: int, device: torch.device) -> Tensor:
    pixels = torch.arange(side * side, device=device).view(side, side)
    turns = [torch.rot90(pixels, r, (0, 1)) for r in range(4)]
    return torch.stack([t.reshape(-1) for t in turns] + [t.flip(1).reshape(-1) for t in turns])


def _cutout(images_BCHW: Tensor, centre_B2: Tensor, fraction: float) -> Tensor:
    height, width = images_BCHW.shape[-2:]
    centre = centre_B2.to(images_BCHW.device)
    rows = torch.arange(height, device=images_BCHW.device)[None, :, None]
    columns = torch.arange(width, device=images_BCHW.device)[None, None, :]
    inside_rows = (rows - (centre[:, 0] * height)[:, None, None]).abs() < fraction * height / 2
    inside_columns = (columns - (centre[:, 1] * width)[:, None, None]).abs() < fraction * width / 2
    return images_BCHW * (~(inside_rows & inside_columns))[:, None].to(images_BCHW.dtype)


def _color(images_BCHW: Tensor, tone_B3: Tensor) -> Tensor:
    """Add brightness, scale distances from grey, then from the mean, in DSA's order."""
    brightness, saturation, contrast = (t[:, None, None, None] for t in tone_B3.to(images_BCHW).unbind(1))
    images = images_BCHW + brightness
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * saturation + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean
