"""Let diffusion run in the latents of Stable Diffusion's autoencoder.

Shapes: B images, C = 3 colours, H rows, W columns, L channels of a latent, f = H / rows of a latent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.diffusion.frozen import Frozen, leave_out_frozen

IMAGES_AT_ONCE = 8  # of the autoencoder: at 424 px an image needs about 1 GB while it is decoded


class Latents(Frozen):
    """The map between images and latents.

    Parameters
    ----------
    shape
        Shape of an image: [C, H, W].
    vae
        A `diffusers.AutoencoderKL`. It is not trained.

    Raises
    ------
    ValueError
        If the latents do not divide the image.
    """

    def __init__(self, shape: tuple[int, ...], vae: Any) -> None:
        super().__init__()
        self.vae, self.factor = vae, 2 ** (len(vae.config.block_out_channels) - 1)
        if shape[1] % self.factor:
            raise ValueError(f"latents need an image size that is a multiple of {self.factor}, got {shape[1]}")
        self.shape = (int(vae.config.latent_channels), shape[1] // self.factor, shape[2] // self.factor)
        self.eval()
        leave_out_frozen(self)

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Return mean latents [B, L, H/f, W/f] of images in [-1, 1]; gradients stop here.

        Stable Diffusion draws from the posterior instead, whose width is far below that of the
        latents. Without the draw an image always has the same state.
        """
        latents = self._map(lambda part: self.vae.encode(part).latent_dist.mode(), images_BCHW)
        return latents * self.vae.config.scaling_factor

    def encode_noise(self, noise_BCHW: Tensor) -> Tensor:
        """Return standard normal noise [B, L, H/f, W/f].

        It takes L numbers of the noise in each square of f x f pixels.
        """
        return F.pixel_unshuffle(noise_BCHW, self.factor)[:, : self.shape[0]]

    def decode(self, states_BLHW: Tensor) -> Tensor:
        """Return the images [B, C, H, W] of latents."""
        return self._map(lambda part: self.vae.decode(part).sample, states_BLHW / self.vae.config.scaling_factor)

    def clip(self, states_BLHW: Tensor) -> Tensor:
        """Return the states: latents have no limits."""
        return states_BLHW

    @torch.no_grad()
    def _map(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Return the outputs in float32 for `IMAGES_AT_ONCE` inputs at a time."""
        with torch.autocast(inputs.device.type, enabled=False):
            return torch.cat([function(part.float()) for part in inputs.split(IMAGES_AT_ONCE)])
