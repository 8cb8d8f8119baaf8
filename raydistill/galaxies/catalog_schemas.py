"""Catalog schemas: five layouts of the Galaxy Zoo 2 votes, read into one table.

`willett`          Table 5 of Willett et al. 2013: `t01_…_a01_smooth_{fraction,weighted_fraction,debiased}`
`hart16`           Hart et al. 2016: the same names, newer debiasing; some releases lack raw fractions
`kaggle`           The Galaxy Challenge: `GalaxyID, Class1.1 … Class11.6`, cumulative along the tree
`galaxy-datasets`  Hugging Face `mwalmsley/gz2`: `smooth-or-featured-gz2_smooth_fraction`; no task 8
`plain`            one label per object, no votes

To add a schema, write one function that returns the `_Question` of a task, and enter it in
`_LAYOUTS`, `DIALECTS` and `_detect_schema`. The YAML key of the schema is `survey.dialect`.

References
----------
Willett et al. 2013, MNRAS 435, 2835, arXiv:1308.3496.
Hart et al. 2016, MNRAS 461, 3663, arXiv:1607.01019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.tables import column_names, object_ids, read_columns
from raydistill.galaxies.tree import RESPONSES, TASKS, Task, task_columns

Fractions = Literal["weighted", "raw", "debiased"]
DIALECTS = ("willett", "hart16", "kaggle", "galaxy-datasets", "plain")

VOTES = pa.list_(pa.float32(), len(RESPONSES))

# Possible names of each column, in order of preference; the case is ignored.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("object_id", "id_str", "dr7objid", "objid", "GalaxyID", "id"),
    "ra": ("ra",),
    "dec": ("dec",),
    "petro_r90": ("petro_r90", "petroR90_r"),
    "redshift": ("redshift",),
    "total_votes": ("total_votes",),
    "label": ("label", "class"),
    "confidence": ("confidence",),
}
_NUMBERS = ("ra", "dec", "petro_r90", "redshift", "total_votes")

# Fractions are published with three decimals: an excess up to this value is rounding, and is clipped.
_ROUNDING = 1e-3

_SUFFIX = {"weighted": "_weighted_fraction", "raw": "_fraction", "debiased": "_debiased"}


@dataclass(frozen=True)
class _Question:
    """The columns of one task's answers; empty if the schema lacks the task.

    Cumulative fractions and counts are divided by their sum over the question.
    """

    columns: tuple[str, ...]
    holds: Literal["conditional", "cumulative", "counts"] = "conditional"


def read_catalog(
    uri: str,
    dialect: str = "auto",
    *,
    fractions: Fractions = "weighted",
    columns: Mapping[str, str] | None = None,
) -> pa.Table:
    """Read a catalogue of any schema into one table.

    Parameters
    ----------
    uri : str
        A .csv(.gz), .parquet or .fits file, or a folder of Parquet files.
    dialect : str
        One of `DIALECTS`, or "auto" to detect the schema from the columns.
    fractions : {"weighted", "raw", "debiased"}
        Which of the published fractions to read. In `hart16`, a question without raw fractions for
        all of its answers takes the weighted fractions of all its answers. It is an error if that
        applies to every question. `kaggle` and `galaxy-datasets` publish one kind of fraction, which
        serves as `weighted` and as `raw`.
    columns : mapping, optional
        Names of columns that differ from the usual ones, such as
        `{"id": "PGCname", "label": "class9"}`. The keys are id, label, confidence, ra, dec,
        petro_r90, redshift and total_votes.

    Returns
    -------
    pyarrow.Table
        One row per galaxy, in the order of the file. Unknown numbers are null.

        - `object_id: string`
        - `ra, dec: float64` [deg]
        - `petro_r90: float64` [arcsec]
        - `redshift: float64`
        - `total_votes: float64`: answers to all questions, about three per volunteer
        - `votes: fixed_size_list<float32>[37]` in the order of `RESPONSES`: the fraction of each
          answer among the volunteers who were asked; NaN if nobody was asked or the schema lacks
          the task. Debiased fractions of one question need not sum to 1.
        - or, for `plain`: `label: string, confidence: float64`; the confidence is 1 if the table
          has none

        The schema's metadata hold the dialect, the kind of fractions, and the tasks that took
        weighted instead of raw fractions.

    Raises
    ------
    CatalogError
        For a missing column (with the nearest existing name), an empty table, repeated or damaged
        ids, values that are not numbers, and fractions outside [0, 1] by more than rounding.
    ConfigError
        For an unknown dialect, kind of fractions, or key of `columns`.
    """
    overrides = _check_roles(columns or {})
    present = column_names(uri)
    dialect = _detect_schema(present, overrides, uri) if dialect == "auto" else _check_dialect(dialect)
    names = {role: _find_column(role, present, overrides, uri) for role in _ALIASES}
    if names["id"] is None:
        raise _missing("no id column", "GalaxyID or dr7objid", present, uri, "name it with survey.columns.id=NAME")
    if dialect == "plain":
        return _read_labels(uri, present, names)
    return _read_votes(uri, dialect, fractions, present, names)


def votes_array(catalog: pa.Table) -> np.ndarray:
    """Return the `votes` column as float32 `[N, 37]`, answers in the order of `RESPONSES`."""
    flat = catalog["votes"].combine_chunks().flatten()
    return np.asarray(flat, dtype=np.float32).reshape(-1, len(RESPONSES))


def read_filename_mapping(uri: str, id_column: str = "objid", asset_column: str = "asset_id") -> dict[str, str]:
    """Return asset ids by object id, from a table such as `gz2_filename_mapping.csv`.

    Parameters
    ----------
    uri : str
        A table with the columns objid, sample and asset_id. The picture is `{asset_id}.jpg`.
    id_column, asset_column : str
        Names of the two columns.

    Returns
    -------
    dict of str to str
        An object in several rows has the asset id of the first one.

    Raises
    ------
    CatalogError
        If the table or a column is missing.
    """
    present = column_names(uri)
    for column in (id_column, asset_column):
        if column not in present:
            raise _missing(f"no column '{column}'", column, present, uri, "name the columns objid and asset_id")
    table = read_columns(uri, [id_column, asset_column], text=(id_column, asset_column))
    ids, assets = (object_ids(table[name], name, uri).to_pylist() for name in (id_column, asset_column))
    return dict(zip(reversed(ids), reversed(assets), strict=True))


# ---- finding columns ----


def _check_roles(columns: Mapping[str, str]) -> Mapping[str, str]:
    for role in columns:
        if role not in _ALIASES:
            raise ConfigError(f"unknown key '{role}'", "columns", nearest(role, tuple(_ALIASES)))
    return columns


def _check_dialect(dialect: str) -> str:
    if dialect not in DIALECTS:
        raise ConfigError(f"unknown dialect '{dialect}'", "dialect", nearest(dialect, ("auto", *DIALECTS)))
    return dialect


def _find_column(role: str, present: Sequence[str], overrides: Mapping[str, str], uri: str) -> str | None:
    """Return the column for `role`: the configured one, else the first alias in the table, else None."""
    if role in overrides:
        if overrides[role] not in present:
            what = f"no column '{overrides[role]}'"
            raise _missing(what, overrides[role], present, uri, f"correct survey.columns.{role}")
        return overrides[role]
    lowered = {name.lower(): name for name in reversed(present)}
    return next((lowered[alias.lower()] for alias in _ALIASES[role] if alias.lower() in lowered), None)


def _missing(what: str, requested: str, present: Sequence[str], uri: str, fix: str) -> CatalogError:
    return CatalogError(f"has {what}", uri, f"{fix}; {nearest(requested, tuple(present))}")


def _detect_schema(present: Sequence[str], overrides: Mapping[str, str], uri: str) -> str:
    """Return the schema that the columns match. Willett's and Hart's names agree, but Hart's tables lack some."""
    if "label" in overrides:
        return "plain"
    if any(name.startswith(RESPONSES[0]) for name in present):
        return "willett" if all(f"{stem}_fraction" in present for stem in RESPONSES) else "hart16"
    if "Class1.1" in present:
        return "kaggle"
    if any(name.startswith("smooth-or-featured-gz2_") for name in present):
        return "galaxy-datasets"
    if _find_column("label", present, overrides, uri) and _find_column("id", present, overrides, uri):
        return "plain"
    if len(present) == 1 and (separator := next((mark for mark in ";\t|" if mark in present[0]), None)):
        what = f"its columns are separated by {separator!r}, but commas are expected"
        raise CatalogError(what, uri, "save it with commas, as .tsv with tabs, or as Parquet")
    raise _missing(
        "no columns of a known catalog schema",
        f"{RESPONSES[0]}_weighted_fraction",
        present,
        uri,
        f"set survey.dialect to one of {', '.join(DIALECTS)}, or set survey.columns.id and survey.columns.label",
    )


