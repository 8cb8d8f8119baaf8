"""Vote tables and their dialects: five ways in which users hold the same votes, one table out.

`willett`          Table 5 of Willett et al. 2013: `t01_…_a01_smooth_{fraction,weighted_fraction,debiased}`
`hart16`           Hart et al. 2016, the same names with a newer debiasing; some releases lack raw fractions
`kaggle`           The Galaxy Challenge: `GalaxyID, Class1.1 … Class11.6`, cumulative down the tree
`galaxy-datasets`  Hugging Face `mwalmsley/gz2`: `smooth-or-featured-gz2_smooth_fraction`; no task 8
`plain`            A label per object and no votes

`read_catalog` gives the columns `object_id, ra, dec, petro_r90, redshift, total_votes` and then either `votes`, the
*conditional* fraction of every answer among those who were asked, or `label, confidence`. To add a dialect, write
one function from column names to eleven `_Question`s and enter it in `_LAYOUTS`.
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

# Where each column of the result is looked for; upper and lower case are the same.
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

# Fractions are published with three decimals, so they may leave [0, 1] by that much; they are then clipped.
_ROUNDING = 1e-3

_SUFFIX = {"weighted": "_weighted_fraction", "raw": "_fraction", "debiased": "_debiased"}


@dataclass(frozen=True)
class _Question:
    """The columns of one task's answers; none: the dialect does not have the task.

    Cumulative fractions and counts become conditional by division by their sum over the question.
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
    """A catalogue in any dialect as one normalised table.

    Parameters
    ----------
    uri : path or URI of a .csv(.gz), .parquet or .fits file, or of a folder of Parquet files.
    dialect : one of `DIALECTS`, or "auto" to recognise it by its columns.
    fractions : which of the published fractions. `raw` in `hart16`: a question for which not every answer has a raw
        column takes the weighted fractions of all its answers (the metadata lists those tasks); when that is every
        question, it is an error. Kaggle and galaxy-datasets publish one kind of fraction, which serves as `weighted`
        and as `raw`.
    columns : names of columns that differ from the usual, `{"id": "PGCname", "label": "class9"}`; keys are
        id, label, confidence, ra, dec, petro_r90, redshift and total_votes.

    Returns
    -------
    `object_id: string`, `ra, dec: float64 [deg]`, `petro_r90: float64 [arcsec]`, `redshift: float64`,
    `total_votes: float64` (answers over all questions, about three per volunteer), null where unknown; and
    `votes: fixed_size_list<float32>[37]` in the order of `RESPONSES`, NaN where nobody was asked or the dialect lacks
    the task, or else `label: string, confidence: float64` (1 where the table gives none). Debiased fractions of a
    question need not sum to 1 and are left as published. Rows keep their order; the schema's metadata hold
    the dialect, the kind of fractions and the tasks that fell back.

    Raises CatalogError for a missing column (naming the nearest that is there), an empty table, repeated or
    damaged ids, and values that are not numbers or leave [0, 1] by more than rounding.
    """
    named = _known_roles(columns or {})
    present = column_names(uri)
    dialect = _recognise(present, named, uri) if dialect == "auto" else _known_dialect(dialect)
    found = {role: _find(role, present, named, uri) for role in _ALIASES}
    if found["id"] is None:
        raise _missing("an id column", "GalaxyID or dr7objid", present, uri, "name it with survey.columns.id=NAME")
    if dialect == "plain":
        return _read_labels(uri, present, found)
    return _read_votes(uri, dialect, fractions, present, found)


def votes_array(catalog: pa.Table) -> np.ndarray:
    """The `votes` column as float32 `[N, 37]`."""
    flat = catalog["votes"].combine_chunks().flatten()
    return np.asarray(flat, dtype=np.float32).reshape(-1, len(RESPONSES))


def filename_mapping(uri: str, id_column: str = "objid", asset_column: str = "asset_id") -> dict[str, str]:
    """Object id -> asset id, from `gz2_filename_mapping.csv` (objid, sample, asset_id); the picture is
    `{asset_id}.jpg`. An object that stands there twice keeps its first asset."""
    present = column_names(uri)
    for column in (id_column, asset_column):
        if column not in present:
            raise _missing(f"the column '{column}'", column, present, uri, "name the columns objid and asset_id")
    table = read_columns(uri, [id_column, asset_column], text=(id_column, asset_column))
    ids, assets = (object_ids(table[name], name, uri).to_pylist() for name in (id_column, asset_column))
    return dict(zip(reversed(ids), reversed(assets), strict=True))


# ---- finding columns ----


def _known_roles(columns: Mapping[str, str]) -> Mapping[str, str]:
    for role in columns:
        if role not in _ALIASES:
            raise ConfigError(f"unknown key '{role}'", "columns", nearest(role, tuple(_ALIASES)))
    return columns


