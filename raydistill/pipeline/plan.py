"""Where each stage's artifact of a config will be, and under which identity, before anything runs.

The folder is `<output>/<name>/<kind>-<identity, 12 digits>`. An identity covers what determines the artifact: its own part of the
config, its parents' identities, the seed, and for the survey the vote table's digest, or the names and sizes of a data set's files. So
`run` skips what exists, a changed value makes a new folder beside the old one, and nothing is ever overwritten.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from raydistill import config as configs
from raydistill.artifacts import curated, distilled, evaluation, search, trajectories
from raydistill.artifacts.manifest import Manifest, commit, exists, identity_of, open_manifest
from raydistill.config import CatalogSurvey, Config, Distill
from raydistill.core.architectures import Custom
from raydistill.core.networks import build, embedding, probe
from raydistill.datasets.base import DataSet
from raydistill.errors import ArtifactMissing, CatalogError, ConfigError
from raydistill.galaxies.classes import BUILTIN_TREES, ClassTree, load_class_tree
from raydistill.galaxies.images import FolderImages, ParquetImages
from raydistill.simulation.config import SimulatedSurvey
from raydistill.storage import Folder

SURVEY = "survey"
ALL = "all"  # the classes of a data set
LARGEST_TILT = 45  # degrees by which augmentation may turn galaxies that lie level


@dataclass(frozen=True)
class ArtifactSpec:
    """One artifact to be: its kind, identity, folder, and what it is made from."""

    kind: str
    identity: str
    folder: Folder
    seed: int
    config: dict[str, Any]
    parents: dict[str, ArtifactSpec]

    @property
    def done(self) -> bool:
        return exists(self.folder)

    def commit(self) -> Manifest:
        """Make the finished folder an artifact."""
        manifests = {name: open_manifest(spec.folder, spec.kind, verify=False) for name, spec in self.parents.items()}
        uris = {name: spec.folder.uri for name, spec in self.parents.items()}
        return commit(
            self.folder,
            kind=self.kind,
            identity=self.identity,
            config=self.config,
            parents=manifests,
            seed=self.seed,
            uris=uris,
        )


class Plan:
    """The places of a config's artifacts."""

    def __init__(self, config: Config) -> None:
        check(config)
        self.config = config
        self.root = Folder(config.output) / config.name

    @cached_property
    def survey(self) -> ArtifactSpec | None:
        """The simulated survey; None where the survey is a user's own."""
        if not isinstance(self.config.survey, SimulatedSurvey):
            return None
        return self._spec(SURVEY, {"survey": self.config.survey}, {}, self.config.seed)

    def user_survey(self) -> CatalogSurvey | DataSet:
        """The survey as a user has it, wherever it comes from. ArtifactMissing for one that is not simulated yet."""
        if not isinstance(self.config.survey, SimulatedSurvey):
            return self.config.survey
        assert self.survey is not None
        open_manifest(self.survey.folder, SURVEY, verify=False)
        root = self.survey.folder.uri
        images = FolderImages(root=f"{root}/images", mapping=f"{root}/filename_mapping.csv")
        return CatalogSurvey(catalog=f"{root}/catalog.csv", images=images, dialect="hart16")

    @cached_property
    def curated(self) -> ArtifactSpec:
        survey, curate = self.config.survey, self.config.curate
        parts: dict[str, Any] = {"survey": configs.plain(survey), "curate": curate}
        words = {}
        if not isinstance(survey, SimulatedSurvey):
            # A mended word changes no picture: these two stand in the manifest and not in the identity.
            words = {key: parts["survey"].pop(key) for key in ("licence", "citation")}
        if isinstance(survey, DataSet):
            parts["data_sha256"] = survey.digest()
            parts["survey"].pop("download", None)
        if isinstance(survey, CatalogSurvey):
            parts["catalog_sha256"] = _sha256(survey.catalog, "vote table", "survey.catalog")
            if not isinstance(survey.images, ParquetImages) and survey.images.mapping is not None:
                parts["mapping_sha256"] = _sha256(survey.images.mapping, "filename mapping", "survey.images.mapping")
        if isinstance(curate.classes, str) and curate.classes not in (*BUILTIN_TREES, ALL):
            parts["class_tree_sha256"] = _sha256(curate.classes, "class tree", "curate.classes")
        # Nothing in curation is random: runs that differ in their seed share it.
        spec = self._spec(curated.KIND, parts, {SURVEY: self.survey} if self.survey else {}, 0)
        return replace(spec, config=spec.config | words)

    @cached_property
    def class_tree(self) -> ClassTree:
        """What the curated set's galaxies are sorted by."""
        return load_class_tree(self.config.curate.classes)

    @cached_property
    def trajectories(self) -> ArtifactSpec:
        network = self.config.network
        parts = {"network": network, "sources": configs.sources(network), "experts": self.config.experts}
        return self._spec(trajectories.KIND, parts, {curated.KIND: self.curated}, self.config.seed)

    @cached_property
    def distilled(self) -> ArtifactSpec:
        parents = {curated.KIND: self.curated, trajectories.KIND: self.trajectories}
        parts = {"distill": self.config.distill}
        return self._spec(distilled.KIND, parts, parents, self.config.seed)

    def with_resolved_paths(self) -> Plan:
        """Itself, fit to be sent to a worker: all that relative paths lead to has been found."""
        _ = self.trajectories
        if self.config.curate.classes != ALL:
            _ = self.class_tree
        return self

    def with_recipe(self, distill: Distill) -> Plan:
        """The same with another recipe. Curated set, experts and classes, which it does not change, are not looked up again: where a
        trial works, in a folder of its own, relative paths lead elsewhere."""
        other = copy(self)
        other.config = replace(self.config, distill=distill)
        check_recipe(other.config)
        for name in ("distilled", "search", "judged", "evaluation"):  # the cached properties that it does change
            other.__dict__.pop(name, None)
        return other

    @cached_property
    def search(self) -> ArtifactSpec:
        parents = {curated.KIND: self.curated, trajectories.KIND: self.trajectories}
        parts = {"distill": self.config.distill, "search": self.config.search}
        return self._spec(search.KIND, parts, parents, self.config.seed)

    @cached_property
    def judged(self) -> ArtifactSpec:
        """The distilled set to be evaluated: the run's own, or the one that `distilled=PATH` names."""
        if self.config.distilled is None:
            return self.distilled
        folder = Folder(self.config.distilled)
        try:
            manifest = open_manifest(folder, distilled.KIND, verify=False)
        except ArtifactMissing as error:
            raise ArtifactMissing("no finished distilled set is here", folder.uri, "correct distilled=PATH") from error
        return ArtifactSpec(distilled.KIND, manifest.identity, folder, manifest.seed, manifest.config, {})

    @cached_property
    def evaluation(self) -> ArtifactSpec:
        networks = (self.config.network, *self.config.evaluate.other_networks)
        parts = {"evaluate": self.config.evaluate, "network": networks[0], "sources": configs.sources(*networks)}
        parents = {curated.KIND: self.curated, distilled.KIND: self.judged}
        return self._spec(evaluation.KIND, parts, parents, self.config.seed)

    def specs(self) -> list[ArtifactSpec]:
        """What `run` makes, in the order of the data's flow."""
        own = [] if self.config.distilled is not None else [self.trajectories, self.distilled]
        found = [self.survey, self.curated, *own, self.evaluation]
        return [spec for spec in found if spec is not None]

    def search_specs(self) -> list[ArtifactSpec]:
        """What `tune` makes, and what it needs."""
        found = [self.survey, self.curated, self.trajectories, self.search]
        return [spec for spec in found if spec is not None]

    def _spec(self, kind: str, parts: Mapping[str, Any], parents: dict[str, ArtifactSpec], seed: int) -> ArtifactSpec:
        config = {name: configs.plain(part) for name, part in parts.items()}
        identity = identity_of(kind, config, {name: spec.identity for name, spec in parents.items()}, seed)
        return ArtifactSpec(kind, identity, self.root / f"{kind}-{identity[:12]}", seed, config, parents)


