"""Pictures of galaxies: where they lie, how they are decoded, what is refused, how they are cropped.

Orientation is a scientific fact: which way a spiral winds must survive every step. An image is uint8 `[H, W, 3]`
with row 0 at the top and column 0 at the left, as a viewer shows it. JPEG and PNG are stored that way and are
never transposed nor mirrored (an EXIF orientation tag is ignored). FITS stores row 0 at the bottom, so its rows are
flipped once: the picture is then what DS9 shows, north up and east left where the file is so aligned. No world
coordinates are consulted: a file whose pixels are a mirror image of the sky stays one.
"""

from __future__ import annotations

import io
import string
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from PIL import Image, UnidentifiedImageError

from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.alignment import align_major_axis
from raydistill.galaxies.catalog_schemas import read_filename_mapping
from raydistill.galaxies.tables import object_ids, parquet_dataset
from raydistill.storage import CHECK_ACCESS, arrow_filesystem, error_message, open_stream

Source = bytes | str | None  # the bytes of a file, its path, or nothing where a catalogue row has no picture

REASONS = (
    "missing", "unreadable", "empty", "corrupt", "truncated", "wrong-bands", "wrong-size", "constant", "not-finite"
)  # fmt: skip


class RejectedImage(CatalogError):
    """An image that cannot be used. `reason` is one of `REASONS`, to be counted by the caller."""

    def __init__(self, reason: str, where: str = "", detail: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"'{reason}' is none of {REASONS}")
        super().__init__(reason, where, detail)
        self.reason = reason


@dataclass(frozen=True)
class FolderImages:
    """One picture file per object below `root`, on disk or at a URI.

    pattern: its name below `root` with `{id}` for the object id; `{id:.6}/{id}.jpg` takes the first six characters
    as a folder. mapping: a table `objid, asset_id` (`gz2_filename_mapping.csv`); `{id}` is then the asset id.
    """

    root: str
    pattern: str = "{id}.jpg"
    mapping: str | None = None
    kind: Literal["folder"] = "folder"

    def __post_init__(self) -> None:
        _check_pattern(self.pattern)

    def paths(self, object_ids: Sequence[str]) -> list[str | None]:
        """The path of each object's picture, None where there is none; the folder is listed once."""
        return _locate(self.root, self.pattern, self.mapping, object_ids)

    def decode(self, source: Source) -> np.ndarray:
        """uint8 `[H, W, 3]`, row 0 at the top. RejectedImage: missing, empty, corrupt or truncated."""
        content, where = read_source(source)
        return decode_picture(content, where)


@dataclass(frozen=True)
class ParquetImages:
    """Encoded pictures in a column of a Parquet file or folder: bytes, or Hugging Face's struct of bytes and path."""

    uri: str
    id_column: str = "id_str"
    image_column: str = "image"
    kind: Literal["parquet"] = "parquet"

    @property
    def name(self) -> str:
        """The last part of the URI: what the table is called wherever it lies."""
        return self.uri.rstrip("/").rpartition("/")[2]

    def dataset(self) -> ds.Dataset:
        """The table, unread. CatalogError if it is not there or lacks a column."""
        try:
            dataset = parquet_dataset(self.uri)
        except FileNotFoundError as error:
            raise CatalogError("no such file of images", self.uri, "check survey.images.uri") from error
        except (OSError, pa.ArrowInvalid) as error:
            raise CatalogError("cannot be read as a Parquet table", self.uri, "fetch the images again") from error
        for role in ("id_column", "image_column"):
            column = getattr(self, role)
            if column not in dataset.schema.names:
                fix = f"set survey.images.{role}; {nearest(column, tuple(dataset.schema.names))}"
                raise CatalogError(f"has no column '{column}'", self.uri, fix)
        return dataset

    def ids(self) -> pa.Array:
        """Object id of every row, in the file's order; the pictures stay unread."""
        return object_ids(self.dataset().to_table(columns=[self.id_column])[0], self.id_column, self.uri)

    def decode(self, source: Source) -> np.ndarray:
        """uint8 `[H, W, 3]`, row 0 at the top. RejectedImage: missing, empty, corrupt or truncated."""
        content, where = read_source(source)
        return decode_picture(content, where or self.uri)


