"""Assemble a generator: a space, a process, a network and a condition embedding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raydistill.diffusion.conditions import ConditionLayout, Conditions
from raydistill.diffusion.options import Model
from raydistill.diffusion.processes import expand
from raydistill.diffusion.spaces import Latents
from raydistill.learning.sharded import Trainable
from raydistill.seeding import fold_in


class Generator(Trainable):
    """A network that estimates images from noisy states, given conditions.

    `build_generator` makes one. `state_dict` covers the trained parameters and the statistics of the
    space. It leaves out pretrained weights that are not trained.

    Attributes
    ----------
    model, layout, image_size
        What `build_generator` received.
    process
        The process of the model.
    space
        Maps images to states and back (`spaces`). States are images with a `PixelSpace`.
    """

    def __init__(self, model: Model, layout: ConditionLayout, image_size: int) -> None:
        super().__init__()
        self.model, self.layout, self.image_size = model, layout, image_size
        self.process = model.process
        self.space = model.space_module(image_size)
        self.network = model.network.module(self.space.shape)
        self.embedding = model.network.embedding(layout)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def denoise(self, x: Tensor, t_B: Tensor, conditions: Conditions) -> Tensor:
        """Return D(x_t, t): the expected state without noise.

        Parameters
        ----------
        x
            Noisy states [B, *space.shape]: [B, 3, H, W] with a `PixelSpace`.
        t_B
            Times in [0, 1].
        conditions
            The conditions of the B images, on the same device.

        Returns
        -------
        torch.Tensor
            As `x`.
        """
        p = self.process.precondition(t_B)
        predicted = self.network(expand(p.c_in, x) * x, self.process.label(t_B), self.embedding(conditions))
        return expand(p.skip, x) * x + expand(p.scale, x) * predicted.to(x.dtype)


def build_generator(
    model: Model,
    layout: ConditionLayout,
    image_size: int,
    seed: int = 0,
    images_NHWC: np.ndarray | Tensor | None = None,
) -> Generator:
    """Return an untrained generator.

    Parameters
    ----------
    model
        Its architecture.
    layout
        The groups of its conditions.
    image_size
        Side of the images, in pixels.
    seed
        Seed of the initial parameters. The state of torch's global generator does not change.
    images_NHWC
        uint8 [N, H, W, 3]. The space takes their statistics. None: `load_state_dict` follows.

    Returns
    -------
    Generator
        On the CPU, float32.

    Raises
    ------
    ValueError
        If the network does not fit the image size.
    ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt, ConfigError
        If pretrained weights cannot be used (`StableDiffusion.module`).
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(fold_in(seed, "generator"))
        generator = Generator(model, layout, image_size)
    if images_NHWC is not None and not isinstance(generator.space, Latents):
        generator.space.fit(to_tensors(images_NHWC))
    return generator


# Convert pixels to the numbers that a generator computes with, and back.
#
# Shapes: B images, C = 3 colours, H rows, W columns. Black is -1 and white is +1.


def to_tensors(images_NHWC: np.ndarray | Tensor) -> Tensor:
    """Return uint8 images [N, H, W, 3] as float32 [N, 3, H, W] in [-1, 1]."""
    return torch.as_tensor(images_NHWC).movedim(-1, 1).float() / 127.5 - 1


def to_pixels(images_BCHW: Tensor) -> np.ndarray:
    """Convert float [B, 3, H, W], clipped to [-1, 1], to rounded uint8 [B, H, W, 3].

    It is the inverse of `to_tensors`.
    """
    pixels = (images_BCHW.detach().float().clamp(-1, 1) + 1) * 127.5
    return np.ascontiguousarray(pixels.round().to(torch.uint8).movedim(1, -1).cpu().numpy())