def _known_dialect(dialect: str) -> str:
    if dialect not in DIALECTS:
        raise ConfigError(f"unknown dialect '{dialect}'", "dialect", nearest(dialect, ("auto", *DIALECTS)))
    return dialect


def _find(role: str, present: Sequence[str], named: Mapping[str, str], uri: str) -> str | None:
    """The column that plays `role`: the one the caller named, else the first alias that is there."""
    if role in named:
        if named[role] not in present:
            raise _missing(f"the column '{named[role]}'", named[role], present, uri, f"correct survey.columns.{role}")
        return named[role]
    lowered = {name.lower(): name for name in reversed(present)}
    return next((lowered[alias.lower()] for alias in _ALIASES[role] if alias.lower() in lowered), None)


def _missing(what: str, wanted: str, present: Sequence[str], uri: str, fix: str) -> CatalogError:
    return CatalogError(f"lacks {what}", uri, f"{fix}; {nearest(wanted, tuple(present))}")


def _recognise(present: Sequence[str], named: Mapping[str, str], uri: str) -> str:
    """The dialect, by its columns. Willett's and Hart's tables share their names and differ in which are there."""
    there = set(present)
    if "label" in named:
        return "plain"
    if any(name.startswith(RESPONSES[0]) for name in present):
        return "willett" if all(f"{stem}_fraction" in there for stem in RESPONSES) else "hart16"
    if "Class1.1" in there:
        return "kaggle"
    if any(name.startswith("smooth-or-featured-gz2_") for name in present):
        return "galaxy-datasets"
    if _find("label", present, named, uri) and _find("id", present, named, uri):
        return "plain"
    if len(present) == 1 and (between := next((mark for mark in ";\t|" if mark in present[0]), None)):
        what = f"its columns stand between {between!r}, and commas are expected"
        raise CatalogError(what, uri, "save it with commas, tabs as .tsv, or as Parquet")
    raise _missing(
        "the columns of any known dialect",
        f"{RESPONSES[0]}_weighted_fraction",
        present,
        uri,
        f"choose dialect among {', '.join(DIALECTS)}, or set survey.columns.id and survey.columns.label",
    )


# ---- the layouts: which columns hold a task's answers ----


def _release_question(task: Task, fractions: Fractions, there: set[str]) -> _Question:
    return _Question(tuple(answer.column + _SUFFIX[fractions] for answer in task.answers))


def _hart16_question(task: Task, fractions: Fractions, there: set[str]) -> _Question:
    question = _release_question(task, fractions, there)
    if fractions == "raw" and not there.issuperset(question.columns):
        return _release_question(task, "weighted", there)  # never a mixture within one question
    return question


def _kaggle_question(task: Task, fractions: Fractions, there: set[str]) -> _Question:
    return _Question(tuple(f"Class{task.number}.{i + 1}" for i in range(len(task.answers))), "cumulative")


# Names of galaxy-datasets (label_metadata.gz2_ortho_pairs) in the order of our answers.
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


def _galaxy_datasets_question(task: Task, fractions: Fractions, there: set[str]) -> _Question:
    """Fractions where they are there, else the counts, which the older catalogues hold alone."""
    key, answers = _GALAXY_DATASETS[task.number]
    counts = tuple(f"{key}-gz2_{answer}" for answer in answers)
    as_fractions = tuple(f"{name}_fraction" for name in counts)
    if there.isdisjoint(as_fractions) and there.issuperset(counts):
        return _Question(counts, "counts")
    if task.number == 8 and there.isdisjoint((*counts, *as_fractions)):
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
        raise CatalogError(f"the dialect {dialect} has no debiased fractions", uri, "set fractions to weighted")
    there = set(present)
    questions = [_LAYOUTS[dialect](task, fractions, there) for task in TASKS]
    for name in (name for question in questions for name in question.columns):
        if name not in there:
            others = [kind for kind in _SUFFIX if kind != fractions]
            fix = f"choose the right dialect (read as {dialect}) or fractions ({' or '.join(others)})"
            raise _missing(f"the column '{name}'", name, present, uri, fix)
    return questions


# ---- reading ----


def _read_votes(
    uri: str, dialect: str, fractions: Fractions, present: Sequence[str], found: Mapping[str, str | None]
) -> pa.Table:
    questions = _questions(dialect, fractions, present, uri)
    asked = [name for question in questions for name in question.columns]
    totals = [name for name in present if name.endswith("-gz2_total-votes")] if dialect == "galaxy-datasets" else []
    table = _read(uri, found, [*asked, *totals])
    result = _common_columns(table, found, uri)
    if totals and found["total_votes"] is None:
        sums = np.nansum([_numbers(table, name, uri) for name in totals], axis=0)
        result = result.set_column(result.schema.get_field_index("total_votes"), "total_votes", pa.array(sums))
    votes = np.full((table.num_rows, len(RESPONSES)), np.nan, dtype=np.float32)
    for task, question in zip(TASKS, questions, strict=True):
        if question.columns:
            votes[:, task_columns(task)] = _conditional(table, question, uri)
    note = {"dialect": dialect, "fractions": fractions, "weighted_instead_of_raw": _fallen(questions, fractions, uri)}
    result = result.append_column("votes", pa.FixedSizeListArray.from_arrays(votes.ravel(), type=VOTES))
    return result.replace_schema_metadata({f"raydistill.{key}": value for key, value in note.items()})


