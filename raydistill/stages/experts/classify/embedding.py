"""Embed pictures by an expert's features: a generator's condition "embedding".

The features are the inputs of the last linear layer of the first expert. Their first principal
components, each divided by its standard deviation, make the condition (representation-guided
diffusion; Graikos et al. 2023, arXiv:2312.07330). A sample with the embedding of a real galaxy is a
variation of it.

Shapes: N pictures, F features, K components.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from raydistill.artifacts.tensors import read_tensors, write_tensors
from raydistill.learning.architectures import Architecture
from raydistill.learning.components import principal_axes
from raydistill.learning.ensemble import Ensemble
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import AnyNormalisation
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.ensemble import check_experts
from raydistill.storage import Folder

EMBEDDING = "embedding.safetensors"


@dataclass(frozen=True)
class Expert:
    """The expert whose features describe pictures.

    Parameters
    ----------
    store
        URI of the trajectories.
    architecture, num_classes, image_size
        The network.
    normalisation
        Of its pictures.
    """

    store: str
    architecture: Architecture
    num_classes: int
    image_size: int
    normalisation: AnyNormalisation

    @cached_property
    def _ensemble(self) -> Ensemble:
        store = TrajectoryStore.open(self.store, verify=False)  # the driver has verified it
        network = build_network(self.architecture, self.num_classes, self.image_size)
        return Ensemble(network, [store(0, store.num_epochs)], features=True)

    def features(self, images_NHWC: np.ndarray | Tensor) -> Tensor:
        """Return the features float32 [N, F] of uint8 pictures, computed on the CPU."""
        return self._ensemble.predict(self.normalisation.apply(torch.as_tensor(images_NHWC))).features_NF

    def __getstate__(self) -> dict[str, object]:
        """Return the fields alone: another process reads the parameters itself."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Embedder:
    """The map from pictures to embeddings.

    Parameters
    ----------
    expert
        Gives the features.
    mean_F
        Mean of the features of training pictures.
    axes_KF
        Principal axes, each divided by the standard deviation along it.
    """

    expert: Expert
    mean_F: Tensor
    axes_KF: Tensor

    @classmethod
    def fit(cls, expert: Expert, images_NHWC: Tensor, size: int) -> Embedder:
        """Return the map to `size` components of the features of these pictures.

        Components beyond the rank of the features are 0.
        """
        features_NF = expert.features(images_NHWC).double()
        mean_F = features_NF.mean(dim=0)
        axes_KF, variances_K = principal_axes(features_NF - mean_F, size)
        known_K = variances_K > 1e-9 * variances_K.max()
        padded_KF = torch.zeros(size, len(mean_F), dtype=torch.float64)
        padded_KF[: len(axes_KF)][known_K] = axes_KF[known_K] / variances_K[known_K, None].sqrt()
        return cls(expert, mean_F.float(), padded_KF.float())

    def apply(self, images_NHWC: np.ndarray | Tensor) -> np.ndarray:
        """Return the embeddings float32 [N, K] of uint8 pictures [N, H, W, 3].

        Pictures are embedded one by one: the last bits of a product depend on its number of rows,
        and the number of workers decides which pictures are read together.
        """
        one_by_one = [
            self.axes_KF @ (self.expert.features(images_NHWC[n : n + 1])[0] - self.mean_F)
            for n in range(len(images_NHWC))
        ]
        return torch.stack(one_by_one).numpy() if one_by_one else np.empty((0, len(self.axes_KF)), np.float32)

    def write(self, folder: Folder) -> None:
        """Write the map into the folder of a generator; the expert stays where it is."""
        write_tensors(folder, EMBEDDING, {"mean": self.mean_F, "axes": self.axes_KF}, {})

    @classmethod
    def read(cls, expert: Expert, folder: Folder) -> Embedder:
        """Return the map in the folder of a generator."""
        tensors, _ = read_tensors(folder, EMBEDDING)
        return cls(expert, tensors["mean"], tensors["axes"])


def open_expert(plan: Plan, curated: CuratedSet) -> Expert:
    """Return the first expert of the plan.

    Raises
    ------
    ArtifactMissing, ArtifactCorrupt
        There are no experts, or they are damaged.
    ArtifactIncompatible
        They were trained on another curated set.
    """
    store = TrajectoryStore.open(plan.trajectories.folder)
    check_experts(store, curated)
    size = curated.summary.image_size
    return Expert(store.folder.uri, plan.expert_network, curated.num_classes, size, curated.normalisation)
