"""Define the networks of generators (`diffusion.networks`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from raydistill.learning.checks import at_least, at_least_0_below_1

if TYPE_CHECKING:
    from torch import nn

    from raydistill.diffusion.conditions import ConditionLayout
    from raydistill.diffusion.spaces import Latents
    from raydistill.diffusion.stable_diffusion import Pretrained


@dataclass(frozen=True)
class UNet:
    """A U-Net with residual blocks and attention (`diffusers.UNet2DModel`).

    Parameters
    ----------
    channels
        Channels at each level; every level has half the side of the one before.
    layers
        Residual blocks per level.
    patch
        Side of the squares of pixels that become channels in front of the network, by pixel
        unshuffling. 2 saves three quarters of the work.
    attention
        Levels with attention, counted from the lowest.
    block
        "resnet": attention follows each convolution. "attention_gate": a learned gate mixes
        attention with a parallel convolution, after GalCatDiff's block.
    dropout
        Probability that a channel's value is dropped in a residual block. Useful for fewer than
        some 50,000 images (Karras et al. 2022 use 0.13 for CIFAR-10).

    References
    ----------
    Ronneberger et al. 2015, arXiv:1505.04597; Dhariwal & Nichol 2021, arXiv:2105.05233.
    """

    kind: Literal["unet"] = "unet"
    channels: tuple[int, ...] = (32, 64, 128)
    layers: int = 1
    patch: int = 2
    attention: int = 1
    block: Literal["resnet", "attention_gate"] = "resnet"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("channels must name at least one level")
        at_least(4, **{f"channels[{level}]": width for level, width in enumerate(self.channels)})
        at_least(1, layers=self.layers, patch=self.patch)
        at_least(0, attention=self.attention)
        at_least_0_below_1(dropout=self.dropout)

    def embedding(self, layout: ConditionLayout) -> nn.Module:
        """Return the embedding of conditions, as the network adds it to that of the time."""
        from raydistill.diffusion.conditions import ConditionEmbedding

        return ConditionEmbedding(layout, 4 * self.channels[0])

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        """Return the network with random parameters.

        Parameters
        ----------
        shape
            Shape of a state: [C, H, W].

        Raises
        ------
        ValueError
            If the patches and levels do not divide the image.
        """
        from raydistill.diffusion.networks import PatchedUNet

        smallest = self.patch * 2 ** (len(self.channels) - 1)
        if shape[1] % smallest:
            what = f"patch {self.patch} and {len(self.channels)} levels need an image size that is a multiple of"
            raise ValueError(f"{what} {smallest}, got {shape[1]}")
        return PatchedUNet(self, shape)


@dataclass(frozen=True)
class Mlp:
    """A residual perceptron for images as principal components (`ComponentSpace`).

    Parameters
    ----------
    width
        Features of a block.
    blocks
        Residual blocks, each with two layers and its own scale and shift by time and condition.
    """

    kind: Literal["mlp"] = "mlp"
    width: int = 512
    blocks: int = 5

    def __post_init__(self) -> None:
        at_least(4, width=self.width)
        at_least(1, blocks=self.blocks)

    def embedding(self, layout: ConditionLayout) -> nn.Module:
        """Return the embedding of conditions, as the network adds it to that of the time."""
        from raydistill.diffusion.conditions import ConditionEmbedding

        return ConditionEmbedding(layout, self.width)

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        """Return the network with random parameters, for states of shape [K]."""
        from raydistill.diffusion.networks import Perceptron

        return Perceptron(shape[0], self.width, self.blocks)


@dataclass(frozen=True)
class StableDiffusion:
    """Stable Diffusion 1.5's U-Net from a local folder, conditioned on `captions`.

    It needs the extra `stable-diffusion`, a space of kind "latents" and a process of kind
    "stable-diffusion". Nothing is downloaded.

    Parameters
    ----------
    path
        The folder, in the layout of diffusers: unet, vae, text_encoder, tokenizer, scheduler.
    lora_rank
        Rank of the adapters of all attentions (LoRA, Hu et al. 2021, arXiv:2106.09685), which alone
        are trained. None: the whole U-Net is trained.
    checkpointing
        Compute activations again in the backward pass, for less memory and a third more time.
    weights_sha256
        Digest that the files of the folder must have (`raydistill.diffusion.stable_diffusion`). None:
        any; a generator's artifact records it.

    References
    ----------
    Rombach et al. 2022, arXiv:2112.10752.
    """

    kind: Literal["stable-diffusion"] = "stable-diffusion"
    path: str = ""
    lora_rank: int | None = 16
    checkpointing: bool = False
    weights_sha256: str | None = None

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must name the local folder of the Stable Diffusion weights")
        at_least(1, lora_rank=self.lora_rank)

    @property
    def pretrained(self) -> Pretrained:
        """The folder of the weights."""
        from raydistill.diffusion.stable_diffusion import Pretrained

        return Pretrained(self.path, self.weights_sha256)

    def with_digest(self) -> StableDiffusion:
        """Return the network with its files' digest. ArtifactMissing if one is missing."""
        return replace(self, weights_sha256=self.weights_sha256 or self.pretrained.digest())

    def module(self, shape: tuple[int, ...]) -> nn.Module:
        """Return the U-Net for latents, with the pretrained weights and fresh adapters.

        Raises
        ------
        ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
            As `Pretrained.check`.
        ConfigError
            A package of the extra `stable-diffusion` is not installed.
        """
        from raydistill.diffusion.stable_diffusion import CaptionedUNet

        return CaptionedUNet(self)

    def embedding(self, layout: ConditionLayout) -> nn.Module:
        """Return the embedding of conditions by their captions. Raises as `module`."""
        from raydistill.diffusion.stable_diffusion import CaptionEmbedding

        return CaptionEmbedding(layout, self.pretrained.tokenizer(), self.pretrained.text_encoder())

    def latents(self, shape: tuple[int, ...]) -> Latents:
        """Return the space for images of shape [C, H, W]. Raises as `module`."""
        from raydistill.diffusion.spaces import Latents

        return Latents(shape, self.pretrained.vae())


Network = UNet | Mlp | StableDiffusion
