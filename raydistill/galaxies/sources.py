"""Sources of pictures: where a survey's pictures are, and how their files are read and decoded."""

from __future__ import annotations

import io
import string
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.catalog import read_filename_mapping
from raydistill.galaxies.images import RejectedImage, decode_picture, is_truncated
from raydistill.galaxies.tables import object_ids, parquet_dataset
from raydistill.storage import CHECK_ACCESS, arrow_filesystem, error_message, open_stream

Source = bytes | str | None  # content of a file, its path, or None for a catalogue row without a picture


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
        _check_pattern(self.pattern)

    def paths(self, object_ids: Sequence[str]) -> list[str | None]:
        """Return the path of each object's picture, or None if it has none.

        The folder is listed once.
        """
        return _locate(self.root, self.pattern, self.mapping, object_ids)

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


@dataclass(frozen=True)
class FitsImages:
    """One FITS file per object with three bands, stretched as in Lupton et al. 2004 (asinh).

    Parameters
    ----------
    root
        Path or URI of the folder.
    pattern
        File name below `root`, with `{id}` for the object id.
    mapping
        A table with the columns objid and asset_id. `{id}` is then the asset id.
    channels
        The planes for red, green and blue; SDSS uses (i, r, g). A text names an extension. A number
        is an index into the cube if the file's first image is a cube, else into the extensions.
    scales
        Factors on the three bands before the stretch. SDSS pictures use such factors because a
        galaxy's flux falls from i to g.
    stretch
        Linear width of `make_lupton_rgb`, in the unit of the file.
    q
        Softening of `make_lupton_rgb`.
    minimum
        Black level of `make_lupton_rgb`, in the unit of the file.
    """

    root: str
    pattern: str = "{id}.fits"
    mapping: str | None = None
    channels: tuple[int | str, int | str, int | str] = ("I", "R", "G")
    scales: tuple[float, float, float] = (0.8, 1.0, 1.4)
    stretch: float = 0.35
    q: float = 10.0
    minimum: float = 0.01
    kind: Literal["fits"] = "fits"

    def __post_init__(self) -> None:
        _check_pattern(self.pattern)

    def paths(self, object_ids: Sequence[str]) -> list[str | None]:
        """Return the path of each object's file, or None if it has none.

        The folder is listed once.
        """
        return _locate(self.root, self.pattern, self.mapping, object_ids)

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top: the rows of the FITS arrays are flipped.

        Raises
        ------
        RejectedImage
            With the reason missing, unreadable, empty, corrupt or truncated; wrong-bands if a
            channel is missing; wrong-size if the bands differ in shape; not-finite if any pixel is
            NaN or infinite.

        References
        ----------
        Lupton et al. 2004, PASP 116, 133, arXiv:astro-ph/0312483.
        """
        from astropy.visualization import make_lupton_rgb

        content, where = read_source(source)
        bands = [scale * band for scale, band in zip(self.scales, self._bands(content, where), strict=True)]
        if len({band.shape for band in bands}) > 1 or bands[0].ndim != 2:
            raise RejectedImage("wrong-size", where, f"bands of shape {[band.shape for band in bands]}")
        if not all(np.isfinite(band).all() for band in bands):
            raise RejectedImage("not-finite", where, "NaN or infinite pixels")
        rgb = make_lupton_rgb(*bands, minimum=self.minimum, stretch=self.stretch, Q=self.q)
        return np.ascontiguousarray(rgb[::-1])

    def _bands(self, content: bytes, where: str) -> list[np.ndarray]:
        from astropy.io import fits

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with fits.open(io.BytesIO(content)) as hdus:
                    images = [hdu for hdu in hdus if hdu.is_image and hdu.shape]
                    cube = images[0] if images and len(images[0].shape) == 3 else None
                    planes = [self._plane(hdus, cube, channel) for channel in self.channels]
            except (KeyError, IndexError) as error:
                channels = ", ".join(map(str, self.channels))
                raise RejectedImage("wrong-bands", where, f"no plane for each of the channels {channels}") from error
            except Exception as error:  # astropy raises a dozen types for damaged files
                reason = "truncated" if is_truncated([error, *(w.message for w in caught)]) else "corrupt"
                raise RejectedImage(reason, where, " ".join(str(error).split())) from error
        if is_truncated([w.message for w in caught]):
            raise RejectedImage("truncated", where, "the file ends before its last block")
        return planes

    def _plane(self, hdus: Any, cube: Any, channel: int | str) -> np.ndarray:
        data = cube.data[channel] if cube is not None and isinstance(channel, int) else hdus[channel].data
        if data is None:
            raise KeyError(channel)
        return np.array(data, dtype=np.float64)


# ---- files of pictures ----


def _check_pattern(pattern: str) -> None:
    fields = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
    what, where = f"'{pattern}' is not a file name pattern", "survey.images.pattern"
    if fields != {"id"}:
        raise ConfigError(what, where, "write {id} in place of the object id")
    try:
        shown = pattern.format(id="q7")
    except (ValueError, LookupError, AttributeError):
        shown = ""
    if "q7" not in shown or "q70" in shown:  # ids are text, and {id:06} pads text with zeros on the right
        raise ConfigError(what, where, "write {id}, or {id:0>6} for six digits with leading zeros")


def _locate(root: str, pattern: str, mapping: str | None, object_ids: Sequence[str]) -> list[str | None]:
    assets = None if mapping is None else read_filename_mapping(mapping)
    present = _list_files(root, recursive="/" in pattern)
    paths: list[str | None] = []
    for object_id in object_ids:
        asset = object_id if assets is None else assets.get(object_id)
        name = None if asset is None else pattern.format(id=asset)
        paths.append(f"{root.rstrip('/')}/{name}" if name in present else None)
    return paths


def _list_files(root: str, recursive: bool) -> set[str]:
    """Return the names of the files in `root`, relative to it."""
    system, path = arrow_filesystem(root)
    try:
        files = system.get_file_info(pafs.FileSelector(path, recursive=recursive))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CatalogError(
            "there is no such image folder", root, "check survey.images.root, or download the images first"
        ) from error
    except OSError as error:
        raise CatalogError(f"the image folder cannot be listed ({error_message(error)})", root, CHECK_ACCESS) from error
    start = len(path.rstrip("/")) + 1
    names = {info.path[start:] for info in files if info.type == pafs.FileType.File}
    if not names:
        raise CatalogError("the image folder is empty", root, "download the images first")
    return names


def stored_source(value: Any) -> Source:
    """Return the source in a table's cell, which is bytes or a struct {bytes, path}."""
    if isinstance(value, dict):
        return value.get("bytes") or value.get("path")
    content: Source = value
    return content


def read_source(source: Source) -> tuple[bytes, str]:
    """Return the content of a picture file, and its path for error messages.

    Raises
    ------
    RejectedImage
        With the reason missing, unreadable or empty.
    CatalogError
        If a remote storage fails: that is not a fault of the picture.
    """
    where = source if isinstance(source, str) else ""
    if source is None:
        raise RejectedImage("missing", where, "no picture for this object")
    if isinstance(source, str):
        try:
            with open_stream(source) as stream:
                source = stream.read()
        except FileNotFoundError as error:
            raise RejectedImage("missing", where, "no such file") from error
        except OSError as error:
            if "://" in where:
                raise CatalogError(
                    f"cannot be read ({error_message(error)})", where, "run the command again"
                ) from error
            raise RejectedImage("unreadable", where, error_message(error)) from error
    if not source:
        raise RejectedImage("empty", where, "a file of 0 bytes")
    return bytes(source), where
