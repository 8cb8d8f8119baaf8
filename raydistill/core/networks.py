"""Networks as pure functions of one flat parameter vector.

Trajectory matching compares *points in parameter space*, so parameters travel as one vector theta_P and a network is
the pure function `logits_BK = network(theta_P, images_BCHW)`. Nothing here has state: initial parameters are drawn
from a seed, and the module inside a `Network` only serves as the recipe for `torch.func.functional_call`.

Shape letters: B images, C colour channels, H rows, W columns, K classes, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from raydistill.core.checks import at_least


@dataclass(frozen=True)
class Layout:
    """Which slice of the flat vector is which parameter, in the module's order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @staticmethod
    def of(module: nn.Module) -> Layout:
        named = list(module.named_parameters())
        return Layout(tuple(name for name, _ in named), tuple(tuple(p.shape) for _, p in named))

    @property
    def sizes(self) -> list[int]:
        return [torch.Size(shape).numel() for shape in self.shapes]

    @property
    def num_parameters(self) -> int:
        return sum(self.sizes)

    def split(self, theta_P: Tensor) -> dict[str, Tensor]:
        """Views of `theta_P` by parameter name; writing to them writes to the vector."""
        pieces = theta_P.split(self.sizes)
        return {n: p.view(s) for n, p, s in zip(self.names, pieces, self.shapes, strict=True)}

    def parameters_of_first_layers(self, share: float) -> int:
        """How many leading entries of theta belong to that share of the layers, rounded down to whole layers.

        A layer begins at every parameter of two or more dimensions (a convolution, a linear map); biases and norms behind it are
        its own.
        """
        starts = [i for i, shape in enumerate(self.shapes) if len(shape) > 1]
        skipped = int(share * len(starts))
        return sum(self.sizes[: starts[skipped]]) if skipped else 0

    def flatten(self, parameters: dict[str, Tensor]) -> Tensor:
        """The inverse of `split`, as a new vector."""
        return torch.cat([parameters[name].reshape(-1) for name in self.names])


@dataclass(frozen=True)
class Network:
    """`network(theta_P, images_BCHW) -> logits_BK`, differentiable any number of times in both arguments."""

    module: nn.Module
    layout: Layout

    def __call__(self, theta_P: Tensor, images_BCHW: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.module, self.layout.split(theta_P), (images_BCHW,))
        return logits


@dataclass(frozen=True)
class ConvNet:
    """`depth` blocks of convolution, normalisation, ReLU and 2x2 average pooling, then one linear layer.

    The network of the dataset-distillation literature (Zhao et al. 2021, arXiv:2006.05929): depth 3, width 128 and
    instance norm at 32 px; 594,441 parameters at 128 px and 9 classes, as in arXiv:2311.17967.
    """

    kind: Literal["convnet"] = "convnet"
    depth: int = 3
    width: int = 128
    norm: Literal["instance", "group", "none"] = "instance"

    def __post_init__(self) -> None:
        at_least(1, depth=self.depth, width=self.width)

    @property
    def name(self) -> str:
        return f"convnet-d{self.depth}-w{self.width}" + ("" if self.norm == "instance" else f"-{self.norm}")

    def module(self, num_classes: int, image_size: int, channels: int = 3) -> nn.Module:
        if image_size < 2**self.depth:
            raise ValueError(
                f"{self.depth} poolings need at least {2**self.depth} pixels, the images have {image_size}"
            )
        blocks: list[nn.Module] = []
        for index in range(self.depth):
            blocks.append(nn.Conv2d(channels if index == 0 else self.width, self.width, kernel_size=3, padding=1))
            blocks += [*self._norm(), nn.ReLU(), nn.AvgPool2d(2)]
        side = image_size // 2**self.depth
        return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(self.width * side * side, num_classes))

    def _norm(self) -> list[nn.Module]:
        sixteens = math.gcd(
            self.width, max(1, self.width // 16)
        )  # groups of 16 channels, or fewer that divide the width
        groups = {"instance": self.width, "group": sixteens, "none": 0}[self.norm]
        # One group per channel is instance norm with a learned scale and shift, as in the peers' code.
        return [nn.GroupNorm(groups, self.width)] if groups else []


@dataclass(frozen=True)
class MLP:
    """Two hidden layers on the pixels: the plainest other architecture to ask how far a distilled set carries over."""

    kind: Literal["mlp"] = "mlp"
    width: int = 128

    def __post_init__(self) -> None:
        at_least(1, width=self.width)

    @property
    def name(self) -> str:
        return f"mlp-w{self.width}"

    def module(self, num_classes: int, image_size: int, channels: int = 3) -> nn.Module:
        hidden = [
            nn.Linear(channels * image_size**2, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
        ]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(self.width, num_classes))


Architecture = ConvNet | MLP


def build(architecture: Architecture, num_classes: int, image_size: int, channels: int = 3) -> Network:
    """The pure function of an architecture. Its module's own weights are never used."""
    with torch.random.fork_rng(devices=[]):
        module = architecture.module(num_classes, image_size, channels)
    return Network(module.requires_grad_(False), Layout.of(module))


def initial_parameters(network: Network, seed: int) -> Tensor:
    """theta_P float32 as PyTorch initialises the module's layers, drawn from `seed` alone (the global generator is restored)."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every accelerator as well
        for layer in network.module.modules():
            reset: Callable[[], None] | None = getattr(layer, "reset_parameters", None)
            if reset is not None:
                reset()
        return network.layout.flatten(dict(network.module.named_parameters())).detach().clone()
