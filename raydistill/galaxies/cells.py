"""Read pictures from the cells of a table: encoded bytes, paths, or arrays of pixels."""

from __future__ import annotations

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError
from raydistill.galaxies.picture_files import Source

ARRAY_RANKS = (2, 3)  # H x W, and H x W x 3 or 3 x H x W


def is_picture_type(kind: pa.DataType) -> bool:
    """Return whether cells of this type can hold pictures: bytes, a path, a struct of both, or arrays."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return bool(fields.keys() & {"bytes", "path"}) and _is_bytes(fields.get("bytes", pa.binary()))
    return _is_bytes(kind) or _is_text(kind) or _rank(kind) in ARRAY_RANKS


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _rank(kind: pa.DataType) -> int:
    """Return the number of axes of the numbers in a cell; 0 if it does not hold an array of numbers."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return len(kind.shape)
    if isinstance(kind, pa.BaseExtensionType):
        return _rank(kind.storage_type)
    rank = 0
    while _is_list(kind):
        kind, rank = kind.value_type, rank + 1
    return rank if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) else 0


def check_text(value: object, column: str, where: str) -> None:
    """Raise CatalogError if a text is a URL of the web or encoded bytes: neither is a path of a file."""
    if not isinstance(value, str):
        return
    if value.startswith(("http://", "https://")):
        what = f"column '{column}' has the type string and holds URLs (first: {value})"
        raise CatalogError(what, where, "download the pictures into a folder first, and give that folder")
    if len(value) > 1000 or value.startswith("data:"):
        what = f"column '{column}' has the type string and holds encoded text, not paths (first: {value[:20]}…)"
        raise CatalogError(what, where, "decode it, and store the pictures as bytes")


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
        return _npy(_array(cell))
    value = cell.as_py()
    if isinstance(value, np.ndarray):
        return _npy(value)
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    return _below(folder, value) if isinstance(value, str) else value


def _below(folder: str, path: str) -> str:
    return path if os.path.isabs(path) or "://" in path else f"{folder}/{path}"


def _array(cell: pa.Scalar) -> np.ndarray:
    """Return the numbers of a nested list; without their shape if rows differ in length."""
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


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
