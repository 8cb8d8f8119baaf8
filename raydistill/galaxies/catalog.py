"""Read a catalogue of votes or labels into one table, whatever its schema."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog_schemas import (
    ALIASES,
    KNOWN_NAMES,
    SUFFIXES,
    Fractions,
    Question,
    check_roles,
    check_schema,
    detect_schema,
    find_column,
    find_name,
    find_named,
    list_questions,
    missing_column,
    to_canonical,
    tree_of,
)
from raydistill.galaxies.labels import spell_column
from raydistill.galaxies.positions import KINDS, part_columns, read_measurement, read_parts
from raydistill.galaxies.tables import Table, find_path_column, index_of_ids, object_ids, open_table
from raydistill.galaxies.tables.ids import Duplicates, check_repeated, find_repeated, first_of_each
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import GZ2
from raydistill.galaxies.votes import conditional_fractions, fraction_column, sum_of_votes
from raydistill.log import get_logger

log = get_logger(__name__)


# Columns of text that only a config names: role -> name in the result, key of the config.
_TEXTS: Mapping[str, tuple[str, str]] = {
    "file": ("file", "survey.images.path_column"),
    "split": ("part", "survey.columns.split"),
}


def read_catalog(
    uri: str,
    schema: str = "auto",
    *,
    fractions: Fractions = "weighted",
    columns: Mapping[str, str | None] | None = None,
    hdu: int | str | None = None,
    path_column: str | None = None,
    need_labels: bool = True,
    duplicates: Duplicates = "reject",
) -> pa.Table:
    """Read a catalogue of any schema into one table.

    Parameters
    ----------
    uri : str
        A table of any format that `tables.open_table` reads, or a folder of such files.
    schema : str
        One of `SCHEMAS`, or "auto" to detect the schema from the columns.
    fractions : {"weighted", "raw", "debiased"}
        Which of the published fractions to read. In `hart16`, a question without raw fractions for
        all of its answers takes the weighted fractions of all its answers. It is an error if that
        applies to every question. Other schemas publish one kind of fraction, which serves as
        `weighted` and as `raw`; some of them also have debiased fractions.
    columns : mapping, optional
        Names of columns that differ from the usual ones, such as
        `{"id": "PGCname", "label": "class9"}`. The keys are id, label, confidence, ra, dec,
        petro_r90, redshift, total_votes and split. None: do not read this column. Upper and lower case
        are the same where only one column fits.
    hdu : int or str, optional
        Which table of a file with several; see `tables.open_table`.
    path_column : str, optional
        Column with the path of each picture, or two or more joined by "/", such as
        "subfolder/filename". It is also the id in a table without ids.
    need_labels : bool
        False: labels are not read, and the table may have neither votes nor labels.
    duplicates : {"reject", "first"}
        What happens to an id in several rows: an error, or its first row is taken with a warning.

    Returns
    -------
    pyarrow.Table
        One row per galaxy, in the order of the file. Unknown numbers are null. A column of ra,
        dec, petro_r90, redshift or total_votes with a value that is not a number is null; a warning
        names the value.

        - `object_id: string`
        - `ra, dec: float64` [deg]
        - `petro_r90: float64` [arcsec]
        - `redshift: float64`
        - `total_votes: float64`: answers to all questions, about three per volunteer
        - `votes: fixed_size_list<float32>` in the order of `tree_of(schema).answers`, 37 for Galaxy
          Zoo 2: the fraction of each answer among the volunteers who were asked; NaN if no volunteer was asked or
          the schema lacks the task. Debiased fractions of one question need not sum to 1.
        - or, for `plain`: `label: string, confidence: float64`; the confidence is 1 if the table
          has none
        - `file: string`, with `path_column`: the path, as it is in the table
        - `part: string`, if `columns` names a split: its name, as it is in the table

        The metadata hold the catalog schema (`raydistill.dialect`), the kind of fractions
        (`raydistill.fractions`), the tasks that took weighted instead of raw fractions
        (`raydistill.weighted_instead_of_raw`), the tree (`raydistill.tree`) and the questions that
        the table lacks (`raydistill.absent_tasks`). A table of labels has only the first.

    Raises
    ------
    CatalogError
        For a missing column (with the nearest existing name), an empty table, repeated or damaged
        ids, fractions that are not numbers, and fractions outside [0, 1] by more than rounding.
    ConfigError
        For an unknown catalog schema, kind of fractions, or key of `columns`.
    """
    overrides = check_roles(columns or {})
    catalog = _Catalog(uri, KNOWN_NAMES | {name.lower() for name in overrides.values() if name}, hdu)
    if path_column is not None:
        path_column = catalog.find_path(path_column)
    overrides = _with_id(overrides, path_column, catalog)
    schema = _choose_schema(schema, overrides, catalog, need_labels)
    _log_unused_split(overrides, catalog)
    names = _columns_of_roles(overrides, path_column, catalog)
    if schema != "plain":
        result = _read_votes(catalog, schema, fractions, names)
    elif need_labels:
        result = _read_labels(catalog, names)
    else:
        result = _common_columns(_read(catalog, names, []), names, catalog)
    repeated = find_repeated(result["object_id"])
    check_repeated(repeated, f"in '{names['id']}' occur in several rows", uri, duplicates)
    return first_of_each(result, "object_id") if repeated else result


def _with_id(
    overrides: Mapping[str, str | None], path_column: str | None, catalog: _Catalog
) -> Mapping[str, str | None]:
    """Return the columns that are named; without ids, they are paths or in the index.

    Raises
    ------
    CatalogError
        If the table has no ids, and a column that may hold paths is not named.
    """
    if find_column("id", catalog.names, overrides, catalog.uri) is not None:
        return overrides
    if path_column is not None:
        log.info("curate: ids are the paths in column '%s'", path_column)
        return {**overrides, "id": path_column}
    if paths := catalog.find_path_column():
        fix = f"if column '{paths}' holds the paths of the pictures, set survey.images.path_column={paths}"
        raise CatalogError("has no id column", catalog.uri, f"{fix}; else name one with survey.columns.id=NAME")
    if (index := catalog.find_index()) is not None:
        return {**overrides, "id": index}
    return overrides


def _choose_schema(schema: str, overrides: Mapping[str, str | None], catalog: _Catalog, need_labels: bool) -> str:
    """Return the schema of a table, by its columns if it is "auto"."""
    if schema != "auto":
        return check_schema(schema)
    try:
        return detect_schema(catalog.names, overrides, catalog.uri)
    except CatalogError:
        if need_labels:
            raise
        return "plain"


def _log_unused_split(overrides: Mapping[str, str | None], catalog: _Catalog) -> None:
    unused = next((name for name in catalog.names if name.lower() == "split"), None)
    if unused is not None and "split" not in overrides:
        log.info(
            "curate: column '%s' is not used; survey.columns.split=%s takes official splits from it", unused, unused
        )


def _columns_of_roles(
    overrides: Mapping[str, str | None], path_column: str | None, catalog: _Catalog
) -> Mapping[str, str | None]:
    """Return the column of each role, such as "ra"; None if absent, except for "id"."""
    names = {role: find_column(role, catalog.names, overrides, catalog.uri) for role in ALIASES} | {"file": path_column}
    if names["id"] is None:
        raise missing_column(
            "no id column", "GalaxyID or dr7objid", catalog.names, catalog.uri, "name it with survey.columns.id=NAME"
        )
    return names


class _Catalog:
    """A table with the usual names of known schemas' columns, whatever their case."""

    def __init__(self, uri: str, known: Collection[str], hdu: int | str | None) -> None:
        self._table: Table = open_table(uri, known, hdu)
        self._stored = to_canonical(self._table.names)  # usual name -> name in the file
        self._joined: dict[str, list[str]] = {}  # columns whose values are joined by "/", by their name
        self.uri, self.names = uri, list(self._stored)

    def unit(self, name: str) -> str:
        """Return the unit of a column, or "" if the table gives none."""
        return self._table.units.get(self._stored[name], "")

    def find_path_column(self) -> str | None:
        """Return the first column that looks like paths of pictures, or None."""
        return find_path_column(self._table)

    def find_index(self) -> str | None:
        """Return the name of an index that holds the ids, or None."""
        return index_of_ids(self._table)

    def find_path(self, requested: str) -> str:
        """Return the column of paths, perhaps several joined by "/". CatalogError if none."""
        key = "survey.images.path_column"
        if "/" not in requested or requested in self.names:
            return find_named(requested, self.names, self.uri, key)
        self._joined[requested] = [find_named(part, self.names, self.uri, key) for part in requested.split("/")]
        self.names.append(requested)
        return requested

    def read(self, columns: Sequence[str], text: Collection[str] = ()) -> pa.Table:
        """Return columns by their usual names."""
        columns = list(dict.fromkeys(columns))
        joined = {name: self._joined[name] for name in columns if name in self._joined}
        parts = [part for parts_of in joined.values() for part in parts_of]
        plain = list(dict.fromkeys([*(name for name in columns if name not in joined), *parts]))
        as_text = [self._stored[name] for name in (*text, *parts) if name not in joined]
        table = self._table.read([self._stored[name] for name in plain], as_text).rename_columns(plain)
        for name, joined_parts in joined.items():
            values = [pc.cast(table[part], pa.string()) for part in joined_parts]
            table = table.append_column(name, pc.binary_join_element_wise(*values, "/"))
        return table.select(columns)


