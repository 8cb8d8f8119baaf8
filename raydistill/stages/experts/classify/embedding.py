"""Describe pictures by an expert's features, the inputs of its last linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from raydistill.learning.ensemble import Ensemble
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.ensemble import EnsembleSource, check_experts, ensemble_source


@dataclass(frozen=True)
class Expert:
    """An expert whose features describe pictures.

    Parameters
    ----------
    source
        Where the experts are.
    number
        Which of the experts it is.
    """

    source: EnsembleSource
    number: int = 0

    @cached_property
    def _ensemble(self) -> Ensemble:
        return self.source.load("cpu", [self.number])

    def features(self, images_NHWC: np.ndarray | Tensor) -> Tensor:
        """Return the features float32 [N, F] of uint8 pictures, computed on the CPU."""
        return self._ensemble.predict(self.source.normalisation.apply(torch.as_tensor(images_NHWC))).features_NF

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
    return Expert(ensemble_source(plan, curated, store, 1, features=True))
