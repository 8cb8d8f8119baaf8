"""Make an encoder of what others trained: weights, an ONNX file, or a table.

The file is copied into the artifact, so that nothing else need exist when it is used. Where pictures
of the curated set have classes, a linear head on the features is scored, as during a training.
"""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import safetensors.torch
import torch
from torch import Tensor

from raydistill.artifacts.tables import write_rows
from raydistill.artifacts.tensors import write_tensors
from raydistill.errors import CatalogError, ConfigError, listed, nearest
from raydistill.galaxies.selection import Split
from raydistill.galaxies.tables.ids import find_repeated, object_ids
from raydistill.galaxies.tables.opening import open_table
from raydistill.learning.architectures import Custom
from raydistill.learning.encoders import LARGEST_FLOAT16, to_float16
from raydistill.learning.networks import build_network, check_network, embedding, initial_parameters
from raydistill.learning.timm_networks import Timm
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.seeding import fold_in
from raydistill.seeding import generator as seeded
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.feeding.feed import Pictures, used_groups
from raydistill.stages.curate.select.conditions import fit_encoding
from raydistill.stages.pretrain.artifact import (
    HISTORY,
    HISTORY_SCHEMA,
    KIND,
    MODEL,
    ONNX,
    SUMMARY,
    TABLE,
    VALIDATION,
    VALIDATION_SCHEMA,
    EncoderDescriber,
    EncoderSummary,
    onnx_function,
)
from raydistill.stages.pretrain.config import Embeddings, GivenWeights, OnnxFile, Trained
from raydistill.stages.pretrain.describers import Describer, TableDescriber, describe_pictures
from raydistill.stages.pretrain.probe import MAX_PROBED, choose_probed, probe

log = get_logger(__name__)

ROWS = 65536  # vectors in float64 at once
SPLITS: tuple[Split, ...] = ("train", "validation")


def write_given(plan: Plan, curated: CuratedSet) -> dict[str, float]:
    """Write the files of an encoder that is given; return the row of its measurement.

    Raises
    ------
    CatalogError
        A table cannot be read, or an id or a value of it is wrong.
    ConfigError
        A file cannot be read, or does not fit the network or the pictures.
    """
    source, folder, of = plan.config.pretrain.source, plan.encoder.folder, curated.summary
    assert not isinstance(source, Trained)
    described = EncoderSummary(
        of.survey, of.simulated, of.image_size, of.crop_fraction, of.aligned, (0.0,) * 3, (1.0,) * 3, 0, 0, 0, 0, 0,
        source.kind,
    )  # fmt: skip
    describer: Describer
    if isinstance(source, Embeddings):
        table = read_embeddings(source)
        with folder.writing(TABLE) as path, pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
        described, describer = replace(described, num_images=len(table)), TableDescriber(folder.uri)
    else:
        described = replace(described, mean_C=source.mean, std_C=source.std, input_size=source.input_size)
        architecture = None
        if isinstance(source, OnnxFile):
            content = _read(source.file, "pretrain.source.file")
            onnx_function(content, source.file)  # an error names the file, and not its copy
            folder.write(ONNX, content)
        else:
            tensors = _parameters(plan, source, source.input_size or of.image_size)
            write_tensors(folder, MODEL, tensors, {"kind": KIND})
            described = replace(described, num_parameters=sum(tensor.numel() for tensor in tensors.values()))
            architecture = plan.config.pretrain.network
            architecture = architecture.without_weights() if isinstance(architecture, Timm) else architecture
        describer = EncoderDescriber(folder.uri, described, architecture)
    features, labels = _describe_splits(plan, curated, describer)
    row = probe(features, labels, curated.num_classes if curated.has_classes else 0)
    described = replace(described, num_features=features["train"].shape[1])
    folder.write(SUMMARY, described.to_json())
    write_rows(folder, HISTORY, [], HISTORY_SCHEMA)
    write_rows(folder, VALIDATION, [{"step": 0, **row}], VALIDATION_SCHEMA)
    return row


