"""Plan the artifacts of a config: kind, identity and folder of each.

A plan is made before anything runs.

An artifact's folder is `<output>/<name>/<kind>-<first 12 digits of the identity>`. Its identity
covers what determines it:

- its own part of the config and the seed;
- the identities of its parents;
- the digest of a vote table, or the names and sizes of the files of a data set.

`run` therefore skips an artifact that exists. A changed value gives a new folder, and nothing is
overwritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from raydistill import config as configs
from raydistill.artifacts import (
    audit,
    curated,
    distilled,
    evaluation,
    generator,
    predictions,
    search,
    synthetic,
    trajectories,
)
from raydistill.artifacts.manifest import Manifest, commit, describe_kind, exists, identity_of, kind_of, open_manifest
from raydistill.config import CatalogSurvey, Config, Distill, TableConditions
from raydistill.datasets.base import DataSet
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, CatalogError
from raydistill.galaxies.classes import BUILTIN_TREES, UNLABELLED, ClassTree, load_class_tree
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.pipeline.config_checks import ALL, check, check_recipe
from raydistill.simulation.config import SimulatedSurvey
from raydistill.storage import Folder

SURVEY = "survey"


@dataclass(frozen=True)
class ArtifactSpec:
    """An artifact of a plan, whether or not it exists yet.

    Parameters
    ----------
    kind
        The kind of artifact, such as `curated`.
    identity
        Digest of `kind`, `config`, the identities of `parents` and `seed`.
    folder
        Where its files are, or will be.
    seed
        The seed of the stage; 0 where nothing is random.
    config
        The part of the config that determines the artifact, as plain values.
    parents
        The artifacts that the stage reads, by their role.
    """

    kind: str
    identity: str
    folder: Folder
    seed: int
    config: dict[str, Any]
    parents: dict[str, ArtifactSpec]

    @property
    def exists(self) -> bool:
        """Whether the artifact is finished: its folder has a manifest."""
        return exists(self.folder)

    def commit(self) -> Manifest:
        """Write and return the manifest, which makes the finished files an artifact."""
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
    """The artifacts of a config.

    Parameters
    ----------
    config
        A loaded config. A file that it names is read when an artifact that depends on the file is
        requested.

    Raises
    ------
    ConfigError
        Values of the config contradict one another (`config_checks.check`).
    """

    def __init__(self, config: Config) -> None:
        check(config)
        self.config = config
        self.root = Folder(config.output) / config.name

    @cached_property
    def survey(self) -> ArtifactSpec | None:
        """The simulated survey; None if the survey is a user's own."""
        if not isinstance(self.config.survey, SimulatedSurvey):
            return None
        return self._spec(SURVEY, {"survey": self.config.survey}, {}, self.config.seed)

    def user_survey(self) -> CatalogSurvey | DataSet:
        """Return the survey in the form in which users describe their own.

        Raises
        ------
        ArtifactMissing
            The survey is to be simulated and does not exist yet.
        """
        if not isinstance(self.config.survey, SimulatedSurvey):
            return self.config.survey
        assert self.survey is not None
        open_manifest(self.survey.folder, SURVEY, verify=False)
        return self.simulated_survey(self.survey.folder)

    @staticmethod
    def simulated_survey(folder: Folder) -> CatalogSurvey:
        """Return a simulated survey in the form in which users describe their own."""
        root = folder.uri
        images = FolderImages(root=f"{root}/images", mapping=f"{root}/filename_mapping.csv")
        return CatalogSurvey(catalog=f"{root}/catalog.csv", images=images, dialect="hart16")

    @cached_property
    def curated(self) -> ArtifactSpec:
        """The curated set.

        Nothing in curation is random, so runs with different seeds share it.
        """
        curate = self.config.curate
        identifying, provenance = survey_parts(self.config.survey)
        parts: dict[str, Any] = {**identifying, "curate": curate}
        if isinstance(curate.classes, str) and curate.classes not in (*BUILTIN_TREES, ALL, UNLABELLED):
            parts["class_tree_sha256"] = _sha256(curate.classes, "class tree", "curate.classes")
        spec = self._spec(curated.KIND, parts, {SURVEY: self.survey} if self.survey else {}, 0)
        return replace(spec, config=spec.config | provenance)

    @cached_property
    def class_tree(self) -> ClassTree:
        """The decision tree that assigns the survey's galaxies to classes."""
        return load_class_tree(self.config.curate.classes)

    @cached_property
    def trajectories(self) -> ArtifactSpec:
        """The experts' trajectories."""
        network = self.config.network
        parts = {"network": network, "sources": configs.sources(network), "experts": self.config.experts}
        return self._spec(trajectories.KIND, parts, {curated.KIND: self.curated}, self.config.seed)

    @cached_property
    def distilled(self) -> ArtifactSpec:
        """The distilled set of this recipe."""
        parents = {curated.KIND: self.curated, trajectories.KIND: self.trajectories}
        parts = {"distill": self.config.distill}
        return self._spec(distilled.KIND, parts, parents, self.config.seed)

    def with_resolved_paths(self) -> Plan:
        """Return the plan, ready for a worker: all files of relative paths are read."""
        _ = self.trajectories
        if self.config.curate.classes != ALL:
            _ = self.class_tree
        return self

    def with_recipe(self, distill: Distill) -> Plan:
        """Return a plan that differs in its recipe alone.

        It keeps the curated set, the experts and the classes, and so reads no file again: a trial
        runs in a folder of its own, where relative paths name other files.

        Raises
        ------
        ConfigError
            The recipe needs epochs that the experts do not train or do not keep.
        """
        other = copy(self)
        other.config = replace(self.config, distill=distill)
        check_recipe(other.config)
        for name in ("distilled", "search", "evaluated_set", "evaluation"):  # cached, and depend on the recipe
            other.__dict__.pop(name, None)
        return other

    @cached_property
    def search(self) -> ArtifactSpec:
        """The report of a search over recipes."""
        parents = {curated.KIND: self.curated, trajectories.KIND: self.trajectories}
        parts = {"distill": self.config.distill, "search": self.config.search}
        return self._spec(search.KIND, parts, parents, self.config.seed)

    @cached_property
    def evaluated_set(self) -> ArtifactSpec:
        """The distilled set to evaluate: the run's own, or that of `distilled=PATH`."""
        if self.config.distilled is None:
            return self.distilled
        return self._existing(distilled.KIND, self.config.distilled, "correct distilled=PATH")

    @cached_property
    def generator(self) -> ArtifactSpec:
        """The generator of galaxy pictures."""
        # Paths of extra sets do not matter, but their identities do.
        parts = {"generate": configs.identity_part(replace(self.config.generate.with_digest(), extra_sets=()))}
        if self.config.generate.model.network.kind == "stable-diffusion":
            parts["generate"]["model"]["network"].pop("path")  # the digest names the weights, wherever they are
        parents = {curated.KIND: self.curated}
        if self.config.generate.needs_experts:
            parents[trajectories.KIND] = self.trajectories
        parents |= {f"{curated.KIND}_{n}": spec for n, spec in enumerate(self.extra_sets, start=2)}
        return self._spec(generator.KIND, parts, parents, self.config.seed)

    @cached_property
    def extra_sets(self) -> list[ArtifactSpec]:
        """The curated sets of `generate.extra_sets`.

        Raises
        ------
        ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
            A path is no finished curated set.
        """
        fix = "correct generate.extra_sets, or run 'raydistill curate CONFIG'"
        return [self._existing(curated.KIND, uri, fix) for uri in self.config.generate.extra_sets]

    @cached_property
    def filter_experts(self) -> ArtifactSpec:
        """The experts that filter samples: the run's own, or those of `sample.filter.experts=PATH`."""
        wanted = self.config.sample.filter
        if wanted is None or wanted.experts is None:
            return self.trajectories
        return self._existing(trajectories.KIND, wanted.experts, "correct sample.filter.experts=PATH")

    @cached_property
    def synthetic(self) -> ArtifactSpec:
        """The synthetic set that the generator samples."""
        sample = self.config.sample
        parts: dict[str, Any] = {"sample": sample}
        if isinstance(sample.conditions, TableConditions):
            parts["table_sha256"] = _sha256(sample.conditions.table, "table", "sample.conditions.table")
        parents = {curated.KIND: self.curated, generator.KIND: self.generator}
        if sample.filter is not None:
            parents[trajectories.KIND] = self.filter_experts
        return self._spec(synthetic.KIND, parts, parents, sample.seed)

    @cached_property
    def evaluation(self) -> ArtifactSpec:
        """The evaluation report."""
        networks = (self.config.network, *self.config.evaluate.other_networks)
        parts = {"evaluate": self.config.evaluate, "network": networks[0], "sources": configs.sources(*networks)}
        parents = {curated.KIND: self.curated, distilled.KIND: self.evaluated_set}
        return self._spec(evaluation.KIND, parts, parents, self.config.seed)

    def predictions(self, survey: Mapping[str, Any], parents: Mapping[str, ArtifactSpec]) -> ArtifactSpec:
        """Return the predictions of the experts for a survey.

        Parameters
        ----------
        survey
            What identifies the survey's pictures and their preparation, as plain values.
        parents
            The artifact that the survey is, by its role; empty for other surveys.
        """
        own = {curated.KIND: self.curated, trajectories.KIND: self.trajectories}
        parts = {"predict": self.config.predict, "pictures": dict(survey)}
        return self._spec(predictions.KIND, parts, {**own, **parents}, 0)

    def audited_set(self, path: str | None) -> ArtifactSpec:
        """Return the set to audit: the synthetic set of the run, or the one in another folder.

        Raises
        ------
        ArtifactMissing, ArtifactIncompatible
            The folder has no finished synthetic, distilled or other curated set.
        """
        if path is None:
            return self.synthetic
        folder, fix = Folder(path), "give the folder of a synthetic, a distilled or another curated set"
        if not exists(folder):
            raise ArtifactMissing("no finished set is here", folder.uri, fix)
        kind = kind_of(folder)
        if kind not in (synthetic.KIND, distilled.KIND, curated.KIND):
            raise ArtifactIncompatible(f"this is a {describe_kind(kind)[0]}, which cannot be audited", folder.uri, fix)
        spec = self._existing(kind, path, fix)
        if kind == curated.KIND and spec.identity == self.curated.identity:
            raise ArtifactIncompatible("this is the curated set that others are compared with", folder.uri, fix)
        return spec

    def audit(self, path: str | None) -> ArtifactSpec:
        """Return the audit of the run's synthetic set, or of the set in another folder."""
        audited = self.audited_set(path)
        role = "other" if audited.kind == curated.KIND else audited.kind
        parents = {curated.KIND: self.curated, role: audited}
        if self.audit_uses_experts:
            parents[trajectories.KIND] = self.trajectories
        return self._spec(audit.KIND, {"audit": self.config.audit}, parents, self.config.audit.seed)

    @property
    def audit_uses_experts(self) -> bool:
        """Whether an audit compares features of the run's experts."""
        spaces = self.config.audit.spaces
        return self.trajectories.exists if spaces is None else "experts" in spaces

    def synthetic_specs(self) -> list[ArtifactSpec]:
        """Return the artifacts that `sample` reads, and the synthetic set that it writes."""
        experts = [] if self.config.sample.filter is None else [self.filter_experts]
        specs = [*self.generator_specs(), *experts, self.synthetic]
        return [spec for spec in specs if spec is not None]

    def audit_specs(self, path: str | None) -> list[ArtifactSpec]:
        """Return the artifacts that `audit` reads, and the audit that it writes."""
        own = self.audit(path)
        return [*([self.survey] if self.survey is not None else []), *own.parents.values(), own]

    def generator_specs(self) -> list[ArtifactSpec]:
        """Return the artifacts that `generate` reads, and the generator that it trains."""
        experts = [self.trajectories] if self.config.generate.needs_experts else []
        specs = [self.survey, self.curated, *experts, *self.extra_sets, self.generator]
        return [spec for spec in specs if spec is not None]

    def search_specs(self) -> list[ArtifactSpec]:
        """Return the artifacts that `tune` reads, and the search report that it builds."""
        specs = [self.survey, self.curated, self.trajectories, self.search]
        return [spec for spec in specs if spec is not None]

    @staticmethod
    def _existing(kind: str, uri: str, fix: str) -> ArtifactSpec:
        """Return the finished artifact at a path that the config names."""
        folder = Folder(uri)
        try:
            manifest = open_manifest(folder, kind, verify=False)
        except ArtifactMissing as error:
            raise ArtifactMissing(f"no finished {describe_kind(kind)[0]} is here", folder.uri, fix) from error
        return ArtifactSpec(kind, manifest.identity, folder, manifest.seed, manifest.config, {})

    def _spec(self, kind: str, parts: Mapping[str, Any], parents: dict[str, ArtifactSpec], seed: int) -> ArtifactSpec:
        config = {name: configs.identity_part(part) for name, part in parts.items()}
        identity = identity_of(kind, config, {name: spec.identity for name, spec in parents.items()}, seed)
        return ArtifactSpec(kind, identity, self.root / f"{kind}-{identity[:12]}", seed, config, parents)


