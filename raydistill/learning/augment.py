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

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raydistill.learning.checks import at_least, between_0_and_1, not_negative

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from raydistill.learning.augmenting import AugmentationParameters

Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate", "dihedral", "mirror"]
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

    @property
    def symmetries(self) -> Symmetries:
        """Return the group of symmetries from which the operations draw."""
        groups: tuple[Symmetries, ...] = ("dihedral", "mirror")
        return next((name for name in groups if name in self.operations), "none")

    def sample(self, generator: torch.Generator, batch: int) -> AugmentationParameters:
        """Return a batch's parameters: tensors [batch, ...], or {} without operations."""
        from raydistill.learning.augmenting import draw

        return draw(self, generator, batch)

    def apply(self, images_BCHW: Tensor, parameters: AugmentationParameters) -> Tensor:
        """Return augmented images of the same shape and dtype; the map is affine in them."""
        from raydistill.learning.augmenting import augment

        return augment(images_BCHW, parameters, self)