def check(config: Config) -> None:
    """ConfigError for values that do not go together; each of them alone is fine. Needs neither a cluster nor the survey."""
    networks = {f"evaluate.other_networks.{i}": one for i, one in enumerate(config.evaluate.other_networks)}
    for key, architecture in {"network": config.network, **networks}.items():
        try:
            network = build(architecture, num_classes=2, image_size=config.curate.image_size)
            if isinstance(architecture, Custom):  # ours stand it in a test
                probe(network, num_classes=2, image_size=config.curate.image_size)
            if "dm" in config.evaluate.baselines and key == "network":
                embedding(network)
        except ValueError as error:
            raise ConfigError(str(error), key, "choose another network, or another curate.image_size") from error
    names = Counter(network.name for network in (config.network, *config.evaluate.other_networks))
    for name in [name for name, count in names.items() if count > 1]:
        what = f"two networks are called '{name}', and their figures would be mixed"
        raise ConfigError(what, "evaluate.other_networks", "leave one of them out, or give it another name")
    check_recipe(config)
    if config.curate.align:
        _check_augmentation(config)
    if isinstance(config.survey, DataSet):
        if config.curate.classes == ALL:
            return
        if config.curate.classes in BUILTIN_TREES:
            what = f"'{config.curate.classes}' are classes of galaxies, and the survey is a data set with its own"
            raise ConfigError(what, "curate.classes", "set it to all, or to a list of class names")
    try:
        load_class_tree(config.curate.classes)
    except ConfigError as error:
        spec = f"curate.classes, {error.where}" if error.where else "curate.classes"
        raise ConfigError(error.what, spec, error.fix) from error