def read_embeddings(source: Embeddings) -> pa.Table:
    """Return a row {object_id, features} per object: string, and a float16 list.

    Raises
    ------
    CatalogError
        The table cannot be read; an id is missing or repeated; a vector is missing, has another
        length, or a value that is not a finite number; or all objects have the same one.
    ConfigError
        There is no such column.
    """
    table = open_table(source.table)
    id_column = source.id or table.names[0]
    vectors = [name for name in table.names if name != id_column and fnmatchcase(name, source.vector)]
    for name, key, found in ((id_column, "id", id_column in table.names), (source.vector, "vector", bool(vectors))):
        if not found:
            raise ConfigError(f"the table has no column '{name}'", f"pretrain.source.{key}", nearest(name, table.names))
    rows = table.read([id_column, *vectors], {id_column})
    ids = object_ids(rows[id_column], id_column, source.table)
    if repeated := find_repeated(ids):
        what = f"{len(repeated)} ids have several rows (first: {listed(repeated, 3)})"
        raise CatalogError(what, source.table, "leave one row of each id")
    if not len(rows):
        raise CatalogError("the table has no rows", source.table, "give one with a vector for each object")
    _check_lengths(rows[vectors[0]], vectors[0], source.table)
    parts: list[np.ndarray] = []  # as float16; whole, a million vectors of float64 would need many gigabytes
    bad, clipped, low_F, high_F = [], 0, np.inf, -np.inf
    for first in range(0, len(rows), ROWS):
        block = rows.slice(first, ROWS)
        values_NF = _vectors([block[name] for name in vectors], vectors, source.table)
        bad += (first + np.flatnonzero(~np.isfinite(values_NF).all(axis=1))).tolist()
        clipped += int((np.abs(values_NF) > LARGEST_FLOAT16).sum())
        low_F, high_F = np.minimum(low_F, values_NF.min(axis=0)), np.maximum(high_F, values_NF.max(axis=0))
        parts.append(to_float16(values_NF))
    if bad:
        what = f"{len(bad)} of {len(ids)} vectors have a value that is not a finite number (first: {ids[bad[0]]})"
        raise CatalogError(what, source.table, "leave these rows out, or compute them again")
    halves_NF = np.concatenate(parts)
    constant, width = int(np.sum(low_F == high_F)), halves_NF.shape[1]
    if constant == width:
        raise CatalogError("all vectors are the same", source.table, "compute them again")
    if constant:
        log.warning("pretrain: %d of %d features are constant, and tell nothing apart", constant, width)
    if clipped:
        log.warning("pretrain: %d values lie beyond ±%g, and are cut there", clipped, LARGEST_FLOAT16)
    values = pa.array(halves_NF.ravel())
    return pa.table({"object_id": ids, "features": pa.FixedSizeListArray.from_arrays(values, width)})


def _check_lengths(column: pa.ChunkedArray, name: str, where: str) -> None:
    """Raise CatalogError unless a column has numbers, or lists of one length."""
    if pa.types.is_primitive(column.type):
        return
    kind: Any = column.type
    if pa.types.is_dictionary(kind) or not hasattr(kind, "value_type") or not pa.types.is_primitive(kind.value_type):
        fix = "give a column of vectors, or numeric columns by a pattern such as feat_*"
        raise CatalogError(f"column '{name}' has no vectors of numbers", where, fix)
    fixed = pa.types.is_fixed_size_list(kind)
    sizes = {kind.list_size} if fixed else set(pc.unique(pc.list_value_length(column)).to_pylist())
    if column.null_count or len(sizes) != 1 or not sizes - {0, None}:
        what = f"the vectors of '{name}' have different lengths, or some are missing"
        raise CatalogError(what, where, "give each object a vector of one length")


def _vectors(columns: list[pa.ChunkedArray], names: list[str], where: str) -> np.ndarray:
    """Return numeric columns, or one column of lists, as float64 [N, F]."""
    if len(columns) == 1 and not pa.types.is_primitive(columns[0].type):
        lists: Any = columns[0].combine_chunks()
        return _numbers(lists.flatten(), names[0], where).reshape(len(lists), -1)
    return np.stack([_numbers(column, name, where) for column, name in zip(columns, names, strict=True)], axis=1)


