"""Read and write labels as AnomalyMatch's CSV: `filename,label` and other columns.

Existing rows stay as they are, byte for byte: their order, quotes, line ends and further columns.
New labels are appended.

References
----------
Gómez & O'Ryan 2025, AnomalyMatch, arXiv:2505.03509.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from raydistill.errors import CatalogError, listed
from raydistill.escaping import csv_text, from_csv
from raydistill.galaxies.labels import spell, trim
from raydistill.galaxies.pictures.files import FITS_SUFFIXES, PICTURE_SUFFIXES, suffix_of
from raydistill.galaxies.tables.columns import Twins
from raydistill.stages.hunt.inputs.survey import HuntedSurvey
from raydistill.stages.hunt.learn.ranking import Rows
from raydistill.stages.hunt.learn.regression import Bools
from raydistill.storage import Folder

T = TypeVar("T")
FILENAME, LABEL = "filename", "label"
# Vocabularies: the labels of objects outside the target class, then of those in it.
WORDS = {"normal": ("normal", "anomaly"), "yes-no": ("no", "yes")}
GRADES = ("1", "2", "3", "4", "5")
BOM = "\ufeff"


@dataclass(frozen=True)
class LabelFile:
    """The labels of a file.

    Attributes
    ----------
    text
        Content of the file, with its line ends.
    columns
        Names of the columns.
    rows
        For each row its values by column; every row has a filename and a label.
    where
        The file, for messages.
    """

    text: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...] = field(default=())
    where: str = "labels"

    @property
    def line_end(self) -> str:
        """Return the line end of the file's first line."""
        first = self.text.partition("\n")[0]
        return "\r\n" if first.endswith("\r") else "\n"

    @property
    def scale(self) -> str:
        """Return the vocabulary: "normal", "yes-no" or "1-5"; "normal" without labels."""
        used = {row[LABEL].lower() for row in self.rows}
        for name, words in (*WORDS.items(), ("1-5", GRADES)):
            if used <= set(words):
                return name
        raise AssertionError("checked in `read_labels`")

    @property
    def next_round(self) -> int:
        """Return the number of the next round, from the column `round`; 2 if it is absent.

        An empty file gives 1.
        """
        numbers = [int(row["round"]) for row in self.rows if row.get("round", "").isdecimal()]
        return max(numbers, default=1 if self.rows else 0) + 1

    def decisions(self, threshold: int = 4) -> dict[str, bool]:
        """Return for each filename whether the object is of the target class.

        Parameters
        ----------
        threshold
            Smallest grade from 1 to 5 of an object of the target class.

        Raises
        ------
        CatalogError
            Two rows of a filename contradict each other.
        """
        scale = self.scale

        def wanted(label: str) -> bool:
            return int(label) >= threshold if scale == "1-5" else label.lower() == WORDS[scale][1]

        return self.by_filename(wanted)

    def by_filename(self, meaning: Callable[[str], T]) -> dict[str, T]:
        """Return the meaning of the label of each filename. Raises as `decisions`."""
        meanings = dict[str, T]()
        for number, row in enumerate(self.rows, 2):
            value = meaning(row[LABEL])
            if meanings.setdefault(row[FILENAME], value) != value:
                what = f"row {number} contradicts an earlier row of '{row[FILENAME]}'"
                raise CatalogError(what, self.where, "keep one of them")
        return meanings

    def with_rows(self, added: Iterable[Mapping[str, str]]) -> str:
        """Return the text with further rows; columns that they lack stay empty."""
        lines = csv_text(([row.get(name) for name in self.columns] for row in added), self.line_end)
        gap = "" if self.text.endswith("\n") or not lines else self.line_end
        return self.text + gap + lines


def new_labels(columns: Sequence[str] = (FILENAME, LABEL)) -> LabelFile:
    """Return a file with the header alone."""
    return LabelFile(",".join(columns) + "\n", tuple(columns))