def votes_type(tree: DecisionTree = GZ2) -> pa.DataType:
    """Return the type of a catalogue's `votes`: one fraction per answer of the tree."""
    return pa.list_(pa.float32(), len(tree.answers))


def votes_array(catalog: pa.Table, tree: DecisionTree = GZ2) -> np.ndarray:
    """Return `votes` as float32 `[N, A]`, answers in the order of `tree.answers`."""
    flat = catalog["votes"].combine_chunks().flatten()
    return np.asarray(flat, dtype=np.float32).reshape(-1, len(tree.answers))


def read_filename_mapping(uri: str) -> dict[str, tuple[str, ...]]:
    """Return asset ids by object id, from a table such as `gz2_filename_mapping.csv`.

    Parameters
    ----------
    uri : str
        A table with the columns objid, sample and asset_id. The picture is `{asset_id}.jpg`.

    Returns
    -------
    dict of str to tuple of str
        An object in several rows has the different asset ids of all of them, in order.

    Raises
    ------
    CatalogError
        If the table or a column is missing.
    """
    columns = ("objid", "asset_id")
    table = open_table(uri, columns)
    names = [find_name(column, table.names, uri) for column in columns]
    for column, name in zip(columns, names, strict=True):
        if name is None:
            fix = "name the columns objid and asset_id"
            raise missing_column(f"no column '{column}'", column, table.names, uri, fix)
    id_name, asset_name = (str(name) for name in names)
    rows = table.read([id_name, asset_name], text=(id_name, asset_name))
    ids, assets = (object_ids(rows[name], name, uri).to_pylist() for name in (id_name, asset_name))
    mapping: dict[str, tuple[str, ...]] = {}
    for object_id, asset in zip(ids, assets, strict=True):
        known = mapping.get(object_id, ())
        mapping[object_id] = known if asset in known else (*known, asset)
    return mapping


