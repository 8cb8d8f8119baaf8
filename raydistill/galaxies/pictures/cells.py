"""Read pictures from table cells: encoded bytes, paths, or arrays of pixels."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydistill.errors import CatalogError, describe_arrow_error
from raydistill.galaxies.pictures.archives import MAX_RATIO, SMALL
from raydistill.galaxies.pictures.files import Source

# Places of pictures. `row_group` and `row` (in its row group) are null for a picture in a file of its own. `path` is
# null for an object without a picture.
OBJECTS = pa.schema([("object_id", pa.string()), ("path", pa.string()), ("row_group", pa.int64()), ("row", pa.int64())])

ARRAY_RANKS = (2, 3)  # H x W, and H x W x 3 or 3 x H x W


def parquet_rows(ids: pa.Array | pa.ChunkedArray, path: str, metadata: pq.FileMetaData) -> pa.Table:
    """Return a Parquet file's objects: `OBJECTS`, with row group and row of each id."""
    lengths = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    columns = {
        "object_id": ids,
        "path": pa.array([path] * len(ids), pa.string()),
        "row_group": pa.array(np.repeat(np.arange(len(lengths)), lengths), pa.int64()),
        "row": pa.array(np.concatenate([np.arange(0), *(np.arange(n) for n in lengths)]), pa.int64()),
    }
    return pa.table(columns).cast(OBJECTS)


def is_picture_type(kind: pa.DataType) -> bool:
    """Return whether a type can hold pictures: bytes, path, struct of both, arrays."""
    kind = _values(kind)
    if pa.types.is_struct(kind):
        fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return bool(fields.keys() & {"bytes", "path"}) and is_bytes_type(fields.get("bytes", pa.binary()))
    return is_bytes_type(kind) or is_text_type(kind) or _rank(kind) in ARRAY_RANKS


def is_bytes_type(kind: pa.DataType) -> bool:
    """Return whether cells of this type are bytes."""
    kind = _values(kind)
    is_plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return bool(is_plain or pa.types.is_fixed_size_binary(kind))


def is_text_type(kind: pa.DataType) -> bool:
    """Return whether cells of this type are text."""
    kind = _values(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _values(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    is_plain = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_plain or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _rank(kind: pa.DataType) -> int:
    """Return the number of axes of a cell's numeric array; 0 if it holds none."""
    if isinstance(kind, pa.FixedShapeTensorType):
        # Arrow 25 writes the inverse of the permutation that its format defines.
        return len(kind.shape) if kind.permutation in (None, sorted(kind.permutation or ())) else 0
    if isinstance(kind, pa.BaseExtensionType):
        return _rank(kind.storage_type)
    rank = 0
    while _is_list(kind):
        kind, rank = kind.value_type, rank + 1
    return rank if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) else 0


def check_text(value: object, column: str, where: str) -> None:
    """Raise CatalogError for text that is a web URL or encoded bytes, not a path."""
    if not isinstance(value, str):
        return
    if value.startswith(("http://", "https://")):
        what = f"column '{column}' has the type string and holds URLs (first: {value})"
        raise CatalogError(what, where, "download the pictures into a folder first, and give that folder")
    if len(value) > 1000 or value.startswith("data:"):
        what = f"column '{column}' has the type string and holds encoded text, not paths (first: {value[:20]}…)"
        raise CatalogError(what, where, "decode it, and store the pictures as bytes")


def check_chunks(kind: pa.DataType, files: Iterable[pa.NativeFile], column: str, where: str) -> None:
    """Check pictures in Parquet files: each row group's metadata, and the first row.

    Raises
    ------
    CatalogError
        For null in lists of fixed size, which Arrow cannot read from Parquet. If a row group
        announces far more bytes than it holds, or Arrow cannot read the first row.
    """
    has_fixed_size = "fixed_size_list" in str(kind) or isinstance(kind, pa.FixedShapeTensorType)
    for chunk in chain.from_iterable(_chunks(file, column, where) for file in files):
        if has_fixed_size and chunk.statistics and chunk.statistics.null_count:
            what = f"column '{column}' has the type {kind} and null in it, which Arrow cannot read"
            raise CatalogError(what, where, "remove the rows without a picture, or store lists of variable size")
        unpacked = max(chunk.total_uncompressed_size, chunk.num_values * (_rank(kind) > 0))
        if unpacked > max(SMALL, MAX_RATIO * chunk.total_compressed_size):
            raise _unpacks_too_far(column, where)


def _chunks(file: pa.NativeFile, column: str, where: str) -> Iterator[Any]:
    """Yield the metadata of a column in each row group, and close the file."""
    try:
        with file, pq.ParquetFile(file) as parquet:
            metadata, size = parquet.metadata, file.size()
            groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
            if any(group.total_byte_size > max(SMALL, MAX_RATIO * size) for group in groups):
                raise _unpacks_too_far(column, where)
            # Asked for a chunk that contradicts the schema, pyarrow 25 aborts the process. A read raises.
            next(parquet.iter_batches(1, columns=[column]), None)
    except (OSError, pa.ArrowException) as error:
        what = f"column '{column}' cannot be read ({describe_arrow_error(error)})"
        raise CatalogError(what, where, "download it again") from error
    paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    leaves = [index for index, path in enumerate(paths) if path.split(".")[0] == column]
    yield from (group.column(index) for group in groups for index in leaves)


def _unpacks_too_far(column: str, where: str) -> CatalogError:
    what = f"column '{column}' unpacks to more than {MAX_RATIO} times its size"
    return CatalogError(what, where, "check where the file comes from")


def read_cell(cell: pa.Scalar, folder: str) -> Source:
    """Return the picture in a cell.

    Parameters
    ----------
    cell : pyarrow scalar
        Of a type for which `is_picture_type` is true.
    folder : str
        Path or URI at which relative paths begin.

    Returns
    -------
    bytes, str or None
        An encoded picture; a path; None for null. An array becomes the bytes of a .npy file.
    """
    if not cell.is_valid:
        return None
    kind = cell.type
    if isinstance(kind, pa.BaseExtensionType) or _is_list(kind):
        return to_npy(_array(cell))
    value = cell.as_py()
    if isinstance(value, np.ndarray):
        return to_npy(value)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    return _below(folder, value) if isinstance(value, str) else value


def _below(folder: str, path: str) -> str:
    return path if os.path.isabs(path) or "://" in path else f"{folder}/{path}"


def _array(cell: pa.Scalar) -> np.ndarray:
    """Return a nested list's numbers, without their shape if rows differ in length."""
    if isinstance(cell.type, pa.FixedShapeTensorType):
        return cell.to_numpy()
    if isinstance(cell, pa.ExtensionScalar):
        value = cell.as_py()
        if isinstance(value, np.ndarray):
            return value
        cell = cell.value
    values, shape = cell.values, [len(cell.values)]
    while _is_list(values.type):
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        shape.append(lengths[0] if len(lengths) == 1 else -1)
        values = values.flatten()
    numbers = values.to_numpy(zero_copy_only=False)
    return numbers if None in shape or -1 in shape else numbers.reshape(shape)


def to_npy(array: np.ndarray) -> bytes:
    """Return the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
