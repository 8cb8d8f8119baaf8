"""Define the spaces in which generators compute: pixels, components, latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.diffusion.options import Shape
from raydistill.diffusion.processes import SIGMA_DATA
from raydistill.learning.components import axes_above_rounding

# Choose diffusion states: normalised pixels or whitened principal components.
#
# A space maps images in [-1, 1] to states with mean 0 and standard deviation `SIGMA_DATA`, and noise
# in pixels to standard normal noise of the state. Buffers hold its statistics of the images, so
# `state_dict` covers it.
#
# Shapes: N images, C colours, H rows, W columns, P = C H W, K components.


class Pixels(nn.Module):
    """The map of `PixelSpace`."""

    mean: Tensor
    std: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape[0], 1, 1))
        self.register_buffer("std", torch.tensor(SIGMA_DATA))

    def fit(self, images_NCHW: Tensor) -> None:
        """Take the statistics of images; of images that are all equal, only the mean."""
        self.mean.copy_(images_NCHW.double().mean(dim=(0, 2, 3), keepdim=True)[0])
        std = (images_NCHW - self.mean).double().square().mean().sqrt()
        self.std.copy_(std if std > 0 else torch.tensor(SIGMA_DATA))

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Return the states of images."""
        return (images_BCHW - self.mean) * (SIGMA_DATA / self.std)

    def encode_noise(self, noise_BCHW: Tensor) -> Tensor:
        """Return the noise of the states: the same."""
        return noise_BCHW

    def decode(self, states_BCHW: Tensor) -> Tensor:
        """Return the images of states."""
        return states_BCHW * (self.std / SIGMA_DATA) + self.mean

    def clip(self, states_BCHW: Tensor) -> Tensor:
        """Return the states of the images clipped to [-1, 1]."""
        return self.encode(self.decode(states_BCHW).clamp(-1, 1))


class Components(nn.Module):
    """The map of `ComponentSpace`."""

    mean: Tensor
    axes: Tensor
    std: Tensor

    def __init__(self, shape: Shape, components: int) -> None:
        super().__init__()
        self.image_shape, self.shape = shape, (components,)
        size = shape[0] * shape[1] * shape[2]
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.zeros(components, size))
        self.register_buffer("std", torch.ones(components))

    def fit(self, images_NCHW: Tensor) -> None:
        """Find the principal components of images."""
        flat_NP = images_NCHW.flatten(1).double()
        mean_P = flat_NP.mean(dim=0)
        axes_KP, variances_K = axes_above_rounding(flat_NP - mean_P, self.shape[0])
        rank = len(axes_KP)
        self.mean.copy_(mean_P)
        self.axes.zero_()[:rank] = axes_KP.to(self.axes)
        self.std.fill_(1)[:rank] = variances_K.sqrt().to(self.std)

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Return the states [B, K] of images."""
        return (images_BCHW.flatten(1) - self.mean) @ self.axes.T * (SIGMA_DATA / self.std)

    def encode_noise(self, noise_BCHW: Tensor) -> Tensor:
        """Return the states' noise [B, K]: its components, also standard normal."""
        return noise_BCHW.flatten(1) @ self.axes.T

    def decode(self, states_BK: Tensor) -> Tensor:
        """Return the images of states."""
        flat_BP = states_BK * (self.std / SIGMA_DATA) @ self.axes + self.mean
        return flat_BP.unflatten(1, self.image_shape)

    def clip(self, states_BK: Tensor) -> Tensor:
        """Return the states: the pixels of partial images need not lie in [-1, 1]."""
        return states_BK


# Keep the pretrained parts of a generator out of its tensors.
#
# Checkpoints and artifacts hold what is trained. Frozen weights come from the user's own folder, so
# they are neither stored nor averaged.


def leave_out_frozen(module: nn.Module) -> None:
    """Keep only the trained parameters of a module in `state_dict`.

    This holds also for `state_dict` of modules that contain it. `load_state_dict` then keeps the
    other tensors. Parameters count as trained if they require gradients now.
    """
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    frozen = frozenset(module.state_dict().keys() - trained)

    # The closures hold names only, so a deep copy of the module has hooks of its own.
    def remove(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        for name in frozen:
            state.pop(prefix + name, None)

    def restore(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
        tensors = dict(module.named_parameters()) | dict(module.named_buffers())
        for name in frozen:
            state.setdefault(prefix + name, tensors[name])

    module.register_state_dict_post_hook(remove)
    module.register_load_state_dict_pre_hook(restore)


class Frozen(nn.Module):
    """A module that stays in the mode of evaluation, where dropout has no effect."""

    def train(self, mode: bool = True) -> Frozen:
        """Change nothing."""
        return super().train(False)


# Let diffusion run in the latents of Stable Diffusion's autoencoder.
#
# Shapes: B images, C = 3 colours, H rows, W columns, L channels of a latent, f = H / rows of a latent.

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
