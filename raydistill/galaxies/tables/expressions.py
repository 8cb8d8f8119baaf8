"""Evaluate expressions of a table's columns, such as "petroMag_u - petroMag_r"."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.types as types

from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.tables import grammar
from raydistill.galaxies.tables.grammar import Step, parse_expression, shorten, wrong_expression
from raydistill.galaxies.tables.ids import INDEX, Duplicates, check_repeated, find_repeated, object_ids
from raydistill.galaxies.tables.opening import open_table

USUAL_ID = "objid"


class EvaluatedRows(NamedTuple):
    """Distinct object ids of a table, and the value of each expression for each."""

    object_ids: list[str]
    values: list[pd.Series]


def evaluate_rows(
    uri: str, expressions: Sequence[str], id_column: str | None, where: str, id_where: str,
    hdu: int | str | None = None, duplicates: Duplicates | None = None,
) -> EvaluatedRows:  # fmt: skip
    """Return the values of expressions for each object of a table.

    Parameters
    ----------
    uri
        A table of any format.
    expressions
        Expressions of columns, see `grammar`. Object ids are text in them. A comparison with an
        unknown value is false, except `!=`.
    id_column
        Its column of object ids. None: objid, or the first column.
    where, id_where
        Config keys of the expressions and of the column, for error messages.
    hdu
        As in `open_table`.
    duplicates
        What happens to an id in several rows with different values; see `check_repeated`.

    Raises
    ------
    CatalogError
        The table cannot be read, has no such column of ids, or ids with different values are
        rejected.
    ConfigError
        An expression is wrong.
    """
    programs = [parse_expression(text, where) for text in expressions]
    table = open_table(uri, hdu=hdu)
    named = [name for name in table.names if name not in INDEX] or table.names
    column = id_column or (USUAL_ID if USUAL_ID in table.names else named[0])
    if column not in table.names:
        raise CatalogError(f"it has no column '{column}'", uri, f"{id_where}: {nearest(column, table.names)}")
    used = dict.fromkeys(step.operand for steps in programs for step in steps if step.operator == grammar.COLUMN)
    for name in used:
        if name not in table.names:
            raise ConfigError(f"{uri} has no column '{shorten(name)}'", where, nearest(shorten(name), table.names))
    rows = table.read([column, *used], text=[column])
    values = []
    for expression, steps in zip(expressions, programs, strict=True):
        try:
            result = _run(steps, rows).data
        except ValueError as error:
            raise wrong_expression(expression, error, where) from error
        if not isinstance(result, pd.Series):
            what = f"'{shorten(expression)}' gives no value for each row"
            raise ConfigError(what, where, "use a column of the table in it")
        values.append(result)
    return _once(object_ids(rows[column], column, uri), values, f"in '{column}'", uri, duplicates)


def _once(ids: pa.Array, values: list[pd.Series], where: str, uri: str, duplicates: Duplicates | None) -> EvaluatedRows:
    """Return each id once; differing values are rejected, or the first counts."""
    frame = pd.DataFrame(dict(enumerate(values))).assign(id=ids.to_pylist())
    distinct = frame.drop_duplicates()
    repeated = find_repeated(pa.array(distinct["id"], pa.string()))
    what = f"{where} occur in several rows with different values"
    check_repeated(repeated, what, uri, duplicates)
    first = distinct.drop_duplicates("id")
    return EvaluatedRows(first["id"].tolist(), [first[number] for number in range(len(values))])


# ---- values ----


class _Value(NamedTuple):
    """A constant, or a column with a value per row.

    A column of yes/no with unknown values has the dtype object, and None in these rows. A column
    without any known value is "unknown", and NaN in all rows.
    """

    kind: Literal["number", "yes/no", "text", "time", "unknown"]
    data: Any  # pandas.Series, or a number, bool or text


def _run(steps: Sequence[Step], rows: pa.Table) -> _Value:
    """Return the value of an expression. ValueError if it has none."""
    stack: list[_Value] = []
    for step in steps:
        first = len(stack) - step.num_operands
        operands = stack[first:]
        del stack[first:]
        with np.errstate(all="ignore"):
            try:
                stack.append(_apply(step, operands, rows))
            except (ValueError, TypeError, ArithmeticError) as error:
                raise ValueError(f"character {step.position}: {error}") from error
    return stack[0]


def _apply(step: Step, operands: list[_Value], rows: pa.Table) -> _Value:
    name = step.operator
    if name == grammar.COLUMN:
        return _column(rows[step.operand], step.operand)
    if name == grammar.CONSTANT:
        return _constant(step.operand)
    if name == "compare":
        pairs = zip(step.operand, operands, operands[1:], strict=False)
        return _Value("yes/no", reduce(operator.and_, (_compare(*pair) for pair in pairs)))
    if name == grammar.IN:
        return _Value("yes/no", _is_in(operands[0], step.operand))
    if name in ("and", "&", "or", "|"):
        return _logical(name, *operands)
    if name == grammar.NOT:
        return _Value("yes/no", _negate(operands[0]))
    return _Value("number", _CALCULATIONS[name](*(_number(operand) for operand in operands)))


def _constant(value: Any) -> _Value:
    if isinstance(value, str):
        return _Value("text", value)
    return _Value("yes/no" if isinstance(value, bool) else "number", value)


def _column(column: pa.ChunkedArray, name: str) -> _Value:
    """Return a column; its whole numbers as int64, so that small ones fit."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if types.is_boolean(kind):
        return _Value("yes/no", column.to_pandas())
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _Value("text", column.to_pandas())
    if types.is_timestamp(kind) or types.is_date(kind):
        return _Value("time", column.to_pandas(date_as_object=False))
    if types.is_integer(kind):
        with suppress(pa.ArrowInvalid):  # uint64 beyond int64
            column = column.cast(pa.int64())
        return _Value("number", column.to_pandas())
    if types.is_null(kind):
        return _Value("unknown", column.cast(pa.float64()).to_pandas())
    if types.is_decimal(kind):
        column = column.cast(pa.float64())
    if types.is_floating(column.type):
        return _Value("number", column.to_pandas())
    raise ValueError(f"column '{name}' holds values of the type {kind}, with which nothing is computed")