def _read_votes(catalog: _Catalog, schema: str, fractions: Fractions, names: Mapping[str, str | None]) -> pa.Table:
    uri, present, tree = catalog.uri, catalog.names, tree_of(schema)
    questions = list_questions(schema, fractions, present, uri)
    answers = [name for question in questions for name in question.columns]
    totals = [question.total for question in questions if question.total]
    table = _read(catalog, names, [*answers, *totals])
    result = _common_columns(table, names, catalog)
    if names["total_votes"] is None and (sums := sum_of_votes(table, questions, uri)) is not None:
        result = result.set_column(
            result.schema.get_field_index("total_votes"), "total_votes", pa.array(sums, from_pandas=True)
        )
    votes = np.full((table.num_rows, len(tree.answers)), np.nan, dtype=np.float32)
    for task, question in zip(tree.tasks, questions, strict=True):
        if question.columns:
            votes[:, tree.columns_of(task)] = conditional_fractions(table, question, uri)
    absent = [task.key for task, question in zip(tree.tasks, questions, strict=True) if not question.columns]
    lacking = f"; the table lacks the questions {', '.join(absent)}" if absent else ""
    log.info("curate: votes of the %s tree (%d answers)%s", tree.title, len(tree.answers), lacking)
    fallbacks = _weighted_fallbacks(questions, fractions, uri)
    metadata = {"dialect": schema, "fractions": fractions, "weighted_instead_of_raw": fallbacks}
    metadata |= {"tree": tree.name, "absent_tasks": ",".join(absent)}
    values = pa.FixedSizeListArray.from_arrays(votes.ravel(), type=votes_type(tree))
    result = result.append_column("votes", values)
    return result.replace_schema_metadata({f"raydistill.{key}": value for key, value in metadata.items()})


