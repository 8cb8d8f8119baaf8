"""Train a network on vote counts: the objective of `experts.targets: counts`.

Shape letters: B galaxies of a batch, K classes, A answers, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from raydistill.learning.arithmetic import Precision
from raydistill.learning.augment import Augmentation
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.dirichlet import concentrations, negative_log_likelihood
from raydistill.learning.losses import LossFunction
from raydistill.learning.networks import Network, without_readout


@dataclass(frozen=True)
class VoteLikelihood:
    """The Dirichlet-multinomial likelihood as training objective.

    Parameters
    ----------
    network
        A network that ends in a `ClassReadout`.
    num_classes
        K.
    questions
        Number of answers of each question.
    """

    network: Network
    num_classes: int
    questions: tuple[int, ...]
    _outputs: Network = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Built here, because a transform of torch.func cannot build a module.
        object.__setattr__(self, "_outputs", without_readout(self.network))

    def concentrations(self, theta_P: Tensor, images_BCHW: Tensor) -> Tensor:
        """Return the concentration of each answer, [B, A]."""
        return concentrations(self._outputs(theta_P, images_BCHW))

    def loss(self, augmentation: Augmentation, precision: Precision = "float32") -> LossFunction:
        """Return `loss(theta_P, images_BCHW, targets, parameters)`.

        Targets have K + A columns. The first K columns are the class, one-hot or times a weight.
        Their sum is the weight of the galaxy. The other columns are the counts of its votes.
        """

        def loss(theta_P: Tensor, images_BCHW: Tensor, targets: Tensor, parameters: AugmentationParameters) -> Tensor:
            images = augmentation.apply(images_BCHW, parameters)
            with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                outputs_BA = self._outputs(theta_P, images)
            weights_B, counts_BA = targets[:, : self.num_classes].sum(dim=1), targets[:, self.num_classes :]
            alpha_BA = concentrations(outputs_BA.to(theta_P.dtype))
            return (weights_B * negative_log_likelihood(alpha_BA, counts_BA, self.questions).sum(dim=1)).mean()

        return loss
