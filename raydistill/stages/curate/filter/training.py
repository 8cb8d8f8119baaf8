"""Train the filter of damaged pictures on survey pictures with injected defects.

    driver    -> a sample of training galaxies, decoded with the sky around them
    Ray tasks -> one network per fold, trained on the other folds, calibrated on its own
                 (`filter_worker`)
    driver    -> `filter.json` (`filter_report`)

A galaxy of rank r belongs to fold r modulo `FOLDS`. Galaxies of the validation and test splits
neither train nor calibrate the filter. Pictures with a label of `curate.filter.labels` train the
networks of the other fold beside the injected defects, and measure that of their own. A finished
network is kept in `partial/`, so a stage that was killed does not train it again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from PIL import Image

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Config, Images, PictureFilter
from raydistill.datasets.base import DataSet
from raydistill.errors import CatalogError
from raydistill.galaxies.selection import SPLITS
from raydistill.log import get_logger
from raydistill.runtime.tasks import FitRunner
from raydistill.seeding import fold_in
from raydistill.simulation.defects import REASONS, Reason, central, show, wide_side
from raydistill.stages.curate.decoding import decode, raise_read_error
from raydistill.stages.curate.filter.labels import Labelled, read_filter_labels
from raydistill.stages.curate.filter.network import (
    FOLDS,
    VIEW,
    Tensors,
    TrainedFilter,
    TrainedFold,
    binomial_interval,
    calibrate,
    needed_pictures,
    probabilities,
    train_filter,
)
from raydistill.storage import Folder

# Report the filter: limits, false rejections and recognised defects by reason.
#
# The report is `filter.json`.

log = get_logger(__name__)

FILTER = "filter.json"


def filter_report(results: list[FoldResult], recipe: PictureFilter) -> dict[str, Any]:
    """Return the contents of `filter.json`: the counts of all folds, by reason."""
    total = sum(fold.num_clean for fold in results)
    reasons: dict[str, Any] = {}
    for reason in recipe.reasons:
        rejected = sum(fold.rejected[reason] for fold in results)
        kinds = {
            kind: _add(fold.found[reason].get(kind, (0, 0)) for fold in results) for kind in _kinds(results, reason)
        }
        reasons[reason] = {
            "limits": [fold.limits[reason] for fold in results],
            "false_rejections": _share(rejected, total),
            "found": _share(*_add(kinds.values())),
            "found_by_kind": {kind: _share(*counts) for kind, counts in kinds.items()},
        }
    contents = {"pictures": total, "false_rejection_rate": recipe.false_rejection_rate, "reasons": reasons}
    if recipe.labels is not None:
        right, labelled = _add(fold.labelled for fold in results)
        contents["labels"] = _share(right, labelled)
    return contents


def log_report(report: dict[str, Any]) -> None:
    for reason, entry in report["reasons"].items():
        detected, wrong = entry["found"], entry["false_rejections"]
        log.info(
            "curate: filter: %s: finds %.3f [%.3f, %.3f] of injected defects, and rejects %.4f [%.4f, %.4f] of the survey's pictures",
            reason, *(detected[name] for name in ("share", "low", "high")), *(wrong[name] for name in ("share", "low", "high")),
        )  # fmt: skip

    if (labels := report.get("labels")) is not None:
        log.info(
            "curate: filter: of %d labelled pictures, networks that have not seen them recognise %.3f [%.3f, %.3f]",
            labels["total"], labels["share"], labels["low"], labels["high"],
        )  # fmt: skip


def _kinds(results: list[FoldResult], reason: Reason) -> list[str]:
    return sorted({kind for fold in results for kind in fold.found[reason]})


def _add(counts: Any) -> tuple[int, int]:
    first, second = zip(*counts, strict=True)
    return sum(first), sum(second)


def _share(count: int, total: int) -> dict[str, float]:
    share, low, high = binomial_interval(count, total)
    return {"count": count, "total": total, "share": share, "low": low, "high": high}


def train(config: Config, images: Images | DataSet, galaxies: pa.Table, folder: Folder) -> TrainedFilter | None:
    """Return the filter of `curate.filter`, and write `filter.json`; None without one.

    Raises
    ------
    CatalogError
        If too few training pictures can be used, or the storage fails.
    ClusterError
        If no machine has the CPUs of a worker.
    """
    recipe = config.curate.filter
    if recipe is None:
        folder.remove(FILTER)
        return None
    labelled = read_filter_labels(recipe, galaxies)
    damaged = [rank for rank, outcome in labelled.items() if outcome]
    sampled = np.setdiff1d(_sample_ranks(galaxies, recipe), damaged)
    known = np.array(sorted(labelled), np.int64)
    ranks, wide_NWW3 = _decode_sample(config, images, galaxies, np.union1d(sampled, known))
    is_sampled, is_known = np.isin(ranks, sampled), np.isin(ranks, known)
    _check_number(int(is_sampled.sum()), recipe)
    looked_at = Labelled.of(ranks[is_known], wide_NWW3[is_known], labelled)
    what = f" and {len(looked_at.ranks)} labelled ones" if recipe.labels else ""
    log.info("curate: training the filter on %d pictures with injected defects%s", is_sampled.sum(), what)
    results = _train_folds(config, ranks[is_sampled], wide_NWW3[is_sampled], looked_at, recipe, folder)
    report = filter_report(results, recipe)
    folder.write(FILTER, json.dumps(report, indent=1).encode())
    log_report(report)
    return TrainedFilter(tuple(TrainedFold(fold.parameters, fold.limits) for fold in results), recipe.reasons)


def check_filter(recipe: PictureFilter | None, galaxies: pa.Table) -> None:
    """Raise CatalogError if labels are wrong, or too few galaxies can calibrate it.

    Without a filter there is no check.
    """
    if recipe is not None:
        damaged = [rank for rank, outcome in read_filter_labels(recipe, galaxies).items() if outcome]
        _check_number(len(np.setdiff1d(_sample_ranks(galaxies, recipe), damaged)), recipe)


def _sample_ranks(galaxies: pa.Table, recipe: PictureFilter) -> np.ndarray:
    """Return the ranks of the sampled training galaxies, in ascending order."""
    training = np.flatnonzero(galaxies["split"].to_numpy() == SPLITS.index("train"))
    rng = np.random.default_rng(fold_in(SEED, "filter", "sample"))
    return np.sort(rng.permutation(training)[: recipe.pictures])


def _check_number(count: int, recipe: PictureFilter) -> None:
    """Raise CatalogError unless every fold can calibrate the wanted rate."""
    needed = FOLDS * (needed_pictures(recipe.false_rejection_rate) + 1)
    if count < needed:
        what = (
            f"the filter has {count} training pictures, and a false rejection rate of "
            f"{recipe.false_rejection_rate:g} needs {needed}"
        )
        fix = "raise curate.filter.false_rejection_rate or curate.filter.pictures, or set curate.filter=null"
        raise CatalogError(what, "curate.filter", fix)


def _decode_sample(
    config: Config, images: Images | DataSet, galaxies: pa.Table, ranks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ranks and wide pictures, uint8 [N, W, W, 3], of the usable galaxies."""
    side = wide_side(VIEW, config.curate.crop_fraction)
    crop = config.curate.crop_fraction * side / VIEW
    recipe = replace(
        config.curate, image_size=side, crop_fraction=min(crop, 1.0), align=False, whitening=None, filter=None
    )
    views: dict[int, np.ndarray] = {}
    for decoded in decode(images, galaxies.take(ranks), recipe, config.resources.workers):
        raise_read_error(decoded, images, started=bool(views))
        for rank, reason, png in zip(*(decoded[name].to_pylist() for name in ("rank", "reason", "image")), strict=True):
            if reason is None and rank not in views:
                views[rank] = np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]))
    pictures = np.stack([views[rank] for rank in sorted(views)]) if views else np.empty((0, side, side, 3), np.uint8)
    return np.array(sorted(views), np.int64), pictures


