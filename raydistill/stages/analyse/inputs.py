"""Open what the sections of an analysis read.

Shapes: S prototypes, sorted by class; N training galaxies, sorted by object id; K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import ray
import torch
from scipy.spatial.distance import cdist

from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.tables import LabelledImages
from raydistill.config import Resources
from raydistill.errors import CatalogError
from raydistill.galaxies.tables.expressions import evaluate_rows
from raydistill.learning.architectures import Architecture
from raydistill.morphology.pictures import QUANTITIES, morphology
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import require_classes
from raydistill.runtime.tasks import map_tasks
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.figures import class_means, distances_in_any_pose
from raydistill.stages.experts import artifact as trajectories
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.embedding import open_expert
from raydistill.stages.experts.classify.ensemble import check_experts, predict_by_experts
from raydistill.stages.generate import artifact as generator
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.pretrain.describers import Describer, describe_pictures, open_describer
from raydistill.statistics.memorisation import Neighbours
from raydistill.statistics.permutation import Frame

# What is known of an analysis' galaxies: experts' features, properties of tables.

# Compute the experts' features and probabilities of pictures in Ray tasks.
#
# The pictures are galaxies and prototypes.

Floats = npt.NDArray[np.float64]
CHUNK = 256  # pictures of a task: it decides the bits, so it is not an option


class Described(NamedTuple):
    """One expert's features float64 [N, F] and mean probabilities float64 [N, K].

    The features are the first expert's; the mean is over all experts.
    """

    features_NF: Floats
    probabilities_NK: Floats


@dataclass(frozen=True)
class ExpertDescriber:
    """Describe pictures by the experts; picklable, the same on any number of workers.

    Parameters
    ----------
    trajectories, curated
        URIs of the experts and of their curated set.
    resources
        CPUs and GPUs of a task, and the number of tasks at once.
    networks
        The networks of the user's config.
    """

    trajectories: str
    curated: str
    resources: Resources
    networks: tuple[Architecture, ...] = ()

    def __call__(self, images_NHWC: npt.NDArray[np.uint8], what: str) -> Described:
        """Return features and probabilities of uint8 pictures [N, H, W, 3].

        `what` names them in the progress.
        """
        images: Any = ray.put(images_NHWC)
        starts = range(0, len(images_NHWC), CHUNK)
        parts = map_tasks(
            _describe, starts, lambda start: (self, images, start), self.resources, "analyse", f"describing {what}",
            "pictures", [len(images_NHWC[start : start + CHUNK]) for start in starts],
        )  # fmt: skip
        return Described(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _describe(describer: ExpertDescriber, images_NHWC: npt.NDArray[np.uint8], start: int) -> Described:
    device = Processor.of(describer.resources).enter()
    prediction = predict_by_experts(
        describer.trajectories, describer.curated, device, images_NHWC[start : start + CHUNK], features=True,
        networks=describer.networks,
    )  # fmt: skip
    return Described(prediction.features_NF.double().cpu().numpy(), prediction.mean_NK.double().cpu().numpy())


# Collect properties of training galaxies: from catalogues, and sizes in pictures.

BATCH = 512
# Measured on the picture, so every survey has them.
PICTURE = {
    "flux": ("picture_brightness", "log10 of the mean brightness of the picture"),
    "half_light_radius": ("picture_radius", "half-light radius in the picture, in sides of the picture"),
    "colour_red_green": ("picture_red_green", "2.5 log10 of red over green light in the stretched picture"),
    "colour_green_blue": ("picture_green_blue", "2.5 log10 of green over blue light in the stretched picture"),
}
OWN = {
    "redshift": ("", "redshift of the survey's table"),
    "petro_r90": ("arcsec", "Petrosian radius with 90 % of the light, of the survey's table"),
}
TRUE_MAGNITUDE = "truth_magnitude"


@dataclass(frozen=True)
class Property:
    """A measured property of the training galaxies.

    Attributes
    ----------
    name, unit, description
        Its name; a unit that astropy reads, or ""; its meaning.
    values_N
        float64 [N]; NaN where unknown.
    """

    name: str
    unit: str
    description: str
    values_N: Floats


def properties_of(plan: Plan, curated: CuratedSet, train: LabelledImages) -> list[Property]:
    """Return the properties that have two different values among training galaxies.

    Raises
    ------
    CatalogError, ConfigError
        The table of `analyse.properties` cannot be used.
    """
    catalogue = [*_simulated(plan, train.object_ids), *_catalogue(plan, train.object_ids)]
    properties = [*_own(curated), *catalogue, *_pictures(train.images_NHWC.numpy())]
    return [measured for measured in properties if np.nanstd(measured.values_N) > 0]


def _own(curated: CuratedSet) -> list[Property]:
    table = curated.table("train", list(OWN))
    return [
        Property(name, *OWN[name], values)
        for name in OWN
        if np.isfinite(values := table[name].to_numpy(zero_copy_only=False).astype(float)).sum() > 1
    ]


def _simulated(plan: Plan, object_ids: list[str]) -> list[Property]:
    truth = plan.truth
    if truth is None or plan.survey is None or not plan.survey.exists:
        return []
    ids, [magnitudes] = evaluate_rows(truth, [TRUE_MAGNITUDE], None, "analyse.properties", "analyse.properties.id")
    values = _by_id(object_ids, ids, magnitudes.to_numpy(float))
    return [Property("magnitude", "mag", "true r magnitude of the simulation", values)]


def _catalogue(plan: Plan, object_ids: list[str]) -> list[Property]:
    options = plan.config.analyse.properties
    if options is None:
        return []
    where = "analyse.properties.columns"
    ids, columns = evaluate_rows(options.table, list(options.columns), options.id, where, "analyse.properties.id")
    properties = []
    for (name, unit), column in zip(options.columns.items(), columns, strict=True):
        try:
            values = column.to_numpy(float)
        except (TypeError, ValueError) as error:
            raise CatalogError(
                f"column '{name}' holds no numbers", options.table, f"leave it out of {where}"
            ) from error
        values_G = _by_id(object_ids, ids, np.where(np.isfinite(values), values, np.nan))
        if np.isfinite(values_G).sum() < 2:
            what = f"'{name}' is known of fewer than two of the {len(values_G)} training galaxies"
            raise CatalogError(what, options.table, "check analyse.properties.id")
        properties.append(Property(name, unit, f"{name} of {options.table.rpartition('/')[2]}", values_G))
    return properties


def _by_id(object_ids: list[str], ids: list[str], values: Floats) -> Floats:
    known = dict(zip(ids, values.tolist(), strict=True))
    return np.array([known.get(name, np.nan) for name in object_ids])


def _pictures(images: npt.NDArray[np.uint8]) -> list[Property]:
    parts = [morphology(images[n : n + BATCH] / 255) for n in range(0, len(images), BATCH)]
    values_NQ = np.concatenate(parts)
    return [Property(name, "", text, values_NQ[:, QUANTITIES.index(key)]) for key, (name, text) in PICTURE.items()]


Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def to_bytes(images: np.ndarray) -> Pixels:
    """Return images in [0, 1] as uint8; unknown pixels are black."""
    return (np.nan_to_num(images).clip(0, 1) * 255).round().astype(np.uint8)


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
    encoder
        What gives the features; None: the experts do.
    """

    plan: Plan
    spec: ArtifactSpec
    curated: CuratedSet
    distilled: DistilledSet
    trajectories: TrajectoryStore | None
    generator: GeneratorArtifact | None
    encoder: Describer | None

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
        return to_bytes(self.distilled.selected.display().numpy())

    @cached_property
    def properties(self) -> list[Property]:
        """Return what is known of the training galaxies."""
        return properties_of(self.plan, self.curated, self.train)

    @cached_property
    def class_means(self) -> npt.NDArray[np.float32]:
        """Return the mean training galaxy of each class, float32 [K, H, W, 3].

        Black is 0 and white is 1; a class without galaxies is black.
        """
        means = class_means(self.train.images_NHWC.numpy(), self.galaxy_labels, len(self.class_names))
        return np.nan_to_num(means)

    @cached_property
    def described(self) -> tuple[Described, Described, Described] | None:
        """Return features and probabilities, or None without experts.

        They are those of training galaxies, of prototypes and of class means.
        """
        if self.trajectories is None:
            return None
        describe = self.describer(self.trajectories)
        galaxies = describe(self.train.images_NHWC.numpy(), "galaxies")
        return galaxies, describe(self.prototypes, "prototypes"), describe(to_bytes(self.class_means), "class means")

    @cached_property
    def features(self) -> list[Floats] | None:
        """Return the features of galaxies, prototypes and class means, float64 [·, F].

        They are those of the encoder, otherwise of the first expert; None without either.
        """
        if self.encoder is None:
            return None if self.described is None else [of.features_NF for of in self.described]
        pictures = np.concatenate([self.train.images_NHWC.numpy(), self.prototypes, to_bytes(self.class_means)])
        described = describe_pictures(
            self.encoder, torch.from_numpy(pictures), self.plan.config.resources, "analyse", "describing pictures"
        )
        counts = [len(self.train.images_NHWC), len(self.prototypes), len(self.class_means)]
        return [part.double().numpy() for part in described.split(counts)]

    @cached_property
    def describers(self) -> list[Describer]:
        """Return the encoder, otherwise each expert."""
        if self.encoder is not None:
            return [self.encoder]
        if self.trajectories is None:
            return []
        expert = open_expert(self.plan, self.curated)
        return [replace(expert, number=number) for number in range(self.trajectories.num_experts)]

    def space(self, name: str) -> str:
        """Return a key of `distances` in words."""
        return "in pixels" if name == "pixels" else f"in {self.whose} features"

    @property
    def whose(self) -> str:
        """Return whose features they are, in words."""
        return "the experts'" if self.encoder is None else "the encoder's"

    def describer(self, store: TrajectoryStore) -> ExpertDescriber:
        """Return what describes pictures by these experts."""
        config = self.plan.config
        return ExpertDescriber(store.folder.uri, self.curated.folder.uri, config.resources, config.networks)

    @cached_property
    def distances(self) -> dict[str, tuple[Floats, Floats]]:
        """Return distances to each training galaxy, by space.

        Those of prototypes are [S, N], those of class means [K, N].

        "pixels": the root mean square difference for the best of eight flips and turns. "features",
        if there are any: Euclidean, with each feature in units of its standard deviation.
        """
        images = np.concatenate([self.prototypes, to_bytes(self.class_means)])
        distances = {"pixels": distances_in_any_pose(images, self.train.images_NHWC.numpy())}
        if self.features is not None:
            galaxies, *others = self.features
            frame = Frame.fit(galaxies)
            distances["features"] = cdist(frame.apply(np.concatenate(others)), frame.apply(galaxies))
        count = len(self.prototypes)
        return {space: (distances_LN[:count], distances_LN[count:]) for space, distances_LN in distances.items()}

    @cached_property
    def neighbours(self) -> dict[str, Neighbours]:
        """Return all training galaxies by distance to each prototype, by space."""
        return {space: Neighbours.of(of_SN, len(self.train.labels_N)) for space, (of_SN, _) in self.distances.items()}

    @cached_property
    def mean_neighbours(self) -> dict[str, Neighbours]:
        """Return the training galaxies by distance to each class mean, by space."""
        return {space: Neighbours.of(of_KN, len(self.train.labels_N)) for space, (_, of_KN) in self.distances.items()}

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
    encoder = open_describer(plan, galaxies) if kinds.ENCODER in spec.parents else None
    return AnalysisInputs(plan, spec, galaxies, prototypes, store, model, encoder)
