"""Open the source of synthetic galaxies that the config names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.tables import decode_images
from raydistill.config import Config
from raydistill.diffusion.conditions import ConditionLayout, Conditions
from raydistill.diffusion.options import Sampling
from raydistill.errors import ConfigError
from raydistill.galaxies.classes import ClassTree, find_class
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.log import get_logger
from raydistill.pipeline.checks import SIMULATED
from raydistill.pipeline.plan import Plan
from raydistill.simulation.config import NUM_CLASSES, SDSS, SimulatedSurvey, Telescope
from raydistill.simulation.injections import Injection
from raydistill.simulation.injections.base import contrast_of
from raydistill.simulation.injections.fitting import fit_ranges
from raydistill.simulation.parameters import check_parameters
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.pretrain.describers import Embedder, open_describer
from raydistill.stages.sample.artifact import NO_CLASS
from raydistill.stages.sample.config import GeneratorSource, InjectionSource, RecombinationSource, SimulatorSource
from raydistill.stages.sample.sources.galaxies import Galaxies, Survey, read_curated
from raydistill.stages.sample.sources.pools import Pool, SimilarGalaxies, Starts, make_pools
from raydistill.stages.sample.sources.recombined import RecombinedPictures
from raydistill.stages.sample.worker import GeneratorPictures, InjectedPictures, PictureSource, SimulatedPictures
from raydistill.surveys.survey import Preparation

log = get_logger(__name__)


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
        Real galaxies from which sampling starts, or the other galaxies of a recombination; None: there are none.
    """

    pools: list[Pool]
    pictures: PictureSource
    description: dict[str, Any]
    generator: str | None = None
    sampling: Sampling | None = None
    condition: tuple[tuple[str, int], ...] = ()
    starts: Starts | SimilarGalaxies | None = None


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
        pools, model = open_hosts(source, survey, plan.config)
        return OpenedSource(pools, InjectedPictures(model, size), asdict(source) | {"model": asdict(model)})
    if isinstance(source, RecombinationSource):
        rows = curated.table("train", ["object_id", "image"])
        log.info("sample: compares %d galaxies, to find those that are alike", len(rows))
        return OpenedSource(
            pools=open_galaxies(source.classes, source.label, survey, rows["image"]),
            pictures=RecombinedPictures(source, contrast_of(plan.config.survey), size),
            description=asdict(source),
            starts=SimilarGalaxies(rows["object_id"].to_pylist(), rows["image"], size, source.similar),
        )
    telescope = telescope_of(source, plan.config)
    crop_fraction = source.crop_fraction or curated.summary.crop_fraction
    preparation = Preparation(size, crop_fraction, curated.summary.aligned, min_size=1)
    pictures = SimulatedPictures(source.parameters, telescope, source.picture_size, preparation)
    return OpenedSource(open_simulator(source, survey), pictures, asdict(source) | {"telescope": asdict(telescope)})


def _open_generator(plan: Plan, curated: CuratedSet, source: GeneratorSource) -> OpenedSource:
    generator = GeneratorArtifact.open(plan.generator.folder)
    check_parent(generator.manifest, "curated", curated.manifest, generator.folder.uri)
    tree = TREES[curated.summary.tree or GZ2.name]
    embedder = None
    if "embedding" in generator.encoding.groups:
        embedder = Embedder.read(open_describer(plan, curated), generator.folder)
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
    tree = plan.known_classes
    return tree if tree and curated.has_classes and all(class_.path for class_ in tree.classes) else None


# Open the sources that need no generator: injections, recombinations and the simulator.
#
# Injections and recombinations are of training galaxies.

WHERE = "sample.source"
HOSTS_OF_FIT = 200  # galaxies, evenly spaced


