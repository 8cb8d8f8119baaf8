"""Read object ids as text, with every digit; from an index too; each once."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError, listed
from raydistill.galaxies.labels import spell_column, trim
from raydistill.galaxies.tables.opening import Table
from raydistill.log import get_logger

# Read object ids as text, with every digit.
#
# SDSS ids have 18 digits, and float64 holds fewer than 16. Ids of text stay as they are (1.10, 1E10,
# 007), unless all of them are whole numbers and some are written as a program writes floats.

log = get_logger(__name__)

_NEVER_IDS = ("", "n/a", "<na>", "--", "\\n")  # in lower case
_WORDS_FOR_NONE = ("nan", "na", "null", "none")  # in lower case; one id among words may be such a word
# Marks of spreadsheets: the ids that have them, the mark, and what stays.
_MARKS = (
    (r'^=".*"$', r'^="(.*)"$', r"\1"),
    (r"^'\d+$", r"^'", ""),
    (r"^\d{1,3}(,\d{3})*$", ",", ""),
)
# A whole number as programs write it, as a decimal or in scientific notation: 1002.0, 5.877e+17, 5,877E+17, and
# Java's 5.877E17. An exponent without a point or a sign is not a program's, as in the id 1E10.
_WHOLE = r"-?(0|[1-9]\d*)"
_DECIMAL = rf"^{_WHOLE}\.0*$"
_SCIENTIFIC = r"^-?[1-9]([.,]\d+[eE][+-]?|[eE]\+)\d+$"
_EXACT = 2**53  # every smaller integer is an exact float64


def object_ids(column: pa.ChunkedArray | pa.Array, name: str, where: str) -> pa.Array:
    """Return a column of ids as text, with every digit.

    Parameters
    ----------
    column : pyarrow array
        Ids as text, bytes, integers, decimals or floats.
    name, where : str
        The column and the file, for error messages.

    Raises
    ------
    CatalogError
        If ids are missing. If ids were floats too long for their type, so that the last digits are
        lost: such ids would match the wrong galaxies.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        array = _ids_from_floats(array.to_numpy(zero_copy_only=False), name, where)
    elif pa.types.is_decimal(array.type):
        array = _without_zeros(array)
    text = _without_marks(spell_column(_as_text(array, name, where), f"column '{name}'", trim))
    if _written_as_floats(text):
        text = _without_fractions(text, name, where)
    _check_missing(text, name, where)
    return text


def _check_missing(text: pa.Array, name: str, where: str) -> None:
    """Raise CatalogError for ids that stand for none; warn of those that may be words.

    A word such as NA is an id among other texts, unless several rows have it.
    """
    lowered = pc.utf8_lower(text)
    is_word = pc.is_in(lowered, pa.array(_WORDS_FOR_NONE))
    words = text.filter(is_word)
    are_numbers = pc.all(pc.or_(is_word, pc.match_substring_regex(text, r"^\d+$"))).as_py()
    is_missing = pc.or_(pc.is_null(text), pc.is_in(lowered, pa.array(_NEVER_IDS)))
    if are_numbers or len(pc.unique(pc.utf8_lower(words))) < len(words):
        is_missing = pc.or_(is_missing, is_word)
    _reject_missing(is_missing, name, where)
    if len(words):
        what = "curate: column '%s' has the ids %s, which are read as names; remove their rows if they stand for none"
        log.warning(what, name, listed(words.to_pylist()))


def _reject_missing(is_missing: pa.Array, name: str, where: str) -> None:
    """Raise CatalogError with the numbers of the rows, from 1."""
    rows = np.flatnonzero(is_missing.to_numpy(zero_copy_only=False)) + 1
    if len(rows):
        what = f"column '{name}' has no id in {len(rows)} rows (row {listed([str(row) for row in rows])})"
        raise CatalogError(what, where, "remove these rows")


