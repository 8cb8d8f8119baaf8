"""Image-classification data sets: pictures with labels, and an official split.

`index`    id, label, official split and location of every picture; small, the driver holds it
`read`     the encoded pictures of some rows of a file, in order; streamed by a worker
`decode`   one picture as pixels

Official splits are kept. If train, validation or test is missing, it is taken from the training
part by a hash of the object id. A data set without an official split is all training part.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from raydistill.datasets.layout import PARTS, part_names
from raydistill.errors import CatalogError, nearest
from raydistill.galaxies.folders import Listing, is_hidden, list_folder
from raydistill.galaxies.labels import spell, spell_column
from raydistill.galaxies.pictures.files import ALLOW_DATA_SET, Source, check_links, read_source
from raydistill.galaxies.pictures.images import decode_picture
from raydistill.galaxies.pictures.levels import ValueRange, check_range
from raydistill.galaxies.selection import Split
from raydistill.log import get_logger
from raydistill.storage import CHECK_ACCESS, arrow_filesystem, error_message

log = get_logger(__name__)

ROWS_PER_GROUP = 8192  # rows per task; a worker reads its file from the start


class Index(NamedTuple):
    """Class names and the location of every picture.

    Attributes
    ----------
    names : list of str
        Class names in the order of the labels.
    rows : pyarrow.Table
        One row per picture: `object_id: string`; `label: string`, a class name or null; `part:
        string`, train, validation, test or null (no official split); `path: string` of the file
        below the root; `row_group, row: int64` in the file.
    """

    names: list[str]
    rows: pa.Table


@dataclass(frozen=True, kw_only=True)
class DataSet(ABC):
    """Base class of data sets.

    Parameters
    ----------
    root
        Path or URI of the folder or file.
    splits
        The split for each name of an official split in the data: train, validation, test, or null
        to leave it out. Usual names need no entry. {validation: test} uses the official validation
        split as the test split, as is common for ImageNet.
    licence, citation
        Copied to the manifest of the curated set.
    fit
        A picture that is not square: "crop" takes its central square, "pad" makes it square with
        black.
    allow_outside
        Take files outside `root`, which links, and paths in a table, may name. Else they are
        rejected.
    """

    root: str
    splits: dict[str, Split | None] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    fit: Literal["crop", "pad"] = "crop"
    allow_outside: bool = False

    _if_no_split: ClassVar[str] = ""  # the way out if a name is not a split after all

    def index(self) -> Index:
        """Return the class names and one row per picture, without reading pixels.

        Raises
        ------
        CatalogError
            If the files are missing, damaged or of another kind, or if `splits` does not fit them.
        """
        names, rows = self._rows()
        if not self.allow_outside:
            check_links(self.root, pc.unique(rows["path"]).to_pylist(), ALLOW_DATA_SET)
        column = rows.schema.get_field_index("label")
        rows = rows.set_column(column, "label", spell_column(rows["label"].combine_chunks(), "labels"))
        names = names and list(dict.fromkeys(map(spell, names)))
        parts = rows["part"].to_pylist()
        for name in self.splits:
            if name not in parts:
                present = [part for part in dict.fromkeys(parts) if part is not None]
                raise CatalogError(
                    f"survey.splits names '{name}', which the data set lacks", self.root, nearest(name, present)
                )
        part_of = self._parts([name for name in dict.fromkeys(parts) if name is not None])
        if "object_id" not in rows.column_names:
            rows = rows.append_column("object_id", pa.array(_number_pictures(parts), pa.string()))
        column = rows.schema.get_field_index("part")
        rows = rows.set_column(column, "part", pa.array([name and part_of[name] for name in parts], pa.string()))
        included = [name is None or part_of[name] is not None for name in parts]
        rows = rows.filter(pa.array(included, pa.bool_()))
        labels = pc.unique(rows["label"].drop_null()).to_pylist()
        if not labels:
            raise CatalogError("no picture has a label", self.root, "check survey.root and survey.splits")
        return Index(list(names) if names else _sort_labels(labels), rows)

    def digest(self) -> str:
        """Return the SHA-256 of file names and sizes, to identify data without reading."""
        return hashlib.sha256(repr(sorted(self.files().items())).encode()).hexdigest()

    @abstractmethod
    def files(self) -> dict[str, int]:
        """Return the sizes [bytes] of the data set's files by name below the root.

        CatalogError if there are none.
        """

    @abstractmethod
    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top. RejectedImage if undecodable."""

    @abstractmethod
    def _rows(self) -> tuple[Sequence[str] | None, pa.Table]:
        """Return the class names (None: the labels are the names) and `Index.rows`.

        `part` holds the data's own split names. Without `object_id`, pictures are numbered per
        split.
        """

    def _parts(self, names: Sequence[str]) -> dict[str, Split | None]:
        """Return the split of each of the data's names. CatalogError for an unknown one."""
        parts = part_names(names, self.splits)
        for name in names:
            if name not in parts:
                fix = f"set survey.splits.{name} to train, validation or test, or to null to leave it out"
                raise CatalogError(f"unknown split '{name}'", self.root, fix + self._if_no_split)
        if spelt := [name for name in names if name not in self.splits and name.lower() not in PARTS]:
            log.info("curate: splits are %s", ", ".join(f"{name} = {parts[name]}" for name in spelt))
        return parts


