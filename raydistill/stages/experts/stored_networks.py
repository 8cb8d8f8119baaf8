"""Read the network of an artifact without running code that it names.

The built-in networks are sizes. A `custom` network is a function of a module, so it is built only
if a network of the user's own config names the same function. Files of weights are read for networks
of the config alone: an artifact has the parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from raydistill.config import Config
from raydistill.config.kinds import BY_KIND
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ConfigError
from raydistill.learning.architectures import AnswerNetwork, Architecture, Custom
from raydistill.learning.networks import Network, build_network
from raydistill.learning.timm_networks import Timm
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore


def own_networks(config: Config) -> tuple[Architecture, ...]:
    """Return the networks of a config that artifacts of others may have too."""
    return (config.network, *config.evaluate.other_networks)


TRUST = "if you trust this code, name it in evaluate.other_networks"


def read_architecture(stored: Any, where: str, own: Sequence[Architecture], trust: str = TRUST) -> Architecture:
    """Return the architecture that an artifact stores as plain values.

    Parameters
    ----------
    stored
        The values.
    where
        The artifact.
    own
        The networks that the user names, see `own_networks`.
    trust
        How to name the code, for an error message.

    Raises
    ------
    ArtifactCorrupt
        The values are no architecture.
    ArtifactIncompatible
        It is custom, and no own network has its factory.
    """
    try:
        architecture: Architecture = TypeAdapter(Annotated[Architecture, BY_KIND]).validate_python(stored)
    except ValidationError as error:
        what = f"its network cannot be read ({error.errors()[0]['msg']})"
        raise ArtifactCorrupt(what, where, "make it again, or install the release that wrote it") from error
    network = architecture.base if isinstance(architecture, AnswerNetwork) else architecture
    if isinstance(network, Custom) and network.factory not in {one.factory for one in own if isinstance(one, Custom)}:
        what = f"its network is the code '{network.factory}', which your config does not name"
        raise ArtifactIncompatible(what, where, trust)
    if isinstance(network, Timm) and network not in own:
        fitted = network.without_weights()
        return replace(architecture, base=fitted) if isinstance(architecture, AnswerNetwork) else fitted
    return architecture


def expert_architecture(store: TrajectoryStore, own: Sequence[Architecture]) -> Architecture:
    """Return the architecture of experts. Raises as `read_architecture`."""
    return read_architecture(store.manifest.config.get("network"), store.folder.uri, own)


def expert_network(store: TrajectoryStore, curated: CuratedSet, own: Sequence[Architecture] = ()) -> Network:
    """Return the network of the experts of a curated set.

    Raises
    ------
    ArtifactCorrupt, ArtifactIncompatible
        As `read_architecture`; the network cannot be built, or has other parameters.
    """
    architecture = expert_architecture(store, own)
    try:
        network = build_network(architecture, curated.num_classes, curated.summary.image_size)
    except (ValueError, ConfigError) as error:
        raise ArtifactIncompatible(
            f"its network cannot be built ({error})", store.folder.uri, "train experts again"
        ) from error
    stored, built = store.layout.num_parameters, network.layout.num_parameters
    if stored != built:
        what = f"its experts have {stored} parameters, and their network {built}"
        raise ArtifactIncompatible(what, store.folder.uri, "train experts again")
    return network