# ---- the layouts: which columns hold a task's answers ----


def _release_question(task: Task, fractions: Fractions, present: set[str]) -> _Question:
    return _Question(tuple(answer.column + _SUFFIX[fractions] for answer in task.answers))


def _hart16_question(task: Task, fractions: Fractions, present: set[str]) -> _Question:
    question = _release_question(task, fractions, present)
    if fractions == "raw" and not present.issuperset(question.columns):
        return _release_question(task, "weighted", present)  # one question never mixes both kinds
    return question


def _kaggle_question(task: Task, fractions: Fractions, present: set[str]) -> _Question:
    return _Question(tuple(f"Class{task.number}.{i + 1}" for i in range(len(task.answers))), "cumulative")


# Names in galaxy-datasets (label_metadata.gz2_ortho_pairs), with the answers in the order of TASKS.
_GALAXY_DATASETS: Mapping[int, tuple[str, tuple[str, ...]]] = {
    1: ("smooth-or-featured", ("smooth", "featured-or-disk", "artifact")),
    2: ("disk-edge-on", ("yes", "no")),
    3: ("bar", ("yes", "no")),
    4: ("has-spiral-arms", ("yes", "no")),
    5: ("bulge-size", ("no", "just-noticeable", "obvious", "dominant")),
    6: ("something-odd", ("yes", "no")),
    7: ("how-rounded", ("round", "in-between", "cigar")),
    8: ("odd-feature", ("ring", "lens-or-arc", "disturbed", "irregular", "other", "merger", "dust-lane")),
    9: ("bulge-shape", ("round", "boxy", "no-bulge")),
    10: ("spiral-winding", ("tight", "medium", "loose")),
    11: ("spiral-arm-count", ("1", "2", "3", "4", "more-than-4", "cant-tell")),
}


