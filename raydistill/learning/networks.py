"""Define networks as pure functions of one flat parameter vector.

Trajectory matching compares *points in parameter space*, so parameters travel as one vector theta_P
and a network is the pure function `logits_BK = network(theta_P, images_BCHW)`. Nothing here has
state: initial parameters are drawn from a seed, and `torch.func.functional_call` applies the module
inside a `Network`. `learning.architectures` has the architectures.

Shape letters: B images, C colour channels, H rows, W columns, K classes, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from raydistill.learning.architectures import Architecture
from raydistill.learning.dirichlet import ClassReadout


@dataclass(frozen=True, repr=False)
class Layout:
    """Names and shapes of the parameters in the flat vector, in the module's order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __repr__(self) -> str:
        return f"<Layout: {self.num_parameters} parameters in {len(self.names)} tensors>"

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
        """Return views of `theta_P` by parameter name; writes go to the vector."""
        slices = theta_P.split(self.sizes)
        return {n: p.view(s) for n, p, s in zip(self.names, slices, self.shapes, strict=True)}

    def parameters_of_first_layers(self, fraction: float) -> int:
        """Return the number of entries of theta in the first layers.

        They are this fraction of the layers, rounded down to whole layers. A layer starts at every
        parameter of two or more dimensions (a convolution, a linear map), and includes the biases
        and norms after it.
        """
        starts = [i for i, shape in enumerate(self.shapes) if len(shape) > 1]
        skipped = int(fraction * len(starts))
        return sum(self.sizes[: starts[skipped]]) if skipped else 0

    def flatten(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return the parameters as a new vector, the inverse of `split`."""
        return torch.cat([parameters[name].reshape(-1) for name in self.names])


@dataclass(frozen=True)
class Network:
    """A pure function: `network(theta_P, images_BCHW)` returns logits [B, K].

    It can be differentiated any number of times in both arguments.

    Parameters
    ----------
    module
        The torch module that is applied; its own parameters are not used.
    layout
        Names and shapes of the parameters in theta.
    make
        Returns a new module, with initial parameters from torch's global generator.
    constants
        Buffers of the module by name, such as indices of positions. Only layers whose attribute
        `constant_buffers` is true may have some.
    """

    module: nn.Module
    layout: Layout
    make: Callable[[], nn.Module]
    constants: tuple[tuple[str, Tensor], ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, make: Callable[[], nn.Module]) -> Self:
        """Return the network of a module.

        Raises
        ------
        ValueError
            If a layer has state besides its parameters, draws random numbers or mixes the images of
            a batch. `check_network` tests the same with images.
        """
        with torch.random.fork_rng(devices=[]):
            module = make()
        if not list(module.parameters()):
            raise ValueError("the network has no parameters, so there is nothing to train")
        for name, layer in module.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                raise ValueError(f"the network has batch norm in '{name}'; take instance or group norm")
            if isinstance(layer, nn.modules.dropout._DropoutNd) and layer.p:
                raise ValueError(f"the network has dropout in '{name}'; set its probability to 0")
        constants = tuple(module.named_buffers())
        owners = [name for name, layer in module.named_modules() if getattr(layer, "constant_buffers", False)]
        constant = tuple(f"{name}." if name else "" for name in owners)
        if state := [name for name, _ in constants if not name.startswith(constant)]:
            raise ValueError(
                f"the network keeps state in '{state[0]}'; make it a parameter, or a constant of `forward`"
            )
        return cls(module.requires_grad_(False), Layout.of(module), make, constants)

    def __call__(self, theta_P: Tensor, images_BCHW: Tensor) -> Tensor:
        return self.apply(self.layout.split(theta_P), images_BCHW)

    def apply(self, parameters: dict[str, Tensor], images_BCHW: Tensor) -> Tensor:
        """Return the logits [B, K] for parameters by name."""
        if self.constants:
            parameters = parameters | {name: value.to(images_BCHW.device) for name, value in self.constants}
        return functional_call(self.module, parameters, (images_BCHW,))


def build_network(architecture: Architecture, num_classes: int, image_size: int, channels: int = 3) -> Network:
    """Return the network of an architecture.

    Parameters
    ----------
    architecture
        Sizes of the network, for example `ConvNet(depth=3, width=128)`.
    num_classes, image_size, channels
        K, the side H = W of the images in pixels, and C.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If the architecture does not fit the images.
    """
    return Network.of(partial(architecture.module, num_classes, image_size, channels))


@lru_cache(maxsize=8)
def shared_network(architecture: Architecture, num_classes: int, image_size: int) -> Network:
    """Return this process's network for images of this size [px].

    Compiled code is cached with the object.
    """
    return build_network(architecture, num_classes, image_size)


@torch.no_grad()
def check_network(network: Network, num_classes: int, image_size: int) -> None:
    """Raise ValueError unless each image alone determines its K logits."""
    theta_P = network.layout.flatten(dict(network.module.named_parameters()))
    images = torch.rand(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    try:
        logits, again, alone = network(theta_P, images), network(theta_P, images), network(theta_P, images[:1])
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(f"the network cannot take images of {image_size} pixels ({error})") from error
    if logits.shape != (2, num_classes):
        raise ValueError(
            f"the network returns {tuple(logits.shape)} for 2 images and {num_classes} classes, not {(2, num_classes)}"
        )
    close = partial(torch.allclose, rtol=0, atol=1e-3 * float(logits.abs().max()))  # sums may run in another order
    if not close(logits, again):
        raise ValueError(
            "the network draws random numbers: the same images twice give other logits (dropout in attention, perhaps)"
        )
    if not close(logits[:1], alone):
        raise ValueError("the network mixes the images of a batch: an image alone gives other logits")


def last_linear(network: Network) -> str:
    """Return the name of the last linear layer, or raise ValueError without one.

    The features are its input.
    """
    linear = [name for name, layer in network.module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear or not linear[-1]:
        raise ValueError("the network has no last linear layer whose input could be its features")
    return linear[-1]


def logits_and_features(network: Network, theta_P: Tensor, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits [B, K] and the last linear layer's flattened input [B, F].

    Both can be differentiated. ValueError if there is no last linear layer.
    """
    inputs: list[Tensor] = []
    layer = network.module.get_submodule(last_linear(network))
    hook = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        logits = network(theta_P, images_BCHW)
    finally:
        hook.remove()
    return logits, inputs[-1].flatten(1)


def embedding(network: Network) -> Network:
    """Return the network without its last linear layer; it returns features.

    ValueError if there is no such layer.
    """
    return _with_identities(network, last_linear(network), *_readouts(network))


def without_readout(network: Network) -> Network:
    """Return the network without its `ClassReadout`, with the same parameters."""
    return _with_identities(network, *_readouts(network))


def _readouts(network: Network) -> list[str]:
    return [name for name, layer in network.module.named_modules() if isinstance(layer, ClassReadout)]


def _with_identities(network: Network, *names: str) -> Network:
    """Return the network with identities in place of some layers."""

    def make() -> nn.Module:
        module = network.make()
        for name in names:
            module.set_submodule(name, nn.Identity())
        return module

    return Network.of(make)


def initial_parameters(network: Network, seed: int) -> Tensor:
    """Return initial parameters, drawn as torch's modules draw them.

    Parameters
    ----------
    network
        The network whose parameters are drawn.
    seed
        Seed on which alone they depend. The state of torch's global generator does not change.

    Returns
    -------
    torch.Tensor
        theta_P, float32 [P].
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every accelerator as well
        return network.layout.flatten(dict(network.make().named_parameters())).detach().clone()
