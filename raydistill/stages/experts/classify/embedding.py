"""Describe pictures by an expert's features, the inputs of its last linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from raydistill.learning.architectures import Architecture
from raydistill.learning.ensemble import Ensemble
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import AnyNormalisation
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.ensemble import check_experts


@dataclass(frozen=True)
class Expert:
    """An expert whose features describe pictures.

    Parameters
    ----------
    store
        URI of the trajectories.
    architecture, num_classes, image_size
        The network.
    normalisation
        Of its pictures.
    number
        Which of the experts it is.
    """

    store: str
    architecture: Architecture
    num_classes: int
    image_size: int
    normalisation: AnyNormalisation
    number: int = 0

    @cached_property
    def _ensemble(self) -> Ensemble:
        store = TrajectoryStore.open(self.store, verify=False)  # the driver has verified it
        network = build_network(self.architecture, self.num_classes, self.image_size)
        return Ensemble(network, [store(self.number, store.num_epochs)], features=True)

    def features(self, images_NHWC: np.ndarray | Tensor) -> Tensor:
        """Return the features float32 [N, F] of uint8 pictures, computed on the CPU."""
        return self._ensemble.predict(self.normalisation.apply(torch.as_tensor(images_NHWC))).features_NF

    def __getstate__(self) -> dict[str, object]:
        """Return the fields alone: another process reads the parameters itself."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


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