def _compare(name: str, left: _Value, right: _Value) -> Any:
    compare, kinds = _COMPARISONS[name], {left.kind, right.kind}
    if "unknown" in kinds:
        return compare(left.data if left.kind == "unknown" else right.data, 0)
    if kinds <= {"number", "yes/no"}:
        return compare(_number(left), _number(right))
    if len(kinds) == 1 or (kinds == {"time", "text"} and any(isinstance(side.data, str) for side in (left, right))):
        return compare(left.data, right.data)
    raise ValueError(f"a {left.kind} cannot be compared with a {right.kind}")


def _is_in(value: _Value, constants: list[Any]) -> Any:
    kinds = {_constant(constant).kind for constant in constants} | {value.kind}
    if kinds not in ({"number"}, {"text"}):
        raise ValueError(f"'in' needs numbers or texts alone, and not a {' and a '.join(sorted(kinds))}")
    data = value.data
    if not isinstance(data, pd.Series):
        return data in constants
    return data.isin(np.array(constants, data.to_numpy().dtype) if data.dtype.kind == "f" else constants)


def _logical(name: str, left: _Value, right: _Value) -> _Value:
    function = operator.and_ if name in ("and", "&") else operator.or_
    kinds = {left.kind, right.kind}
    if kinds == {"yes/no"}:
        return _Value("yes/no", function(_known(left.data), _known(right.data)))
    if kinds == {"number"} and name in "&|" and all(np.asarray(side.data).dtype.kind in "iu" for side in (left, right)):
        return _Value("number", function(left.data, right.data))
    raise ValueError(f"'{name}' needs yes or no, such as 'a > 0', and not a {next(iter(kinds - {'yes/no'}))}")


