"""Read object ids as text, with every digit.

SDSS ids have 18 digits, and float64 holds fewer than 16.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError

_MISSING = pa.array(["", "nan", "null", "none", "n/a", "<na>", "--", "\\n"])  # ids that are none, in lower case
# Marks of spreadsheets: the ids that have them, the mark, and what stays.
_MARKS = (
    (r'^=".*"$', r'^="(.*)"$', r"\1"),
    (r"^'\d+$", r"^'", ""),
    (r"^\d{1,3}(,\d{3})*$", ",", ""),
)


def object_ids(column: pa.ChunkedArray | pa.Array, name: str, where: str) -> pa.Array:
    """Return a column of ids as text, with every digit.

    Parameters
    ----------
    column : pyarrow array
        Ids as text, integers or floats.
    name, where : str
        The column and the file, for error messages.

    Raises
    ------
    CatalogError
        If ids are missing. If ids were floats too long for their type, so that the last digits are
        lost: such ids would match the wrong galaxies.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_floating(array.type):
        array = _ids_from_floats(array.to_numpy(zero_copy_only=False), name, where)
    text = _without_marks(pc.utf8_trim_whitespace(_as_text(array, name, where)))
    if _written_as_floats(text):
        floats = pc.cast(pc.replace_substring(text, ",", "."), pa.float64()).to_numpy(zero_copy_only=False)
        text = pc.cast(_ids_from_floats(floats, name, where), pa.string())
    missing = text.null_count + (pc.sum(pc.is_in(pc.utf8_lower(text), _MISSING)).as_py() or 0)
    if missing:
        raise CatalogError(f"column '{name}' has no id in {missing} rows", where, "remove these rows")
    return text


def _as_text(array: pa.Array, name: str, where: str) -> pa.Array:
    """Return ids as strings.

    CatalogError is raised if their type has no text, or bytes are not UTF-8.
    """
    fix = "name another column of ids"
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    if pa.types.is_nested(array.type) or pa.types.is_boolean(array.type):
        raise CatalogError(f"column '{name}' has the type {array.type}, which is no id", where, fix)
    try:
        return pc.cast(array, pa.string())
    except pa.ArrowInvalid as error:
        raise CatalogError(f"the ids in '{name}' are bytes that are not UTF-8", where, fix) from error
    except pa.ArrowNotImplementedError as error:
        raise CatalogError(f"column '{name}' has the type {array.type}, which is no id", where, fix) from error


def _without_marks(text: pa.Array) -> pa.Array:
    """Return ids without the marks of spreadsheets, if all have them.

    Such are ="1", '1 and 1,237,648.
    """
    for marked, mark, replacement in _MARKS:
        if len(text) and pc.all(pc.fill_null(pc.match_substring_regex(text, marked), False)).as_py():
            return pc.replace_substring_regex(text, mark, replacement)
    return text


def _written_as_floats(text: pa.Array) -> bool:
    """Return whether all ids are numbers and some are written as floats.

    Such are 5.877e+17, 5,877E+17 and 1002.0.
    """
    numbers = pc.match_substring_regex(text, r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$")
    with_comma = pc.match_substring_regex(text, r"^[+-]?\d+,\d*[eE][+-]?\d+$")
    as_floats = pc.match_substring_regex(text, r"[.eE]")
    return bool(pc.all(pc.or_(numbers, with_comma)).as_py() and pc.any(as_floats).as_py())


def _ids_from_floats(values: np.ndarray, name: str, where: str) -> pa.Array:
    if not np.isfinite(values).all():
        raise CatalogError(f"column '{name}' has rows without an id", where, "remove these rows")
    first_inexact = 2.0 ** (np.finfo(values.dtype).nmant + 1)  # every smaller integer is an exact float
    if (np.abs(values) >= first_inexact).any():
        raise CatalogError(
            f"the ids in '{name}' were stored as floats and lost their last digits",
            where,
            "export the table again with ids as integers or text",
        )
    if (values != np.round(values)).any():
        raise CatalogError(
            f"the ids in '{name}' are not whole numbers", where, "name the id column with survey.columns.id=NAME"
        )
    return pa.array(values.astype(np.int64))
