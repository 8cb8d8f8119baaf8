"""The pictures to predict: a list of objects, and how to read and prepare them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydistill.config import Curate, Images
from raydistill.datasets.base import DataSet, PackedDataSet, pick_rows
from raydistill.galaxies.pictures.cells import read_cell
from raydistill.galaxies.pictures.files import ALLOW_IMAGES, Source, below, check_source, read_source
from raydistill.galaxies.pictures.images import (
    Fit,
    RejectedImage,
    around,
    inspect,
    pad_to_square,
    pixels_of_crop,
    prepare,
)
from raydistill.galaxies.pictures.mosaics import BandImages
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.storage import arrow_filesystem


@dataclass(frozen=True)
class SurveyPictures:
    """The pictures of a survey.

    Parameters
    ----------
    name
        Its name: that of the config, or the last part of its path.
    uri
        Its path or URI.
    objects
        One row per object with the columns of `OBJECTS`, in the order of the survey.
    reader
        Reads the pictures of a block of objects.
    images
        Decodes them.
    preparation
        Crop, size, alignment and checks.
    identity
        The values that identify the pictures.
    parents
        The artifact that the survey is, by its role "survey"; empty for other surveys.
    """

    name: str
    uri: str
    objects: pa.Table
    reader: Reader
    images: Images | DataSet
    preparation: Preparation
    identity: dict[str, Any]
    parents: dict[str, ArtifactSpec] = field(default_factory=dict)

    def paths(self, rows: Sequence[int] | None = None) -> list[str | None]:
        """Return the paths of the pictures that are files of their own; all, or of rows."""
        objects = self.objects if rows is None else self.objects.take(pa.array(rows, pa.int64()))
        alone = pc.is_null(objects["row"])
        return list(pc.if_else(alone, objects["path"], pa.scalar(None, pa.string())).to_pylist())

    def larger(self, rows: Sequence[int], size: int) -> list[np.ndarray]:
        """Return the pictures of some objects for a person, uint8 [size, size, 3] each.

        Pictures of an artifact keep their size. One that cannot be read any more is black.
        """
        preparation = self.preparation
        if preparation.crop_fraction < 1 or preparation.min_size > 1:  # not the pictures of an artifact
            preparation = replace(preparation, image_size=max(size, preparation.image_size))
        shown = []
        for row in rows:
            (source,) = self.reader.read(self.objects.slice(row, 1))
            try:
                shown.append(prepare_picture(source, "", self.images, preparation))
            except RejectedImage:  # it was usable when it was predicted
                shown.append(np.zeros((8, 8, 3), np.uint8))
        return shown


def last_part(uri: str) -> str:
    """Return the last part of a path or URI."""
    return uri.rstrip("/").rpartition("/")[2]


# Read the pictures of a block of objects, wherever they are stored.
#
# A block is a table with the columns of `cells.OBJECTS`. A reader is small and picklable; every worker has
# one.

ROWS_AT_ONCE = 64  # rows of a Parquet file in memory at once


class Reader(Protocol):
    """Yield the picture of each object of a block: its content, its path, or None."""

    def read(self, objects: pa.Table) -> Iterator[Source]: ...


@dataclass(frozen=True)
class FileReader:
    """Pictures in files of their own, below a folder."""

    root: str

    def read(self, objects: pa.Table) -> Iterator[Source]:
        """Yield paths; None for an object without one."""
        for path in objects["path"].to_pylist():
            yield None if path is None else below(self.root, path)


@dataclass(frozen=True)
class ParquetReader:
    """Pictures in a column of Parquet files on the storage of `root`.

    Relative paths in the column begin at `folder`. Others are rejected unless `allow_outside`.
    """

    root: str
    column: str
    folder: str
    allow_outside: bool = False

    def read(self, objects: pa.Table) -> Iterator[Source]:
        """Yield the cells; no more than `ROWS_AT_ONCE` rows are in memory."""
        for (path, row_group), rows in _groups(objects):
            yield from self._cells(path, row_group, rows) if path is not None else (None for _ in rows)

    def _cells(self, path: str, row_group: int, rows: list[int]) -> Iterator[Source]:
        system, _ = arrow_filesystem(self.root)
        with system.open_input_file(path) as stream:
            batches = pq.ParquetFile(stream, pre_buffer=False).iter_batches(
                ROWS_AT_ONCE, row_groups=[row_group], columns=[self.column], use_threads=False
            )
            for cell in pick_rows((batch.column(0) for batch in batches), rows):
                source = read_cell(cell, self.folder)
                yield source if self.allow_outside else check_source(source, self.folder, path, ALLOW_IMAGES)


@dataclass(frozen=True)
class PackedReader:
    """Pictures of a data set with many pictures per file."""

    images: PackedDataSet

    def read(self, objects: pa.Table) -> Iterator[Source]:
        """Yield the encoded pictures."""
        for (path, row_group), rows in _groups(objects):
            yield from self.images.read(path, row_group, rows)


def _groups(objects: pa.Table) -> Iterator[tuple[tuple[Any, Any], list[int]]]:
    """Yield (path, row group) and the rows of each run of objects in one row group."""
    rows = zip(*(objects[name].to_pylist() for name in ("path", "row_group", "row")), strict=True)
    for key, members in groupby(rows, key=lambda row: row[:2]):
        yield (key[0], key[1]), [row for _, _, row in members]


# Prepare one picture: read, decode, check, crop, align and resize it.


@dataclass(frozen=True)
class Preparation:
    """How a picture is checked, cropped and resized.

    Parameters
    ----------
    image_size
        Side of the prepared picture in pixels.
    crop_fraction
        Side of the central square, as a fraction of the picture's shorter side.
    align
        Turn the galaxy until its major axis is horizontal.
    min_size
        Smallest height and width of a source picture in pixels.
    max_aspect
        Largest ratio of its sides.
    min_contrast
        Smallest range of its levels in at least one channel.
    centre
        Centre of the galaxy, to the right and downwards of the middle of a source picture, in pixels.
    """

    image_size: int
    crop_fraction: float
    align: bool
    min_size: int
    max_aspect: float = 1.05
    min_contrast: int = 3
    centre: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, curate: Curate, images: Images | DataSet) -> Preparation:
        """Return the preparation of a survey's pictures.

        Pictures of a data set may have any shape and a single colour; those of a survey may not.
        """
        limits: dict[str, Any] = {"centre": tuple(curate.centre)}
        limits |= {} if images.fit == "square" else {"max_aspect": math.inf}
        limits |= {"min_contrast": 0} if isinstance(images, DataSet) else {}
        return cls(curate.image_size, curate.crop_fraction, curate.align, curate.min_picture_size, **limits)

    @classmethod
    def of_prepared(cls, curate: Curate) -> Preparation:
        """Return the preparation of cropped pictures: they are only resized."""
        return cls(curate.image_size, 1.0, align=False, min_size=1, min_contrast=0)

    def apply(self, original: np.ndarray) -> np.ndarray:
        """Return a checked picture, uint8 `[H, W, 3]`, as uint8 `[size, size, 3]`."""
        return prepare(original, self.crop_fraction, self.image_size, self.align, self.centre)


def prepare_picture(source: Source, path: str, images: Images | DataSet, preparation: Preparation) -> np.ndarray:
    """Return the prepared picture, uint8 `[size, size, 3]`.

    Parameters
    ----------
    source
        Content or path of the picture.
    path
        Its name in error messages.
    images
        How to decode it.
    preparation
        Checks, crop, alignment and size.

    Raises
    ------
    RejectedImage
        If the picture cannot be used.
    CatalogError
        If the storage fails; no single picture explains that.
    """
    return preparation.apply(read_original(source, path, images, preparation)[1])


def read_original(
    source: Source, path: str, images: Images | DataSet, preparation: Preparation
) -> tuple[list[bytes], np.ndarray]:
    """Return the contents of a picture's files, and the whole checked picture.

    The picture is as before `prepare`. Parameters and errors are those of `prepare_picture`.
    """
    contents = images.read(source) if isinstance(images, BandImages) else [read_source(source)[0]]
    return contents, _checked(_decode_original(images, contents, preparation), path, images.fit, preparation)


def prepare_original(original: np.ndarray, name: str, fit: Fit, preparation: Preparation) -> np.ndarray:
    """Return a decoded picture, uint8 `[H, W, 3]`, prepared as `prepare_picture` does.

    The result is uint8 `[size, size, 3]`.
    """
    return preparation.apply(_checked(original, name, fit, preparation))


def _checked(original: np.ndarray, path: str, fit: Fit, preparation: Preparation) -> np.ndarray:
    """Return the picture, square where it is padded.

    Raises RejectedImage if it cannot be used.
    """
    inspect(
        original, min_size=preparation.min_size, max_aspect=preparation.max_aspect,
        min_contrast=preparation.min_contrast, where=path,
    )  # fmt: skip
    return pad_to_square(original) if fit == "pad" else original


def _decode_original(images: Images | DataSet, contents: list[bytes], preparation: Preparation) -> np.ndarray:
    """Return the whole picture. RejectedImage if pixels are missing within the crop."""
    if not isinstance(images, BandImages):
        return images.decode(contents[0])
    picture, missing = images.decode_bands(contents, "")
    if missing.any():
        missing = pad_to_square(missing) if images.fit == "pad" else missing
        side = preparation.crop_fraction * min(missing.shape)
        missing = around(missing, preparation.centre)
        height, width = missing.shape
        within = pixels_of_crop(height, width, side, preparation.image_size, preparation.align)
        images.check_missing(float(missing[within].mean()), "")
    return picture
