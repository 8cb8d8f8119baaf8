"""Load the experts as an ensemble, and calibrate it on validation galaxies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.tables import decode_images
from raydistill.config import Config
from raydistill.errors import ConfigError
from raydistill.galaxies.selection import Split
from raydistill.learning.architectures import Architecture
from raydistill.learning.calibration import Calibration, fit_temperature, frequencies, trained_prior
from raydistill.learning.ensemble import Ensemble, EnsemblePrediction
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import AnyNormalisation
from raydistill.pipeline.plan import Plan
from raydistill.runtime.resources import Processor
from raydistill.runtime.tasks import map_tasks
from raydistill.stages.curate.artifact import CuratedSet, RowGroup, row_groups
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.classifier import expert_network


@dataclass(frozen=True)
class EnsembleSource:
    """Where the experts are, and how they predict.

    Parameters
    ----------
    store
        URI of the trajectories.
    architecture, num_classes, image_size
        The network.
    normalisation
        Of the curated set of the experts.
    class_names
        Names of the classes.
    num_experts
        The first experts of the store predict.
    features
        Also return features.
    batch_size
        Pictures per forward pass; None: chosen by device.
    processor
        Threads of torch, and GPUs of a worker.
    """

    store: str
    architecture: Architecture
    image_size: int
    normalisation: AnyNormalisation
    class_names: tuple[str, ...]
    num_experts: int
    features: bool
    batch_size: int | None
    processor: Processor

    def load(self, device: str, experts: Sequence[int] | None = None) -> Ensemble:
        """Return the first experts, or those with these numbers, after their last epoch."""
        store = TrajectoryStore.open(self.store, verify=False)  # the driver has verified it
        network = build_network(self.architecture, len(self.class_names), self.image_size)
        chosen = range(self.num_experts) if experts is None else experts
        thetas = [store(expert, store.num_epochs).to(device) for expert in chosen]
        return Ensemble(network, thetas, features=self.features)


def ensemble_source(
    plan: Plan, curated: CuratedSet, store: TrajectoryStore, count: int, *, features: bool = False
) -> EnsembleSource:
    """Return the first `count` experts of a store."""
    config = plan.config
    return EnsembleSource(
        store.folder.uri, plan.expert_network, curated.summary.image_size, curated.normalisation, tuple(curated.class_names),
        count, features, config.predict.batch_size, Processor.of(config.resources),
    )  # fmt: skip


@lru_cache(maxsize=1)
def load_experts(
    trajectories: str, curated: str, device: str, *, features: bool, networks: tuple[Architecture, ...] = ()
) -> tuple[Ensemble, AnyNormalisation]:
    """Return all experts after their last epoch, and their pictures' normalisation.

    The driver has verified both artifacts. `networks` are the networks that the user names. The
    last experts stay in memory.
    """
    store, galaxies = TrajectoryStore.open(trajectories, verify=False), CuratedSet.open(curated, verify=False)
    thetas = [theta_P.to(device) for theta_P in store.ends()]
    return Ensemble(expert_network(store, galaxies, networks), thetas, features=features), galaxies.normalisation


def predict_by_experts(
    trajectories: str, curated: str, device: str, images_NHWC: np.ndarray, *, features: bool,
    networks: tuple[Architecture, ...],
) -> EnsemblePrediction:  # fmt: skip
    """Return what all experts see in uint8 pictures.

    The other parameters are those of `load_experts`.
    """
    ensemble, normalisation = load_experts(trajectories, curated, device, features=features, networks=networks)
    return ensemble.predict(normalisation.apply(torch.tensor(images_NHWC)).to(device))


def check_experts(store: TrajectoryStore, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible unless the experts were trained on this curated set."""
    check_parent(store.manifest, "curated", curated.manifest, store.folder.uri)


# Calibrate an ensemble: the prior of its training, that of a survey, and a temperature.


class SplitLogits(NamedTuple):
    """Log probabilities of a split, float32 [N, K], and its classes, int64 [N]."""

    logits_NK: np.ndarray
    labels_N: np.ndarray


def split_logits(config: Config, curated: CuratedSet, source: EnsembleSource, split: Split) -> SplitLogits:
    """Return the ensemble's predictions for a split of its curated set, by Ray tasks."""
    groups = row_groups(curated, split)
    sizes = [group.size for group in groups]
    parts = map_tasks(
        _group_logits, groups, lambda group: (source, group), config.resources, "predict", f"predicting the {split} split",
        "pictures", sizes,
    )  # fmt: skip
    empty = np.empty((0, len(source.class_names)), np.float32)
    return SplitLogits(np.concatenate([empty, *parts]), np.repeat([group.label for group in groups], sizes).astype(int))


def _group_logits(source: EnsembleSource, group: RowGroup) -> np.ndarray:
    """Return log probabilities of a row group's galaxies, float32 [N, K]: a Ray task."""
    device = source.processor.enter()
    images_NHWC = decode_images(group.read(["image"])["image"], source.image_size)
    images_NCHW = source.normalisation.apply(images_NHWC).to(device)
    return source.load(device).predict(images_NCHW, source.batch_size).logits_NK.cpu().numpy()


def calibrate(config: Config, curated: CuratedSet, validation: SplitLogits) -> Calibration:
    """Return the calibration that `predict.prior` and `predict.temperature` request.

    A prior that is estimated from a survey's pictures is that of the training until then.

    Raises
    ------
    ConfigError
        `predict.prior` does not name the classes of the curated set.
    """
    counts = [entry.train for entry in curated.summary.classes]
    trained = trained_prior(config.experts.training, counts)
    calibration = Calibration(trained, chosen_prior(config.predict.prior, curated))
    if config.predict.temperature != "auto":
        return Calibration(trained, calibration.prior, config.predict.temperature)
    return fit_temperature(calibration, validation.logits_NK, validation.labels_N)


def check_prior(config: Config, curated: CuratedSet) -> None:
    """Raise ConfigError if `predict.prior` does not name the set's classes."""
    chosen_prior(config.predict.prior, curated)


def chosen_prior(prior: str | Mapping[str, float], curated: CuratedSet) -> tuple[float, ...]:
    """Return the class frequencies of `predict.prior`; ConfigError for other classes."""
    if isinstance(prior, str):
        if prior == "uniform":
            return (1 / curated.num_classes,) * curated.num_classes
        if prior == "validation":  # half a galaxy more, so that no class is impossible
            return frequencies([entry.validation + 0.5 for entry in curated.summary.classes])
        return frequencies([entry.train for entry in curated.summary.classes])
    if set(prior) != set(curated.class_names):
        what = f"it names {', '.join(prior)}, and the classes of the curated set are {', '.join(curated.class_names)}"
        raise ConfigError(what, "predict.prior", "give the frequency of each of them")
    return frequencies([prior[name] for name in curated.class_names])
