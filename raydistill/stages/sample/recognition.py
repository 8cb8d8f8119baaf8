"""The filter's classifier: the mean probability of experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raydistill.learning.architectures import Architecture
from raydistill.learning.ensemble import Ensemble
from raydistill.learning.normalise import AnyNormalisation
from raydistill.stages.experts.ensemble import load_experts


@dataclass(frozen=True)
class Recogniser:
    """Experts after their last epoch, and the normalisation of their training."""

    ensemble: Ensemble
    normalisation: AnyNormalisation
    device: str

    @staticmethod
    def load(store: str, curated: str, device: str, own: Sequence[Architecture] = ()) -> Recogniser:
        """Return the experts of a store, which were trained on this curated set.

        `own` are the networks that the user names.
        """
        return Recogniser(*load_experts(store, curated, device, features=False, own=own), device)

    def probability(self, images_NHWC: Tensor, labels_N: np.ndarray) -> Tensor:
        """Return the probability of each image's own class.

        Parameters
        ----------
        images_NHWC
            uint8 [N, H, W, 3].
        labels_N
            Integers [N].

        Returns
        -------
        torch.Tensor
            float32 [N], mean over the experts.
        """
        images_NCHW = self.normalisation.apply(images_NHWC).to(self.device)
        mean_NK = self.ensemble.predict(images_NCHW).mean_NK
        labels = torch.as_tensor(labels_N, dtype=torch.long, device=mean_NK.device)
        return mean_NK.gather(1, labels[:, None])[:, 0]