def _fallen(questions: list[_Question], fractions: Fractions, uri: str) -> str:
    """The tasks for which raw fractions were wanted and weighted ones taken, by number: "1,2,3"."""
    if fractions != "raw":
        return ""
    weighted = [bool(q.columns) and q.columns[0].endswith(_SUFFIX["weighted"]) for q in questions]
    if all(weighted):
        raise CatalogError("no question has raw fractions for all its answers", uri, "set fractions to weighted")
    return ",".join(str(task.number) for task, fell in zip(TASKS, weighted, strict=True) if fell)


def _read_labels(uri: str, present: Sequence[str], found: Mapping[str, str | None]) -> pa.Table:
    label, confidence = found["label"], found["confidence"]
    if label is None:
        raise _missing("a column of labels", "label", present, uri, "name it with survey.columns.label=NAME")
    table = _read(uri, found, [name for name in (label, confidence) if name is not None], text=(label,))
    values = np.ones(table.num_rows) if confidence is None else _fraction(table, confidence, uri, counts=False)
    try:
        words = pc.cast(table[label].combine_chunks(), pa.string())
    except pa.ArrowException as error:
        what = f"column '{label}' holds no labels, but {table[label].type}"
        raise CatalogError(what, uri, "name another one with survey.columns.label=NAME") from error
    text = pc.utf8_trim_whitespace(words)
    result = _common_columns(table, found, uri)
    result = result.append_column("label", text).append_column("confidence", pa.array(values, from_pandas=True))
    return result.replace_schema_metadata({"raydistill.dialect": "plain"})


def _read(uri: str, found: Mapping[str, str | None], wanted: list[str], text: tuple[str, ...] = ()) -> pa.Table:
    identity = found["id"]
    assert identity is not None
    numbers = [found[role] for role in _NUMBERS]
    names = [identity, *(name for name in numbers if name is not None), *wanted]
    table = read_columns(uri, names, text=(identity, *text))
    if table.num_rows == 0:
        raise CatalogError("the table has no rows", uri, "check how it was exported")
    return table


def _common_columns(table: pa.Table, found: Mapping[str, str | None], uri: str) -> pa.Table:
    identity = found["id"]
    assert identity is not None
    ids = object_ids(table[identity], identity, uri)
    _refuse_repeats(ids, identity, uri)
    columns: dict[str, pa.Array] = {"object_id": ids}
    for role in _NUMBERS:
        name = found[role]
        values = np.full(table.num_rows, np.nan) if name is None else _numbers(table, name, uri)
        absent = (values <= 0) if role == "petro_r90" else (values == -9999)  # how SDSS writes "not measured"
        columns[role] = pa.array(np.where(absent, np.nan, values), from_pandas=True)
    return pa.table(columns)


def _refuse_repeats(ids: pa.Array, name: str, uri: str) -> None:
    counts = pc.value_counts(ids)
    repeated = [entry["values"] for entry in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist()]
    if repeated:
        raise CatalogError(
            f"{len(repeated)} ids in '{name}' stand in several rows (first: {', '.join(repeated[:3])})",
            uri,
            "keep one row per object",
        )


def _numbers(table: pa.Table, name: str, uri: str) -> np.ndarray:
    """A column as float64, NaN where null; CatalogError naming the first value that is no number."""
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
    """As Arrow reads numbers, which takes no blanks around them and no underscores."""
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
            f"column '{name}' leaves [0, 1] in {int(outside.sum())} rows (row {row + 1}: {values[row]:g})",
            uri,
            "check that it holds fractions, not counts",
        )
    return np.asarray(np.clip(values, 0.0, None if counts else 1.0))


def _conditional(table: pa.Table, question: _Question, uri: str) -> np.ndarray:
    """float64 `[N, answers]`; a row of NaN where nobody answered, which the releases write as all zeros."""
    values = np.stack(
        [_fraction(table, name, uri, counts=question.holds == "counts") for name in question.columns], axis=1
    )
    total = np.nansum(values, axis=1, keepdims=True)
    nobody = total <= 0
    if question.holds != "conditional":
        values = values / np.where(nobody, 1.0, total)
    return np.where(nobody, np.nan, values)
