"""Prepare one picture: read, decode, check, crop, align and resize it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydistill.config import Curate, Images
from raydistill.datasets.base import DataSet
from raydistill.galaxies.pictures.files import Source, read_source
from raydistill.galaxies.pictures.images import Fit, inspect, pad_to_square, pixels_of_crop, prepare
from raydistill.galaxies.pictures.mosaics import BandImages


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
    """

    image_size: int
    crop_fraction: float
    align: bool
    min_size: int
    max_aspect: float = 1.05
    min_contrast: int = 3

    @classmethod
    def of(cls, curate: Curate, images: Images | DataSet) -> Preparation:
        """Return the preparation of a survey's pictures.

        Pictures of a data set may have any shape and a single colour; those of a survey may not.
        """
        limits: dict[str, Any] = {} if images.fit == "square" else {"max_aspect": math.inf}
        limits |= {"min_contrast": 0} if isinstance(images, DataSet) else {}
        return cls(curate.image_size, curate.crop_fraction, curate.align, curate.min_picture_size, **limits)


def prepare_picture(
    source: Source, path: str, images: Images | DataSet, preparation: Preparation
) -> tuple[list[bytes], np.ndarray]:
    """Return the contents of a picture's files, and the prepared picture.

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

    Returns
    -------
    tuple
        The bytes of each file, and uint8 `[size, size, 3]`.

    Raises
    ------
    RejectedImage
        If the picture cannot be used.
    CatalogError
        If the storage fails; no single picture explains that.
    """
    contents, original = read_original(source, path, images, preparation)
    return contents, prepare(original, preparation.crop_fraction, preparation.image_size, preparation.align)


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
    checked = _checked(original, name, fit, preparation)
    return prepare(checked, preparation.crop_fraction, preparation.image_size, preparation.align)


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
        height, width = missing.shape
        crop, size, align = preparation.crop_fraction, preparation.image_size, preparation.align
        within = pixels_of_crop(height, width, crop, size, align)
        images.check_missing(float(missing[within].mean()), "")
    return picture