def _galaxy_datasets_question(task: Task, fractions: Fractions, present: set[str]) -> _Question:
    """Return the fractions, or the counts for older catalogues, which hold only counts."""
    key, answers = _GALAXY_DATASETS[task.number]
    counts = tuple(f"{key}-gz2_{answer}" for answer in answers)
    as_fractions = tuple(f"{name}_fraction" for name in counts)
    if present.isdisjoint(as_fractions) and present.issuperset(counts):
        return _Question(counts, "counts")
    if task.number == 8 and present.isdisjoint((*counts, *as_fractions)):
        return _Question(())
    return _Question(as_fractions)


_LAYOUTS: Mapping[str, Callable[[Task, Fractions, set[str]], _Question]] = {
    "willett": _release_question,
    "hart16": _hart16_question,
    "kaggle": _kaggle_question,
    "galaxy-datasets": _galaxy_datasets_question,
}


def _questions(dialect: str, fractions: Fractions, present: Sequence[str], uri: str) -> list[_Question]:
    if fractions not in _SUFFIX:
        raise ConfigError(f"unknown fractions '{fractions}'", "fractions", nearest(fractions, tuple(_SUFFIX)))
    if dialect in ("kaggle", "galaxy-datasets") and fractions == "debiased":
        raise CatalogError(f"the dialect {dialect} has no debiased fractions", uri, "set survey.fractions to weighted")
    questions = [_LAYOUTS[dialect](task, fractions, set(present)) for task in TASKS]
    for name in (name for question in questions for name in question.columns):
        if name not in present:
            others = [kind for kind in _SUFFIX if kind != fractions]
            fix = f"correct survey.dialect (now {dialect}) or survey.fractions ({' or '.join(others)})"
            raise _missing(f"no column '{name}'", name, present, uri, fix)
    return questions


# ---- reading ----


def _read_votes(
    uri: str, dialect: str, fractions: Fractions, present: Sequence[str], names: Mapping[str, str | None]
) -> pa.Table:
    questions = _questions(dialect, fractions, present, uri)
    answers = [name for question in questions for name in question.columns]
    totals = [name for name in present if name.endswith("-gz2_total-votes")] if dialect == "galaxy-datasets" else []
    table = _read(uri, names, [*answers, *totals])
    result = _common_columns(table, names, uri)
    if totals and names["total_votes"] is None:
        sums = np.nansum([_numbers(table, name, uri) for name in totals], axis=0)
        result = result.set_column(result.schema.get_field_index("total_votes"), "total_votes", pa.array(sums))
    votes = np.full((table.num_rows, len(RESPONSES)), np.nan, dtype=np.float32)
    for task, question in zip(TASKS, questions, strict=True):
        if question.columns:
            votes[:, task_columns(task)] = _conditional(table, question, uri)
    fallbacks = _weighted_fallbacks(questions, fractions, uri)
    metadata = {"dialect": dialect, "fractions": fractions, "weighted_instead_of_raw": fallbacks}
    result = result.append_column("votes", pa.FixedSizeListArray.from_arrays(votes.ravel(), type=VOTES))
    return result.replace_schema_metadata({f"raydistill.{key}": value for key, value in metadata.items()})


def _weighted_fallbacks(questions: list[_Question], fractions: Fractions, uri: str) -> str:
    """Return the numbers of the tasks that take weighted instead of raw fractions, as "1,2,3"."""
    if fractions != "raw":
        return ""
    weighted = [bool(q.columns) and q.columns[0].endswith(_SUFFIX["weighted"]) for q in questions]
    if all(weighted):
        raise CatalogError("no question has raw fractions for all its answers", uri, "set survey.fractions to weighted")
    return ",".join(str(task.number) for task, is_weighted in zip(TASKS, weighted, strict=True) if is_weighted)


