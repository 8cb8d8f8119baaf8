"""Sources of pictures: where a survey's pictures are, and how they are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from raydistill.errors import CatalogError, nearest
from raydistill.galaxies.pictures.cells import check_chunks, check_text, is_picture_type, is_text_type, parquet_rows
from raydistill.galaxies.pictures.files import (
    Source,
    check_pattern,
    expected_names,
    locate,
    read_source,
)
from raydistill.galaxies.pictures.images import Fit, decode_picture
from raydistill.galaxies.pictures.levels import ValueRange, check_range
from raydistill.galaxies.tables import object_ids, parquet_dataset
from raydistill.galaxies.tables.ids import Duplicates
from raydistill.storage import arrow_filesystem

if TYPE_CHECKING:
    import pyarrow.dataset as ds


@dataclass(frozen=True)
class FolderImages:
    """One picture file per object in a folder, on disk or at a URI.

    Parameters
    ----------
    root
        Path or URI of the folder. A zip is read in place, also a folder in it: `x.zip/images`.
    pattern
        File name below `root`, with `{id}` for the object id. `{id:.6}/{id}.jpg` uses the first six
        characters of the id as a subfolder. `{id}.*` accepts every suffix of a picture.
    mapping
        A table with the columns objid and asset_id (`gz2_filename_mapping.csv`). `{id}` is then the
        asset id.
    value_range
        Display range of pictures of more than 8 bits. "auto": the bits that a sample fills, such
        as 12 of 16. "full": the whole container, 0 to 65535, or 0 to 1 for floats. [low, high]:
        these values; a high of at most 255 also stretches 8-bit pictures.
    path_column
        Column of the table with the path of each picture: below `root`; see `allow_outside`. Columns for
        folder and file are joined: subfolder/filename. It replaces `pattern` and `mapping`.
    fit
        A picture that is not square: "square" rejects it, "crop" takes its central square, "pad"
        makes it square with black.
    allow_outside
        Take pictures outside `root`, which absolute paths, URIs and links may name. Else they are
        rejected.
    """

    root: str
    pattern: str = "{id}.jpg"
    mapping: str | None = None
    kind: Literal["folder"] = "folder"
    value_range: ValueRange = "auto"
    path_column: str | None = None
    fit: Fit = "square"
    allow_outside: bool = False

    def __post_init__(self) -> None:
        check_pattern(self.pattern)
        check_range(self.value_range, "survey.images.value_range")

    def paths(self, object_ids: Sequence[str], duplicates: Duplicates = "reject") -> list[str | None]:
        """Return the path of each object's picture, or None if it has none; see `locate`.

        The folder is listed once.
        """
        return locate(self.root, self.pattern, self.mapping, object_ids, duplicates=duplicates)

    def expected_names(self, object_ids: Sequence[str]) -> list[str]:
        """Return the file name of each object below `root`; "" if the mapping lacks it."""
        return expected_names(self.pattern, self.mapping, object_ids)

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top.

        Raises
        ------
        RejectedImage
            With the reason missing, unreadable, empty, corrupt, truncated or wrong-size.
        """
        content, where = read_source(source)
        return decode_picture(content, where, self.value_range)


@dataclass(frozen=True)
class ParquetImages:
    """Encoded pictures in a column of a Parquet file, or of a folder of Parquet files.

    Parameters
    ----------
    uri
        Path or URI of the file or folder.
    id_column
        Column of object ids.
    image_column
        JPEG, PNG, … as bytes, or Hugging Face's struct of bytes and path. A relative path begins
        at the folder of the Parquet file. Or arrays, H x W x 3 or 3 x H x W.
    value_range
        Display range of pictures of more than 8 bits; see `FolderImages`.
    fit
        "square", "crop" or "pad"; see `FolderImages`.
    allow_outside
        Take pictures outside the folder of the table, which its paths may name; see
        `FolderImages`.
    """

    uri: str
    id_column: str = "id_str"
    image_column: str = "image"
    kind: Literal["parquet"] = "parquet"
    value_range: ValueRange = "auto"
    fit: Fit = "square"
    allow_outside: bool = False

    def __post_init__(self) -> None:
        check_range(self.value_range, "survey.images.value_range")

    @property
    def name(self) -> str:
        """Return the last part of the URI: the table's name, independent of its folder."""
        return self.uri.rstrip("/").rpartition("/")[2]

    def dataset(self) -> ds.Dataset:
        """Open the table without reading rows.

        CatalogError if it or one of the two columns is missing.
        """
        try:
            dataset = parquet_dataset(self.uri)
        except FileNotFoundError as error:
            raise CatalogError("there is no such image table", self.uri, "check survey.images.uri") from error
        except (OSError, pa.ArrowInvalid) as error:
            raise CatalogError("cannot be read as a Parquet table", self.uri, "fetch the images again") from error
        for role in ("id_column", "image_column"):
            column = getattr(self, role)
            if column not in dataset.schema.names:
                fix = f"set survey.images.{role}; {nearest(column, tuple(dataset.schema.names))}"
                raise CatalogError(f"has no column '{column}'", self.uri, fix)
        kind = dataset.schema.field(self.image_column).type
        if not is_picture_type(kind):
            fix = "set survey.images.image_column to a column of encoded pictures, or of arrays H x W x 3"
            raise CatalogError(f"column '{self.image_column}' has the type {kind}, not pictures", self.uri, fix)
        if is_text_type(kind):
            first = dataset.head(1, columns=[self.image_column])[0].to_pylist()
            check_text(next(iter(first), None), self.image_column, self.uri)
        return dataset

    def folder(self) -> str:
        """Return the folder at which relative paths in the table begin."""
        system, path = arrow_filesystem(self.uri)
        is_file = system.get_file_info(path).type == pafs.FileType.File
        return self.uri.rpartition("/")[0] or "." if is_file else self.uri.rstrip("/")

    def rows(self) -> pa.Table:
        """Return the place of each picture, in the order of the files.

        Only the first picture of each file is read.

        Returns
        -------
        pyarrow.Table
            As `cells.OBJECTS`.
        """
        dataset, column = self.dataset(), self.id_column
        fragments = list(dataset.get_fragments())
        files = (fragment.open() for fragment in fragments)
        check_chunks(dataset.schema.field(self.image_column).type, files, self.image_column, self.uri)
        ids = [part.to_table(columns=[column], schema=dataset.schema, use_threads=False)[0] for part in fragments]
        texts = object_ids(pa.chunked_array([chunk for table in ids for chunk in table.chunks]), column, self.uri)
        ends = np.cumsum([0, *map(len, ids)]).tolist()
        return pa.concat_tables(
            parquet_rows(texts.slice(end - len(rows), len(rows)), fragment.path, fragment.metadata)
            for rows, end, fragment in zip(ids, ends[1:], fragments, strict=True)
        )

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top.

        Raises
        ------
        RejectedImage
            With the reason missing, unreadable, empty, corrupt, truncated or wrong-size.
        """
        content, where = read_source(source)
        return decode_picture(content, where or self.uri, self.value_range)
