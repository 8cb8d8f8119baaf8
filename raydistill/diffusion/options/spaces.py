"""Define the spaces in which generators compute (`diffusion.spaces`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raydistill.learning.checks import at_least

if TYPE_CHECKING:
    from raydistill.diffusion.spaces import Components, Pixels


Shape = tuple[int, ...]


@dataclass(frozen=True)
class PixelSpace:
    """States are pixels, normalised by colour means and one standard deviation."""

    kind: Literal["pixels"] = "pixels"

    def module(self, shape: Shape) -> Pixels:
        """Return the space for images [C, H, W] before `fit`: states are the images."""
        from raydistill.diffusion.spaces import Pixels

        return Pixels(shape)


@dataclass(frozen=True)
class ComponentSpace:
    """States are whitened principal components of images: small, fast, but blurred.

    Parameters
    ----------
    components
        Largest number K of components. Components beyond the rank of the images stay 0.
    """

    kind: Literal["components"] = "components"
    components: int = 256

    def __post_init__(self) -> None:
        at_least(1, components=self.components)

    def module(self, shape: Shape) -> Components:
        """Return the space for images of shape [C, H, W], before `fit`: all states are 0."""
        from raydistill.diffusion.spaces import Components

        return Components(shape, self.components)


@dataclass(frozen=True)
class LatentSpace:
    """States are `StableDiffusion` autoencoder latents scaled to about unit variance."""

    kind: Literal["latents"] = "latents"


Space = PixelSpace | ComponentSpace | LatentSpace