def _train_folds(
    config: Config, ranks: np.ndarray, wide_NWW3: np.ndarray, labelled: Labelled, recipe: PictureFilter, folder: Folder
) -> list[FoldResult]:
    """Return the result of each fold, from `partial/` or from a Ray task."""
    sha256 = hashlib.sha256(b"".join(array.tobytes() for array in (ranks, wide_NWW3, *labelled)))
    sha256.update(json.dumps([recipe.steps, recipe.false_rejection_rate, SHARES, INJECTED, ROUND]).encode())
    resources = replace(config.resources, gpus=0)  # the filter trains on CPUs
    data, digest = ray.put((ranks, wide_NWW3, labelled)), sha256.hexdigest()[:32]
    runner = FoldRunner(folder=folder, resources=resources, data=data, digest=digest, recipe=recipe)
    return runner.train(range(FOLDS), "training the filter")


# The Ray task of the filter: train, calibrate and measure the network of a fold.
#
# wide pictures -> undamaged and damaged pictures -> network -> limits -> counts of recognised defects

INJECTED = 250  # pictures per fold and reason on which the finished network is measured
SHARES = (1.0, 2.5, 1.25, 1.0, 1.75)  # of the injected defects, in the order of REASONS: more of those with many kinds
ROUND = 256  # pictures that are drawn together
LABELLED_SHARE = 4  # pictures with and without injected defects for each labelled one
SEED = 0  # curation does not depend on the seed of a run

Found = dict[str, dict[str, tuple[int, int]]]  # reason -> kind -> recognised, injected


class FoldResult(NamedTuple):
    """The network of a fold, its limits, and its counts on unseen pictures.

    Attributes
    ----------
    parameters, limits
        As in `TrainedFold`.
    num_clean
        Number of pictures that calibrated the limits.
    rejected
        Number of those that exceed the limit, by reason.
    found
        Recognised and injected defects, by reason and kind.
    labelled
        Recognised labelled pictures, and all of them.
    """

    parameters: Tensors
    limits: dict[Reason, float]
    num_clean: int
    rejected: dict[Reason, int]
    found: Found
    labelled: tuple[int, int] = (0, 0)


