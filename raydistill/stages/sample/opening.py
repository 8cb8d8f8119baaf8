"""Open the source of synthetic galaxies that the config names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from raydistill.artifacts.manifest import check_parent
from raydistill.diffusion.options.sampling import Sampling
from raydistill.galaxies.classes import ClassTree
from raydistill.galaxies.gz2 import GZ2
from raydistill.galaxies.trees import TREES
from raydistill.pipeline.checks import ALL
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.embedding import Embedder, open_expert
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.sample.galaxies import Survey
from raydistill.stages.sample.hosts import open_hosts, open_simulator, telescope_of
from raydistill.stages.sample.pictures import GeneratorPictures, InjectedPictures, PictureSource, SimulatedPictures
from raydistill.stages.sample.pools import Pool, make_pools
from raydistill.stages.sample.source import GeneratorSource, InjectionSource
from raydistill.stages.sample.starts import Starts


@dataclass(frozen=True)
class OpenedSource:
    """A source, ready to make pictures.

    Attributes
    ----------
    pools
        Where the samples come from.
    pictures
        Makes the pictures of a block on a worker.
    description
        The part `source` of the summary.
    generator
        Content digest of the generator; None for another source.
    sampling
        Its solver and guidance.
    condition
        Name and size of each group of its conditions.
    starts
        Real galaxies from which sampling starts; None: from noise.
    """

    pools: list[Pool]
    pictures: PictureSource
    description: dict[str, Any]
    generator: str | None = None
    sampling: Sampling | None = None
    condition: tuple[tuple[str, int], ...] = ()
    starts: Starts | None = None


def open_source(plan: Plan, curated: CuratedSet) -> OpenedSource:
    """Return the source of the config.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        The generator or an expert does not exist, or was trained on another curated set.
    ConfigError, CatalogError
        Conditions, classes or examples are wrong.
    """
    source = plan.config.sample.source
    if isinstance(source, GeneratorSource):
        return _open_generator(plan, curated, source)
    survey = Survey(curated, TREES[curated.summary.tree or GZ2.name], paths_of_classes(plan, curated))
    size = curated.summary.image_size
    if isinstance(source, InjectionSource):
        hosts = open_hosts(source, survey, plan.config)
        description = asdict(source) | {"model": asdict(hosts.model)}
        return OpenedSource(hosts.pools, InjectedPictures(hosts.model, size), description)
    telescope = telescope_of(source, plan.config)
    pictures = SimulatedPictures(
        ranges=source.parameters,
        telescope=telescope,
        picture_size=source.picture_size,
        crop_fraction=source.crop_fraction or curated.summary.crop_fraction,
        image_size=size,
        align=curated.summary.aligned,
    )
    return OpenedSource(open_simulator(source, survey), pictures, asdict(source) | {"telescope": asdict(telescope)})


def _open_generator(plan: Plan, curated: CuratedSet, source: GeneratorSource) -> OpenedSource:
    generator = GeneratorArtifact.open(plan.generator.folder)
    check_parent(generator.manifest, "curated", curated.manifest, generator.folder.uri)
    tree = TREES[curated.summary.tree or GZ2.name]
    embedder = None
    if "embedding" in generator.encoding.groups:
        embedder = Embedder.read(open_expert(plan, curated), generator.folder)
    survey = Survey(curated, tree, paths_of_classes(plan, curated), embedder)
    sampling = plan.config.sample.sampling or generator.summary.sampling
    return OpenedSource(
        pools=make_pools(plan.config.sample.conditions, survey, generator.encoding),
        pictures=GeneratorPictures(plan.generator.folder.uri, sampling, source.strength),
        description=asdict(source),
        generator=generator.manifest.content,
        sampling=sampling,
        condition=tuple((group.name, group.size) for group in generator.layout.groups),
        starts=Starts.read(source, survey),
    )


def paths_of_classes(plan: Plan, curated: CuratedSet) -> ClassTree | None:
    """Return the classes and their tree paths; None if votes determine no class."""
    if plan.config.curate.classes == ALL or not curated.has_classes:
        return None
    return plan.class_tree if all(one.path for one in plan.class_tree.classes) else None
