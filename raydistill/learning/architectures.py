"""Define architectures: records of sizes whose `module(...)` builds the network.

Configs are made of them, so torch is imported when a network is built (`learning.modules`).
`learning.timm_networks` has those of timm. None has batch norm, because its running statistics are
state and a network here is a pure function of its parameters. Instance norm replaces it, as in the
cross-architecture tables of the literature (Cazenavette et al. 2022, arXiv:2203.11932).
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from raydistill.learning.checks import at_least
from raydistill.learning.timm_networks import Timm

if TYPE_CHECKING:
    from torch import nn

Paths = tuple[tuple[tuple[int, ...], ...], ...]  # of each class: its steps, each with the columns of its answers


class BuiltIn:
    """A network whose layers are in `learning.modules`."""

    def check(self, image_size: int) -> None:
        """Raise ValueError if the network does not fit images of this side [px]."""

    def module(self, num_classes: int, image_size: int, channels: int = 3) -> nn.Module:
        """Return the torch module, with initial parameters from torch's global generator."""
        from raydistill.learning.modules import build

        self.check(image_size)
        return build(self, num_classes, image_size, channels)


@dataclass(frozen=True)
class ConvNet(BuiltIn):
    """`depth` blocks of conv, norm, ReLU and 2x2 average pooling, then a linear layer.

    The network of the dataset-distillation literature (Zhao et al. 2021, arXiv:2006.05929): depth
    3, width 128 and instance norm at 32 px; 594,441 parameters at 128 px and 9 classes, as in
    arXiv:2311.17967.

    Parameters
    ----------
    depth
        Number of blocks; each halves the sides of the feature maps.
    width
        Channels of every block.
    norm
        Normalisation of every block. "group" has groups of 16 channels.
    """

    kind: Literal["convnet"] = "convnet"
    depth: int = 3
    width: int = 128
    norm: Literal["instance", "group", "none"] = "instance"

    def __post_init__(self) -> None:
        at_least(1, depth=self.depth, width=self.width)

    @property
    def name(self) -> str:
        """Return a short name, such as convnet-d3-w128."""
        return f"convnet-d{self.depth}-w{self.width}" + ("" if self.norm == "instance" else f"-{self.norm}")

    def check(self, image_size: int) -> None:
        _check_pixels(image_size, 2**self.depth, f"{self.depth} poolings")


@dataclass(frozen=True)
class PooledConvNet(BuiltIn):
    """Blocks of conv, group norm, GELU and pooling, then the mean over the frame.

    Few features, which do not depend on where in the frame something is.

    Parameters
    ----------
    widths
        Channels of each block; each but the last halves the sides of the feature maps. The last is
        the number of features.
    groups
        Groups of the norm; must divide every width.
    """

    kind: Literal["pooled"] = "pooled"
    widths: tuple[int, ...] = (32, 64, 128, 128)
    groups: int = 8

    def __post_init__(self) -> None:
        at_least(1, groups=self.groups)
        if not self.widths or any(width < 1 or width % self.groups for width in self.widths):
            raise ValueError(
                f"widths must be multiples of groups = {self.groups}, at least one, got {list(self.widths)}"
            )

    @property
    def name(self) -> str:
        return f"pooled-{'-'.join(map(str, self.widths))}"

    def check(self, image_size: int) -> None:
        _check_pixels(image_size, 2 ** (len(self.widths) - 1), f"{len(self.widths) - 1} poolings")


@dataclass(frozen=True)
class MLP(BuiltIn):
    """Two hidden layers on the pixels, the simplest for cross-architecture tests.

    Parameters
    ----------
    width
        Units of each hidden layer.
    """

    kind: Literal["mlp"] = "mlp"
    width: int = 128

    def __post_init__(self) -> None:
        at_least(1, width=self.width)

    @property
    def name(self) -> str:
        return f"mlp-w{self.width}"


class _Published(BuiltIn):
    """A published network, of any width."""

    kind: str
    width: int
    least: ClassVar[tuple[int, int, str]]  # width, side of an image [px], and why

    def __post_init__(self) -> None:
        at_least(self.least[0], width=self.width)

    @property
    def name(self) -> str:
        """Return the kind, and the width if it is not the default."""
        return self.kind if self.width == type(self).width else f"{self.kind}-w{self.width}"

    def check(self, image_size: int) -> None:
        _check_pixels(image_size, *self.least[1:])


@dataclass(frozen=True)
class AlexNet(_Published):
    """AlexNet for small images: five convolutions and one linear layer.

    Zhao et al. 2021, arXiv:2006.05929.

    Parameters
    ----------
    width
        Channels of the first convolution; the others have 3/2 and 2 times as many.
    """

    kind: Literal["alexnet"] = "alexnet"
    width: int = 128
    least: ClassVar = (2, 8, "3 poolings")


