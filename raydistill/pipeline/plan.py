"""Plan the artifacts of a config: kind, identity and folder of each.

A plan is made before anything runs. It has the artifacts that several stages read. An artifact that
no other stage reads, such as an audit, is described in the package of its stage.

An artifact's folder is `<output>/<name>/<kind>-<first 12 digits of the identity>`. Its identity
covers what determines it:

- its own part of the config and the seed;
- the identities of its parents;
- the digest of a vote table, or the names and sizes of the files of a data set.

`run` therefore skips an artifact that exists. A changed value gives a new folder, and nothing is
overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

from raydistill import config as configs
from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import identity_of, open_manifest
from raydistill.config import CatalogSurvey, Config, Distill, Images, TableConditions
from raydistill.datasets.base import DataSet
from raydistill.datasets.folder import ImageFolder
from raydistill.distillation.recipe import MATCHED_INITS
from raydistill.errors import ConfigError
from raydistill.galaxies.classes import BUILTIN_TREES, UNLABELLED, ClassTree, load_class_tree
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.galaxies.votes import PathQuestions
from raydistill.learning.architectures import AnswerNetwork, Architecture
from raydistill.pipeline.checks import ALL, check, check_recipe
from raydistill.pipeline.specs import ArtifactSpec, existing_spec, file_digest, survey_parts
from raydistill.simulation.config import SimulatedSurvey
from raydistill.stages.pretrain.config import EXPERTS, OWN, GivenWeights, Trained
from raydistill.stages.sample.config import SimulatorSource
from raydistill.stages.simulate.artifact import CATALOG, TRUTH
from raydistill.storage import Folder
from raydistill.table import revision


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
        return self.spec(kinds.SURVEY, {"survey": self.config.survey}, {}, self.config.seed)

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
        open_manifest(self.survey.folder, kinds.SURVEY, verify=False)
        return self.simulated_survey(self.survey.folder)

    def pictures(self) -> Images | DataSet:
        """Return where the survey's pictures are, with `auto` where the config has it."""
        survey = self.config.survey
        if isinstance(survey, SimulatedSurvey):
            assert self.survey is not None
            survey = self.simulated_survey(self.survey.folder)
        return survey if isinstance(survey, DataSet) else survey.images

    @property
    def truth(self) -> str | None:
        """Return the table of a simulated survey's truth; None for a user's own survey."""
        return None if self.survey is None else f"{self.survey.folder.uri}/{TRUTH}"

    @staticmethod
    def simulated_survey(folder: Folder) -> CatalogSurvey:
        """Return a simulated survey in the form in which users describe their own."""
        root = folder.uri
        images = FolderImages(root=f"{root}/images", mapping=f"{root}/filename_mapping.csv")
        return CatalogSurvey(catalog=f"{root}/{CATALOG}", images=images, dialect="hart16")

    @cached_property
    def curated(self) -> ArtifactSpec:
        """The curated set.

        Nothing in curation is random, so runs with different seeds share it.
        """
        curate, survey = self.config.curate, self.config.survey
        if isinstance(survey, ImageFolder) and f"{self.root.uri}/".startswith(f"{Folder(survey.root).uri}/"):
            what = f"the run's folder is below {survey.root}, and its figures would become pictures of the survey"
            raise ConfigError(what, "output", "give a folder elsewhere")
        identifying, provenance = survey_parts(self.config.survey)
        parts: dict[str, Any] = {**identifying, "curate": curate}
        if isinstance(curate.classes, str) and curate.classes not in (*BUILTIN_TREES, ALL, UNLABELLED):
            parts["class_tree_sha256"] = file_digest(curate.classes, "class tree", "curate.classes")
        if curate.exclude is not None and curate.exclude.table is not None:
            parts["excluded_sha256"] = file_digest(curate.exclude.table, "table", "curate.exclude.table")
        if curate.filter is not None and curate.filter.labels is not None:
            parts["labels_sha256"] = file_digest(curate.filter.labels, "table", "curate.filter.labels")
        spec = self.spec(kinds.CURATED, parts, {kinds.SURVEY: self.survey} if self.survey else {}, 0)
        return replace(spec, config=spec.config | provenance)

    @cached_property
    def class_tree(self) -> ClassTree:
        """The decision tree that assigns the survey's galaxies to classes."""
        return load_class_tree(self.config.curate.classes)

    @property
    def known_classes(self) -> ClassTree | None:
        """The same; None for all classes of a data set, which are known after curation."""
        return None if self.config.curate.classes == ALL else self.class_tree

    @cached_property
    def expert_network(self) -> Architecture:
        """Return the experts' network.

        It is `network`, with an output per answer for `experts.targets: counts`.
        """
        network = self.config.network
        if self.config.experts.targets != "counts":
            return network
        questions = PathQuestions.of(self.class_tree)
        return AnswerNetwork(base=network, questions=questions.sizes, paths=questions.paths)

    @cached_property
    def trajectories(self) -> ArtifactSpec:
        """The experts' trajectories."""
        sources = configs.sources(self.config.network)
        parts = {"network": self.expert_network, "sources": sources, "experts": self.config.experts}
        return self.spec(kinds.TRAJECTORIES, parts, {kinds.CURATED: self.curated}, self.config.seed)

    @cached_property
    def encoder(self) -> ArtifactSpec:
        """The encoder that is trained without labels, or given."""
        pretrain = self.config.pretrain
        # Paths of extra sets and of a given file do not matter, but their contents do.
        networks = [pretrain.network] if isinstance(pretrain.source, Trained | GivenWeights) else []
        parts: dict[str, Any] = {**pretrain.identifying(), "sources": configs.sources(*networks)}
        if pretrain.file is not None:
            parts["file_sha256"] = file_digest(pretrain.file[0], "file", pretrain.file[1], contents=True)
        parents = {kinds.CURATED: self.curated}
        if isinstance(pretrain.source, Trained):  # nothing else reads further sets
            parents |= {f"{kinds.CURATED}_{n}": spec for n, spec in enumerate(self.pretrain_sets, start=2)}
        return self.spec(kinds.ENCODER, parts, parents, self.config.seed if pretrain.seed is None else pretrain.seed)

    @cached_property
    def all_encoders(self) -> list[ArtifactSpec]:
        """The encoder, and those of `pretrain.members`."""
        pretrain, seed = self.config.pretrain, self.encoder.seed
        options = [
            replace(pretrain, network=network, seed=seed + number, members=())
            for number, network in enumerate(pretrain.members, start=1)
        ]
        return [self.encoder, *(Plan(replace(self.config, pretrain=other)).encoder for other in options)]

    @property
    def pretraining(self) -> ArtifactSpec:
        """The first of all encoders that is missing; `encoder` if none is."""
        missing = (replace(spec, plan=self) for spec in self.all_encoders if not spec.exists)
        return next(missing, self.encoder)

    @cached_property
    def pretrain_sets(self) -> list[ArtifactSpec]:
        """The curated sets of `pretrain.extra_sets`. Raises as `extra_sets`."""
        fix = "correct pretrain.extra_sets, or run 'raydistill curate CONFIG'"
        return [existing_spec(kinds.CURATED, uri, fix) for uri in self.config.pretrain.extra_sets]

    @cached_property
    def describer(self) -> ArtifactSpec:
        """The experts or the encoder whose features describe pictures: `features`.

        Raises
        ------
        ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
            The path is not a finished encoder.
        """
        if self.config.features in (EXPERTS, OWN):
            return self.trajectories if self.config.features == EXPERTS else self.encoder
        fix = "correct features, or run 'raydistill pretrain CONFIG'"
        return existing_spec(kinds.ENCODER, self.config.features, fix)

    @cached_property
    def picture_encoder(self) -> ArtifactSpec | None:
        """The encoder that `features` names, if it describes any picture.

        None for the experts, and for a table of features. Raises as `describer`.
        """
        if self.config.features == EXPERTS:
            return None
        is_table = self.describer.config.get("source", {}).get("kind") == "embeddings"
        return None if is_table else self.describer

    @cached_property
    def distilled(self) -> ArtifactSpec:
        """The distilled set of this recipe."""
        return self.spec(kinds.DISTILLED, *self._recipe_inputs([self.config.distill.init]), self.config.seed)

    def _recipe_inputs(self, inits: Sequence[Any]) -> tuple[dict[str, Any], dict[str, ArtifactSpec]]:
        """Return the parts of the config that a recipe depends on, and the parents.

        It begins in one of the ways `inits`.
        """
        recipe, parents = self.config.distill, {kinds.CURATED: self.curated}
        # Paths of encoders do not matter, but their identities do.
        parts: dict[str, Any] = {"distill": recipe.without_paths()}
        if recipe.encoders:
            parents |= {f"{kinds.ENCODER}_{n}": spec for n, spec in enumerate(self.encoders)}
            if not MATCHED_INITS.isdisjoint(inits):  # in features of untrained networks
                parts |= {"network": self.expert_network, "network_sources": configs.sources(self.config.network)}
        else:
            parents[kinds.TRAJECTORIES] = self.trajectories
        if recipe.needs_generator:
            parents[kinds.GENERATOR] = self.generator
        if recipe.space.kind == "generator" and recipe.labels != "hard":
            parts["conditions"] = "classes"  # before 2026-12 they were the labels, which change
        if (outcome := recipe.outcome) is not None:
            parts["sources"] = configs.sources(*outcome.networks)
        return parts, parents

    @cached_property
    def encoders(self) -> list[ArtifactSpec]:
        """The encoders of `distill.objective.encoders`.

        Raises
        ------
        ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
            A path is not a finished encoder.
        """
        return self._named_encoders(self.config.distill.encoders, "distill.objective.encoders")

    @cached_property
    def unseen_encoders(self) -> list[ArtifactSpec]:
        """The encoders of `evaluate.encoders`. Raises as `encoders`."""
        return self._named_encoders(self.config.evaluate.encoders, "evaluate.encoders")

    def _named_encoders(self, uris: Sequence[str], key: str) -> list[ArtifactSpec]:
        fix = f"correct {key}, or run 'raydistill pretrain CONFIG'"
        return [
            spec
            for uri in uris
            for spec in (self.all_encoders if uri == OWN else [existing_spec(kinds.ENCODER, uri, fix)])
        ]

    def with_resolved_paths(self) -> Plan:
        """Return the plan, ready for a worker: all files of relative paths are read."""
        _ = self.trajectories, self.distilled, self.known_classes
        return self

    def with_recipe(self, distill: Distill) -> Plan:
        """Return a plan that differs in its recipe alone.

        It keeps the curated set, the experts, the encoders and the classes, and so reads no file again: a trial
        runs in a folder of its own, where relative paths name other files.

        Raises
        ------
        ConfigError
            The recipe needs epochs that the experts do not train or do not keep.
        """
        other = copy(self)
        other.config = replace(self.config, distill=distill)
        check_recipe(other.config, self.known_classes)
        # These are cached, and depend on the recipe.
        for name in ("distilled", "search", "evaluated_set", "evaluation"):
            other.__dict__.pop(name, None)
        if distill.encoders != self.config.distill.encoders:
            other.__dict__.pop("encoders", None)
        return other

    @cached_property
    def search(self) -> ArtifactSpec:
        """The report of a search over recipes."""
        searched = self.config.search.space.get("init")
        inits = [self.config.distill.init, *(searched if isinstance(searched, list) else ())]
        parts, parents = self._recipe_inputs(inits)
        return self.spec(kinds.SEARCH, {**parts, "search": self.config.search}, parents, self.config.seed)

    @cached_property
    def evaluated_set(self) -> ArtifactSpec:
        """The distilled set to evaluate: the run's own, or that of `distilled=PATH`."""
        if self.config.distilled is None:
            return self.distilled
        return existing_spec(kinds.DISTILLED, self.config.distilled, "correct distilled=PATH")

    @cached_property
    def generator(self) -> ArtifactSpec:
        """The generator of galaxy pictures."""
        # Paths of extra sets do not matter, but their identities do.
        parts = {"generate": configs.plain(replace(self.config.generate.with_digest(), extra_sets=()))}
        if self.config.generate.model.network.kind == "stable-diffusion":
            parts["generate"]["model"]["network"].pop("path")  # the digest names the weights, wherever they are
        parents = {kinds.CURATED: self.curated}
        if self.config.generate.needs_features:
            parents[self.describer.kind] = self.describer
        parents |= {f"{kinds.CURATED}_{n}": spec for n, spec in enumerate(self.extra_sets, start=2)}
        own_seed = self.config.generate.seed
        return self.spec(kinds.GENERATOR, parts, parents, self.config.seed if own_seed is None else own_seed)

    @cached_property
    def extra_sets(self) -> list[ArtifactSpec]:
        """The curated sets of `generate.extra_sets`.

        Raises
        ------
        ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
            A path is not a finished curated set.
        """
        fix = "correct generate.extra_sets, or run 'raydistill curate CONFIG'"
        return [existing_spec(kinds.CURATED, uri, fix) for uri in self.config.generate.extra_sets]

    @cached_property
    def filter_experts(self) -> ArtifactSpec:
        """Return the experts that filter samples.

        They are the run's own, or those of `sample.filter.experts=PATH`.
        """
        wanted = self.config.sample.filter
        if wanted is None or wanted.experts is None:
            return self.trajectories
        return existing_spec(kinds.TRAJECTORIES, wanted.experts, "correct sample.filter.experts=PATH")

    @cached_property
    def synthetic(self) -> ArtifactSpec:
        """The synthetic set."""
        sample = self.config.sample
        parts: dict[str, Any] = {"sample": sample}
        if isinstance(sample.conditions, TableConditions):
            parts["table_sha256"] = file_digest(sample.conditions.table, "table", "sample.conditions.table")
        if isinstance(sample.source, SimulatorSource):
            parts["simulator"] = revision("survey")  # another renderer gives other pictures
        parents = {kinds.CURATED: self.curated}
        if self.config.sample.needs_generator:
            parents[kinds.GENERATOR] = self.generator
        if sample.filter is not None:
            parents[kinds.TRAJECTORIES] = self.filter_experts
        return self.spec(kinds.SYNTHETIC, parts, parents, sample.seed)

    @cached_property
    def evaluation(self) -> ArtifactSpec:
        """The evaluation report."""
        networks = self.config.networks
        # Paths of encoders do not matter, but their identities do.
        parts = {
            "evaluate": replace(self.config.evaluate, encoders=()),
            "network": networks[0],
            "sources": configs.sources(*networks),
        }
        parents = {kinds.CURATED: self.curated, kinds.DISTILLED: self.evaluated_set}
        parents |= {f"{kinds.ENCODER}_{n}": spec for n, spec in enumerate(self.unseen_encoders)}
        if self.config.evaluate.draws:
            parents[kinds.GENERATOR] = self.generator
        return self.spec(kinds.EVALUATION, parts, parents, self.config.seed)

    def spec(self, kind: str, parts: Mapping[str, Any], parents: Mapping[str, ArtifactSpec], seed: int) -> ArtifactSpec:
        """Return the artifact that parts of the config, parents and a seed determine.

        Parameters
        ----------
        kind
            Kind of artifact. Its folder is `<kind>-<first 12 digits of the identity>` below that of
            the run.
        parts
            The parts of the config that determine it, as dataclasses or plain values, by their key.
        parents
            The artifacts that its stage reads, by their role.
        seed
            The seed of the stage; 0 where nothing is random.
        """
        config = {name: configs.plain(part) for name, part in parts.items()}
        identity = identity_of(kind, config, {name: spec.identity for name, spec in parents.items()}, seed)
        return ArtifactSpec(kind, identity, self.root / f"{kind}-{identity[:12]}", seed, config, dict(parents), self)
