"""Score single pictures: how probable is it that a picture is synthetic?

    training galaxies, audited pictures -> [Ray tasks: a network per fold and stream] -> partial/
    audited, held-out and further pictures -> scores -> pictures.parquet

A network of each *stream* sees pictures in its own way: their levels (appearance), or what differs
from a blurred copy (edges). Both are averaged, as the two streams of GenFace's detector are joined
(arXiv:2402.02003). The id of a galaxy decides its fold, which it shares with all synthetic pictures
that show it. Every picture is scored by the networks that leave its fold out.

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
TRAINING = WeightedTraining(steps=1500, lr=0.03, average=100.0, augmentation=Augmentation(("dihedral",)))
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


class Pictures(NamedTuple):
    """Pictures uint8 [N, H, W, 3], and the id of the galaxy that each shows.

    That of a synthetic picture is the real galaxy that was changed for it, or its own id.
    """

    images_NHWC: Pixels
    galaxies: Sequence[str]


@dataclass(frozen=True)
class Detector:
    """The trained networks of all streams and folds.

    Attributes
    ----------
    thetas
        Parameters float32 [P] by fit.
    image_size
        Side of the pictures in pixels.
    seed
        Root of the folds.
    temperature
        Of the mean of the streams, see `learning.calibration`.
    """

    thetas: dict[DetectorFit, np.ndarray]
    image_size: int
    seed: int
    temperature: float = 1.0

    def logits(self, pictures: Pictures, streams: Sequence[Stream] = STREAMS) -> Floats:
        """Return the log odds that pictures are synthetic, [N], before the temperature.

        They are those of networks that leave out the folds of the galaxies.

        Parameters
        ----------
        pictures
            The pictures.
        streams
            Streams to average.
        """
        fold_N = folds_of(pictures.galaxies, self.seed)
        result_N = np.empty(len(fold_N))
        for fold in range(FOLDS):
            fits = [DetectorFit(stream, fold) for stream in streams]
            rows = np.flatnonzero(fold_N == fold)
            for first in range(0, len(rows), BATCH):
                part = rows[first : first + BATCH]
                result_N[part] = self._logits(pictures.images_NHWC[part], fits)
        return result_N

    def _logits(self, images_BHWC: Pixels, fits: Sequence[DetectorFit]) -> Floats:
        """Return the mean log odds of some networks, [B]."""
        network, images = shared_network(NETWORK, 2, self.image_size), torch.from_numpy(images_BHWC)
        outputs = [predict_logits(network, torch.tensor(self.thetas[fit]), seen(images, fit.stream)) for fit in fits]
        return torch.stack([out[:, SYNTHETIC] - out[:, REAL] for out in outputs]).double().mean(0).numpy()

    def probability(self, logits_N: Floats) -> Floats:
        """Return the calibrated probability of log odds, [N]."""
        return np.asarray(scipy.special.expit(logits_N / self.temperature))

    def score(self, pictures: Pictures) -> Floats:
        """Return the probability that pictures are synthetic, [N]."""
        return self.probability(self.logits(pictures))


def seen(images_NHWC: Tensor, stream: Stream) -> Tensor:
    """Return what a network of the stream sees, float32 [N, 3, H, W]."""
    images = images_NHWC.movedim(3, 1).float() / 255
    if stream == "appearance":
        return 4 * (images - 0.1)
    return 20 * (images - blurred(images))


def folds_of(galaxies: Sequence[str], seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each galaxy, int64 [N], a function of its id."""
    return np.array([fold_in(seed, "forensics", galaxy) % FOLDS for galaxy in galaxies], np.int64)


