"""The baselines: sets of the distilled set's size, without trajectory matching."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import ray
import torch
from torch import Tensor

from raydistill.artifacts.manifest import check_parent, identity_of
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Baseline, Config, plain, sources
from raydistill.config.kinds import added
from raydistill.distillation import coreset, difficulty
from raydistill.distillation.characteristic import characteristic_matching
from raydistill.distillation.coreset import Coreset
from raydistill.distillation.distribution import distribution_matching
from raydistill.distillation.gradients import gradient_matching
from raydistill.distillation.options import DistributionMatching, GradientMatching
from raydistill.distillation.recipe import Drawn
from raydistill.errors import ConfigError, DivergenceError, RaydistillError
from raydistill.imports import load_entry_point
from raydistill.learning.architectures import Architecture
from raydistill.learning.ensemble import Ensemble
from raydistill.learning.networks import Network, build_network, initial_parameters
from raydistill.learning.normalise import AnyNormalisation, Normalisation, one_hot
from raydistill.learning.training import evaluate as accuracy_of
from raydistill.learning.training import train as train_network
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.cluster import PROGRESS_INTERVAL
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import Processor, ensure_schedulable
from raydistill.runtime.tasks import worker_task
from raydistill.seeding import fold_in, generator
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.evaluate.artifact import DIVERGED
from raydistill.stages.evaluate.config import BASELINES
from raydistill.stages.evaluate.fits import Split
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.classifier import expert_architecture, expert_network
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.stages.generate.drawing import drawn_images
from raydistill.storage import Folder, checked
from raydistill.table import revision

log = get_logger(__name__)

Matched = Literal["dm", "ncfm", "dsa", "idc"]
ByExperts = Literal["el2n", "el2n_window", "forgetting", "moderate", "rded"]
OBSERVERS = 4  # experts that score images, at most


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
    parent, experts = distilled.manifest.parents.get("trajectories"), plan.trajectories
    if parent is None or not (parent.uri or experts.identity == parent.identity):  # a released set has no URI
        log.warning("evaluate: the experts are left out (the distilled set does not name any)")
        return None
    try:
        store = TrajectoryStore.open(experts.folder if experts.identity == parent.identity else parent.uri)
        check_parent(distilled.manifest, "trajectories", store.manifest, distilled.folder.uri)
        networks = plan.config.networks
        architecture, network = expert_architecture(store, networks), expert_network(store, curated, networks)
    except RaydistillError as error:
        log.warning("evaluate: the experts are left out (%s)", error)
        return None
    return Teachers(store, architecture, network)


@dataclass(frozen=True)
class Baselines:
    """Make the images of each baseline.

    Parameters
    ----------
    config
        The config of the run, with the options of `dm` and `ncfm`, and the network.
    train
        The training split to choose from.
    counts
        Number of images of each class, as many as the distilled set stores.
    root
        Seed of the evaluation.
    cache
        Folder of cached images of `dm` and `ncfm`.
    evaluated_on
        As in `Evaluator`; part of the name under which images are cached.
    teachers
        The experts, which some baselines ask.
    generator, normalisation
        Folder of the generator of the baselines "samples" and "mgd3", and the map from pictures to
        `train`.
    cpu_seconds
        Processor time of each baseline that was made in a Ray task, filled by `images`.
    """

    config: Config
    train: Split
    counts: tuple[int, ...]
    root: int
    cache: Folder
    evaluated_on: str
    teachers: Teachers | None = None
    generator: Folder | None = None
    normalisation: AnyNormalisation | None = None
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    def shown(self, name: Baseline) -> tuple[int, ...]:
        """Return the images of each class; `idc` stores several in place of one."""
        parts = self.config.evaluate.idc.tiles**2 if name == "idc" else 1
        return tuple(parts * count for count in self.counts)

    def images(self, name: Baseline, draw: int) -> Coreset:
        """Return images, `shown` of each class, sorted by class.

        The draw seeds random images and the baselines of other packages; all others have draw 0 alone.
        """
        arguments = (*self.train, self.counts)
        match name:
            case "random_real" | "random_soft":
                return coreset.random_real(*arguments, generator(self.root, "random_real", draw))
            case "class_mean":
                return coreset.class_mean(*arguments, generator(self.root, name, draw))
            case "cluster_mean":
                return coreset.cluster_mean(*arguments, generator(self.root, name, draw))
            case "k_center":
                return coreset.k_center(*arguments)
            case "herding":
                return coreset.herding(*arguments)
            case "dm" | "ncfm" | "dsa" | "idc":
                return coreset.with_class_origins(self._matched(name), self.train[1], self.shown(name))
            case "el2n" | "el2n_window" | "forgetting" | "moderate" | "rded":
                return self._by_experts(name)
            case "samples" | "mgd3":
                return coreset.with_class_origins(self._drawn(name), self.train[1], self.counts)
            case _:
                chosen = load_entry_point(added(BASELINES)[name])(*arguments, generator(self.root, name, draw))
                return self._checked(name, chosen)

    def _checked(self, name: str, chosen: Coreset) -> Coreset:
        """Return the coreset of another package, if its images fit."""
        shape, expected = chosen.images_SCHW.shape, (sum(self.counts), *self.train[0].shape[1:])
        if shape != expected:
            what = f"the baseline '{name}' gives images of shape {tuple(shape)}, not {expected}"
            raise ConfigError(what, "evaluate.baselines", "correct the package that adds it, or leave it out")
        return chosen

    def _matched(self, name: Matched) -> Tensor:
        """Return the images of a matching method, cached or from a Ray task."""
        config, options = self.config, getattr(self.config.evaluate, name)
        seed = fold_in(self.root, name, options.seed)
        inputs = {name: plain(options), **_network_inputs(config)}
        if name == "ncfm":
            inputs["augmentation"] = plain(config.evaluate.dm.augmentation)

        def match() -> tuple[dict[str, Tensor], float]:
            task = worker_task(_match, config.resources, num_returns="streaming")
            images, seconds = None, 0.0
            with progress(options.iterations, f"matching distributions ({name})", "iterations") as shown:
                for reference in task.remote(config, name, ray.put(self.train), self.counts, seed):
                    iteration, loss, images, seconds = ray.get(reference)
                    shown.update(iteration, loss=loss)
            assert images is not None
            return {"images": images}, seconds

        return self._cached(name, inputs, seed, match)["images"]

    def _by_experts(self, name: ByExperts) -> Coreset:
        """Return the images that experts choose, cached or from a Ray task."""
        config, teachers, seed = self.config, self.required_teachers(name), fold_in(self.root, name)

        def choose() -> tuple[dict[str, Tensor], float]:
            task, folder, train = worker_task(_choose, config.resources), teachers.store.folder.uri, ray.put(self.train)
            arguments = (folder, teachers.architecture, train, self.counts, seed)
            images_SCHW, origins_SF, seconds = ray.get(task.remote(config, name, *arguments))
            return {"images": images_SCHW, "origins": origins_SF}, seconds

        inputs = {"experts": teachers.store.manifest.content}
        if name == "el2n_window":
            _, protocol = config.evaluate.first_protocol
            inputs |= {"protocol": plain(protocol), **_network_inputs(config)}
        tensors = self._cached(name, inputs, seed, choose)
        return Coreset(tensors["images"], tuple(tensors["origins"]))

    def _drawn(self, name: Drawn) -> Tensor:
        """Return images that a generator draws, cached or from a Ray task."""
        assert self.generator is not None  # a parent of the evaluation
        config, folder, seed = self.config, self.generator, fold_in(self.root, name)

        def draw() -> tuple[dict[str, Tensor], float]:
            task, train = worker_task(_draw, config.resources), ray.put(self.train)
            arguments = (folder.uri, train, self.normalisation, self.counts, seed)
            images, seconds = ray.get(task.remote(config, name, *arguments))
            return {"images": images}, seconds

        content = GeneratorArtifact.open(folder).manifest.content
        return self._cached(name, {"generator": content}, seed, draw)["images"]

    def required_teachers(self, name: Baseline) -> Teachers:
        """Return the experts; ConfigError if there are none."""
        if self.teachers is None:
            what = f"the baseline '{name}' needs the experts of the distilled set, which are missing"
            raise ConfigError(what, "evaluate.baselines", "keep the experts, or leave the baseline out")
        return self.teachers

    def _cached(
        self, name: str, inputs: dict[str, Any], seed: int, make: Callable[[], tuple[dict[str, Tensor], float]]
    ) -> dict[str, Tensor]:
        """Return the tensors of a baseline from its file, or make and store them.

        `make` runs a Ray task, and returns the tensors and the processor time [s].
        """
        inputs = {
            "revision": revision("evaluation"),
            **inputs,
            "ipc": self.counts[0] if len(set(self.counts)) == 1 else self.counts,
        }
        file = f"{name}-{identity_of(name, inputs, {'curated': self.evaluated_on}, seed)}.safetensors"
        if (cached := checked.read(self.cache, file)) is None:
            ensure_schedulable(self.config.resources)
            with translate_errors("evaluate"):
                tensors, seconds = make()
            cached = pack_tensors(tensors, {"cpu_seconds": seconds})
            checked.write(self.cache, file, cached)
        tensors, info = unpack_tensors(cached)
        if "cpu_seconds" in info:  # files of earlier versions have none
            self.cpu_seconds[name] = info["cpu_seconds"]
        return tensors


def _network_inputs(config: Config) -> dict[str, Any]:
    return {"network": plain(config.networks[0]), "sources": sources(config.networks[0])}


def _choose(
    config: Config,
    name: ByExperts,
    experts: str,
    architecture: Architecture,
    train: Split,
    counts: tuple[int, ...],
    seed: int,
) -> tuple[Tensor, Tensor, float]:
    """Return images, their origins and processor time [s]; runs in a Ray task."""
    began = time.process_time()
    device = Processor.of(config.resources).enter()
    images, labels = (tensor.to(device) for tensor in train)
    network, store = build_network(architecture, len(counts), images.shape[-1]), TrajectoryStore.open(experts)
    observers, last = range(min(store.num_experts, OBSERVERS)), store.num_epochs
    ends, g = [store(expert, last).to(device) for expert in observers], generator(seed, name)
    arguments = (images, labels, counts)
    match name:
        case "rded":
            found = difficulty.rded(*arguments, g, network, ends)
        case "moderate":
            features = Ensemble(network, ends[:1], features=True).predict(images).features_NF
            found = difficulty.moderate(*arguments, features)
        case "el2n" | "el2n_window":
            steps = store.steps or tuple(range(last + 1))  # snapshots of a large survey are not equally far apart
            first = next(epoch for epoch in range(1, last + 1) if steps[epoch] >= difficulty.EARLY * steps[-1])
            early = [store(expert, first).to(device) for expert in observers]
            scores = difficulty.el2n_scores(network, early, images, labels)
            if name == "el2n":
                found = difficulty.easiest(*arguments, scores, g)
            else:
                taught = partial(_taught, config, (images, labels), len(counts), seed)
                found = difficulty.window_for_budget(*arguments, scores, g, taught)
        case "forgetting":
            trainings = ((store(expert, epoch) for epoch in range(1, last + 1)) for expert in observers)
            events = [difficulty.forgetting_events(network, one, images, labels) for one in trainings]
            found = difficulty.easiest(*arguments, torch.stack(events).sum(dim=0), g)
    return found.images_SCHW.cpu(), torch.stack(found.origins).cpu(), time.process_time() - began


def _taught(config: Config, train: Split, classes: int, seed: int, chosen: Coreset, labels_S: Tensor) -> float:
    """Return how well a small set trains a new network, on all training images."""
    (images, labels), (_, protocol), accuracies = train, config.evaluate.first_protocol, [DIVERGED]
    network = build_network(config.networks[0], classes, images.shape[-1])
    theta_P = initial_parameters(network, fold_in(seed, "taught")).to(images)
    data = chosen.images_SCHW, one_hot(labels_S, classes).to(images)
    training = protocol.training.with_even_batches(len(labels_S))
    for lr in protocol.lr_grid:
        with suppress(DivergenceError):
            end_P = train_network(network, theta_P, *data, replace(training, lr=lr), fold_in(seed, "taught"))
            accuracies.append(accuracy_of(network, end_P, images, labels, classes).balanced_accuracy)
    return max(accuracies)


def _draw(
    config: Config,
    name: Drawn,
    folder: str,
    train: Split,
    normalisation: Normalisation,
    counts: tuple[int, ...],
    seed: int,
) -> tuple[Tensor, float]:
    """Return images of each class and processor time [s]; runs in a Ray task."""
    began, device = time.process_time(), Processor.of(config.resources).enter()
    artifact = GeneratorArtifact.open(folder)
    images = drawn_images(artifact, name, *train, normalisation, counts, seed, device)
    return images, time.process_time() - began


def _match(
    config: Config, name: Matched, train: Split, counts: tuple[int, ...], seed: int
) -> Iterator[tuple[int, float, Tensor | None, float]]:
    """Yield (iteration, loss, None, 0) once per `PROGRESS_INTERVAL`.

    The last one has the images and the processor time [s]. This function runs in a Ray task.
    """
    began = time.process_time()
    device = Processor.of(config.resources).enter()
    images, labels = (tensor.to(device) for tensor in train)
    network = build_network(config.networks[0], len(counts), images.shape[-1])
    options, reported = getattr(config.evaluate, name), time.monotonic()
    arguments = (network, images, labels, counts, seed)
    if isinstance(options, DistributionMatching):
        run = distribution_matching(options, *arguments)
    elif isinstance(options, GradientMatching):
        run = gradient_matching(options, *arguments)
    else:
        run = characteristic_matching(options, config.evaluate.dm.augmentation, *arguments)
    for iteration, loss, matched in run:
        last = iteration == options.iterations
        if last or time.monotonic() - reported > PROGRESS_INTERVAL:
            reported = time.monotonic()
            yield iteration, loss, *((matched.cpu(), time.process_time() - began) if last else (None, 0.0))