def _numbers(column: pa.Array | pa.ChunkedArray, name: str, where: str) -> np.ndarray:
    """Return numbers as float64; a missing one is NaN."""
    try:
        return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
        raise CatalogError(f"column '{name}' does not hold numbers", where, "choose others") from error


def _read(path: str, key: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"the file cannot be read ({error.strerror or error})", path, f"correct {key}") from error


def _parameters(plan: Plan, source: GivenWeights, image_size: int) -> dict[str, Tensor]:
    """Return the parameters of the network without its last linear layer, by name."""
    architecture, key = plan.config.pretrain.network, "pretrain.source.weights"
    try:
        network = build_network(architecture, 2, image_size)
        check_network(network, 2, image_size)
        features = embedding(network)
    except ValueError as error:
        fix = "choose another network, or another pretrain.source.input_size"
        raise ConfigError(str(error), "pretrain.network", fix) from error
    if source.weights is None:
        if not isinstance(architecture, Custom) and getattr(architecture, "weights", None) is None:
            log.warning("pretrain: the network has random parameters; give pretrain.source.weights")
        theta_P = initial_parameters(network, fold_in(plan.encoder.seed, "initial"))
        parameters = network.layout.split(theta_P)
        return {name: parameters[name].clone() for name in features.layout.names}
    if isinstance(architecture, Timm):
        fix = "give the file as pretrain.network.weights, which keeps the statistics of batch norm"
        raise ConfigError("a network of timm reads its own weights", key, fix)
    try:
        stored = safetensors.torch.load(_read(source.weights, key))
    except safetensors.SafetensorError as error:
        what = "the weights are not a safetensors file"
        raise ConfigError(what, source.weights, "give the parameters of pretrain.network in this format") from error
    fix = "give the parameters of pretrain.network, by the names that torch gives them"
    for name, shape in zip(features.layout.names, features.layout.shapes, strict=True):
        if name not in stored or tuple(stored[name].shape) != shape:
            what = f"the weights lack '{name}'" if name not in stored else f"'{name}' has another shape than {shape}"
            raise ConfigError(what, source.weights, fix)
    return {name: stored[name].float() for name in features.layout.names}


def _describe_splits(
    plan: Plan, curated: CuratedSet, describer: Describer
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return features and labels of galaxies of both splits that a measurement uses."""
    features: dict[str, Tensor] = {}
    labels: dict[str, Tensor] = {}
    for split in SPLITS:
        if isinstance(describer, TableDescriber):
            rows = curated.table(split, ["object_id"])
            rows = rows.filter(pa.array(describer.known(rows["object_id"])))
            chosen = torch.randperm(len(rows), generator=seeded(plan.encoder.seed, f"probe {split}"))[:MAX_PROBED]
            rows = rows.take(pa.array(chosen.sort().values.numpy()))
            if len(rows) < 2:
                what = f"it has features of {len(rows)} {split} galaxies of the curated set, and at least 2 are needed"
                where = (plan.config.pretrain.file or ("",))[0]
                raise CatalogError(what, where, "give the table of this survey, or check pretrain.source.id")
            features[split], labels[split] = (
                describer.lookup(rows["object_id"]),
                torch.tensor(rows["label"].to_numpy()).long(),
            )
            continue
        pictures = Pictures(used_groups(curated, split), curated.summary.image_size, fit_encoding(curated, (), [], 0))
        images_NHWC, labels[split] = choose_probed(pictures, plan.encoder.seed, split)
        doing = f"describing {split} galaxies"
        features[split] = describe_pictures(describer, images_NHWC, plan.config.resources, "pretrain", doing)
        if not torch.isfinite(features[split]).all():
            where = (plan.config.pretrain.file or ("pretrain.network",))[0]
            fix = "check its weights, and pretrain.source.mean and std"
            raise ConfigError("the encoder gives features that are not finite numbers", where, fix)
    return features, labels
