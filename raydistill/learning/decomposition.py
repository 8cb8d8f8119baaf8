r"""Train a network with a second head for a nuisance, such as the apparent size.

Both heads are linear maps of the same features z, the input of the network's last layer:

    L = L_class + w L_nuisance + o mean_i cos^2(d L_class / d z_i, d L_nuisance / d z_i)

The last term is zero where the two gradients are orthogonal: a change of the features that helps
one head does not matter to the other. For linear heads with logits W z + b and cross entropy the
gradients are (p - y) W, so the term needs no second derivative.

The nuisance head is a training aid. It follows the network's own parameters in the flat vector, and
is cut off from what is stored.

This is the smallest form of DecAug (Bai et al. 2021, arXiv:2012.09382). There, each head has layers
of its own, and the features of the nuisance are also moved along its gradient as an augmentation.

Shape letters: N images, B images of a batch, K classes, M bins of the nuisance, F features, P
parameters of the network.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from raydistill.learning.arithmetic import Precision
from raydistill.learning.augment import Augmentation
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.losses import LossFunction, cross_entropy
from raydistill.learning.networks import Network, embedding, last_linear

TINY = 1e-12  # the penalty of an image fades out where its gradients vanish


@dataclass(frozen=True)
class Decomposition:
    """The objective of a network with a nuisance head.

    Parameters
    ----------
    network
        The plain network.
    num_classes, num_bins
        K and M.
    weight
        Weight w of the nuisance's cross entropy.
    penalty
        Weight o of the orthogonality.
    """

    network: Network
    num_classes: int
    num_bins: int
    weight: float
    penalty: float
    _features: Network = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Built here, because a transform of torch.func cannot build a module. ValueError without features.
        object.__setattr__(self, "_features", embedding(self.network))

    @property
    def _head(self) -> str:
        return last_linear(self.network)

    @property
    def num_features(self) -> int:
        """Return F."""
        layer = self.network.module.get_submodule(self._head)
        assert isinstance(layer, nn.Linear)
        return layer.in_features

    def extend(self, theta_P: Tensor) -> Tensor:
        """Return the parameters of the network, followed by a nuisance head of zeros."""
        return torch.cat([theta_P, theta_P.new_zeros(self.num_bins * (self.num_features + 1))])

    def plain(self, theta: Tensor) -> Tensor:
        """Return the parameters of the network alone, [P]."""
        return theta[: self.network.layout.num_parameters]

    def check(self, image_size: int, channels: int = 3) -> None:
        """Raise ValueError unless the last linear layer gives the logits of the network."""
        g = torch.Generator().manual_seed(0)
        images = torch.rand(2, channels, image_size, image_size, generator=g)
        theta = torch.randn(self.network.layout.num_parameters, generator=g) * 0.1
        problem, expected = "its last linear layer does not give the logits", self.network(theta, images)
        try:
            logits, _, _ = self._forward(self.extend(theta), images)
        except RuntimeError as error:  # shapes that do not fit
            raise ValueError(problem) from error
        if logits.shape != expected.shape or not torch.allclose(logits, expected, rtol=1e-3, atol=1e-3):
            raise ValueError(problem)

    def loss(self, augmentation: Augmentation, precision: Precision = "float32") -> LossFunction:
        """Return `loss(theta, images_BCHW, targets, parameters)`; targets: K + M columns.

        A row whose last M targets are zeros has an unknown nuisance: it counts for the classes
        alone.
        """

        def loss(theta: Tensor, images_BCHW: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
            images = augmentation.apply(images_BCHW, parameters)
            with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                of_class, of_nuisance, (class_KF, nuisance_MF) = self._forward(theta, images)
            of_class, of_nuisance = of_class.to(theta.dtype), of_nuisance.to(theta.dtype)
            classes_BK, bins_BM = targets[:, : self.num_classes], targets[:, self.num_classes :]
            orthogonality = penalty(
                logit_gradient(of_class, classes_BK) @ class_KF, logit_gradient(of_nuisance, bins_BM) @ nuisance_MF
            )
            return (
                cross_entropy(of_class, classes_BK)
                + self.weight * cross_entropy(of_nuisance, bins_BM)
                + self.penalty * orthogonality
            )

        return loss

    def _forward(self, theta: Tensor, images_BCHW: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return the logits of both heads, and their weights."""
        named = self.network.layout.split(self.plain(theta))
        parameters = {name: named[name] for name in self._features.layout.names}
        z_BF = self._features.apply(parameters, images_BCHW)
        class_KF = named[f"{self._head}.weight"]
        head = theta[self.network.layout.num_parameters :].view(self.num_bins, self.num_features + 1)
        nuisance_MF, bias_M = head[:, :-1], head[:, -1]
        of_class = nn.functional.linear(z_BF, class_KF, named.get(f"{self._head}.bias"))
        return of_class, nn.functional.linear(z_BF, nuisance_MF, bias_M), (class_KF, nuisance_MF)


def logit_gradient(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Return the gradient of each image's cross entropy in its logits, [B, K]."""
    return logits_BK.softmax(dim=1) * targets_BK.sum(dim=1, keepdim=True) - targets_BK


def penalty(first_BF: Tensor, second_BF: Tensor) -> Tensor:
    """Return the mean squared cosine of each image's gradients; 0 for a zero gradient."""
    products_B = (first_BF * second_BF).sum(dim=1)
    return (products_B.square() / (first_BF.square().sum(1) * second_BF.square().sum(1) + TINY)).mean()


def bin_targets(values_N: np.ndarray, labels_N: np.ndarray, num_bins: int) -> Tensor:
    """Return the bins of a nuisance as targets, float32 [N, M].

    Bins are quantiles within each class, so they do not tell the class. A row of zeros stands for a
    value that is not finite.

    Raises
    ------
    ValueError
        If no class has two different values.
    """
    targets_NM = torch.zeros(len(values_N), num_bins)
    divided = False
    for label in np.unique(labels_N):
        rows = np.flatnonzero((labels_N == label) & np.isfinite(values_N))
        if not len(rows):
            continue
        edges = np.unique(np.quantile(values_N[rows], np.linspace(0, 1, num_bins + 1)[1:-1]))
        bins = np.searchsorted(edges, values_N[rows], side="right")
        divided = divided or len(np.unique(bins)) > 1
        targets_NM[rows, bins] = 1.0
    if not divided:
        raise ValueError("no class has two different values")
    return targets_NM