def train_detector(real: Pictures, synthetic: Pictures, fit: DetectorFit, seed: int, processor: Processor) -> Any:
    """Train the network of a stream on all folds but one.

    Parameters
    ----------
    real, synthetic
        Training pictures.
    fit
        The stream, and the fold that is left out.
    seed
        Root of folds, initial parameters and batches.
    processor
        Torch threads and GPU.
    """
    device = processor.enter()
    kept = [torch.from_numpy(part.images_NHWC[folds_of(part.galaxies, seed) != fit.fold]) for part in (real, synthetic)]
    labels_N = torch.arange(2).repeat_interleave(torch.tensor([len(images) for images in kept]))
    network = shared_network(NETWORK, 2, real.images_NHWC.shape[1])
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


def trained_detector(runner: DetectorRunner, real: Pictures, synthetic: Pictures) -> Detector:
    """Return the calibrated detector of these training pictures, for a running Ray."""
    runner.pictures = ray.put(real), ray.put(synthetic)
    fits = [DetectorFit(stream, fold) for stream in STREAMS for fold in range(FOLDS)]
    results = runner.train(fits, "training detectors of synthetic pictures")
    thetas = {fit: result.theta_P for fit, result in zip(fits, results, strict=True)}
    return calibrated(thetas, real, synthetic, runner.seed)


def calibrated(thetas: dict[DetectorFit, np.ndarray], real: Pictures, synthetic: Pictures, seed: int) -> Detector:
    """Return the detector with the temperature that suits pictures of unseen folds."""
    detector = Detector(thetas, real.images_NHWC.shape[1], seed)
    logits_N = np.concatenate([detector.logits(part) for part in (real, synthetic)])
    labels_N = np.repeat([REAL, SYNTHETIC], [len(real.galaxies), len(synthetic.galaxies)])
    pairs_N2 = np.stack([np.zeros(len(logits_N)), logits_N], axis=1)
    return replace(detector, temperature=fit_temperature(Calibration.none(2), pairs_N2, labels_N).temperature)


def area(synthetic_N: Floats, real_N: Floats, seed: int = 0) -> Interval:
    """Return the area under the ROC curve of scores, with its interval over pictures."""

    def of(rows_BS: npt.NDArray[np.int64], rows_BR: npt.NDArray[np.int64]) -> Floats:
        scores_BN = np.concatenate([synthetic_N[rows_BS], real_N[rows_BR]], axis=1)
        positive_N = np.arange(scores_BN.shape[1]) < rows_BS.shape[1]
        return area_under_roc(scores_BN, np.broadcast_to(positive_N, scores_BN.shape))

    rows = [
        (row for block in draws(size, root, RESAMPLES) for row in block)
        for size, root in ((len(synthetic_N), fold_in(seed, SYNTHETIC)), (len(real_N), seed))
    ]
    resampled = [of(*(row[None] for row in pair))[0] for pair in zip(*rows, strict=True)]
    whole = of(np.arange(len(synthetic_N))[None], np.arange(len(real_N))[None])[0]
    return percentile_interval(float(whole), np.array(resampled))


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
    ids = training.column("object_id").take(pa.array(rows[0])).to_pylist()
    everything = Pictures(audited.images(np.arange(len(audited))), audited.galaxies)
    shown = Pictures(everything.images_NHWC[rows[1]], [audited.galaxies[row] for row in rows[1]])
    detector = trained_detector(runner, Pictures(training.images(rows[0]), ids), shown)
    made = audited.kind != kinds.CURATED
    tables = [_scored(audited.object_ids, AUDITED, made, detector.score(everything))]
    tables += [_scored_group(detector, group, held_out.size, HELD_OUT) for group in held_out.groups]
    for name, other in further.items():
        if isinstance(other, SyntheticSet):
            loaded = other.load()
            scores_N = detector.score(Pictures(loaded.images_NHWC.numpy(), other.galaxies()))
            tables.append(_scored(loaded.object_ids, name, True, scores_N))
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
    return _scored(ids, name, False, detector.score(Pictures(group.images(size), ids)))


def _scored(ids: Sequence[str], name: str, synthetic: bool, scores_N: Floats) -> pa.Table:
    count = len(ids)
    return pa.table([ids, [name] * count, [synthetic] * count, scores_N], schema=PICTURES_SCHEMA)
