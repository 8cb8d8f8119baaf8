"""Sources of pictures: where a survey's pictures are, and how they are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from raydistill.errors import CatalogError, nearest
from raydistill.galaxies.images import decode_picture
from raydistill.galaxies.picture_files import Source, check_pattern, locate, read_source
from raydistill.galaxies.tables import object_ids, parquet_dataset


@dataclass(frozen=True)
class FolderImages:
    """One picture file per object in a folder, on disk or at a URI.

    Parameters
    ----------
    root
        Path or URI of the folder.
    pattern
        File name below `root`, with `{id}` for the object id. `{id:.6}/{id}.jpg` uses the first six
        characters of the id as a subfolder.
    mapping
        A table with the columns objid and asset_id (`gz2_filename_mapping.csv`). `{id}` is then the
        asset id.
    """

    root: str
    pattern: str = "{id}.jpg"
    mapping: str | None = None
    kind: Literal["folder"] = "folder"

    def __post_init__(self) -> None:
        check_pattern(self.pattern)

    def paths(self, object_ids: Sequence[str]) -> list[str | None]:
        """Return the path of each object's picture, or None if it has none.

        The folder is listed once.
        """
        return locate(self.root, self.pattern, self.mapping, object_ids)

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top.

        Raises
        ------
        RejectedImage
            With the reason missing, unreadable, empty, corrupt, truncated or wrong-size.
        """
        content, where = read_source(source)
        return decode_picture(content, where)


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
        JPEG, PNG, … as bytes, or Hugging Face's struct of bytes and path.
    """

    uri: str
    id_column: str = "id_str"
    image_column: str = "image"
    kind: Literal["parquet"] = "parquet"

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
        return dataset

    def ids(self) -> pa.Array:
        """Return the object id of each row, in the order of the file. The pictures are not read."""
        return object_ids(self.dataset().to_table(columns=[self.id_column])[0], self.id_column, self.uri)

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top.

        Raises
        ------
        RejectedImage
            With the reason missing, unreadable, empty, corrupt, truncated or wrong-size.
        """
        content, where = read_source(source)
        return decode_picture(content, where or self.uri)


def stored_source(value: Any) -> Source:
    """Return the source in a table's cell, which is bytes or a struct {bytes, path}."""
    if isinstance(value, dict):
        return value.get("bytes") or value.get("path")
    content: Source = value
    return content