def check_recipe(config: Config) -> None:
    """ConfigError for a recipe that does not go with these experts."""
    ahead, epochs = config.distill.expert_epochs, config.experts.training.epochs
    if ahead > epochs:
        what = f"the target lies {ahead} epochs ahead, but experts are trained for {epochs} only"
        raise ConfigError(what, "distill.expert_epochs", "lower it or raise experts.training.epochs")
    first = config.distill.schedule.min_start_epoch
    if first + ahead > epochs:
        what = f"the first start epoch is {first} and its target {ahead} epochs ahead, but experts are trained for {epochs} only"
        raise ConfigError(what, "distill.schedule.min_start_epoch", "lower it or raise experts.training.epochs")
    if config.experts.keep == "ends" and config.distill.trajectories != "straight":
        what = "of the experts only the ends are kept, and SGD's trajectories need every epoch"
        raise ConfigError(what, "distill.trajectories", "set it to straight, or experts.keep to all")


def _check_augmentation(config: Config) -> None:
    """ConfigError where galaxies that were turned level are turned away again."""
    ways = {"experts.training": config.experts.training.augmentation, "distill": config.distill.augmentation}
    ways |= {f"evaluate.protocols.{k}.training": v.training.augmentation for k, v in config.evaluate.protocols.items()}
    ways |= {
        "evaluate.full_data": config.evaluate.full_data.augmentation,
        "evaluate.dm": config.evaluate.dm.augmentation,
    }
    for key, way in ways.items():
        if "dihedral" in way.operations or ("rotate" in way.operations and way.max_rotation > LARGEST_TILT):
            what = f"curate.align lays galaxies level, and [{', '.join(way.operations)}] turns them away again"
            raise ConfigError(what, f"{key}.augmentation", "leave it out, or give operations: [mirror]")


def _sha256(uri: str, noun: str, key: str) -> str:
    """Digest of a file, or of the names and sizes of the files where it is a folder of Parquet files."""
    parent, _, name = uri.rstrip("/").rpartition("/")
    folder = Folder(parent or ("/" if uri.startswith("/") else "."))
    if not folder.exists(name):
        raise CatalogError(f"there is no such {noun}", uri, f"check {key}, and RAYDISTILL_DATA if the config uses it")
    inside = folder.files(name)
    if inside in ([], [name]):
        return folder.sha256(name)
    return hashlib.sha256(repr([(n, folder.size(n)) for n in inside]).encode()).hexdigest()
