"""Score single pictures: how probable is it that a picture is synthetic?

    training galaxies, audited pictures -> [Ray tasks: a network per fold and stream] -> partial/
    audited, held-out and further pictures -> scores -> pictures.parquet

A network of each *stream* sees pictures in its own way: their levels (appearance), or what differs
from a blurred copy (edges). Both are averaged, as the two streams of GenFace's detector are joined
(arXiv:2402.02003). A picture of the training is scored by networks of the fold that has not seen
it, all others by those of both folds.

Shape letters: N pictures, M networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import scipy
import torch
from torch import Tensor

from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import kind_of
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies.selection import SPLITS
from raydistill.learning.architectures import ConvNet
from raydistill.learning.augment import Augmentation
from raydistill.learning.calibration import Calibration, fit_temperature
from raydistill.learning.contrast import blurred
from raydistill.learning.networks import initial_parameters, shared_network
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import WeightedTraining
from raydistill.learning.training import predict_logits
from raydistill.learning.weighted_training import drawing_probabilities, fit_steps
from raydistill.runtime.resources import Processor
from raydistill.runtime.tasks import FitRunner
from raydistill.seeding import fold_in
from raydistill.stages.audit.artifact import PICTURES_SCHEMA
from raydistill.stages.audit.inputs import AuditedGroup, AuditedSet, Galaxies
from raydistill.stages.audit.metrics.realism import area_under_roc
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.sample.artifact import SyntheticSet
from raydistill.statistics.intervals import Interval, percentile_interval
from raydistill.statistics.resampling import draws
from raydistill.storage import Folder

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Stream = Literal["appearance", "edges"]

STREAMS: tuple[Stream, ...] = ("appearance", "edges")
FOLDS = 2
NETWORK = ConvNet(depth=3, width=32, norm="group")
TRAINING = WeightedTraining(steps=600, lr=0.03, average=100.0, augmentation=Augmentation(("dihedral",)))
MOST = 5000  # pictures of each kind that train a detector
BATCH = 256
REAL, SYNTHETIC = 0, 1  # outcomes
AUDITED, HELD_OUT = "audited", "held-out"
RESAMPLES = 500


class DetectorFit(NamedTuple):
    """The network of a stream that leaves out a fold."""

    stream: Stream
    fold: int


class TrainedDetector(NamedTuple):
    """Its parameters, float32 [P]."""

    theta_P: np.ndarray


@dataclass(frozen=True)
class Detector:
    """The trained networks of all streams and folds.

    Attributes
    ----------
    thetas
        Parameters float32 [P] by fit.
    image_size
        Side of the pictures in pixels.
    temperature
        Of the mean of the streams, see `learning.calibration`.
    """

    thetas: dict[DetectorFit, np.ndarray]
    image_size: int
    temperature: float = 1.0

    def logits(self, images_NHWC: Pixels, fold: int | None = None, streams: Sequence[Stream] = STREAMS) -> Floats:
        """Return the log odds that pictures are synthetic, [N], before the temperature.

        Parameters
        ----------
        images_NHWC
            uint8.
        fold
            Use the networks that have not seen this fold; None: those of both.
        streams
            Streams to average.
        """
        network = shared_network(NETWORK, 2, self.image_size)
        fits = [fit for fit in self.thetas if fit.stream in streams and fold in (None, fit.fold)]
        parts = [np.zeros(0)]
        for first in range(0, len(images_NHWC), BATCH):
            images = torch.from_numpy(images_NHWC[first : first + BATCH])
            outputs = [
                predict_logits(network, torch.tensor(self.thetas[fit]), seen(images, fit.stream)) for fit in fits
            ]
            parts.append(torch.stack([out[:, SYNTHETIC] - out[:, REAL] for out in outputs]).double().mean(0).numpy())
        return np.concatenate(parts)

    def probability(self, logits_N: Floats) -> Floats:
        """Return the calibrated probability of log odds, [N]."""
        return np.asarray(scipy.special.expit(logits_N / self.temperature))

    def score(self, images_NHWC: Pixels) -> Floats:
        """Return the probability that unseen pictures are synthetic, [N]."""
        return self.probability(self.logits(images_NHWC))


def seen(images_NHWC: Tensor, stream: Stream) -> Tensor:
    """Return what a network of the stream sees, float32 [N, 3, H, W]."""
    images = images_NHWC.movedim(3, 1).float() / 255
    if stream == "appearance":
        return 4 * (images - 0.1)
    return 20 * (images - blurred(images))


def folds_of(count: int, seed: int, kind: int) -> npt.NDArray[np.int64]:
    """Return the fold of each training picture of a kind, int64 [N]."""
    return np.random.default_rng(fold_in(seed, "forensics", kind)).permutation(count) % FOLDS


def train_detector(real_NHWC: Pixels, synthetic_NHWC: Pixels, fit: DetectorFit, seed: int, processor: Processor) -> Any:
    """Train the network of a stream on all folds but one.

    Parameters
    ----------
    real_NHWC, synthetic_NHWC
        Training pictures, uint8.
    fit
        The stream, and the fold that is left out.
    seed
        Root of folds, initial parameters and batches.
    processor
        Torch threads and GPU.
    """
    device = processor.enter()
    kept = [
        torch.from_numpy(images[folds_of(len(images), seed, kind) != fit.fold])
        for kind, images in enumerate((real_NHWC, synthetic_NHWC))
    ]
    labels_N = torch.arange(2).repeat_interleave(torch.tensor([len(images) for images in kept]))
    network = shared_network(NETWORK, 2, real_NHWC.shape[1])
    root = fold_in(seed, "detector", fit.stream, fit.fold)
    theta_P = initial_parameters(network, fold_in(root, "initial")).to(device)
    images, targets = seen(torch.cat(kept), fit.stream).to(device), one_hot(labels_N, 2).to(device)
    *_, state = fit_steps(network, theta_P, images, targets, drawing_probabilities(labels_N), TRAINING, root)
    return TrainedDetector(state.average_P.cpu().numpy())


@dataclass(kw_only=True)
class DetectorRunner(FitRunner[DetectorFit, TrainedDetector]):
    """Train the networks of a detector.

    Parameters
    ----------
    pictures
        Real and synthetic training pictures, in Ray's object store.
    seed
        As in `train_detector`.
    """

    stage, task, result = "audit", train_detector, TrainedDetector
    pictures: tuple[Any, Any] = field(default=(None, None))
    seed: int = 0

    def key(self, fit: DetectorFit) -> str:
        return f"detector-{fit.stream}-{fit.fold}"

    def arguments(self, fit: DetectorFit) -> tuple[Any, ...]:
        return *self.pictures, fit, self.seed, Processor.of(self.resources)

    def shown(self, fit: DetectorFit, result: TrainedDetector) -> dict[str, Any]:
        return {"stream": fit.stream}


def trained_detector(runner: DetectorRunner, real_NHWC: Pixels, synthetic_NHWC: Pixels) -> tuple[Detector, Floats]:
    """Return the calibrated detector of these training pictures, for a running Ray.

    With it come the log odds of the synthetic ones by networks that have not seen them.
    """
    runner.pictures = ray.put(real_NHWC), ray.put(synthetic_NHWC)
    fits = [DetectorFit(stream, fold) for stream in STREAMS for fold in range(FOLDS)]
    results = runner.train(fits, "training detectors of synthetic pictures")
    thetas = {fit: result.theta_P for fit, result in zip(fits, results, strict=True)}
    return calibrated(Detector(thetas, real_NHWC.shape[1]), (real_NHWC, synthetic_NHWC), runner.seed)


def calibrated(detector: Detector, pictures: tuple[Pixels, Pixels], seed: int) -> tuple[Detector, Floats]:
    """Return a detector with the temperature that suits pictures of unseen folds.

    With it come the log odds of the synthetic pictures, as `unseen_logits` gives them.
    """
    logits = [unseen_logits(detector, images, seed, kind) for kind, images in enumerate(pictures)]
    labels_N, logits_N = np.repeat([REAL, SYNTHETIC], [len(part) for part in logits]), np.concatenate(logits)
    pairs_N2 = np.stack([np.zeros(len(logits_N)), logits_N], axis=1)
    temperature = fit_temperature(Calibration.none(2), pairs_N2, labels_N).temperature
    return replace(detector, temperature=temperature), logits[SYNTHETIC]


def unseen_logits(detector: Detector, images_NHWC: Pixels, seed: int, kind: int) -> Floats:
    """Return the log odds of training pictures by networks that have not seen them."""
    fold_N, logits_N = folds_of(len(images_NHWC), seed, kind), np.empty(len(images_NHWC))
    for fold in range(FOLDS):
        logits_N[fold_N == fold] = detector.logits(images_NHWC[fold_N == fold], fold)
    return logits_N


def area(synthetic_N: Floats, real_N: Floats, seed: int = 0) -> Interval:
    """Return the area under the ROC curve of scores, with its interval over pictures."""

    def of(rows_BS: npt.NDArray[np.int64], rows_BR: npt.NDArray[np.int64]) -> Floats:
        scores_BN = np.concatenate([synthetic_N[rows_BS], real_N[rows_BR]], axis=1)
        positive_N = np.arange(scores_BN.shape[1]) < rows_BS.shape[1]
        return area_under_roc(scores_BN, np.broadcast_to(positive_N, scores_BN.shape))

    resampled = [
        of(*rows)
        for rows in zip(
            draws(len(synthetic_N), fold_in(seed, SYNTHETIC), RESAMPLES),
            draws(len(real_N), seed, RESAMPLES),
            strict=True,
        )
    ]
    whole = of(np.arange(len(synthetic_N))[None], np.arange(len(real_N))[None])[0]
    return percentile_interval(float(whole), np.concatenate(resampled))


def score_pictures(
    runner: DetectorRunner, training: Galaxies, audited: AuditedSet, held_out: Galaxies,
    further: dict[str, CuratedSet | SyntheticSet],
) -> pa.Table:  # fmt: skip
    """Return the scores of audited, held-out and further pictures.

    Parameters
    ----------
    runner
        Trains the detector; its pictures are set here.
    training, audited
        Real and synthetic pictures that train it, at most `MOST` of each.
    held_out
        Real pictures that do not.
    further
        Sets to score, by name.
    """
    rows = [np.sort(_shuffled(count, runner.seed)[:MOST]) for count in (len(training), len(audited))]
    real, synthetic = training.images(rows[0]), audited.images(rows[1])
    detector, logits_N = trained_detector(runner, real, synthetic)
    scores_N = np.empty(len(audited))
    scores_N[rows[1]] = detector.probability(logits_N)
    others = np.setdiff1d(np.arange(len(audited)), rows[1])
    scores_N[others] = detector.score(audited.images(others))
    made = audited.kind == kinds.SYNTHETIC
    tables = [_scored(audited.object_ids, AUDITED, made, scores_N)]
    tables += [_scored_group(detector, group, held_out.size, HELD_OUT) for group in held_out.groups]
    for name, other in further.items():
        if isinstance(other, SyntheticSet):
            loaded = other.load()
            tables.append(_scored(loaded.object_ids, name, True, detector.score(loaded.images_NHWC.numpy())))
        else:
            groups = Galaxies([other], SPLITS).groups
            tables += [_scored_group(detector, group, held_out.size, name) for group in groups]
    return pa.concat_tables(tables)


def open_further(paths: Sequence[str], image_size: int) -> dict[str, CuratedSet | SyntheticSet]:
    """Return the sets of `audit.pictures` by their paths.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        A path holds no finished curated or synthetic set, or pictures of another size.
    """
    opened: dict[str, CuratedSet | SyntheticSet] = {}
    for path in paths:
        folder = Folder(path)
        kind = SyntheticSet if kind_of(folder) == kinds.SYNTHETIC else CuratedSet
        opened[path] = kind.open(folder)
        if (size := opened[path].summary.image_size) != image_size:
            what = f"its pictures have {size} px, those of the audit {image_size}"
            raise ArtifactIncompatible(what, folder.uri, f"make it with curate.image_size={image_size}")
    return opened


def _shuffled(count: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(fold_in(seed, "forensics")).permutation(count)


def _scored_group(detector: Detector, group: AuditedGroup, size: int, name: str) -> pa.Table:
    ids = group.read(["object_id"])["object_id"].to_pylist()
    return _scored(ids, name, False, detector.score(group.images(size)))


def _scored(ids: Sequence[str], name: str, synthetic: bool, scores_N: Floats) -> pa.Table:
    count = len(ids)
    return pa.table([ids, [name] * count, [synthetic] * count, scores_N], schema=PICTURES_SCHEMA)