def _known(data: Any) -> Any:
    """Return yes/no with unknown values as no."""
    return data.eq(True) if isinstance(data, pd.Series) else data


def _negate(value: _Value) -> Any:
    if value.kind != "yes/no":
        raise ValueError(f"'not' needs yes or no, such as 'a > 0', and not a {value.kind}")
    if not isinstance(value.data, pd.Series):
        return not value.data
    if value.data.dtype != bool:
        raise ValueError("'not' needs yes or no in each row, and some are unknown; compare with True or False")
    return ~value.data


def _number(value: _Value) -> Any:
    if value.kind in ("text", "time"):
        raise ValueError(f"a number is needed, and not a {value.kind}")
    if value.kind != "yes/no":
        return value.data
    if not isinstance(value.data, pd.Series):
        return int(value.data)
    return value.data.astype(np.int64 if value.data.dtype == bool else np.float64)


# ---- numbers ----


def _as_float(data: Any) -> Any:
    """Return numbers as floats; float32 stays as it is."""
    if not isinstance(data, pd.Series):
        return float(data)
    return data if data.dtype.kind == "f" else data.astype(np.float64)


def _exact(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return an operation whose large whole numbers become floats."""

    def compute(left: Any, right: Any) -> Any:
        result = function(left, right)
        if not isinstance(result, pd.Series) or result.dtype.kind not in "iu":
            return result
        near, limits = function(_as_float(left), _as_float(right)), np.iinfo(result.to_numpy().dtype)
        return near if ((near < limits.min) | (near >= float(limits.max))).any() else result

    return compute


def _power(base: Any, exponent: Any) -> Any:
    """Return a power as floats: whole numbers could fill the memory."""
    base, exponent = _as_float(base), _as_float(exponent)
    if isinstance(base, pd.Series) or isinstance(exponent, pd.Series):
        return base**exponent
    return float(np.power(base, exponent))


def _function(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    def compute(*operands: Any) -> Any:
        result = function(*(operand if isinstance(operand, pd.Series) else float(operand) for operand in operands))
        return result if isinstance(result, pd.Series) else float(result)

    return compute


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, ">": operator.gt
}  # fmt: skip
_CALCULATIONS: dict[str, Callable[..., Any]] = {
    "+": _exact(operator.add),
    "-": _exact(operator.sub),
    "*": _exact(operator.mul),
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
    grammar.NEGATIVE: lambda value: _CALCULATIONS["*"](value, -1),
    grammar.POSITIVE: operator.pos,
    **{name: _function(name) for name in grammar.FUNCTIONS},
}


# Find the rows of a table that fulfil a condition on its columns.


class MatchedRows(NamedTuple):
    """Object ids of a table's rows, and bool [N], whether a row fulfils the condition."""

    object_ids: list[str]
    fulfils_N: npt.NDArray[np.bool_]


def match_rows(
    uri: str, condition: str, id_column: str | None, where: str, id_where: str,
    hdu: int | str | None = None, duplicates: Duplicates | None = None,
) -> MatchedRows:  # fmt: skip
    """Return which rows of a table fulfil a condition.

    An unknown value fulfils no comparison, except `!=`.

    Parameters
    ----------
    condition
        Comparisons of columns, such as "truth_class <= 2 and truth_dust_lane > 0".
    uri, id_column, where, id_where, hdu, duplicates
        As in `evaluate_rows`.

    Raises
    ------
    CatalogError
        The table cannot be read, has no such column of ids, or an id in rows that disagree.
    ConfigError
        The condition is wrong.
    """
    ids, [fulfils] = evaluate_rows(uri, [condition], id_column, where, id_where, hdu, duplicates)
    if fulfils.dtype != bool:
        fix = "compare a column with a number, such as 'truth_dust_lane > 0'"
        raise ConfigError(f"'{condition}' gives no yes or no for each row", where, fix)
    matches: npt.NDArray[np.bool_] = fulfils.to_numpy()
    return MatchedRows(ids, matches)
