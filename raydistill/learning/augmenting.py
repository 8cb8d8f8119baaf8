"""Draw the parameters of augmentations, and apply them to images."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.learning.augment import GROUPS, Augmentation, Operation, Symmetries

AugmentationParameters = dict[str, Tensor]


def draw(augmentation: Augmentation, generator: torch.Generator, batch: int) -> AugmentationParameters:
    """Return a batch's parameters: tensors [batch, ...], or {} without operations."""
    if not augmentation.operations:
        return {}
    chosen = _choose(augmentation, generator)
    draws = 1 if augmentation.shared else batch

    def uniform(*shape: int) -> Tensor:
        return torch.rand(draws, *shape, generator=generator).expand(batch, *shape)

    # All numbers are always drawn, so switching one operation off does not change the others.
    angle, scale, shift, flip = uniform() * 2 - 1, uniform(2), uniform(2) * 2 - 1, uniform()
    eighth, hole, tone = (uniform() * 8).long(), uniform(2), uniform(3)
    out: AugmentationParameters = {}
    if chosen & {"crop", "flip", "scale", "rotate"}:
        out["affine"] = _affine(
            angle * math.radians(augmentation.max_rotation) if "rotate" in chosen else torch.zeros(batch),
            augmentation.max_scale ** (2 * scale - 1) if "scale" in chosen else torch.ones(batch, 2),
            shift * 2 * augmentation.crop_fraction if "crop" in chosen else torch.zeros(batch, 2),
            torch.where(flip < 0.5, -1.0, 1.0) if "flip" in chosen else torch.ones(batch),
        )
    if "dihedral" in chosen:
        out["dihedral"] = eighth
    elif "mirror" in chosen:
        out["dihedral"] = eighth // 2 * 2  # no or two quarter turns, then a mirror or none
    if "cutout" in chosen:
        out["hole"] = hole
    if "color" in chosen:
        low = torch.tensor([-0.5 * augmentation.brightness, 0.0, augmentation.contrast])
        span = torch.tensor([augmentation.brightness, augmentation.saturation, 1.0])
        out["tone"] = low + span * tone  # added brightness; factor of saturation; factor of contrast
    return out


def _choose(augmentation: Augmentation, generator: torch.Generator) -> set[Operation]:
    index = int(torch.randint(len(augmentation.operations), (1,), generator=generator))
    return {augmentation.operations[index]} if augmentation.mode == "single" else set(augmentation.operations)


def augment(images_BCHW: Tensor, parameters: AugmentationParameters, augmentation: Augmentation) -> Tensor:
    """Return augmented images of the same shape and dtype; the map is affine in them."""
    if "tone" in parameters:
        images_BCHW = _color(images_BCHW, parameters["tone"])
    if "dihedral" in parameters:
        images_BCHW = _dihedral(images_BCHW, parameters["dihedral"])
    if "affine" in parameters:
        images_BCHW = _resample(images_BCHW, parameters["affine"], augmentation.padding)
    if "hole" in parameters:
        images_BCHW = _cutout(images_BCHW, parameters["hole"], augmentation.cutout_fraction)
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


def labelled_orbit(images_BCHW: Tensor, targets_BK: Tensor, symmetries: Symmetries) -> tuple[Tensor, Tensor]:
    """Return `orbit`, and the targets of every version [B G, K]."""
    return orbit(images_BCHW, symmetries), targets_BK.repeat_interleave(len(GROUPS[symmetries]), dim=0)


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