def open_hosts(source: InjectionSource, survey: Survey, config: Config) -> tuple[list[Pool], Injection]:
    """Return pools of training galaxies, and the injection with its final ranges.

    Raises
    ------
    ConfigError
        A class or an example is unknown, or a class has no galaxy left.
    """
    rows = survey.curated.table("train", ["object_id", "image"])
    pools = open_galaxies(source.classes, source.label, survey, rows["image"], source.examples)
    model = replace(source.model, contrast=source.model.contrast or contrast_of(config.survey))
    if source.examples:
        size = survey.curated.summary.image_size
        row_of = {name: row for row, name in enumerate(rows["object_id"].to_pylist())}
        hosts = sorted(row_of[str(origin)] for pool in pools for origin in pool.galaxies.origins)
        spaced = hosts[:: max(1, len(hosts) // HOSTS_OF_FIT)][:HOSTS_OF_FIT]
        of_hosts, of_examples = (
            list(decode_images(rows["image"].take(pa.array(chosen)), size).numpy())
            for chosen in (spaced, sorted(row_of[name] for name in source.examples))
        )
        model = fit_ranges(model, of_hosts, of_examples, seed=config.sample.seed)
    return pools, model


def open_galaxies(
    classes: Sequence[str], label: str | None, survey: Survey, pictures: pa.ChunkedArray, without: Sequence[str] = ()
) -> list[Pool]:
    """Return pools of training galaxies with their pictures.

    There is one per class, or one for all if `label` is given. `pictures` are those of the training
    split, in the order of `CuratedSet.table`.

    Raises
    ------
    ConfigError
        A class or a galaxy of `without` is unknown, or a class has no galaxy left.
    """
    galaxies = read_curated(survey, ("train",))
    left_out = np.isin(np.array(galaxies.origins), without)
    for name in without:
        if name not in galaxies.origins:
            fix = "give ids of the training split; a galaxy of another split must stay unseen"
            raise ConfigError(f"the training split has no galaxy '{name}'", f"{WHERE}.examples", fix)
    labels = _labels(classes, survey, f"{WHERE}.classes")
    groups = {known: np.flatnonzero((galaxies.labels_N == known) & ~left_out) for known in labels}
    for known, rows in groups.items():
        if not len(rows):
            name = f"the class '{survey.class_names[known]}'" if known != NO_CLASS else "the training split"
            raise ConfigError(f"{name} has no galaxy to take", f"{WHERE}.classes", "name other classes")
    if label is not None:
        wanted = find_class(label, survey.class_names, f"{WHERE}.label")
        rows = np.sort(np.concatenate(list(groups.values())))
        return [_pool(label, galaxies.take(rows).with_class(wanted), pictures.take(pa.array(rows)))]
    names = {known: survey.class_names[known] if known != NO_CLASS else "" for known in groups}
    return [_pool(names[k], galaxies.take(rows), pictures.take(pa.array(rows))) for k, rows in groups.items()]


def open_simulator(source: SimulatorSource, survey: Survey) -> list[Pool]:
    """Return one pool per class of the curated set.

    Each pool takes its simulated classes in turn.

    Raises
    ------
    ConfigError
        A class is unknown or does not show one of the parameters, or the curated set has no class for
        a simulated one.
    """
    names = source.classes or SIMULATED.names[:NUM_CLASSES]  # without lenses
    groups: dict[int, list[int]] = {}
    for number in [find_class(name, SIMULATED.names, f"{WHERE}.classes") for name in names]:
        label = _label_of(number, source, survey)
        if label is not None:
            groups.setdefault(label, []).append(number)
        elif source.classes:
            what = f"the curated set has no class for the simulator's '{SIMULATED.names[number]}'"
            raise ConfigError(what, f"{WHERE}.classes", "name other classes, or give sample.source.label")
    if not groups:
        what = "the curated set has no class of the simulator"
        raise ConfigError(what, f"{WHERE}.label", "name the class that the simulated galaxies get")
    drawn = {SIMULATED.names[number]: number for numbers in groups.values() for number in numbers}
    check_parameters(source.parameters, drawn, f"{WHERE}.parameters")
    pools = []
    for label, numbers in sorted(groups.items()):
        name, galaxies = "", survey.unknown_galaxies([None] * len(numbers))
        if label != NO_CLASS:
            name, certain_N = survey.class_names[label], np.ones(len(numbers))
            galaxies = replace(galaxies, labels_N=np.full(len(numbers), label), confidence_N=certain_N)
        conditions = Conditions.unknown(len(numbers), ConditionLayout(()))
        columns = {"simulated_class": pa.chunked_array([pa.array(numbers, pa.int64())])}
        pools.append(Pool(name, galaxies, conditions, columns=columns))
    return pools


def telescope_of(source: SimulatorSource, config: Config) -> Telescope:
    """Return the telescope of the config, its simulated survey, or SDSS."""
    if source.telescope is not None:
        return source.telescope
    return config.survey.telescope if isinstance(config.survey, SimulatedSurvey) else SDSS


def _label_of(number: int, source: SimulatorSource, survey: Survey) -> int | None:
    """Return the curated set's most specific class that contains a simulated class.

    None: it has none. A curated set without classes gives -1.
    """
    if source.label is not None:
        return find_class(source.label, survey.class_names, f"{WHERE}.label")
    if not survey.class_names:
        return NO_CLASS
    simulated = SIMULATED.classes[number]
    if simulated.name in survey.class_names:
        return survey.class_names.index(simulated.name)
    fitting: dict[int, int] = {}
    for label, own_class in enumerate(survey.classes.classes if survey.classes else ()):
        if all(any(set(answers) <= set(step) for answers in simulated.path) for step in own_class.path):
            fitting[label] = len(own_class.path)
    return max(fitting, key=lambda label: fitting[label]) if fitting else None


def _labels(names: Sequence[str], survey: Survey, where: str) -> list[int]:
    """Return the labels of named classes, or of all; -1 for a set without classes."""
    if not survey.class_names:
        if names:
            raise ConfigError("the curated set has no classes", where, "leave it empty")
        return [NO_CLASS]
    labels = [find_class(name, survey.class_names, where) for name in names]
    if len(set(labels)) < len(labels):
        raise ConfigError("a class is named twice", where, "name each once")
    return labels or [label for label, class_ in enumerate(survey.curated.summary.classes) if class_.train]


def _pool(name: str, galaxies: Galaxies, pictures: pa.ChunkedArray) -> Pool:
    """Return a pool of random galaxies with unknown votes.

    An injection or a recombination may contradict the votes of the galaxies.
    """
    votes_NA = np.full_like(galaxies.votes_NA, np.nan)
    conditions = Conditions.unknown(len(galaxies), ConditionLayout(()))
    return Pool(name, replace(galaxies, votes_NA=votes_NA), conditions, random=True, columns={"picture": pictures})
