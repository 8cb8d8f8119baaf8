"""Train the filter of damaged pictures on pictures of the survey with injected defects.

    driver    -> a sample of training galaxies, decoded with the sky around them
    Ray tasks -> one network per fold, trained on the other folds, calibrated on its own
    driver    -> `filter.json`: limits, false rejections and recognised defects by reason

A galaxy of rank r belongs to fold r modulo `FOLDS`. Galaxies of the validation and test splits
neither train nor calibrate the filter. A finished network is kept in `partial/`, so a stage that was
killed does not train it again.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
from PIL import Image

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tensors import read_tensors, write_tensors
from raydistill.config import Config, Images, PictureFilter
from raydistill.core.picture_filter import (
    VIEW,
    Limit,
    Tensors,
    binomial_interval,
    calibrate,
    needed_pictures,
    probabilities,
    train_filter,
)
from raydistill.datasets.base import DataSet
from raydistill.errors import ArtifactError, CatalogError
from raydistill.galaxies.selection import SPLITS
from raydistill.log import get_logger, progress
from raydistill.pipeline.curate.decoding import decode, raise_read_error
from raydistill.pipeline.curate.filtering import FOLDS, TrainedFilter, TrainedFold
from raydistill.seeding import fold_in
from raydistill.simulation.defects import REASONS, Reason, central, show, wide_side
from raydistill.storage import Folder

log = get_logger(__name__)

FILTER = "filter.json"
INJECTED = 250  # pictures per fold and reason on which the finished network is measured
SHARES = (1.0, 2.5, 1.25, 1.0, 1.75)  # of the injected defects, in the order of REASONS: more of those with many kinds
ROUND = 256  # pictures that are drawn together
SEED = 0  # curation does not depend on the seed of a run

Found = dict[str, dict[str, tuple[int, int]]]  # reason -> kind -> recognised, injected


class FoldResult(NamedTuple):
    """The network of a fold, its limits, and its counts on pictures that it was not trained on.

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
    """

    parameters: Tensors
    limits: dict[Reason, Limit]
    num_clean: int
    rejected: dict[Reason, int]
    found: Found


def train(config: Config, images: Images | DataSet, galaxies: pa.Table, folder: Folder) -> TrainedFilter | None:
    """Return the filter of `curate.filter`, and write `filter.json`; None if there is none.

    Raises
    ------
    CatalogError
        If too few training pictures can be used, or the storage fails.
    """
    recipe = config.curate.filter
    if recipe is None:
        folder.remove(FILTER)
        return None
    ranks = _sample_ranks(galaxies, recipe)
    ranks, wide_NWW3 = _decode_sample(config, images, galaxies, ranks)
    _check_number(len(ranks), recipe)
    log.info("curate: training the filter on %d pictures with injected defects", len(ranks))
    results = _train_folds(config, ranks, wide_NWW3, recipe, folder)
    folder.write(FILTER, json.dumps(_report(results, recipe), indent=1).encode())
    _log_report(_report(results, recipe))
    return TrainedFilter(tuple(TrainedFold(one.parameters, one.limits) for one in results), recipe.reasons)


def check_filter(recipe: PictureFilter | None, galaxies: pa.Table) -> None:
    """Raise CatalogError if the selected galaxies are too few to calibrate the filter, if there is one."""
    if recipe is not None:
        _check_number(len(_sample_ranks(galaxies, recipe)), recipe)


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
    """Return the ranks and the wide pictures, uint8 [N, W, W, 3], of the galaxies that can be used."""
    side = wide_side(VIEW, config.curate.crop_fraction)
    crop = config.curate.crop_fraction * side / VIEW
    recipe = replace(
        config.curate, image_size=side, crop_fraction=min(crop, 1.0), align=False, whitening=None, filter=None
    )
    found: dict[int, np.ndarray] = {}
    for decoded in decode(images, galaxies.take(ranks), recipe, config.resources.workers):
        raise_read_error(decoded, images, started=bool(found))
        for rank, reason, png in zip(*(decoded[name].to_pylist() for name in ("rank", "reason", "image")), strict=True):
            if reason is None and rank not in found:
                found[rank] = np.asarray(Image.open(io.BytesIO(png)))
    pictures = np.stack([found[rank] for rank in sorted(found)]) if found else np.empty((0, side, side, 3), np.uint8)
    return np.array(sorted(found), np.int64), pictures


def _train_folds(
    config: Config, ranks: np.ndarray, wide_NWW3: np.ndarray, recipe: PictureFilter, folder: Folder
) -> list[FoldResult]:
    """Return the result of each fold, from `partial/` or from a Ray task."""
    sha256 = hashlib.sha256(ranks.tobytes() + wide_NWW3.tobytes())
    sha256.update(json.dumps([recipe.steps, recipe.false_rejection_rate, SHARES, INJECTED, ROUND]).encode())
    key, resources = sha256.hexdigest(), config.resources
    results = {fold: saved for fold in range(FOLDS) if (saved := _load(folder, fold, key)) is not None}
    task: Any = ray.remote(num_cpus=resources.cpus, max_retries=resources.max_restarts)(train_fold)
    data = ray.put((ranks, wide_NWW3)) if len(results) < FOLDS else None
    running = {task.remote(data, fold, recipe): fold for fold in range(FOLDS) if fold not in results}
    with progress(FOLDS, "training the filter", "networks", start=len(results)) as shown:
        while running:
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            fold, result = running.pop(done), ray.get(done)
            _save(folder, fold, key, result)
            results[fold] = result
            shown.advance()
    return [results[fold] for fold in range(FOLDS)]


def train_fold(data: tuple[np.ndarray, np.ndarray], fold: int, recipe: PictureFilter) -> FoldResult:
    """Train the network for the pictures of a fold on those of the others; calibrate and measure it.

    Parameters
    ----------
    data
        Ranks, and wide pictures uint8 [N, W, W, 3].
    fold
        Number of the fold.
    recipe
        Steps and rate.
    """
    ranks, wide_NWW3 = data
    is_own = ranks % FOLDS == fold
    injector = _Injector(wide_NWW3[~is_own], fold_in(SEED, "filter", "training", fold))
    parameters = train_filter(len(REASONS), injector.round, recipe.steps, fold_in(SEED, "filter", "network", fold))
    own_NWW3 = wide_NWW3[is_own]
    clean = np.stack([central(wide, VIEW) for wide in own_NWW3])
    scores = probabilities(parameters, clean, len(REASONS))[:, 1:]
    limits = {reason: calibrate(scores[:, n], recipe.false_rejection_rate) for n, reason in enumerate(REASONS)}
    rejected = {reason: int((scores[:, n] > limits[reason].probability).sum()) for n, reason in enumerate(REASONS)}
    injector = _Injector(own_NWW3, fold_in(SEED, "filter", "measuring", fold))
    return FoldResult(parameters, limits, len(clean), rejected, _measure(parameters, limits, injector))


@dataclass(frozen=True)
class _Injector:
    """Draw pictures with and without defects from wide pictures."""

    wide_NWW3: np.ndarray
    seed: int

    def show(self, reason: Reason | None, index: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        other = self.wide_NWW3[rng.integers(len(self.wide_NWW3))]
        return show(reason, self.wide_NWW3[index], other, VIEW, rng)

    def round(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return random pictures twice, undamaged and with a random defect, and the outcomes."""
        shares = np.array(SHARES) / sum(SHARES)
        rng = np.random.default_rng(fold_in(self.seed, number))
        pictures, outcomes = [], []
        for index in rng.choice(len(self.wide_NWW3), min(ROUND, len(self.wide_NWW3)), replace=False):
            reason = int(rng.choice(len(REASONS), p=shares))
            pictures += [self.show(None, index, rng)[0], self.show(REASONS[reason], index, rng)[0]]
            outcomes += [0, 1 + reason]
        return np.stack(pictures), np.array(outcomes, np.int64)

    def measured(self, reason: Reason) -> Iterator[tuple[np.ndarray, str]]:
        """Yield pictures with a defect, and its kind."""
        for index in range(min(INJECTED, len(self.wide_NWW3))):
            yield self.show(reason, index, np.random.default_rng(fold_in(self.seed, reason, index)))


