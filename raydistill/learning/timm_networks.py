"""Define `Timm`: the networks of the package timm, including Zoobot's encoders.

`learning.timm_modules` builds them. Nothing is ever downloaded: parameters are random, or those of a
local file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from raydistill.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Timm:
    """A network of the package timm (extra `timm`), such as the encoders of Zoobot.

    Parameters
    ----------
    model
        Name in timm, for example convnext_nano or maxvit_tiny_rw_224.
    weights
        Local safetensors file of the initial parameters, which every worker must be able to read.
        The classification layer is left out where its shape differs. None: random parameters.
    batch_norm
        Replacement of batch norm, whose running statistics are state. "group": group norm with 16
        channels a group, as in `ConvNet`. "fold": a scale and a shift, which hold the statistics of
        `weights` and are trained. None: "fold" with weights, else "group".
    """

    kind: Literal["timm"] = "timm"
    model: str = ""
    weights: str | None = None
    batch_norm: Literal["group", "fold"] | None = None

    def __post_init__(self) -> None:
        if not self.model or ":" in self.model or "/" in self.model:
            raise ValueError(f"model must be a name in timm, such as convnext_nano, got '{self.model}'")
        if self.batch_norm == "fold" and self.weights is None:
            raise ValueError("batch_norm=fold needs the running statistics of weights, which is not set")

    @property
    def name(self) -> str:
        """Return a short name, such as convnext_nano-FILE."""
        return self.model if self.weights is None else f"{self.model}-{Path(self.weights).stem}"

    @property
    def source_sha256(self) -> str:
        """Return the digest of the file of weights, or "" without one."""
        return "" if self.weights is None else hashlib.sha256(self.read()).hexdigest()

    def without_weights(self) -> Timm:
        """Return the network for known parameters, which needs no file of weights."""
        other = replace(self, batch_norm=self.batch_norm or ("group" if self.weights is None else "fold"))
        object.__setattr__(other, "weights", None)  # `replace` refuses "fold" without weights
        return other

    def read(self) -> bytes:
        """Return the content of the file of weights. ConfigError if it cannot be read."""
        assert self.weights is not None
        try:
            return Path(self.weights).read_bytes()
        except OSError as error:
            what = f"the weights cannot be read ({error.strerror or error})"
            raise ConfigError(what, self.weights, "correct the path of weights") from error

    def module(self, num_classes: int, image_size: int, channels: int = 3) -> nn.Module:
        """Return the torch module, with the parameters of the file or random ones.

        Random parameters come from torch's global generator.
        """
        from raydistill.learning.timm_modules import build

        return build(self, num_classes, image_size, channels)
