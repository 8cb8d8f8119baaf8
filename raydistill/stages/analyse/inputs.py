"""Open what the sections of an analysis read.

Shapes: S prototypes, sorted by class; N training galaxies, sorted by object id; K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.tables import LabelledImages
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import require_classes
from raydistill.stages.analyse.features import Described, Describer, Property, properties_of
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.figures import distances_in_any_pose
from raydistill.stages.experts import artifact as trajectories
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classifier import check_experts, own_networks
from raydistill.stages.generate import artifact as generator
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.statistics.memorisation import Neighbours
from raydistill.statistics.permutation import Frame

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AnalysisInputs:
    """The opened artifacts of an analysis.

    Attributes
    ----------
    plan
        The plan, with the config.
    spec
        The analysis.
    curated
        The real galaxies.
    distilled
        The prototypes.
    trajectories, generator
        None where they do not exist.
    """

    plan: Plan
    spec: ArtifactSpec
    curated: CuratedSet
    distilled: DistilledSet
    trajectories: TrajectoryStore | None
    generator: GeneratorArtifact | None

    @property
    def class_names(self) -> list[str]:
        """Return the names of the K classes."""
        return self.curated.class_names

    @cached_property
    def train(self) -> LabelledImages:
        """Return the training galaxies."""
        return self.curated.load("train")

    @cached_property
    def prototypes(self) -> Pixels:
        """Return the prototypes for display, uint8 [S, H, W, 3], clipped to [0, 1]."""
        return (self.distilled.selected.display().numpy() * 255).round().astype(np.uint8)

    @cached_property
    def properties(self) -> list[Property]:
        """Return what is known of the training galaxies."""
        return properties_of(self.plan, self.curated, self.train)

    @cached_property
    def described(self) -> tuple[Described, Described] | None:
        """Return features and probabilities of training galaxies and prototypes.

        None without experts.
        """
        if self.trajectories is None:
            return None
        describe = self.describer(self.trajectories)
        galaxies = describe(self.train.images_NHWC.numpy(), "galaxies")
        return galaxies, describe(self.prototypes, "prototypes")

    def describer(self, store: TrajectoryStore) -> Describer:
        """Return what describes pictures by these experts."""
        config = self.plan.config
        return Describer(store.folder.uri, self.curated.folder.uri, config.resources, own_networks(config))

    @cached_property
    def distances(self) -> dict[str, Floats]:
        """Return the distance of each prototype to each training galaxy, [S, N], by space.

        "pixels": the root mean square difference for the best of eight flips and turns. "features",
        with experts: Euclidean, with each feature in units of its standard deviation.
        """
        distances = {"pixels": distances_in_any_pose(self.prototypes, self.train.images_NHWC.numpy())}
        if self.described is not None:
            galaxies, prototypes = (description.features_NF for description in self.described)
            frame = Frame.fit(galaxies)
            distances["features"] = cdist(frame.apply(prototypes), frame.apply(galaxies))
        return distances

    @cached_property
    def neighbours(self) -> dict[str, Neighbours]:
        """Return all training galaxies by distance to each prototype, for each space."""
        return {
            space: Neighbours.of(distances_SN, len(self.train.labels_N))
            for space, distances_SN in self.distances.items()
        }

    @cached_property
    def prototype_labels(self) -> Ints:
        """Return the class of each prototype, int64 [S]."""
        return self.distilled.labels.numpy()

    @cached_property
    def galaxy_labels(self) -> Ints:
        """Return the class of each training galaxy, int64 [N]."""
        return self.train.labels_N.numpy()


def open_inputs(plan: Plan, spec: ArtifactSpec) -> AnalysisInputs:
    """Open the parents of an analysis.

    Raises
    ------
    ArtifactMissing
        The curated set or the distilled set does not exist.
    ArtifactIncompatible
        The distilled set has other classes or another size, or an artifact was made from another
        set.
    """
    galaxies = CuratedSet.open(plan.curated.folder)
    require_classes(galaxies)
    galaxies.require_splits("train")
    prototypes = DistilledSet.open(plan.evaluated_set.folder)
    prototypes.require(galaxies.class_names, galaxies.summary.image_size)
    store = TrajectoryStore.open(plan.trajectories.folder) if trajectories.KIND in spec.parents else None
    if store is not None:
        check_experts(store, galaxies)
    model = GeneratorArtifact.open(plan.generator.folder) if generator.KIND in spec.parents else None
    if model is not None:
        check_parent(model.manifest, "curated", galaxies.manifest, model.folder.uri)
    return AnalysisInputs(plan, spec, galaxies, prototypes, store, model)