def _measure(parameters: Tensors, limits: dict[Reason, Limit], injector: _Injector) -> Found:
    """Return how many injected defects exceed the limit of their reason."""
    found: Found = {}
    for number, reason in enumerate(REASONS):
        pictures, kinds = zip(*injector.measured(reason), strict=True)
        exceeds = (
            probabilities(parameters, np.stack(pictures), len(REASONS))[:, 1 + number] > limits[reason].probability
        )
        own = found.setdefault(reason, {})
        for kind in sorted(set(kinds)):
            is_kind = np.array([one == kind for one in kinds])
            own[kind] = int((exceeds & is_kind).sum()), int(is_kind.sum())
    return found


def _report(results: list[FoldResult], recipe: PictureFilter) -> dict[str, Any]:
    """Return the contents of `filter.json`: the counts of all folds, by reason."""
    total = sum(one.num_clean for one in results)
    reasons: dict[str, Any] = {}
    for reason in recipe.reasons:
        rejected = sum(one.rejected[reason] for one in results)
        kinds = {kind: _add(one.found[reason].get(kind, (0, 0)) for one in results) for kind in _kinds(results, reason)}
        reasons[reason] = {
            "limits": [one.limits[reason].probability for one in results],
            "false_rejections": _share(rejected, total),
            "found": _share(*_add(kinds.values())),
            "found_by_kind": {kind: _share(*counts) for kind, counts in kinds.items()},
        }
    return {"pictures": total, "false_rejection_rate": recipe.false_rejection_rate, "reasons": reasons}