@dataclass(frozen=True)
class FitsImages:
    """One FITS file per object with three bands, shown with the asinh stretch of Lupton et al. 2004.

    channels: the planes for red, green and blue, by SDSS custom (i, r, g). A word names an extension; a number counts
    the planes of the cube, if the first image of the file is a cube, else the extensions.
    scales: factors on the bands before the stretch (fluxes fall from i to g; SDSS's pictures balance them so).
    stretch, q, minimum: the linear width, the softening and the black level of `make_lupton_rgb`, in the file's unit.
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
        """The path of each object's file, None where there is none; the folder is listed once."""
        return _locate(self.root, self.pattern, self.mapping, object_ids)

    def decode(self, source: Source) -> np.ndarray:
        """uint8 `[H, W, 3]`, row 0 at the top, so the rows of the FITS arrays are flipped.

        RejectedImage: missing, empty, corrupt, truncated, wrong-bands (one of the channels is not there), not-finite (one NaN is
        enough), wrong-size (bands differ).
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
            except Exception as error:  # astropy has a dozen kinds for a damaged file
                reason = "truncated" if _truncated([error, *(w.message for w in caught)]) else "corrupt"
                raise RejectedImage(reason, where, " ".join(str(error).split())) from error
        if _truncated([w.message for w in caught]):
            raise RejectedImage("truncated", where, "the file ends before its last block")
        return planes

    def _plane(self, hdus: Any, cube: Any, channel: int | str) -> np.ndarray:
        data = cube.data[channel] if cube is not None and isinstance(channel, int) else hdus[channel].data
        if data is None:
            raise KeyError(channel)
        return np.array(data, dtype=np.float64)


# ---- finding ----


def _check_pattern(pattern: str) -> None:
    fields = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
    what, where = f"'{pattern}' is no pattern of file names", "survey.images.pattern"
    if fields != {"id"}:
        raise ConfigError(what, where, "write {id} where the object id stands")
    try:
        shown = pattern.format(id="q7")
    except (ValueError, LookupError, AttributeError):
        shown = ""
    if "q7" not in shown or "q70" in shown:  # ids are words, and 06 fills these with zeros behind
        raise ConfigError(what, where, "write {id}, or {id:0>6} for six digits with zeros before")


def _locate(root: str, pattern: str, mapping: str | None, object_ids: Sequence[str]) -> list[str | None]:
    assets = None if mapping is None else read_filename_mapping(mapping)
    present = _listing(root, recursive="/" in pattern)
    found: list[str | None] = []
    for object_id in object_ids:
        asset = object_id if assets is None else assets.get(object_id)
        name = None if asset is None else pattern.format(id=asset)
        found.append(f"{root.rstrip('/')}/{name}" if name in present else None)
    return found


def _listing(root: str, recursive: bool) -> set[str]:
    """The names of the files below `root`, relative to it."""
    system, path = arrow_filesystem(root)
    try:
        files = system.get_file_info(pafs.FileSelector(path, recursive=recursive))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CatalogError("no such folder of images", root, "check the path, or fetch the images first") from error
    except OSError as error:
        raise CatalogError(
            f"the folder of images cannot be listed ({error_message(error)})", root, CHECK_ACCESS
        ) from error
    start = len(path.rstrip("/")) + 1
    names = {info.path[start:] for info in files if info.type == pafs.FileType.File}
    if not names:
        raise CatalogError("the folder of images is empty", root, "fetch the images first")
    return names


def stored_source(value: Any) -> Source:
    """A picture as stored in a table: bytes, or {bytes, path} with either of them null."""
    if isinstance(value, dict):
        return value.get("bytes") or value.get("path")
    content: Source = value
    return content


def read_source(source: Source) -> tuple[bytes, str]:
    """The bytes of a picture, and its path for messages. RejectedImage: missing, unreadable or empty; CatalogError: no storage."""
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
            if "://" in where:  # a storage in trouble is no matter of this picture
                raise CatalogError(
                    f"cannot be read ({error_message(error)})", where, "run the same command again"
                ) from error
            raise RejectedImage("unreadable", where, error_message(error)) from error
    if not source:
        raise RejectedImage("empty", where, "a file of 0 bytes")
    return bytes(source), where


# ---- decoding ----


def decode_picture(content: bytes, where: str = "") -> np.ndarray:
    """A JPEG, PNG, … as uint8 `[H, W, 3]`, row 0 at the top, as stored.

    Grey is repeated in three channels (16 bits are brought to 8), a palette is looked up, and transparent
    pixels lie on black, which is what the sky is. RejectedImage: corrupt or truncated.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
        image.load()
    except Image.DecompressionBombError as error:
        raise RejectedImage("wrong-size", where, str(error)) from error
    except UnidentifiedImageError as error:
        raise RejectedImage("corrupt", where, "no known picture format") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise RejectedImage("truncated" if _truncated([error]) else "corrupt", where, str(error)) from error
    return np.asarray(_as_rgb(image, where), dtype=np.uint8)


