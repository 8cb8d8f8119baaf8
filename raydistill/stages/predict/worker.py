"""The Ray Data tasks of predict: prepare, predict and write a block of pictures.

    {block, object_id, path, row_group, row}
        -> prepare_block -> {block, object_id, pixels, reason, detail}
        -> BlockPredictor -> block-000007.parquet, and one row {block, record, error} for the driver

On CPUs one worker does both. On GPUs other workers prepare, so that a GPU does not wait for
decoding.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from raydistill.config import Images
from raydistill.datasets.base import DataSet
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.learning.calibration import Calibration
from raydistill.learning.encoders import to_float16
from raydistill.learning.ensemble import EnsemblePrediction
from raydistill.runtime.ray_data import pack, unpack
from raydistill.runtime.resources import Processor
from raydistill.stages.experts.classify.ensemble import EnsembleSource
from raydistill.stages.predict.blocks import SCHEMA, calibrated_columns, to_lists, write_block
from raydistill.stages.pretrain.describers import Describer, TableDescriber, describe, on_device
from raydistill.storage import Folder
from raydistill.surveys.levels import LevelChecks, measure_levels, planes
from raydistill.surveys.survey import Preparation, Reader, prepare_picture

PREPARED = pa.schema(
    [
        ("block", pa.int64()),
        ("object_id", pa.string()),
        ("pixels", pa.large_binary()),  # uint8 [size, size, 3], or null
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("error", pa.string()),  # JSON of an error of the storage, which ends the stage
    ]
)
PREDICTED = ("predicted_class", "probability", "logits", "spread", "features")
REPORT = pa.schema([("block", pa.int64()), ("record", pa.string()), ("error", pa.string())])


@dataclass(frozen=True)
class PictureSource:
    """How to read, decode and prepare the pictures of a survey."""

    reader: Reader
    images: Images | DataSet
    preparation: Preparation


def prepare_block(objects: pa.Table, source: PictureSource) -> pa.Table:
    """Return a block's prepared pictures, or reasons for none: OBJECTS -> PREPARED."""
    block, ids = objects["block"][0].as_py(), objects["object_id"].to_pylist()
    rows: list[dict[str, Any]] = []
    try:
        for object_id, picture in zip(ids, source.reader.read(objects), strict=True):
            row = {"block": block, "object_id": object_id}
            try:
                pixels = prepare_picture(picture, "", source.images, source.preparation)
                rows.append(row | {"pixels": pixels.tobytes()})
            except RejectedImage as error:
                rows.append(row | {"reason": error.reason, "detail": error.fix})
    except CatalogError as error:  # the storage, not this picture, is at fault
        rows = [{"block": block, "error": json.dumps([error.what, error.where or "predict", error.fix])}]
    return pa.Table.from_pylist(rows, PREPARED)


def prepare_packed(packed: pa.Table, source: PictureSource) -> pa.Table:
    """Apply `prepare_block` to a packed block."""
    return pack(prepare_block(unpack(packed), source))


class Experts(NamedTuple):
    """The ensemble, and the calibration of its probabilities."""

    ensemble: EnsembleSource
    calibration: Calibration


@dataclass(frozen=True)
class Predictors:
    """What predicts the pictures.

    Parameters
    ----------
    processor
        Of a worker.
    image_size
        Side of the prepared pictures in pixels.
    experts
        Give the classes. None: pictures get no classes.
    describer
        Gives the features. None: the experts do, or there are none.
    """

    processor: Processor
    image_size: int
    experts: Experts | None
    describer: Describer | None


