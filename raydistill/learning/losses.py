"""Define the loss of a student: the cross entropy of augmented images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from raydistill.learning.arithmetic import Precision
from raydistill.learning.augment import GROUPS, Augmentation, Symmetries
from raydistill.learning.augmenting import AugmentationParameters, labelled_orbit
from raydistill.learning.networks import Network

LossFunction = Callable[[Tensor, Tensor, Tensor, AugmentationParameters], Tensor]


def cross_entropy(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Return the batch mean of -sum_k y_k log p_k for probabilities y (hard: one-hot)."""
    return -(targets_BK * logits_BK.log_softmax(dim=1)).sum(dim=1).mean()


def student_loss(
    network: Network,
    augmentation: Augmentation,
    precision: Precision = "float32",
    average_over: Symmetries = "none",
) -> LossFunction:
    """Return `loss(theta_P, images_BCHW, targets_BK, parameters)`.

    It is the cross entropy of augmented images.

    Parameters
    ----------
    network
        The student's network.
    augmentation
        Random operations. Their parameters are the last argument of the loss.
    precision
        "bfloat16" applies to the matrix products.
    average_over
        Group of symmetries. The loss is the mean over the versions of every image under each of
        them, all augmented with the parameters of that image. So the loss, and every derivative in
        theta, stays the same if an image is replaced by one of its versions. G symmetries cost the
        time and memory of G times as many images.
    """
    versions = len(GROUPS[average_over])

    def loss(theta_P: Tensor, images_BCHW: Tensor, targets_BK: Tensor, parameters: AugmentationParameters) -> Tensor:
        if versions > 1:
            images_BCHW, targets_BK = labelled_orbit(images_BCHW, targets_BK, average_over)
            parameters = {name: value.repeat_interleave(versions, dim=0) for name, value in parameters.items()}
        images = augmentation.apply(images_BCHW, parameters)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(theta_P, images)
        return cross_entropy(logits.to(theta_P.dtype), targets_BK)

    return loss
