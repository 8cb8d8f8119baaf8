"""Decode, check and crop pictures of galaxies.

The winding sense of a spiral is a scientific fact, so no step may mirror a picture. An image is
uint8 `[H, W, 3]` with row 0 at the top and column 0 at the left, as a viewer shows it.

- JPEG and PNG are stored in this order. They are never transposed or mirrored, and an EXIF
  orientation tag is ignored.
- FITS stores row 0 at the bottom, so its rows are flipped once. The result is what DS9 shows: north
  up and east left, if the file has that orientation. World coordinates are not read: a file whose
  pixels mirror the sky stays a mirror image.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.alignment import align_major_axis

REASONS = (
    "missing", "unreadable", "empty", "corrupt", "truncated", "wrong-bands", "wrong-size", "constant", "not-finite"
)  # fmt: skip


class RejectedImage(CatalogError):
    """Report an image that cannot be used.

    `reason` is one of `REASONS`, for the caller to count.
    """

    def __init__(self, reason: str, where: str = "", detail: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"'{reason}' is not one of {REASONS}")
        super().__init__(reason, where, detail)
        self.reason = reason


def decode_picture(content: bytes, where: str = "") -> np.ndarray:
    """Decode a JPEG, PNG, … to uint8 `[H, W, 3]`, row 0 at the top, as stored.

    Grey becomes three equal channels; 16 bits are scaled to 8. A palette is converted to RGB.
    Transparent pixels are shown on black, the colour of the sky.

    Raises
    ------
    RejectedImage
        With the reason corrupt or truncated, or wrong-size for more pixels than Pillow accepts.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
        image.load()
    except Image.DecompressionBombError as error:
        raise RejectedImage("wrong-size", where, str(error)) from error
    except UnidentifiedImageError as error:
        raise RejectedImage("corrupt", where, "unknown picture format") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise RejectedImage("truncated" if is_truncated([error]) else "corrupt", where, str(error)) from error
    return np.asarray(_as_rgb(image, where), dtype=np.uint8)


def is_truncated(messages: Sequence[object]) -> bool:
    """Return whether an error or warning says that a file is truncated."""
    return any("truncated" in str(message).lower() for message in messages)


def _as_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        grey = np.asarray(image, dtype=np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise RejectedImage("corrupt", where, "integer pixels exceed 16 bits")
        return Image.fromarray(np.round(grey / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    if image.mode == "F":
        raise RejectedImage("corrupt", where, "the range of float pixels is unknown; use FITS")
    return image.convert("RGB")


def inspect(
    image: np.ndarray, *, min_size: int = 32, max_aspect: float = 1.05, min_contrast: int = 3, where: str = ""
) -> None:
    """Reject an image that cannot be a picture of a galaxy.

    Parameters
    ----------
    image : uint8 `[H, W, 3]`
    min_size : int
        Smallest height and width [px].
    max_aspect : float
        Largest ratio of the longer to the shorter side.
    min_contrast : int
        Smallest range of levels in at least one channel. Rounding gives 2; the faintest real sky
        has 10.
    where : str
        Path for the error message.

    Raises
    ------
    RejectedImage
        With the reason wrong-size or constant.
    """
    height, width = image.shape[:2]
    if min(height, width) < min_size:
        raise RejectedImage("wrong-size", where, f"{width} x {height} px, at least {min_size} are needed")
    if max(height, width) > max_aspect * min(height, width):
        raise RejectedImage("wrong-size", where, f"{width} x {height} px, not square")
    # One axis after the other: numpy is 60 times slower over both at once, slower than the
    # decoding.
    highest, lowest = image.max(axis=0).max(axis=0), image.min(axis=0).min(axis=0)
    if (highest - lowest).max() < min_contrast:
        raise RejectedImage("constant", where, "no structure")


def prepare(image: np.ndarray, crop_fraction: float, size: int, align: bool = False) -> np.ndarray:
    """Crop the centred square and resize it to uint8 `[size, size, 3]`.

    Parameters
    ----------
    image : uint8 `[H, W, 3]`
    crop_fraction : float
        Side of the square relative to the shorter side of the image, in (0, 1].
    size : int
        Side of the result [px].
    align : bool
        First rotate the image so that the galaxy's major axis is horizontal.

    Raises
    ------
    ConfigError
        If `crop_fraction` or `size` is out of range.

    Notes
    -----
    The square may start within a pixel, so the centre stays the centre for all sizes. The Lanczos
    kernel is widened by the shrinking factor. On 100 GZ2 pictures, from 212 to 128 px, it keeps the
    mean brightness to 0.03 %; a box filter adds 1.6 %. The resize works in float and rounds once:
    Pillow's uint8 resize clips between its two passes, so a picture rotated by 90 degrees would
    differ by up to 10 levels instead of 1.
    """
    if not 0 < crop_fraction <= 1:
        raise ConfigError(f"crop_fraction is {crop_fraction}", "crop_fraction", "give a number in (0, 1]")
    if size < 1:
        raise ConfigError(f"size is {size}", "size", "give the side of the picture in px, at least 1")
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
    """Encode uint8 `[H, W, 3]` as PNG without metadata: equal pixels give equal bytes.

    Raises
    ------
    ValueError
        For another shape or dtype.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