@dataclass(frozen=True)
class VGG11(_Published):
    """VGG-11 with instance norm and one linear layer.

    Simonyan & Zisserman 2015, arXiv:1409.1556.

    Parameters
    ----------
    width
        Channels of the first convolution; the last have 8 times as many.
    """

    kind: Literal["vgg11"] = "vgg11"
    width: int = 64
    least: ClassVar = (1, 32, "5 poolings")


@dataclass(frozen=True)
class ResNet18(_Published):
    """ResNet-18 for small images: 3x3 stem, no pooling, instance norm.

    He et al. 2016, arXiv:1512.03385.

    Parameters
    ----------
    width
        Channels of the first stage; each later stage has twice as many.
    """

    kind: Literal["resnet18"] = "resnet18"
    width: int = 64
    least: ClassVar = (1, 16, "3 strides and an instance norm")


@dataclass(frozen=True)
class ViT(BuiltIn):
    """A small vision transformer: pre-norm, mean over patches, no class token.

    Dosovitskiy et al. 2021, arXiv:2010.11929.

    Parameters
    ----------
    patch
        Side of a patch, in pixels.
    width
        Size of a token; a multiple of `heads`.
    depth
        Number of transformer blocks.
    heads
        Number of attention heads per block.
    """

    kind: Literal["vit"] = "vit"
    patch: int = 4
    width: int = 128
    depth: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        at_least(1, patch=self.patch, width=self.width, depth=self.depth, heads=self.heads)
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got {self.width} and {self.heads}")

    @property
    def name(self) -> str:
        return f"vit-p{self.patch}-w{self.width}-d{self.depth}-h{self.heads}"

    def check(self, image_size: int) -> None:
        if image_size % self.patch:
            raise ValueError(f"patches of {self.patch} pixels do not tile an image of {image_size}")


@dataclass(frozen=True)
class Custom:
    """A user-defined network.

    The module must have no state besides its parameters, draw no random numbers and treat the
    images of a batch independently (no batch norm, no dropout). Every worker must be able to import
    it.

    Parameters
    ----------
    factory
        "package.module:callable"; called as
        `callable(num_classes, image_size, channels, **options)`.
    options
        Keyword arguments of the factory.
    """

    kind: Literal["custom"] = "custom"
    factory: str = ""
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if ":" not in self.factory:
            raise ValueError(f"factory must be package.module:callable, got '{self.factory}'")

    @property
    def name(self) -> str:
        options = "".join(f"-{key}{value}" for key, value in sorted(self.options.items()))
        return self.factory.rpartition(":")[2].lower().replace("_", "-") + options

    @property
    def source_sha256(self) -> str:
        """Return the digest of the factory's file, which identifies its networks.

        ImportError without the file.
        """
        file = self._imported().__file__
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""

    def _imported(self) -> ModuleType:
        # As `python -m` has it; Ray starts its workers in the driver's folder, or a job's.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return importlib.import_module(self.factory.partition(":")[0])

    def module(self, num_classes: int, image_size: int, channels: int = 3) -> nn.Module:
        try:
            factory = getattr(self._imported(), self.factory.partition(":")[2])
        except (ImportError, AttributeError) as error:
            raise ValueError(f"network.factory={self.factory} cannot be imported ({error})") from error
        try:
            module = factory(num_classes, image_size, channels, **self.options)
        except TypeError as error:
            raise ValueError(f"network.factory={self.factory} does not accept its arguments ({error})") from error
        from torch import nn

        if not isinstance(module, nn.Module):
            raise ValueError(f"network.factory={self.factory} returned {type(module).__name__}, not a torch.nn.Module")
        return module


ClassifierArchitecture = ConvNet | PooledConvNet | MLP | AlexNet | VGG11 | ResNet18 | ViT | Custom | Timm


@dataclass(frozen=True)
class AnswerNetwork:
    """A network that predicts votes: answer outputs, then classes.

    The stage `experts` makes it of `network` and the class tree, for `experts.targets: counts`.

    Parameters
    ----------
    base
        The network, with an output per answer instead of one per class.
    questions
        Number of answers of each question.
    paths
        Path of each class, as columns of the outputs.
    """

    kind: Literal["answers"] = "answers"
    base: ClassifierArchitecture = field(default_factory=ConvNet)
    questions: tuple[int, ...] = ()
    paths: Paths = ()

    @property
    def name(self) -> str:
        return f"{self.base.name}-answers"

    def module(self, num_classes: int, image_size: int, channels: int = 3) -> nn.Module:
        if len(self.paths) != num_classes:
            raise ValueError(f"the network has paths for {len(self.paths)} classes, not for {num_classes}")
        from torch import nn

        from raydistill.learning.dirichlet import ClassReadout

        answers = self.base.module(sum(self.questions), image_size, channels)
        return nn.Sequential(answers, ClassReadout(self.questions, self.paths))


Architecture = ClassifierArchitecture | AnswerNetwork


def _check_pixels(image_size: int, least: int, why: str) -> None:
    if image_size < least:
        raise ValueError(f"{why} need at least {least} pixels, the images have {image_size}")
