"""Load the experts of a store, for workers that classify pictures."""

from __future__ import annotations

from pydantic import TypeAdapter

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.core.architectures import Architecture
from raydistill.core.ensemble import Ensemble
from raydistill.core.networks import Network, build_network
from raydistill.core.normalise import AnyNormalisation


def load_experts(trajectories: str, curated: str, device: str, *, features: bool) -> tuple[Ensemble, AnyNormalisation]:
    """Return all experts after their last epoch, and their pictures' normalisation.

    The driver has verified both artifacts.
    """
    store, galaxies = TrajectoryStore.open(trajectories, verify=False), CuratedSet.open(curated, verify=False)
    thetas = [theta_P.to(device) for theta_P in store.ends()]
    return Ensemble(expert_network(store, galaxies), thetas, features=features), galaxies.normalisation


def expert_network(store: TrajectoryStore, curated: CuratedSet) -> Network:
    """Return the network of the experts of a curated set."""
    architecture = TypeAdapter(Architecture).validate_python(store.manifest.config["network"])
    return build_network(architecture, curated.num_classes, curated.summary.image_size)


def check_experts(store: TrajectoryStore, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible unless the experts were trained on this curated set."""
    check_parent(store.manifest, "curated", curated.manifest, store.folder.uri)
