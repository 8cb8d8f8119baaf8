"""Average the class probabilities of several trained networks of one architecture.

Shape letters: E networks, N images, K classes, F features, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.learning.networks import Network, last_linear, logits_and_features


class EnsemblePrediction(NamedTuple):
    """The predictions of an ensemble.

    Attributes
    ----------
    mean_NK
        float32, mean over the networks of the class probabilities; each row sums to 1.
    spread_NK
        float32, standard deviation over the networks; 0 for a single network.
    features_NF
        float32, input of the last linear layer of the first network, flattened; [N, 0] if features
        were not requested.
    logits_NK
        float32, natural logarithm of the mean probabilities; finite where these underflow.
    """

    mean_NK: Tensor
    spread_NK: Tensor
    features_NF: Tensor
    logits_NK: Tensor


def mean_and_spread(logits_ENK: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the softmax over the networks.

    With p_e = softmax(logits_e), computed in float64:

        mean = 1/E sum_e p_e,    spread = sqrt(1/E sum_e (p_e - mean)^2)

    The spread is that of these networks, not an estimate for further ones, so it is defined for
    E = 1. The mean is the deep ensemble of Lakshminarayanan et al. 2017, arXiv:1612.01474, Sect. 2.4.

    Parameters
    ----------
    logits_ENK
        Logits of every network.

    Returns
    -------
    tuple of torch.Tensor
        mean_NK and spread_NK, float32.
    """
    probabilities_ENK = logits_ENK.double().softmax(dim=2)
    return probabilities_ENK.mean(dim=0).float(), probabilities_ENK.std(dim=0, correction=0).float()


def log_mean(logits_ENK: Tensor) -> Tensor:
    """Return the logarithm of the mean softmax over the networks, float32 [N, K]."""
    return (logits_ENK.double().log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits_ENK))).float()


class Ensemble:
    """Networks of one architecture that predict together.

    Parameters
    ----------
    network
        The architecture as a pure function.
    thetas
        float32 [P] of each network, all on one device.
    features
        Also return the features of the first network.

    Raises
    ------
    ValueError
        If there is no network, or if features are requested of one without a last linear layer.
    """

    def __init__(self, network: Network, thetas: Sequence[Tensor], *, features: bool) -> None:
        if not thetas:
            raise ValueError("an ensemble needs at least one network")
        if features:
            last_linear(network)  # raises if there is none
        self._network, self._thetas, self._features = network, thetas, features

    @torch.inference_mode()
    def predict(self, images_NCHW: Tensor, batch_size: int | None = None) -> EnsemblePrediction:
        """Return the predictions for normalised images.

        Parameters
        ----------
        images_NCHW
            Normalised images on the device of the parameters, at least one.
        batch_size
            Images per forward pass. None: 512 on a GPU and 16 on a CPU, as in
            `raydistill.learning.training.predict`.

        Returns
        -------
        EnsemblePrediction
            On the same device.

        Raises
        ------
        ValueError
            If there are no images.
        """
        if not len(images_NCHW):
            raise ValueError("there are no images to predict")
        batch_size = batch_size or (16 if images_NCHW.device.type == "cpu" else 512)
        batches = [self._predict_batch(batch) for batch in images_NCHW.split(batch_size)]
        return EnsemblePrediction(*(torch.cat(parts) for parts in zip(*batches, strict=True)))

    def _predict_batch(self, images_BCHW: Tensor) -> EnsemblePrediction:
        first, features = self._first(images_BCHW)
        others = [self._network(theta_P, images_BCHW) for theta_P in self._thetas[1:]]
        logits_EBK = torch.stack([first, *others])
        return EnsemblePrediction(*mean_and_spread(logits_EBK), features, log_mean(logits_EBK))

    def _first(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and features of the first network."""
        if not self._features:
            return self._network(self._thetas[0], images_BCHW), images_BCHW.new_empty(len(images_BCHW), 0)
        return logits_and_features(self._network, self._thetas[0], images_BCHW)
