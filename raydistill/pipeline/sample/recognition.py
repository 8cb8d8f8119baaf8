"""The filter's classifier: the mean probability of experts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.core.architectures import Architecture
from raydistill.core.ensemble import Ensemble
from raydistill.core.networks import build_network
from raydistill.core.normalise import AnyNormalisation


@dataclass(frozen=True)
class Recogniser:
    """Experts after their last epoch, and the normalisation under which they were trained."""

    ensemble: Ensemble
    normalisation: AnyNormalisation
    device: str

    @staticmethod
    def load(store: str, curated: str, device: str) -> Recogniser:
        """Return the experts of a store, which were trained on this curated set."""
        trajectories, galaxies = (
            TrajectoryStore.open(store, verify=False),
            CuratedSet.open(curated, verify=False),
        )  # the driver has verified both
        architecture = TypeAdapter(Architecture).validate_python(trajectories.manifest.config["network"])
        network = build_network(architecture, galaxies.num_classes, galaxies.summary.image_size)
        thetas = [theta_P.to(device) for theta_P in trajectories.ends()]
        return Recogniser(Ensemble(network, thetas, features=False), galaxies.normalisation, device)

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


def check_experts(store: TrajectoryStore, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible unless the experts were trained on this curated set."""
    check_parent(store.manifest, "curated", curated.manifest, store.folder.uri)