def _weighted_fallbacks(questions: list[Question], fractions: Fractions, uri: str) -> str:
    """Return the numbers of tasks with weighted instead of raw fractions, as "1,2,3".

    CatalogError if raw fractions are requested and no task has them.
    """
    if fractions != "raw":
        return ""
    weighted = [bool(q.columns) and q.columns[0].endswith(SUFFIXES["weighted"]) for q in questions]
    if all(weighted):
        raise CatalogError("no question has raw fractions for all its answers", uri, "set survey.fractions to weighted")
    return ",".join(str(number) for number, is_weighted in enumerate(weighted, 1) if is_weighted)


def _read_labels(catalog: _Catalog, names: Mapping[str, str | None]) -> pa.Table:
    uri = catalog.uri
    label, confidence = names["label"], names["confidence"]
    if label is None:
        raise missing_column(
            "no column of labels", "label", catalog.names, uri, "name it with survey.columns.label=NAME"
        )
    table = _read(catalog, names, [name for name in (label, confidence) if name is not None], text=(label,))
    values = np.ones(table.num_rows) if confidence is None else fraction_column(table, confidence, uri)
    try:
        raw_labels = pc.cast(table[label].combine_chunks(), pa.string())
    except pa.ArrowException as error:
        what = f"column '{label}' has the type {table[label].type}, which is not a label"
        raise CatalogError(what, uri, "name another column with survey.columns.label=NAME") from error
    labels = spell_column(raw_labels, f"column '{label}'")
    result = _common_columns(table, names, catalog)
    result = result.append_column("label", labels).append_column("confidence", pa.array(values, from_pandas=True))
    return result.replace_schema_metadata({"raydistill.dialect": "plain"})


def _read(
    catalog: _Catalog, names: Mapping[str, str | None], others: list[str], text: tuple[str, ...] = ()
) -> pa.Table:
    identity = names["id"]
    assert identity is not None
    numbers = [name for role in KINDS if (name := names[role]) is not None]
    parts = [part for role in KINDS for part in part_columns(role, names[role] or "", catalog.names).values()]
    text = (identity, *text, *parts, *(name for role in _TEXTS if (name := names[role])))
    table = catalog.read([*text, *numbers, *others], text=text)
    if table.num_rows == 0:
        raise CatalogError("the table has no rows", catalog.uri, "check how it was exported")
    times = [name for name in dict.fromkeys(numbers) if pa.types.is_temporal(table[name].type)]
    if times:  # Arrow takes 12:34:56 for a time of day
        for name, column in zip(times, catalog.read(times, text=times).columns, strict=True):
            table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def _common_columns(table: pa.Table, names: Mapping[str, str | None], catalog: _Catalog) -> pa.Table:
    identity, uri = names["id"], catalog.uri
    assert identity is not None
    columns: dict[str, pa.Array] = {"object_id": object_ids(table[identity], identity, uri)}
    for role in KINDS:
        name = names[role]
        if name is None:
            values = np.full(table.num_rows, np.nan)
        elif parts := part_columns(role, name, catalog.names):
            of_part = {part: table[column].combine_chunks() for part, column in parts.items()}
            values = read_parts(of_part, parts, role, catalog.unit(name))
        else:
            values = read_measurement(table[name].combine_chunks(), role, name, catalog.unit(name))
        columns[role] = pa.array(values, from_pandas=True)
    for role, (result, key) in _TEXTS.items():
        if (name := names[role]) is not None:
            columns[result] = _to_text(table[name].combine_chunks(), name, uri, key)
    return pa.table(columns)


def _to_text(column: pa.Array, name: str, uri: str, key: str) -> pa.Array:
    """Return a column as text; the path of Hugging Face's struct of bytes and path."""
    if pa.types.is_struct(column.type) and column.type.get_field_index("path") >= 0:
        column = pc.struct_field(column, "path")
    if pa.types.is_floating(column.type):  # numbers of a column with gaps
        with suppress(pa.ArrowInvalid):
            column = pc.cast(pc.if_else(pc.is_nan(column), None, column), pa.int64())
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowException as error:
        what = f"column '{name}' has the type {column.type}, which is not text"
        raise CatalogError(what, uri, f"name another column with {key}=NAME") from error