def train_fold(data: tuple[np.ndarray, np.ndarray, Labelled], fold: int, recipe: PictureFilter) -> FoldResult:
    """Train a fold's network on the other folds; calibrate and measure it on its own.

    Parameters
    ----------
    data
        Ranks, wide pictures uint8 [N, W, W, 3], and the labelled pictures.
    fold
        Number of the fold.
    recipe
        Steps and rate.
    """
    ranks, wide_NWW3, labelled = data
    is_own = ranks % FOLDS == fold
    injector = _Injector(
        wide_NWW3[~is_own], fold_in(SEED, "filter", "training", fold), labelled.of_fold(fold, other=True)
    )
    parameters = train_filter(len(REASONS), injector.round, recipe.steps, fold_in(SEED, "filter", "network", fold))
    own_NWW3 = wide_NWW3[is_own]
    clean = np.stack([central(wide, VIEW) for wide in own_NWW3])
    scores = probabilities(parameters, clean, len(REASONS))[:, 1:]
    limits = {reason: calibrate(scores[:, n], recipe.false_rejection_rate) for n, reason in enumerate(REASONS)}
    rejected = {reason: int((scores[:, n] > limits[reason]).sum()) for n, reason in enumerate(REASONS)}
    injector = _Injector(own_NWW3, fold_in(SEED, "filter", "measuring", fold))
    own = labelled.of_fold(fold)
    recognised_N = probabilities(parameters, own.views_NVV3, len(REASONS)).argmax(axis=1) == own.outcomes_N
    found = _measure(parameters, limits, injector)
    return FoldResult(parameters, limits, len(clean), rejected, found, (int(recognised_N.sum()), len(own.ranks)))


@dataclass(frozen=True)
class _Injector:
    """Draw pictures with and without defects from wide pictures."""

    wide_NWW3: np.ndarray
    seed: int
    labelled: Labelled | None = None

    def show(self, reason: Reason | None, index: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        other = self.wide_NWW3[rng.integers(len(self.wide_NWW3))]
        return show(reason, self.wide_NWW3[index], other, VIEW, rng)

    def round(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return random pictures, undamaged and with a random defect, and the outcomes."""
        shares = np.array(SHARES) / sum(SHARES)
        rng = np.random.default_rng(fold_in(self.seed, number))
        pictures, outcomes = [], []
        for index in rng.choice(len(self.wide_NWW3), min(ROUND, len(self.wide_NWW3)), replace=False):
            reason = int(rng.choice(len(REASONS), p=shares))
            pictures += [self.show(None, index, rng)[0], self.show(REASONS[reason], index, rng)[0]]
            outcomes += [0, 1 + reason]
        if self.labelled is not None and len(self.labelled.ranks):
            counts = np.bincount(self.labelled.outcomes_N)[self.labelled.outcomes_N]
            shares = 1 / counts / (1 / counts).sum()  # every label equally often
            rows = rng.choice(len(shares), len(pictures) // LABELLED_SHARE, p=shares)
            pictures += list(self.labelled.views_NVV3[rows])
            outcomes += self.labelled.outcomes_N[rows].tolist()
        return np.stack(pictures), np.array(outcomes, np.int64)

    def measured(self, reason: Reason) -> Iterator[tuple[np.ndarray, str]]:
        """Yield pictures with a defect, and its kind."""
        for index in range(min(INJECTED, len(self.wide_NWW3))):
            yield self.show(reason, index, np.random.default_rng(fold_in(self.seed, reason, index)))


def _measure(parameters: Tensors, limits: dict[Reason, float], injector: _Injector) -> Found:
    """Return how many injected defects exceed the limit of their reason."""
    detected: Found = {}
    for number, reason in enumerate(REASONS):
        pictures, kinds = zip(*injector.measured(reason), strict=True)
        exceeds = probabilities(parameters, np.stack(pictures), len(REASONS))[:, 1 + number] > limits[reason]
        counts = detected.setdefault(reason, {})
        for kind in sorted(set(kinds)):
            is_kind = np.array([other == kind for other in kinds])
            counts[kind] = int((exceeds & is_kind).sum()), int(is_kind.sum())
    return detected


@dataclass(kw_only=True)
class FoldRunner(FitRunner[int, FoldResult]):
    """Train the networks of the folds.

    Parameters
    ----------
    data
        Ranks and wide pictures, in Ray's object store.
    digest
        Of all that decides the results.
    recipe
        Steps and rate.
    """

    stage, task = "curate", train_fold
    data: Any
    digest: str
    recipe: PictureFilter

    def key(self, fit: int) -> str:
        return f"{PARTIAL}/defects-{fit}-{self.digest}"

    def arguments(self, fit: int) -> tuple[Any, ...]:
        return self.data, fit, self.recipe

    def shown(self, fit: int, result: FoldResult) -> dict[str, Any]:
        return {}

    def pack(self, result: FoldResult) -> bytes:
        return pack_tensors(result.parameters, result._asdict() | {"parameters": None})

    def unpack(self, data: bytes) -> FoldResult:
        tensors, info = unpack_tensors(data)
        ordered = {name: tensors[name] for name in sorted(tensors)}
        return FoldResult(**info | {"parameters": ordered})
