"""Train the filter of damaged pictures on survey pictures with injected defects.

    driver    -> a sample of training galaxies, decoded with the sky around them
    Ray tasks -> one network per fold, trained on the other folds, calibrated on its own
                 (`filter_worker`)
    driver    -> `filter.json` (`filter_report`)

A galaxy of rank r belongs to fold r modulo `FOLDS`. Galaxies of the validation and test splits
neither train nor calibrate the filter. A finished network is kept in `partial/`, so a stage that
was killed does not train it again.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from typing import Any

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
from raydistill.log import get_logger, progress
from raydistill.runtime.tasks import run_tasks, worker_task
from raydistill.seeding import fold_in
from raydistill.simulation.defects import wide_side
from raydistill.stages.curate.decoding import decode, raise_read_error
from raydistill.stages.curate.filter_report import FILTER, filter_report, log_report
from raydistill.stages.curate.filter_worker import INJECTED, ROUND, SEED, SHARES, FoldResult, train_fold
from raydistill.stages.curate.filtering import FOLDS, TrainedFilter, TrainedFold
from raydistill.stages.curate.picture_filter import VIEW, Limit, needed_pictures
from raydistill.storage import Folder, checked

log = get_logger(__name__)


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
    ranks = _sample_ranks(galaxies, recipe)
    ranks, wide_NWW3 = _decode_sample(config, images, galaxies, ranks)
    _check_number(len(ranks), recipe)
    log.info("curate: training the filter on %d pictures with injected defects", len(ranks))
    results = _train_folds(config, ranks, wide_NWW3, recipe, folder)
    report = filter_report(results, recipe)
    folder.write(FILTER, json.dumps(report, indent=1).encode())
    log_report(report)
    return TrainedFilter(tuple(TrainedFold(one.parameters, one.limits) for one in results), recipe.reasons)


def check_filter(recipe: PictureFilter | None, galaxies: pa.Table) -> None:
    """Raise CatalogError if too few galaxies are selected to calibrate the filter.

    Without a filter there is no check.
    """
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
    """Return ranks and wide pictures, uint8 [N, W, W, 3], of the usable galaxies."""
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
                found[rank] = np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]))
    pictures = np.stack([found[rank] for rank in sorted(found)]) if found else np.empty((0, side, side, 3), np.uint8)
    return np.array(sorted(found), np.int64), pictures


def _train_folds(
    config: Config, ranks: np.ndarray, wide_NWW3: np.ndarray, recipe: PictureFilter, folder: Folder
) -> list[FoldResult]:
    """Return the result of each fold, from `partial/` or from a Ray task."""
    sha256 = hashlib.sha256(ranks.tobytes() + wide_NWW3.tobytes())
    sha256.update(json.dumps([recipe.steps, recipe.false_rejection_rate, SHARES, INJECTED, ROUND]).encode())
    key, resources = sha256.hexdigest(), replace(config.resources, gpus=0)  # the filter trains on CPUs
    results = {fold: saved for fold in range(FOLDS) if (saved := _load(folder, fold, key)) is not None}
    missing = [fold for fold in range(FOLDS) if fold not in results]
    if missing:
        data, task = ray.put((ranks, wide_NWW3)), worker_task(train_fold, resources)
        with progress(FOLDS, "training the filter", "networks", start=len(results)) as shown:
            for fold, result in run_tasks(missing, lambda fold: task.remote(data, fold, recipe), resources):
                _save(folder, fold, key, result)
                results[fold] = result
                shown.advance()
    return [results[fold] for fold in range(FOLDS)]


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
    checked.write(folder, _name(fold), pack_tensors(result.parameters, info))


def _load(folder: Folder, fold: int, key: str) -> FoldResult | None:
    """Return a saved fold of the same pictures; None if it is missing or damaged."""
    data = checked.read(folder, _name(fold))
    if data is None:
        return None
    tensors, info = unpack_tensors(data)
    if info["key"] != key:
        return None
    limits: Any = {reason: Limit(*values) for reason, values in info["limits"].items()}
    found: Any = {r: {k: tuple(c) for k, c in kinds.items()} for r, kinds in info["found"].items()}
    ordered = {name: tensors[name] for name in sorted(tensors)}
    return FoldResult(ordered, limits, info["num_clean"], info["rejected"], found)