def _kinds(results: list[FoldResult], reason: Reason) -> list[str]:
    return sorted({kind for one in results for kind in one.found[reason]})


def _add(counts: Any) -> tuple[int, int]:
    first, second = zip(*counts, strict=True)
    return sum(first), sum(second)


def _share(count: int, total: int) -> dict[str, float]:
    share, low, high = binomial_interval(count, total)
    return {"count": count, "total": total, "share": share, "low": low, "high": high}


def _log_report(report: dict[str, Any]) -> None:
    for reason, entry in report["reasons"].items():
        found, wrong = entry["found"], entry["false_rejections"]
        log.info(
            "curate: filter: %s: finds %.3f [%.3f, %.3f] of injected defects, and rejects %.4f [%.4f, %.4f] of the survey's pictures",
            reason, *(found[name] for name in ("share", "low", "high")), *(wrong[name] for name in ("share", "low", "high")),
        )  # fmt: skip


def _name(fold: int) -> str:
    return f"{PARTIAL}/filter-{fold}.safetensors"


def _save(folder: Folder, fold: int, key: str, result: FoldResult) -> None:
    info = {
        "key": key,
        "limits": {reason: list(limit) for reason, limit in result.limits.items()},
        "num_clean": result.num_clean,
        "rejected": result.rejected,
        "found": result.found,
    }
    write_tensors(folder, _name(fold), result.parameters, info)


def _load(folder: Folder, fold: int, key: str) -> FoldResult | None:
    """Return a saved fold of the same pictures; None if there is none, or it is damaged."""
    if not folder.exists(_name(fold)):
        return None
    with suppress(ArtifactError, KeyError):
        tensors, info = read_tensors(folder, _name(fold))
        if info["key"] == key:
            limits: Any = {reason: Limit(*values) for reason, values in info["limits"].items()}
            found: Any = {r: {k: tuple(c) for k, c in kinds.items()} for r, kinds in info["found"].items()}
            ordered = {name: tensors[name] for name in sorted(tensors)}
            return FoldResult(ordered, limits, info["num_clean"], info["rejected"], found)
    return None
