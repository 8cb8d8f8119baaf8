"""Define the architecture of a generator (`diffusion.model`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raydistill.diffusion.options.networks import Network, StableDiffusion, UNet
from raydistill.diffusion.options.spaces import LatentSpace, PixelSpace, Space
from raydistill.diffusion.processes import Process, RectifiedFlow, StableDiffusionProcess

if TYPE_CHECKING:
    from raydistill.diffusion.latents import Latents
    from raydistill.diffusion.spaces import Components, Pixels


COLOURS = 3


SPACE_OF = {"unet": "pixels", "mlp": "components", "stable-diffusion": "latents"}  # by kind of network


@dataclass(frozen=True)
class Model:
    """The architecture of a generator.

    Parameters
    ----------
    network
        "unet" with pixels, "mlp" with components, or "stable-diffusion" with latents.
    process
        How images turn into noise, and what the network predicts. "stable-diffusion" for a network
        of that kind, and only for it.
    space
        "pixels", "components" for a fast generator of blurred images, or "latents".
    """

    network: Network = UNet()
    process: Process = RectifiedFlow()
    space: Space = PixelSpace()

    def __post_init__(self) -> None:
        if self.space.kind != SPACE_OF[self.network.kind]:
            needed = ", ".join(f"a network {network} needs a space {space}" for network, space in SPACE_OF.items())
            raise ValueError(f"{needed}; got {self.network.kind} and {self.space.kind}")
        if isinstance(self.network, StableDiffusion) != isinstance(self.process, StableDiffusionProcess):
            what = "a network and a process of kind stable-diffusion need each other"
            raise ValueError(f"{what}, got {self.network.kind} and {self.process.kind}")

    def space_module(self, image_size: int) -> Pixels | Components | Latents:
        """Return the space for images of this size, before it has seen images."""
        shape = (COLOURS, image_size, image_size)
        if isinstance(self.network, StableDiffusion):
            return self.network.latents(shape)
        assert not isinstance(self.space, LatentSpace)
        return self.space.module(shape)


# Groups of a condition (`stages.curate.conditions`).
Group = Literal["votes", "class", "size", "colour", "embedding"]
