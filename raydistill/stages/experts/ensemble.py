"""Load the experts of a store, for workers that classify pictures."""

from __future__ import annotations

from collections.abc import Sequence

from raydistill.artifacts.manifest import check_parent
from raydistill.learning.architectures import Architecture
from raydistill.learning.ensemble import Ensemble
from raydistill.learning.normalise import AnyNormalisation
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.stored_networks import expert_network


def load_experts(
    trajectories: str, curated: str, device: str, *, features: bool, own: Sequence[Architecture] = ()
) -> tuple[Ensemble, AnyNormalisation]:
    """Return all experts after their last epoch, and their pictures' normalisation.

    The driver has verified both artifacts. `own` are the networks that the user names.
    """
    store, galaxies = TrajectoryStore.open(trajectories, verify=False), CuratedSet.open(curated, verify=False)
    thetas = [theta_P.to(device) for theta_P in store.ends()]
    return Ensemble(expert_network(store, galaxies, own), thetas, features=features), galaxies.normalisation


def check_experts(store: TrajectoryStore, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible unless the experts were trained on this curated set."""
    check_parent(store.manifest, "curated", curated.manifest, store.folder.uri)
