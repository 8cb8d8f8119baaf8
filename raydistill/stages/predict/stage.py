"""predict: write class probabilities and features of survey pictures.

    driver    -> the objects of the survey, in blocks of `predict.block_size`
    Ray Data  -> prepare the pictures of a block, predict them, write its Parquet file
    driver    -> counts of the finished blocks, summary, manifest

Memory does not grow with the number of pictures: the driver holds ids and paths, and a worker holds
one block. A block depends on its own objects alone, so any number of workers gives the same bits.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from raydistill.artifacts.tables import read_table
from raydistill.errors import ArtifactIncompatible, CatalogError, ConfigError
from raydistill.learning.networks import build_network, last_linear
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.ray_data import MAX_RETRIES, ONE_BLOCK, accepted_deprecations, pack, quiet_context
from raydistill.runtime.resources import Processor, choose_num_workers, data_options
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.summary import Levels
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.ensemble import EnsembleSource, check_experts, check_prior, ensemble_source
from raydistill.stages.predict.artifact import (
    SUMMARY,
    CalibrationSummary,
    PredictionSet,
    PredictionSummary,
    classifies,
    spec_of_pictures,
)
from raydistill.stages.predict.blocks import DATA, BlockRecord, block_name, read_record, recalibrate
from raydistill.stages.predict.calibrating import measure_calibration
from raydistill.stages.predict.worker import BlockPredictor, Experts, PictureSource, Predictors, prepare_packed
from raydistill.stages.pretrain.config import EXPERTS
from raydistill.stages.pretrain.describers import open_describer
from raydistill.storage import Folder, disk_errors
from raydistill.surveys.levels import LevelChecks, assume_levels
from raydistill.surveys.opening import open_survey
from raydistill.surveys.survey import SurveyPictures
from raydistill.tracking.formatting import InputDataset
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)

MAX_EM_PICTURES = 100_000  # evenly spaced ones; they decide a frequency to .002
PRIOR_DIFFERENCE = 0.1  # of a class's frequency from the estimated one, for a warning


def predict(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> PredictionSet:
    """Write the predictions for a survey, or open the existing ones.

    Raises
    ------
    ArtifactMissing
        The curated set or the experts do not exist.
    ArtifactIncompatible
        There are fewer experts than requested.
    CatalogError
        The survey has no pictures, or none of them can be used.
    """
    pictures = open_survey(plan, plan.config.predict.survey)
    spec = spec_of_pictures(plan, pictures)
    if not is_complete(spec):
        curated = CuratedSet.open(plan.curated.folder)
        ensemble = load_experts(plan, curated) if classifies(plan.config) else None
        describer = None
        if ensemble is None or (plan.config.predict.features and plan.config.features != EXPERTS):
            describer = open_describer(plan, curated)
        pictures, levels = assume_levels(pictures, curated.summary.levels)
        inputs = [InputDataset(pictures.name, spec.identity, pictures.uri, len(pictures.objects), "prediction")]
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, inputs=inputs) as run:
            calibrated, experts = None, None
            if ensemble is not None:
                calibrated = measure_calibration(plan.config, curated, ensemble, spec, run)
                experts = Experts(ensemble, calibrated.used)
            processor = Processor.of(plan.config.resources)
            predictors = Predictors(processor, curated.summary.image_size, experts, describer)
            _write(plan, spec.folder, pictures, predictors, calibrated, levels, run)
    return PredictionSet.open(spec.folder)


def load_experts(plan: Plan, curated: CuratedSet) -> EnsembleSource:
    """Return the experts of a curated set.

    Raises
    ------
    ArtifactMissing
        The experts do not exist.
    ArtifactIncompatible
        There are fewer experts than `predict.experts`, or they belong to another curated set.
    ConfigError
        Features are requested of a network that has none, or the prior names other classes.
    """
    store = TrajectoryStore.open(plan.trajectories.folder)
    check_experts(store, curated)
    check_prior(plan.config, curated)
    config, count = plan.config, plan.config.predict.experts or store.num_experts
    if count > store.num_experts:
        what = f"predict.experts asks for {count} experts, and the run has {store.num_experts}"
        raise ArtifactIncompatible(what, store.folder.uri, "lower it, or raise experts.num_experts")
    own_features = config.predict.features and config.features == EXPERTS
    if own_features:
        try:
            last_linear(build_network(plan.expert_network, curated.num_classes, curated.summary.image_size))
        except ValueError as error:
            raise ConfigError(str(error), "network", "set predict.features=false") from error
    return ensemble_source(plan, curated, store, count, features=own_features)


def _write(
    plan: Plan, folder: Folder, pictures: SurveyPictures, predictors: Predictors, calibrated: CalibrationSummary | None,
    levels: Levels, run: Run,
) -> None:  # fmt: skip
    """Write the blocks that are not finished, and the summary."""
    blocks = divide_into_blocks(pictures.objects, plan.config.predict.block_size)
    finished = {n: record for n, block in enumerate(blocks) if (record := read_record(folder, n, len(block)))}
    todo = [block for n, block in enumerate(blocks) if n not in finished]
    if finished:
        log.info("predict: %d of %d blocks are finished", len(finished), len(blocks))
    started, before = time.monotonic(), sum(record.num_rows for record in finished.values())
    rejected = sum(sum(record.rejected.values()) for record in finished.values())
    with (
        disk_errors(folder.uri),
        progress(len(pictures.objects), "predicting", "pictures", start=before) as shown,
        translate_errors("predict"),
    ):
        for index, record in _predict_blocks(plan, folder, todo, pictures, predictors):
            finished[index] = record
            rejected += sum(record.rejected.values())
            shown.advance(record.num_rows, rejected=rejected)
    seconds = time.monotonic() - started
    _check_usable(pictures, finished, folder)
    ensemble = None if predictors.experts is None else predictors.experts.ensemble
    if calibrated is not None and ensemble is not None:
        calibrated = _estimate_prior(plan, folder, finished, calibrated, ensemble.class_names)
    summary = _summarise(pictures, ensemble, calibrated, [finished[n] for n in sorted(finished)])
    _warn_of_levels(pictures, finished.values())
    summary = replace(summary, levels=levels)
    folder.write(SUMMARY, summary.to_json())
    _log_summary(summary, run, (summary.num_pictures - before) / seconds if todo else None)


def divide_into_blocks(objects: pa.Table, size: int) -> list[pa.Table]:
    """Return slices of so many objects, each with its number in the column `block`."""
    objects = objects.combine_chunks()
    slices = [objects.slice(first, size) for first in range(0, len(objects), size)]
    return [part.append_column("block", pa.array([n] * len(part), pa.int64())) for n, part in enumerate(slices)]


def _predict_blocks(
    plan: Plan, folder: Folder, blocks: list[pa.Table], pictures: SurveyPictures, predictors: Predictors
) -> Iterator[tuple[int, BlockRecord]]:
    """Yield the number and the record of each block when its file is complete."""
    if not blocks:
        return
    resources = plan.config.resources
    workers = choose_num_workers(resources, len(blocks))
    source = PictureSource(pictures.reader, pictures.images, pictures.preparation)
    quiet_context(preserve_order=False)
    with accepted_deprecations():
        rows: ray.data.Dataset = ray.data.from_arrow([pack(block) for block in blocks])
        on_gpus = bool(predictors.processor.gpus)
        if on_gpus:
            prepare: Any = prepare_packed
            rows = rows.map_batches(
                prepare, fn_args=(source,), batch_format="pyarrow", batch_size=ONE_BLOCK, max_retries=MAX_RETRIES
            )
        rows = rows.map_batches(
            BlockPredictor, fn_constructor_args=(predictors, folder.uri, None if on_gpus else source),
            batch_format="pyarrow", batch_size=ONE_BLOCK, compute=ray.data.ActorPoolStrategy(size=workers),
            max_restarts=MAX_RETRIES, max_task_retries=MAX_RETRIES, **data_options(resources),
        )  # fmt: skip
    reports: Any = rows.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0)
    for report in reports:
        for row in report.to_pylist():
            if row["error"] is not None:
                raise CatalogError(*json.loads(row["error"]))
            yield row["block"], BlockRecord(**json.loads(row["record"]))


def _check_usable(pictures: SurveyPictures, records: Mapping[int, BlockRecord], folder: Folder) -> None:
    """Raise CatalogError, and remove the blocks, if no picture could be used."""
    rejected = sum((Counter(record.rejected) for record in records.values()), Counter())
    if rejected.total() < sum(record.num_rows for record in records.values()):
        return
    first = next(pair for n in sorted(records) if (pair := records[n].first_rejected))
    folder.remove(DATA)
    raise _all_rejected(pictures, rejected, first)


def _estimate_prior(
    plan: Plan, folder: Folder, records: dict[int, BlockRecord], calibrated: CalibrationSummary, names: tuple[str, ...]
) -> CalibrationSummary:
    """Estimate the survey's class frequencies.

    With `prior: estimated`, all blocks are written again with them. They keep their logits, so a
    stage that was killed here does the same again.
    """
    total = sum(record.num_rows for record in records.values())
    step, logits, first = math.ceil(total / MAX_EM_PICTURES), [], 0
    for n in sorted(records):
        column = read_table(folder, block_name(n), ["logits"])["logits"].combine_chunks()
        chosen = column.take(pa.array(range(-first % step, len(column), step), pa.int64())).drop_null()
        logits.append(chosen.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(names)))
        first += len(column)
    logits_NK = np.concatenate(logits)
    estimated = calibrated.used.with_estimated_prior(logits_NK) if len(logits_NK) else calibrated.used
    if plan.config.predict.prior == "estimated":
        for n in sorted(records):
            records[n] = recalibrate(folder, n, records[n], estimated, list(names))
        calibrated = replace(calibrated, used=estimated)
    return replace(calibrated, estimated_prior=estimated.prior)


def _summarise(
    pictures: SurveyPictures, ensemble: EnsembleSource | None, calibrated: CalibrationSummary | None,
    records: list[BlockRecord],
) -> PredictionSummary:  # fmt: skip
    rejected = sum((Counter(record.rejected) for record in records), Counter())
    count = sum(record.num_rows for record in records)
    predicted = sum((Counter(record.predicted) for record in records), Counter())
    names = () if ensemble is None else ensemble.class_names
    return PredictionSummary(
        survey=pictures.name,
        class_names=names,
        num_pictures=count,
        predicted={name: predicted[name] for name in names},
        rejected=dict(sorted(rejected.items())),
        num_experts=0 if ensemble is None else ensemble.num_experts,
        num_features=max(record.num_features for record in records),
        image_size=pictures.preparation.image_size,
        crop_fraction=pictures.preparation.crop_fraction,
        aligned=pictures.preparation.align,
        calibration=calibrated,
    )


def _warn_of_levels(pictures: SurveyPictures, records: Iterable[BlockRecord]) -> None:
    """Warn of dark, flat and saturated pictures, as curate does."""
    checks = LevelChecks()
    for record in records:
        levels: Any = record.levels
        checks.merge(LevelChecks(**levels))
    checks.warn(pictures.images, "predict")


def _all_rejected(pictures: SurveyPictures, rejected: Counter[str], first: tuple[str, str]) -> CatalogError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
    detail = f" ({first[1]})" if first[1] else ""
    what = f"none of its {rejected.total()} pictures could be used: {reasons}; first: {first[0]}{detail}"
    return CatalogError(what, pictures.uri, "check the pictures, or predict another survey")


def _log_summary(summary: PredictionSummary, run: Run, rate: float | None) -> None:
    """Log the counts and the priors per class, and record them."""
    if summary.calibration is not None:
        _log_classes(summary, summary.calibration)
    if summary.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.rejected.items())
        log.warning("predict: rejected pictures: %s (column reason)", reasons)
    run.metrics({f"predicted/{name}": count for name, count in summary.predicted.items()}, 0)
    run.metrics({f"rejected/{reason}": count for reason, count in summary.rejected.items()}, 0)
    if rate is not None:
        run.metrics({"images_per_second": rate}, 0)


def _log_classes(summary: PredictionSummary, calibrated: CalibrationSummary) -> None:
    width = max(len(name) for name in summary.class_names)
    log.info("%-*s   pictures  prior (%s)  estimated", width, "", calibrated.prior_from)
    for k, (name, count) in enumerate(summary.predicted.items()):
        prior, estimated = calibrated.used.prior[k], calibrated.estimated_prior[k]
        log.info("%-*s %10d  %.3f  %.3f", width, name, count, prior, estimated)
    pairs = zip(calibrated.used.prior, calibrated.estimated_prior, strict=True)
    if calibrated.prior_from != "estimated" and max(abs(a - b) for a, b in pairs) > PRIOR_DIFFERENCE:
        log.warning(
            "predict: the pictures suggest other class frequencies than predict.prior=%s; see predict.prior=estimated",
            calibrated.prior_from,
        )
