"""The training sets compared: the distilled set, its baselines, and all the data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import ray
from torch import Tensor

from raydistill.artifacts.manifest import check_parent, identity_of
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Baseline, Config, Evaluate, Protocol, plain, sources
from raydistill.config.kinds import added
from raydistill.distillation import coreset
from raydistill.distillation.characteristic import characteristic_matching
from raydistill.distillation.coreset import Coreset
from raydistill.distillation.distribution import distribution_matching
from raydistill.distillation.initial import expert_labels, hard_labels
from raydistill.distillation.options import DistributionMatching
from raydistill.errors import ArtifactIncompatible, ConfigError, RaydistillError
from raydistill.imports import load_entry_point
from raydistill.learning.architectures import Architecture
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import Network, build_network
from raydistill.learning.normalise import one_hot
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.cluster import PROGRESS_INTERVAL
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import Processor, ensure_schedulable
from raydistill.runtime.tasks import worker_task
from raydistill.seeding import fold_in, generator
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet, SyntheticImages
from raydistill.stages.evaluate.artifact import unaugmented
from raydistill.stages.evaluate.config import BASELINES
from raydistill.stages.evaluate.fits import Split, TrainingSet
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.classifier import expert_architecture, expert_network
from raydistill.storage import Folder, checked
from raydistill.table import revision

log = get_logger(__name__)


@dataclass(frozen=True)
class TrainingSets:
    """Make the training sets to compare: one list per set, with an entry per network.

    The entries of a list are equal, except those of `random_real`.

    If the distilled set has soft labels, the baselines get labels from the same source: the votes,
    or its experts. Otherwise the comparison would credit the images with the gain from soft labels.
    """

    options: Evaluate
    distilled: DistilledSet
    baselines: Baselines
    teachers: Teachers | None
    votes_NK: Tensor | None

    def small(self) -> Iterator[list[TrainingSet]]:
        """Yield the distilled set and the baselines of its size."""
        count, distilled = self.options.num_networks, self.distilled
        if distilled.selected.soft and self.votes_NK is None and self.teachers is None:
            log.warning(
                "evaluate: the baselines get hard labels: the experts, which would give them soft ones, are missing"
            )
        yield [_from_images("distilled", distilled.selected)] * count
        if distilled.last.iteration != distilled.selected.iteration:
            yield [_from_images("distilled_last", distilled.last)] * count
        for name in self.options.baselines:
            yield self._baseline(name)

    def for_scores(self) -> Iterator[tuple[list[TrainingSet], str, Protocol]]:
        """Yield the additional sets of the scores, each with protocol name and protocol.

        They use the first protocol, also without augmentation. A set with soft labels is also
        trained with hard ones.
        """
        name, protocol = self.options.first_protocol
        plain = replace(protocol, training=replace(protocol.training, augmentation=Augmentation()))
        distilled, count = _from_images("distilled", self.distilled.selected), self.options.num_networks
        random = self._baseline("random_real")
        if "random_real" not in self.options.baselines:
            yield random, name, protocol
        if self.distilled.selected.soft:
            # The learned rates belong to the soft labels; with hard labels the rate is searched
            # for.
            targets = hard_labels(self.baselines.num_classes, self.distilled.images_per_class)
            yield [TrainingSet("distilled_hard", 0, distilled.images_NCHW, targets)] * count, name, protocol
        yield [distilled] * count, unaugmented(name), plain
        yield random, unaugmented(name), plain

    def full_data(self) -> TrainingSet:
        """Return all the training data."""
        images, labels = self.baselines.train
        return TrainingSet("full_data", 0, images, one_hot(labels, self.baselines.num_classes))

    def _baseline(self, name: Baseline) -> list[TrainingSet]:
        count = self.options.num_networks
        draws = count if name == "random_real" or name in added(BASELINES) else 1
        coresets = [self.baselines.images(name, draw) for draw in range(draws)]
        sets = [TrainingSet(name, draw, c.images_SCHW, self._labels(c)) for draw, c in enumerate(coresets)]
        return [sets[i % draws] for i in range(count)]

    def _labels(self, coreset: Coreset) -> Tensor:
        num_classes, ipc, teachers = self.baselines.num_classes, self.baselines.ipc, self.teachers
        if self.votes_NK is not None:
            return coreset.mean(self.votes_NK)
        if self.distilled.selected.soft and teachers:
            logits = expert_labels(coreset.images_SCHW, num_classes, ipc, teachers.network, teachers.ends)
            return logits.softmax(dim=1)
        return hard_labels(num_classes, ipc)


def load_votes(plan: Plan, distilled: DistilledSet, curated: CuratedSet) -> Tensor | None:
    """Return class probabilities [N, K] of the training galaxies, from their votes.

    None unless the labels of the distilled set are votes or were initialised with votes.
    """
    recipe = distilled.manifest.config.get("distill", {})
    if "votes" not in (recipe.get("labels"), recipe.get("label_init")):
        return None
    if not curated.has_votes and plan.config.evaluate.scores:
        raise ArtifactIncompatible(
            "its labels are votes, and this survey has no votes for the random images that the scores need",
            distilled.folder.uri,
            "set evaluate.scores=false",
        )
    if not curated.has_votes:
        log.warning(
            "evaluate: the labels of the distilled set are votes; this survey has none, so the baselines get other labels"
        )
        return None
    return curated.probabilities("train", plan.class_tree)


def _from_images(name: str, images: SyntheticImages) -> TrainingSet:
    lrs = images.student_lrs if len(images.student_lrs) else None  # a set made for heads has no rates
    return TrainingSet(name, 0, images.images_SCHW, images.targets_SK, lrs)


@dataclass(frozen=True)
class Teachers:
    """The experts of the distilled set, trained under its normalisation."""

    store: TrajectoryStore
    architecture: Architecture
    network: Network

    @cached_property
    def ends(self) -> list[Tensor]:
        """The final parameters theta_P of each expert, read once."""
        return self.store.ends()


def load_teachers(plan: Plan, distilled: DistilledSet, curated: CuratedSet) -> Teachers | None:
    """Return the distilled set's experts; None, with a warning, if they do not open.

    Experts of the same run are looked for in the run folder, so it can be moved.
    """
    parent = distilled.manifest.parents.get("trajectories")
    if parent is None:
        log.warning("evaluate: the experts are left out (the distilled set does not name any)")
        return None
    experts = plan.trajectories
    try:
        store = TrajectoryStore.open(experts.folder if experts.identity == parent.identity else parent.uri)
        check_parent(distilled.manifest, "trajectories", store.manifest, distilled.folder.uri)
        networks = plan.config.networks
        architecture, network = expert_architecture(store, networks), expert_network(store, curated, networks)
    except RaydistillError as error:
        log.warning("evaluate: the experts are left out (%s)", error)
        return None
    return Teachers(store, architecture, network)


# The baselines: sets of the distilled set's size, without trajectory matching.


@dataclass(frozen=True)
class Baselines:
    """Make the images of each baseline.

    Parameters
    ----------
    config
        The config of the run, with the options of `dm` and `ncfm`, and the network.
    train
        The training split to choose from.
    num_classes
        Number of classes.
    ipc
        Images per class, as many as the distilled set stores.
    root
        Seed of the evaluation.
    cache
        Folder of cached images of `dm` and `ncfm`.
    evaluated_on
        As in `Evaluator`; part of the name under which images are cached.
    """

    config: Config
    train: Split
    num_classes: int
    ipc: int
    root: int
    cache: Folder
    evaluated_on: str

    def images(self, name: Baseline, draw: int) -> Coreset:
        """Return classes * ipc images, sorted by class.

        The draw seeds `random_real`, `class_mean` and the baselines of other packages.
        """
        arguments = (*self.train, self.num_classes, self.ipc)
        match name:
            case "random_real":
                return coreset.random_real(*arguments, generator(self.root, name, draw))
            case "class_mean":
                return coreset.class_mean(*arguments, generator(self.root, name, draw))
            case "k_center":
                return coreset.k_center(*arguments)
            case "herding":
                return coreset.herding(*arguments)
            case "dm" | "ncfm":
                return coreset.with_class_origins(self._matched(name), self.train[1], self.num_classes)
            case _:
                chosen = load_entry_point(added(BASELINES)[name])(*arguments, generator(self.root, name, draw))
                return self._checked(name, chosen)

    def _checked(self, name: str, chosen: Coreset) -> Coreset:
        """Return the coreset of another package, if its images fit."""
        shape, expected = chosen.images_SCHW.shape, (self.num_classes * self.ipc, *self.train[0].shape[1:])
        if shape != expected:
            what = f"the baseline '{name}' gives images of shape {tuple(shape)}, not {expected}"
            raise ConfigError(what, "evaluate.baselines", "correct the package that adds it, or leave it out")
        return chosen

    def _matched(self, name: Literal["dm", "ncfm"]) -> Tensor:
        """Return the images of a feature-matching method, cached or from a Ray task."""
        config, options = self.config, getattr(self.config.evaluate, name)
        seed = fold_in(self.root, name, options.seed)
        inputs = {
            "revision": revision("evaluation"),
            name: plain(options),
            "network": plain(config.networks[0]),
            "sources": sources(config.networks[0]),
            "ipc": self.ipc,
        }
        if name == "ncfm":
            inputs["augmentation"] = plain(config.evaluate.dm.augmentation)
        file = f"{name}-{identity_of(name, inputs, {'curated': self.evaluated_on}, seed)}.safetensors"
        if (cached := checked.read(self.cache, file)) is not None:
            return unpack_tensors(cached)[0]["images"]
        resources = config.resources
        ensure_schedulable(resources)
        task = worker_task(_match, resources, num_returns="streaming")
        images = None
        with (
            progress(options.iterations, f"matching distributions ({name})", "iterations") as shown,
            translate_errors("evaluate"),
        ):
            for reference in task.remote(config, name, ray.put(self.train), self.num_classes, self.ipc, seed):
                iteration, loss, images = ray.get(reference)
                shown.update(iteration, loss=loss)
        assert images is not None
        checked.write(self.cache, file, pack_tensors({"images": images}))
        return images


def _match(
    config: Config, name: Literal["dm", "ncfm"], train: Split, num_classes: int, ipc: int, seed: int
) -> Iterator[tuple[int, float, Tensor | None]]:
    """Yield (iteration, loss, None) once per `PROGRESS_INTERVAL`; the last has images.

    This function runs in a Ray task.
    """
    device = Processor.of(config.resources).enter()
    images, labels = (tensor.to(device) for tensor in train)
    network = build_network(config.networks[0], num_classes, images.shape[-1])
    options, reported = getattr(config.evaluate, name), time.monotonic()
    arguments = (network, images, labels, num_classes, ipc, seed)
    if isinstance(options, DistributionMatching):
        run = distribution_matching(options, *arguments)
    else:
        run = characteristic_matching(options, config.evaluate.dm.augmentation, *arguments)
    for iteration, loss, matched in run:
        last = iteration == options.iterations
        if last or time.monotonic() - reported > PROGRESS_INTERVAL:
            reported = time.monotonic()
            yield iteration, loss, matched.cpu() if last else None