def _as_text(array: pa.Array, name: str, where: str) -> pa.Array:
    """Return ids as strings.

    CatalogError is raised if their type has no text, or bytes are not UTF-8.
    """
    fix = "name another column of ids"
    if isinstance(array.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    if pa.types.is_nested(array.type) or pa.types.is_boolean(array.type):
        raise CatalogError(f"column '{name}' has the type {array.type}, which is not an id", where, fix)
    try:
        return pc.cast(array, pa.string())
    except pa.ArrowInvalid as error:
        raise CatalogError(f"the ids in '{name}' are bytes that are not UTF-8", where, fix) from error
    except pa.ArrowNotImplementedError as error:
        raise CatalogError(f"column '{name}' has the type {array.type}, which is not an id", where, fix) from error


def _without_zeros(decimals: pa.Array) -> pa.Array:
    """Return decimals without a fraction, if that of all is zero."""
    try:
        return decimals.cast(pa.decimal256(76, 0))
    except pa.ArrowInvalid:
        return decimals


def _without_marks(text: pa.Array) -> pa.Array:
    """Return ids without the marks of spreadsheets, if all have them.

    Such are ="1", '1 and 1,237,648.
    """
    for marked, mark, replacement in _MARKS:
        if len(text) and pc.all(pc.fill_null(pc.match_substring_regex(text, marked), False)).as_py():
            return pc.replace_substring_regex(text, mark, replacement)
    return text


def _written_as_floats(text: pa.Array) -> bool:
    """Return whether all ids are whole numbers, and some are written as floats."""
    is_whole = pc.match_substring_regex(text, f"^{_WHOLE}$")
    is_float = pc.match_substring_regex(text, f"{_DECIMAL}|{_SCIENTIFIC}")
    return bool(
        len(text) and pc.any(is_float).as_py() and pc.all(pc.fill_null(pc.or_(is_whole, is_float), False)).as_py()
    )


def _without_fractions(text: pa.Array, name: str, where: str) -> pa.Array:
    """Return whole numbers for ids that are written as floats.

    Numbers that are text if one of them is not whole, such as 1.5e+0. An id with all its digits,
    such as 587722981742084097.0, was not a float; if none has, they were.
    """
    numbers = [Decimal(word.replace(",", ".")) for word in text.to_pylist()]
    if any(number != number.to_integral_value() for number in numbers):
        return text
    long = [int(number) for number in numbers if abs(number) >= _EXACT]
    is_scientific = pc.any(pc.match_substring_regex(text, _SCIENTIFIC)).as_py()
    if long and (is_scientific or all(int(float(number)) == number for number in long)):
        raise _lost_digits(name, where)
    whole = pa.array([str(int(number)) for number in numbers], pa.string())
    row = pc.index(pc.not_equal(text, whole), True).as_py()
    log.warning("curate: ids in column '%s' are written as floats; '%s' is read as '%s'", name, text[row], whole[row])
    return whole


def _ids_from_floats(values: np.ndarray, name: str, where: str) -> pa.Array:
    _reject_missing(pa.array(~np.isfinite(values)), name, where)
    first_inexact = 2.0 ** (np.finfo(values.dtype).nmant + 1)  # every smaller integer is an exact float
    if (np.abs(values) >= first_inexact).any():
        raise _lost_digits(name, where)
    if (values != np.round(values)).any():
        what = f"the ids in '{name}' are floats that are not whole numbers"
        raise CatalogError(what, where, "store them as text, or name the id column with survey.columns.id=NAME")
    return pa.array(values.astype(np.int64))


def _lost_digits(name: str, where: str) -> CatalogError:
    what = f"the ids in '{name}' were stored as floats and lost their last digits"
    return CatalogError(what, where, "export the table again with ids as integers or text")


# Read ids from the index of pandas or R, a first column without a name.

INDEX = ("", "Unnamed: 0", "__index_level_0__")  # its names
_SPREAD = 10  # a selection of rows keeps at least each tenth one


def index_of_ids(table: Table) -> str | None:
    """Return the name of an index that holds ids, or None without an index.

    Warns that the ids are there.

    Raises
    ------
    CatalogError
        If its values may be numbers of rows.
    """
    name = next((name for name in table.names if name in INDEX), None)
    if name is None or (name != INDEX[-1] and name != table.names[0]):
        return None
    values = table.read([name], text=[name])[name].cast(pa.string())
    if not len(values):
        return name  # the reader reports a table without rows
    if _may_count_rows(values):
        what = "has no id column, and its index may hold numbers of rows"
        raise CatalogError(
            what, table.uri, "name a column with survey.columns.id=NAME, or write a name above the index"
        )
    what = "curate: %s has no id column; the ids are read from its index (first: %s)"
    log.warning(what, table.uri, values[0].as_py())
    return name


def _may_count_rows(values: pa.ChunkedArray) -> bool:
    """Return whether all values are small whole numbers, as of selected rows."""
    if not pc.all(pc.fill_null(pc.match_substring_regex(values, r"^\d{1,9}$"), True)).as_py():
        return False
    return (pc.max(values.cast(pa.int64())).as_py() or 0) < _SPREAD * max(len(values), 10)


# Reject ids that occur twice, or take the first one with a warning.

Duplicates = Literal["reject", "first"]
KEY = "survey.duplicates"
SHOWN = 3  # ids in a message


def check_repeated(
    repeated: Sequence[str], what: str, where: str, duplicates: Duplicates | None, fix: str = "keep one row per object",
    kind: str = "ids",
) -> None:  # fmt: skip
    """Reject ids that occur twice, or warn that the first one is taken.

    Parameters
    ----------
    repeated
        The ids; nothing happens without any.
    what
        What is wrong with them, such as "occur in several rows".
    where
        The file.
    duplicates
        `survey.duplicates`. None: they are rejected, and no key changes that.
    fix
        The next step if they are rejected.
    kind
        What is repeated.

    Raises
    ------
    CatalogError
        If they are rejected.
    """
    if not repeated:
        return
    what = f"{len(repeated)} {kind} {what} (first: {listed(repeated, SHOWN)})"
    if duplicates != "first":
        raise CatalogError(what, where, fix if duplicates is None else f"{fix}, or set {KEY}=first")
    log.warning("curate: %s: %s; the first one is taken", where, what)


def find_repeated(ids: pa.Array | pa.ChunkedArray) -> list[str]:
    """Return the ids that occur more than once."""
    counts = pc.value_counts(ids)
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()


def first_of_each(table: pa.Table, column: str) -> pa.Table:
    """Return the first row of each id, in the order of the rows."""
    ids = table[column]
    rows = pa.table({"id": ids, "row": pa.array(range(len(ids)), pa.int64())})
    first = rows.group_by("id", use_threads=False).aggregate([("row", "min")])["row_min"]
    return table if len(first) == len(table) else table.take(first.sort())
