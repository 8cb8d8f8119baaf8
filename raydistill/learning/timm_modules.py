"""Build the networks of timm as pure functions of their parameters.

- Batch norm has running statistics, which are state. Group norm replaces it, or its statistics are
  folded into its scale and shift.
- Dropout and stochastic depth are switched off.
- Other buffers, such as the indices of relative positions, are constants.
- Attention is written out, because the fused kernels have no second derivative.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from raydistill.errors import ConfigError, nearest
from raydistill.imports import import_beside_torchvision, import_extra
from raydistill.learning.timm_networks import Timm

EXTRA = "run pip install 'raydistill[timm]'"
_ADVICE = "give the file of this network's parameters, or leave weights out"


def build(network: Timm, num_classes: int, image_size: int, channels: int) -> nn.Module:
    """Return the module of a network of timm."""
    module = _create(network, num_classes, image_size, channels)
    if network.weights is not None:
        _load(module, network.read(), network.weights, network.model)
    fold = (network.batch_norm or ("group" if network.weights is None else "fold")) == "fold"
    _replace_batch_norm(module, _fold if fold else _group_norm)
    _stop_random_numbers(module)
    module.constant_buffers = True  # type: ignore[assignment]  # no tensor, as torch types attributes
    return module


def _create(network: Timm, num_classes: int, image_size: int, channels: int) -> nn.Module:
    what = "the package timm is not installed"
    timm = import_extra("timm", what, "network: {kind: timm}", EXTRA, import_beside_torchvision)
    timm.layers.set_fused_attn(False)
    name = network.model.partition(".")[0]
    if not timm.is_model(name):
        raise ConfigError(f"timm has no model '{name}'", "network.model", nearest(name, tuple(timm.list_models())))
    config = timm.get_pretrained_cfg(name)
    size = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    try:
        module = timm.create_model(network.model, pretrained=False, num_classes=num_classes, in_chans=channels, **size)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"timm cannot build {network.model} for images of {image_size} pixels ({error})") from error
    assert isinstance(module, nn.Module)
    return module


def _load(module: nn.Module, content: bytes, weights: str, model: str) -> None:
    """Set the parameters and running statistics of a module to those of a file.

    The classification layer stays as it is where the file has none, or one of another shape.
    """
    import safetensors.torch

    try:
        stored: dict[str, Tensor] = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ConfigError("the weights are not a safetensors file", weights, _ADVICE) from error
    fresh = module.state_dict()
    head = tuple(f"{name}." for name in _classifiers(module))
    fits = {key: key in stored and stored[key].shape == value.shape for key, value in fresh.items()}
    head_fits = all(fits[key] for key in fresh if key.startswith(head))
    taken: dict[str, Tensor] = {}
    for key, value in fresh.items():
        if fits[key] and (head_fits or not key.startswith(head)):
            taken[key] = stored[key]
        elif key.startswith(head) or key.endswith("num_batches_tracked"):
            taken[key] = value
        elif key not in stored:
            raise ConfigError(f"the weights lack '{key}' of {model}", weights, _ADVICE)
        else:
            shapes = f"{list(stored[key].shape)} in the weights and {list(value.shape)} in {model}"
            raise ConfigError(f"'{key}' has the shape {shapes}", weights, _ADVICE)
    if unknown := [key for key in stored if key not in fresh and not key.startswith(head)]:
        raise ConfigError(f"the weights have '{unknown[0]}', which {model} lacks", weights, _ADVICE)
    module.load_state_dict(taken)


def _classifiers(module: Any) -> tuple[str, ...]:
    """Return the names of the classification layers."""
    names = module.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _stop_random_numbers(module: Any) -> None:
    """Switch off dropout and stochastic depth, which some networks have by default."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.p = 0.0
        elif hasattr(layer, "drop_prob"):  # timm's DropPath and DropBlock2d
            layer.drop_prob = 0.0


def _replace_batch_norm(module: nn.Module, replacement: Any) -> None:
    """Replace every batch norm, but keep the activation in timm's version of it."""
    layers = [
        (name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    ]
    for name, layer in layers:
        after = [getattr(layer, part) for part in ("drop", "act") if hasattr(layer, part)]
        new = replacement(layer)
        module.set_submodule(name, nn.Sequential(new, *after) if after else new)


def _group_norm(layer: Any) -> nn.Module:
    channels = layer.num_features
    groups = math.gcd(channels, max(1, channels // 16))
    norm = nn.GroupNorm(groups, channels, eps=layer.eps, affine=layer.affine)
    if layer.affine:
        norm.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    return norm


def _fold(layer: Any) -> nn.Module:
    scale_C = (layer.running_var + layer.eps).rsqrt()
    scale_C = scale_C * layer.weight if layer.affine else scale_C
    shift_C = -layer.running_mean * scale_C
    return _Affine(scale_C, shift_C + layer.bias if layer.affine else shift_C)


class _Affine(nn.Module):
    """Scale and shift each channel."""

    def __init__(self, scale_C: Tensor, shift_C: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(scale_C.detach().clone()), nn.Parameter(shift_C.detach().clone())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x_BCHW.ndim - 2)
        return x_BCHW * self.weight.view(shape) + self.bias.view(shape)