def _truncated(messages: Sequence[object]) -> bool:
    return any("truncated" in str(message).lower() for message in messages)


def _as_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        grey = np.asarray(image, dtype=np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise RejectedImage("corrupt", where, "whole-number pixels beyond 16 bits")
        return Image.fromarray(np.round(grey / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    if image.mode == "F":
        raise RejectedImage("corrupt", where, "float pixels have no agreed range; use FITS")
    return image.convert("RGB")


def inspect(
    image: np.ndarray, *, min_size: int = 32, max_aspect: float = 1.05, min_contrast: int = 3, where: str = ""
) -> None:
    """Refuse what cannot be a picture of a galaxy.

    image: uint8 `[H, W, 3]`. RejectedImage: `wrong-size` when a side has fewer than `min_size` pixels or the sides
    differ by more than the factor `max_aspect`; `constant` when no channel spans `min_contrast` levels.
    """
    height, width = image.shape[:2]
    if min(height, width) < min_size:
        raise RejectedImage("wrong-size", where, f"{width} x {height} pixels, at least {min_size} are needed")
    if max(height, width) > max_aspect * min(height, width):
        raise RejectedImage("wrong-size", where, f"{width} x {height} pixels, not square")
    # One axis after the other: numpy takes sixty times as long over both at once, more than the decoding.
    highest, lowest = image.max(axis=0).max(axis=0), image.min(axis=0).min(axis=0)
    if (highest - lowest).max() < min_contrast:  # two levels are rounding, the faintest real sky has ten
        raise RejectedImage("constant", where, "no structure")


def prepare(image: np.ndarray, crop_fraction: float, size: int, align: bool = False) -> np.ndarray:
    """The centred square of `crop_fraction` times the shorter side, resized to uint8 `[size, size, 3]`; `align`: its long axis level.

    The square may begin within a pixel, so the centre stays the centre whatever the sizes. Lanczos, with the kernel
    widened by the shrinking factor: on 100 GZ2 pictures, 212 to 128 pixels, it keeps the mean brightness to 0.03 %,
    where a box, at this factor that is not whole, adds 1.6 %. In float, rounded once: Pillow's own uint8 resize clips
    between its two passes, and a picture turned by 90 degrees then differs by up to 10 levels (here by 1).
    """
    if not 0 < crop_fraction <= 1:
        raise ConfigError(f"crop_fraction is {crop_fraction}", "crop_fraction", "give a number in (0, 1]")
    if size < 1:
        raise ConfigError(f"size is {size}", "size", "give the side of the picture in pixels")
    height, width = image.shape[:2]
    side = crop_fraction * min(height, width)
    if align:
        image, side = align_major_axis(image, side, 2 * size)
        height, width = image.shape[:2]
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    channels = (Image.fromarray(np.ascontiguousarray(image[..., c], dtype=np.float32)) for c in range(3))
    resized = [np.asarray(c.resize((size, size), Image.Resampling.LANCZOS, box=box)) for c in channels]
    return np.asarray(np.clip(np.rint(np.stack(resized, axis=-1)), 0, 255), dtype=np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """uint8 `[H, W, 3]` as a lossless PNG without time or other metadata: the same pixels give the same bytes."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