def survey_parts(survey: configs.Survey) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what identifies a survey, and what only describes it.

    Licence and citation do not affect the data, so the identity leaves them out; the manifest has
    them.
    """
    parts: dict[str, Any] = {"survey": configs.identity_part(survey)}
    if isinstance(survey, SimulatedSurvey):
        return parts, {}
    provenance = {key: parts["survey"].pop(key) for key in ("licence", "citation")}
    if isinstance(survey, DataSet):
        parts["data_sha256"] = survey.digest()
        parts["survey"].pop("download", None)
    if isinstance(survey, CatalogSurvey):
        parts["catalog_sha256"] = _sha256(survey.catalog, "vote table", "survey.catalog")
        if not isinstance(survey.images, ParquetImages) and survey.images.mapping is not None:
            parts["mapping_sha256"] = _sha256(survey.images.mapping, "filename mapping", "survey.images.mapping")
    return parts, provenance


def _sha256(uri: str, noun: str, key: str) -> str:
    """Return the digest of a file, or that of the names and sizes of a folder's files."""
    parent, _, name = uri.rstrip("/").rpartition("/")
    folder = Folder(parent or ("/" if uri.startswith("/") else "."))
    if not folder.exists(name):
        raise CatalogError(f"there is no such {noun}", uri, f"check {key}, and RAYDISTILL_DATA if the config uses it")
    inside = folder.files(name)
    if inside in ([], [name]):
        return folder.sha256(name)
    return hashlib.sha256(repr([(n, folder.size(n)) for n in inside]).encode()).hexdigest()