@dataclass(frozen=True, kw_only=True)
class PackedDataSet(DataSet):
    """A data set with many pictures per file.

    Parameters
    ----------
    class_names
        Names of the labels 0, 1, … They replace names in the files, except in the names files of
        the kinds cifar10 and cifar100.
    """

    class_names: tuple[str, ...] = ()

    def _at(self, name: str) -> str:
        """Return the path of a file, which may be the root itself."""
        system, path = arrow_filesystem(self.root)
        return self.root if system.get_file_info(path).type == pafs.FileType.File else f"{self.root}/{name}"

    @abstractmethod
    def read(self, path: str, row_group: int, rows: Sequence[int]) -> Iterator[Source]:
        """Yield the encoded pictures of these rows (ascending) of a row group of the file."""


@dataclass(frozen=True, kw_only=True)
class EncodedDataSet(DataSet):
    """A data set of picture files, or of their bytes.

    Parameters
    ----------
    value_range
        Display range of pictures of more than 8 bits. "auto": the bits that a sample fills, such
        as 12 of 16. "full": the whole container, 0 to 65535, or 0 to 1 for floats. [low, high]:
        these values; a high of at most 255 also stretches 8-bit pictures.
    """

    value_range: ValueRange = "auto"

    def __post_init__(self) -> None:
        check_range(self.value_range, "survey.value_range")

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top. RejectedImage if undecodable."""
        content, where = read_source(source)
        return decode_picture(content, where, self.value_range)


def list_root(root: str) -> Listing:
    """Return the contents of a data set's folder, or its one file, each file once."""
    system, path = arrow_filesystem(root)
    try:
        if (info := system.get_file_info(path)).type == pafs.FileType.File:
            return Listing({info.base_name: info.size}, [], [], {}, [])
        listing = list_folder(root)
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = "check survey.root, and RAYDISTILL_DATA if the config uses it"
        raise CatalogError("there is no such data set", root, fix) from error
    except OSError as error:
        raise CatalogError(f"the data set cannot be listed ({error_message(error)})", root, CHECK_ACCESS) from error
    listing.warn_of_aliases(root)
    return listing


def list_files(root: str) -> dict[str, int]:
    """Return the sizes [bytes] of a folder's files, or of one file, sorted by name.

    Hidden files and those in folders of the system, such as __MACOSX, are left out.
    """
    return {name: size for name, size in list_root(root).files.items() if not is_hidden(name)}


def file_rows(path: str, part: str, labels: pa.Array) -> pa.Table:
    """Return `Index.rows` for a file that holds one split."""
    count = len(labels)
    columns = {
        "label": labels,
        "part": pa.array([part] * count, pa.string()),
        "path": pa.array([path] * count, pa.string()),
        "row_group": pa.array(np.arange(count) // ROWS_PER_GROUP),
        "row": pa.array(np.arange(count)),
    }
    return pa.table(columns)


def pick_rows(blocks: Iterable[Any], rows: Sequence[int], first: int = 0) -> Iterator[Any]:
    """Yield the items at `rows` (ascending) of successive blocks.

    The blocks begin at row `first`; none after the last of the rows is read.
    """
    for block in blocks:
        end = first + len(block)
        for row in rows[bisect_left(rows, first) : bisect_left(rows, end)]:
            yield block[row - first]
        if end > rows[-1]:
            return
        first = end


def to_class_names(labels: np.ndarray, names: Sequence[str], where: str) -> pa.Array:
    """Return class names (else numerals) of integer labels; null if negative.

    CatalogError if a label exceeds the names.
    """
    if names and labels.max(initial=-1) >= len(names):
        what = f"a picture has the label {labels.max()}, but there are names for {len(names)} classes"
        raise CatalogError(what, where, "check that labels start at 0, and survey.class_names if it is set")
    known = pa.array(labels, mask=labels < 0)
    return pa.array(names, pa.string()).take(known) if names else known.cast(pa.string())


def _number_pictures(parts: Sequence[str | None]) -> list[str]:
    """Return an id per picture from its split and number, as "train/0000042"."""
    counts: Counter[str | None] = Counter()
    ids = []
    for part in parts:
        ids.append(f"{counts[part]:07d}" if part is None else f"{part}/{counts[part]:07d}")
        counts[part] += 1
    return ids


def _sort_labels(labels: list[str]) -> list[str]:
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
