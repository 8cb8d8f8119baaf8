"""Define the hyper-parameters of generators, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raydistill.diffusion.network_options import Network, StableDiffusion, UNet
from raydistill.diffusion.processes import Process, RectifiedFlow, StableDiffusionProcess
from raydistill.learning.augment import Augmentation
from raydistill.learning.checks import at_least, between_0_and_1, not_negative, positive
from raydistill.learning.options import ShardedTraining

if TYPE_CHECKING:
    from raydistill.diffusion.spaces import Components, Latents, Pixels


# Define the spaces in which generators compute (`diffusion.spaces`).

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


# Define the architecture of a generator (`diffusion.model`).

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


# Groups of a condition (`stages.curate.select.conditions`).
Group = Literal["votes", "class", "size", "colour", "embedding"]


# Define how images are sampled (`diffusion.sampling`).

Order = Literal[1, 2]


@dataclass(frozen=True)
class Sampling:
    """How images are sampled.

    Parameters
    ----------
    steps
        Calls of the network; with guidance each has twice the images.
    guidance
        Factor g of D = D_unconditional + g (D_conditional - D_unconditional), see Ho & Salimans
        2022, arXiv:2207.12598. 1: no guidance. Larger: closer to the condition, less diverse.
    order
        1: DDIM; 2: two-step Adams-Bashforth (`solver`).
    shift
        More than 1: more of the steps at high noise, where the brightness is decided (`solver`).
        Without a shift the brightness of samples varies too little, and guidance darkens them more.
    """

    steps: int = 20
    guidance: float = 2.0
    order: Order = 2
    shift: float = 3.0

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        not_negative(self, "guidance")
        positive(self, "shift")
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order}")


# Define the hyper-parameters of training a generator (`diffusion.training`).


@dataclass(frozen=True)
class GeneratorTraining(ShardedTraining):
    """AdamW on noisy images.

    Parameters
    ----------
    group_rate, all_rate
        Probabilities that one group of a condition, or all, are hidden (`drop_groups`).
    symmetries
        Random symmetries of the training images. "dihedral": flips and quarter turns; "mirror":
        those that keep the horizontal axis, for aligned galaxies; "none".
    """

    group_rate: float = 0.08
    all_rate: float = 0.1
    symmetries: Literal["dihedral", "mirror", "none"] = "dihedral"

    def __post_init__(self) -> None:
        super().__post_init__()
        between_0_and_1(group_rate=self.group_rate, all_rate=self.all_rate)

    @property
    def augmentation(self) -> Augmentation:
        """The symmetries as an augmentation."""
        return Augmentation(() if self.symmetries == "none" else (self.symmetries,))