def read_labels(content: bytes, where: str, classes: Sequence[str] = ()) -> LabelFile:
    """Return the labels in the content of a file.

    With `classes` they are names of classes, else those of a target class.

    Raises
    ------
    CatalogError
        The file is not UTF-8 text, lacks a column, or has a row with a wrong number of values,
        without a filename or with an unknown label.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"byte {error.start} is not UTF-8 text"
        raise CatalogError(what, where, "save the labels as CSV in UTF-8") from error
    try:
        lines = [line for line in csv.reader(io.StringIO(text.removeprefix(BOM), newline=""), strict=True) if line]
    except csv.Error as error:
        raise CatalogError(f"it is not CSV ({error})", where, "export the labels again") from error
    header = tuple(map(trim, lines[0])) if lines else ()
    _check_header(header, where)
    rows = []
    for number, values in enumerate(lines[1:], 2):
        if len(values) != len(header):
            what = f"row {number} has {len(values)} values, and the header names {len(header)} columns"
            raise CatalogError(what, where, "correct the row, or the header")
        row = dict(zip(header, values, strict=True))
        row[LABEL], row[FILENAME] = spell(row[LABEL]), trim(from_csv(row[FILENAME]))
        if not row[FILENAME]:
            raise CatalogError(f"row {number} has no filename", where, "correct the row")
        rows.append(row)
    _check_words([row[LABEL] for row in rows], where, classes)
    columns = {name: pa.chunked_array([[row[name] for row in rows]], pa.string()) for name in dict.fromkeys(header)}
    Twins((FILENAME, LABEL), header, where).check(pa.table(columns))
    return LabelFile(text, header, tuple(rows), where)


def _check_header(header: tuple[str, ...], where: str) -> None:
    for name in (FILENAME, LABEL):
        if header.count(name) != 1:
            problem = f"has no column '{name}'" if name not in header else f"has two columns '{name}'"
            what = f"it {problem}; its columns are: {listed(header, 8) or 'none'}"
            raise CatalogError(what, where, f"give a CSV with the columns {FILENAME} and {LABEL}")


def _check_words(labels: list[str], where: str, classes: Sequence[str] = ()) -> None:
    """Raise unless all labels are of one vocabulary; name an unknown one with its row."""
    if classes:
        for number, label in enumerate(labels, 2):
            if label not in classes:
                what = f"row {number} has the label '{label}', and the classes are {', '.join(classes)}"
                raise CatalogError(what, where, "correct it, or hunt.classes")
        return
    known = {word: name for name, words in (*WORDS.items(), ("1-5", GRADES)) for word in words}
    first: str | None = None
    for number, label in enumerate(labels, 2):
        scale = known.get(label.lower())
        if scale is None:
            what = f"row {number} has the label '{label}'" if label else f"row {number} has no label"
            raise CatalogError(what, where, "use normal and anomaly, no and yes, or grades from 1 to 5")
        first = first or scale
        if scale != first:
            what = f"row {number} has the label '{label}', and rows before it are of the kind {first}"
            raise CatalogError(what, where, "use one kind of labels in a file")
    if set(labels) == {GRADES[0]}:
        what = f"all {len(labels)} labels are 1, which may be the lowest grade of five or the yes of 0 and 1"
        raise CatalogError(what, where, "write normal for the lowest grade, or anomaly for yes")


def match_files(names: Iterable[str], ids: Sequence[str], paths: Sequence[str | None], where: str) -> list[int]:
    """Return the row in the survey of each filename.

    A filename is an object id, the name of its picture, or that name without its suffix, in any
    form of its accents.

    Raises
    ------
    CatalogError
        A filename names no object, or two.
    """
    rows: dict[str, int] = {}
    twice: set[str] = set()
    for row, path in enumerate(paths):
        base = trim(path.rpartition("/")[2]) if path else ""
        for name in {base, _stem(base)} - {""}:
            if rows.setdefault(name, row) != row:
                twice.add(name)
    for row, object_id in enumerate(ids):  # an id is unique, and wins over the names of other pictures
        rows[trim(object_id)] = row
        twice.discard(trim(object_id))
    matched, unknown = [], []
    for name in names:
        if name in twice:
            raise CatalogError(f"several pictures have the name '{name}'", where, "give object ids as filenames")
        row_of = rows.get(trim(name), rows.get(_stem(trim(name))))
        if row_of is None:
            unknown.append(name)
        else:
            matched.append(row_of)
    if unknown:
        shown = listed([f"'{name}'" for name in unknown], 3)
        what = f"{len(unknown)} filenames name no object of the survey: {shown}"
        what = f"the filename {shown} names no object of the survey" if len(unknown) == 1 else what
        raise CatalogError(what, where, "check that the labels belong to this survey")
    return matched


def _stem(name: str) -> str:
    """Return a name without the suffix of a picture; the id 1.10 has none."""
    return name[: len(name) - len(suffix_of(name, (*PICTURE_SUFFIXES, *FITS_SUFFIXES)))]


# Read the labels of a hunt, and find their objects in the survey.

COLUMNS = (FILENAME, LABEL, "round", "reason", "score")  # of a new file


class KnownLabels(NamedTuple):
    """The labels of objects of a survey.

    Attributes
    ----------
    file
        The file.
    row_of
        Row in the survey of each filename.
    rows
        Rows of the labelled objects, each once.
    positive
        Whether each is of the target class.
    """

    file: LabelFile
    row_of: Mapping[str, int]
    rows: Rows
    positive: Bools


def read_label_file(uri: str, classes: Sequence[str] = ()) -> LabelFile:
    """Return the labels in a file at a path or URI; CatalogError if it is wrong."""
    folder, name = Folder.holding(uri)
    return read_labels(folder.read(name), uri, classes)


def known_labels(survey: HuntedSurvey, uri: str | None, threshold: int) -> KnownLabels:
    """Return the labels in a file; without a file there are none.

    Raises
    ------
    CatalogError
        The file is wrong, names an object that is not of the survey, or contradicts itself.
    """
    if uri is None:
        return KnownLabels(new_labels(COLUMNS), {}, np.empty(0, np.int64), np.empty(0, bool))
    file = read_label_file(uri)
    decisions = file.decisions(threshold)
    row_of = rows_of(survey, decisions, uri)
    wanted = by_row(row_of, decisions, uri)
    return KnownLabels(file, row_of, np.array(list(wanted), np.int64), np.array(list(wanted.values()), bool))


def rows_of(survey: HuntedSurvey, names: Iterable[str], where: str) -> dict[str, int]:
    """Return the row in the survey of each filename. Raises as `match_files`."""
    names = list(names)
    return dict(zip(names, match_files(names, survey.ids, survey.paths, where), strict=True))


def by_row(row_of: Mapping[str, int], meanings: Mapping[str, T], where: str) -> dict[int, T]:
    """Return the meanings of labels by row of the survey. Raises as `known_labels`."""
    found: dict[int, T] = {}
    for name, value in meanings.items():
        if found.setdefault(row_of[name], value) != value:
            what = f"the label of '{name}' contradicts that of another name of the same object"
            raise CatalogError(what, where, "keep one of them")
    return found