def _read_labels(uri: str, present: Sequence[str], names: Mapping[str, str | None]) -> pa.Table:
    label, confidence = names["label"], names["confidence"]
    if label is None:
        raise _missing("no column of labels", "label", present, uri, "name it with survey.columns.label=NAME")
    table = _read(uri, names, [name for name in (label, confidence) if name is not None], text=(label,))
    values = np.ones(table.num_rows) if confidence is None else _fraction(table, confidence, uri, counts=False)
    try:
        raw_labels = pc.cast(table[label].combine_chunks(), pa.string())
    except pa.ArrowException as error:
        what = f"column '{label}' has the type {table[label].type}, which is not a label"
        raise CatalogError(what, uri, "name another column with survey.columns.label=NAME") from error
    labels = pc.utf8_trim_whitespace(raw_labels)
    result = _common_columns(table, names, uri)
    result = result.append_column("label", labels).append_column("confidence", pa.array(values, from_pandas=True))
    return result.replace_schema_metadata({"raydistill.dialect": "plain"})


def _read(uri: str, names: Mapping[str, str | None], others: list[str], text: tuple[str, ...] = ()) -> pa.Table:
    identity = names["id"]
    assert identity is not None
    numbers = [names[role] for role in _NUMBERS]
    columns = [identity, *(name for name in numbers if name is not None), *others]
    table = read_columns(uri, columns, text=(identity, *text))
    if table.num_rows == 0:
        raise CatalogError("the table has no rows", uri, "check how it was exported")
    return table


def _common_columns(table: pa.Table, names: Mapping[str, str | None], uri: str) -> pa.Table:
    identity = names["id"]
    assert identity is not None
    ids = object_ids(table[identity], identity, uri)
    _check_unique(ids, identity, uri)
    columns: dict[str, pa.Array] = {"object_id": ids}
    for role in _NUMBERS:
        name = names[role]
        values = np.full(table.num_rows, np.nan) if name is None else _numbers(table, name, uri)
        absent = (values <= 0) if role == "petro_r90" else (values == -9999)  # SDSS writes -9999 for "not measured"
        columns[role] = pa.array(np.where(absent, np.nan, values), from_pandas=True)
    return pa.table(columns)


def _check_unique(ids: pa.Array, name: str, uri: str) -> None:
    counts = pc.value_counts(ids)
    repeated = [entry["values"] for entry in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist()]
    if repeated:
        raise CatalogError(
            f"{len(repeated)} ids in '{name}' occur in several rows (first: {', '.join(repeated[:3])})",
            uri,
            "keep one row per object",
        )


def _numbers(table: pa.Table, name: str, uri: str) -> np.ndarray:
    """Return a column as float64, NaN for null. CatalogError names the first value that is not a number."""
    column = table[name].combine_chunks()
    try:
        values: np.ndarray = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        return values
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        row, value = next(((i, v) for i, v in enumerate(column.to_pylist()) if not _is_number(v)), (0, column[0]))
        raise CatalogError(
            f"column '{name}' holds '{value}' in row {row + 1}, which is not a number",
            uri,
            "correct it or leave it empty",
        ) from error


def _is_number(value: object) -> bool:
    """Return whether Arrow reads `value` as a number; it accepts neither blanks nor underscores."""
    try:
        pc.cast(pa.scalar(value), pa.float64())
    except pa.ArrowException:
        return False
    return True


def _fraction(table: pa.Table, name: str, uri: str, *, counts: bool) -> np.ndarray:
    values = _numbers(table, name, uri)
    outside = (values < -_ROUNDING) | (np.isinf(values) if counts else values > 1 + _ROUNDING)
    if outside.any():
        row = int(np.argmax(outside))
        raise CatalogError(
            f"column '{name}' is outside [0, 1] in {int(outside.sum())} rows (row {row + 1}: {values[row]:g})",
            uri,
            "check that it holds fractions, not counts",
        )
    return np.asarray(np.clip(values, 0.0, None if counts else 1.0))


def _conditional(table: pa.Table, question: _Question, uri: str) -> np.ndarray:
    """Return float64 `[N, answers]`. A row of zeros means that nobody was asked, and becomes NaN."""
    values = np.stack(
        [_fraction(table, name, uri, counts=question.holds == "counts") for name in question.columns], axis=1
    )
    total = np.nansum(values, axis=1, keepdims=True)
    unasked = total <= 0
    if question.holds != "conditional":
        values = values / np.where(unasked, 1.0, total)
    return np.where(unasked, np.nan, values)
