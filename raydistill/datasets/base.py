"""Image-classification data sets: pictures with a label each, and an official split.

    index    which pictures there are: id, label, official split, where the pixels lie      (small: the driver holds it)
    read     the encoded pictures of some rows of a file, in order                          (streams: a worker holds a few)
    decode   one of them as pixels

The official splits are kept. What they lack of train, validation and test is cut from the training part, by hash of the object id.
A data set without official splits is training part throughout.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from raydistill.errors import CatalogError, nearest
from raydistill.galaxies.images import decode_picture
from raydistill.galaxies.sources import Source, read_source
from raydistill.storage import CHECK_ACCESS, arrow_filesystem, error_message

Part = Literal["train", "validation", "test"]

ROWS_PER_PIECE = 8192  # rows of one task of a worker, which reads its file from the start

# The names that data sets give their splits, in lower case.
PARTS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


class Index(NamedTuple):
    """names: of the classes, in order of the label.

    rows: `object_id: string`, `label: string` (one of the names; null: none), `part: string` (train, validation, test; null: no official
    split), `path: string` (of the file, below the root), `piece, row: int64` (of the file, see `StoredSet.read`).
    """

    names: list[str]
    rows: pa.Table


@dataclass(frozen=True, kw_only=True)
class DataSet(ABC):
    """What all data sets have.

    Parameters
    ----------
    root
        Where its files lie, a path or URI.
    splits
        What the official splits are, by their names in the data: train, validation, test, or null to leave one out. The usual names are
        known. {validation: test} makes the official validation split the test split, as people do with ImageNet.
    licence, citation
        Carried along into the curated set's manifest.
    """

    root: str
    splits: dict[str, Part | None] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""

    def index(self) -> Index:
        """Every picture that is not left out; the pixels stay unread. CatalogError, in a sentence, for files that do not fit."""
        names, rows = self._rows()
        words = rows["part"].to_pylist()
        for word in self.splits:
            if word not in words:
                known = [known for known in dict.fromkeys(words) if known is not None]
                raise CatalogError(
                    f"there is no split '{word}', as survey.splits has it", self.root, nearest(word, known)
                )
        ours = {word: self._part(word) for word in dict.fromkeys(words)}
        if "object_id" not in rows.column_names:
            rows = rows.append_column("object_id", pa.array(_numbered(words), pa.string()))
        at = rows.schema.get_field_index("part")
        rows = rows.set_column(at, "part", pa.array([ours[word] for word in words], pa.string()))
        kept = rows.filter(pa.array([word is None or ours[word] is not None for word in words], pa.bool_()))
        found = pc.unique(kept["label"].drop_null()).to_pylist()
        if not found:
            raise CatalogError("it holds no labelled picture", self.root, "check survey.root and survey.splits")
        return Index(list(names) if names else _sorted(found), kept)

    def digest(self) -> str:
        """Of the names and sizes of its files: what tells one state of the data from another without reading them."""
        return hashlib.sha256(repr(sorted(self.files().items())).encode()).hexdigest()

    @abstractmethod
    def files(self) -> dict[str, int]:
        """The files that the set consists of, by name below the root, with their sizes in bytes. CatalogError where there are none."""

    def decode(self, source: Source) -> np.ndarray:
        """uint8 `[H, W, 3]`, row 0 at the top; here of a JPEG, PNG, …. RejectedImage: what `galaxies.images` rejects."""
        content, where = read_source(source)
        return decode_picture(content, where)

    @abstractmethod
    def _rows(self) -> tuple[Sequence[str] | None, pa.Table]:
        """Names of the classes (None: the labels themselves) and `Index.rows`, with `part` in the data's own words; without `object_id`
        for a set that has none, whose pictures are then numbered within their split."""

    def _official(self, words: Collection[str]) -> bool:
        """Whether these names are those of splits: it takes one that is known, and then all have to be."""
        return any(word in self.splits or word.lower() in PARTS for word in words)

    def _part(self, word: str | None) -> Part | None:
        if word is None:
            return None
        if word in self.splits:
            return self.splits[word]
        if word.lower() in PARTS:
            return PARTS[word.lower()]
        raise CatalogError(
            f"nobody knows what the split '{word}' is", self.root,
            f"set survey.splits.{word} to train, validation or test, or to null to leave it out",
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StoredSet(DataSet):
    """Many pictures in a file. class_names: of the whole-number labels 0, 1, …, where the files give no names."""

    class_names: tuple[str, ...] = ()

    @abstractmethod
    def read(self, path: str, piece: int, rows: Sequence[int]) -> Iterator[Source]:
        """The encoded pictures of these rows (rising) of a piece of the file, one after the other."""


def listing(root: str) -> dict[str, int]:
    """Sizes of the files below a folder, or of a file alone, by name; hidden ones are left out, in order of name."""
    system, path = arrow_filesystem(root)
    try:
        if system.get_file_info(path).type == pafs.FileType.File:
            infos, start = [system.get_file_info(path)], path.rfind("/") + 1
        else:
            infos, start = system.get_file_info(pafs.FileSelector(path, recursive=True)), len(path.rstrip("/")) + 1
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "check survey.root, and RAYDISTILL_DATA if the config uses it"
        raise CatalogError("there is no such data set", root, fix) from error
    except OSError as error:
        raise CatalogError(f"the data set cannot be listed ({error_message(error)})", root, CHECK_ACCESS) from error
    files = {info.path[start:]: info.size for info in infos if info.type == pafs.FileType.File}
    return {name: files[name] for name in sorted(files) if not any(part.startswith(".") for part in name.split("/"))}


def file_rows(path: str, part: str, labels: pa.Array) -> pa.Table:
    """Return `Index.rows` for a file that holds one split."""
    count = len(labels)
    columns = {
        "label": labels,
        "part": pa.array([part] * count, pa.string()),
        "path": pa.array([path] * count, pa.string()),
        "piece": pa.array(np.arange(count) // ROWS_PER_PIECE),
        "row": pa.array(np.arange(count)),
    }
    return pa.table(columns)


def within(rows: Sequence[int], first: int, count: int) -> Sequence[int]:
    """Those of the rising `rows` that lie in a block of `count` rows that begins with row `first`."""
    return rows[bisect_left(rows, first) : bisect_left(rows, first + count)]


def named(labels: np.ndarray, names: Sequence[str], where: str) -> pa.Array:
    """Whole-number labels as names, or as numerals where there are no names; null for negative ones. CatalogError beyond the names."""
    if names and labels.max(initial=-1) >= len(names):
        what = f"a picture has the label {labels.max()}, and there are names for {len(names)} classes"
        raise CatalogError(what, where, "check that the labels count from 0, and survey.class_names if it is set")
    known = pa.array(labels, mask=labels < 0)
    return pa.array(names, pa.string()).take(known) if names else known.cast(pa.string())


def _numbered(words: Sequence[str | None]) -> list[str]:
    """An id for each picture: its split and its number there, "train/0000042"."""
    seen: Counter[str | None] = Counter()
    ids = []
    for word in words:
        ids.append(f"{seen[word]:07d}" if word is None else f"{word}/{seen[word]:07d}")
        seen[word] += 1
    return ids


def _sorted(labels: list[str]) -> list[str]:
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