class BlockPredictor:
    """Predict a packed block's prepared pictures; write its file: PREPARED -> REPORT.

    Parameters
    ----------
    predictors
        Experts and features.
    output
        URI of the artifact.
    source
        Prepares the pictures in this worker; None: blocks arrive prepared.
    """

    def __init__(self, predictors: Predictors, output: str, source: PictureSource | None) -> None:
        self._device = predictors.processor.enter()
        self._size, self._experts = predictors.image_size, predictors.experts
        self._ensemble = None if self._experts is None else self._experts.ensemble.load(self._device)
        self._folder, self._source = Folder(output), source
        describer = predictors.describer
        self._describer = None if describer is None else on_device(describer, self._device)

    def __call__(self, packed: pa.Table) -> pa.Table:
        """Return the record of the block; its file is complete before."""
        block = unpack(packed)
        prepared = block if self._source is None else prepare_block(block, self._source)
        index, errors = prepared["block"][0].as_py(), prepared["error"].drop_null()
        if len(errors):
            return pa.Table.from_pylist([{"block": index, "error": errors[0].as_py()}], REPORT)
        prepared, features_NF = self._describe(prepared)
        pixels_NHWC = self._pixels(prepared)
        checks = LevelChecks()
        checks.add_measured(measure_levels(planes(pixels_NHWC)) if len(pixels_NHWC) else {})
        record = write_block(self._folder, index, self._rows(prepared, pixels_NHWC, features_NF), asdict(checks))
        return pa.Table.from_pylist([{"block": index, "record": json.dumps(asdict(record))}], REPORT)

    def _pixels(self, prepared: pa.Table) -> np.ndarray:
        """Return the prepared pictures, uint8 [N, size, size, 3]."""
        pictures, size = prepared["pixels"].drop_null().to_pylist(), self._size
        return np.frombuffer(bytearray(b"".join(pictures)), np.uint8).reshape(len(pictures), size, size, 3)

    def _describe(self, prepared: pa.Table) -> tuple[pa.Table, Tensor | None]:
        """Return a prepared block, and the finite features of its pictures."""
        if self._describer is None:
            return prepared, None
        if isinstance(self._describer, TableDescriber):
            known = self._describer.known(prepared["object_id"])
            prepared = without_features(prepared, ~known, "the table of features has no row of this id")
        usable = pc.is_valid(prepared["pixels"]).to_numpy()
        if not usable.any():
            return prepared, None
        features_NF = describe(self._describer, prepared["object_id"].filter(usable), self._pixels(prepared))
        finite = torch.isfinite(features_NF).all(dim=1)
        lacking = np.zeros(len(usable), bool)
        lacking[usable] = ~finite.numpy()
        return without_features(prepared, lacking, "its features are not finite numbers"), features_NF[finite]

    def _rows(self, prepared: pa.Table, pixels_NHWC: np.ndarray, features_NF: Tensor | None) -> pa.Table:
        """Return the predictions of a block, with nulls for unusable pictures."""
        usable = pc.is_valid(prepared["pixels"]).to_numpy()
        columns: dict[str, Any] = {name: prepared[name] for name in ("object_id", "reason", "detail")}
        columns |= {name: pa.nulls(len(usable), SCHEMA.field(name).type) for name in PREDICTED}
        if self._experts is not None and self._ensemble is not None and len(pixels_NHWC):
            source, calibration = self._experts
            images_NCHW = source.normalisation.apply(torch.from_numpy(pixels_NHWC)).to(self._device)
            prediction = self._ensemble.predict(images_NCHW, source.batch_size)
            columns |= predicted_columns(prediction, source.class_names, usable, calibration)
            features_NF = prediction.features_NF.cpu() if features_NF is None else features_NF
        if features_NF is not None and features_NF.shape[1]:
            columns["features"] = to_lists(to_float16(features_NF.numpy())).take(numbered(usable))
        return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA)


def without_features(prepared: pa.Table, lacking: np.ndarray, detail: str) -> pa.Table:
    """Return a prepared block whose pictures of these rows are rejected."""
    rejected = pc.and_(pc.is_valid(prepared["pixels"]), pa.array(lacking))
    for name, value in {"pixels": None, "reason": "no-features", "detail": detail}.items():
        column = pc.if_else(rejected, pa.scalar(value, PREPARED.field(name).type), prepared[name])
        prepared = prepared.set_column(prepared.schema.get_field_index(name), PREPARED.field(name), column)
    return prepared


def predicted_columns(
    prediction: EnsemblePrediction, class_names: tuple[str, ...], usable: np.ndarray, calibration: Calibration
) -> dict[str, pa.Array]:
    """Return the columns of `SCHEMA` that the experts' predictions fill.

    Parameters
    ----------
    prediction
        Of the usable pictures.
    class_names
        Names of the classes.
    usable
        bool [N]: which rows have a prediction; the others are null.
    calibration
        Of the probabilities.
    """
    rows = numbered(usable)
    columns = {
        "logits": to_lists(prediction.logits_NK.cpu().numpy()).take(rows),
        "spread": to_lists(prediction.spread_NK.cpu().numpy()).take(rows),
    }
    return columns | calibrated_columns(columns["logits"], calibration, list(class_names))


def numbered(usable: np.ndarray) -> pa.Array:
    """Return the number of each usable picture among them; null for the others."""
    return pa.array(np.where(usable, np.cumsum(usable) - 1, 0), mask=~usable)
