"""FITS files of bands as a source of pictures."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.files import (
    FITS_SUFFIXES,
    Source,
    band_files,
    check_pattern,
    expected_names,
    locate,
    read_source,
)
from raydistill.galaxies.pictures.formats import describe_foreign
from raydistill.galaxies.pictures.images import Fit, RejectedImage, is_truncated
from raydistill.galaxies.pictures.levels import choose_stretch
from raydistill.galaxies.tables.columns import check_fits
from raydistill.galaxies.tables.ids import Duplicates

MAX_VALUES = 2**28  # of one extension: 2 GB as float64
MAX_PLANE = 2**24  # pixels of a band, 4096 x 4096; a picture takes 50 bytes for each
_STRIP = 2**17  # pixels that are stretched at once; this fits caches of processors
_MAX_PLANES = 16  # a cube with a last axis this short, and longer others, has its planes there

_VERSION = re.compile(r"(.+),\s*(\d+)\s*")  # SCI,2

Fill = Literal["none", "median", "zero"]


@dataclass(frozen=True)
class FitsImages:
    """FITS files with three bands, stretched as in Lupton et al. 2004 (asinh).

    Parameters
    ----------
    root
        Path or URI of the folder or zip.
    pattern
        File name below `root`, with `{id}` for the object id. `{id}-{band}.fits` names one file per
        band, with `{band}` for each of `channels`.
    mapping
        A table with the columns objid and asset_id. `{id}` is then the asset id.
    channels
        The planes for red, green and blue; SDSS uses (i, r, g). A text names an extension; of several
        with one name, "SCI,2" is version 2 (EXTVER). A number is an index into the cube if the file's
        first image is a cube, else into the extensions.
        The planes of a cube may be on its first or its last axis. With one file per band, the first
        image of each file is used.
    scales
        Factors on the three bands before the stretch. SDSS pictures use such factors because a
        galaxy's flux falls from i to g.
    stretch
        Linear width of `make_lupton_rgb`, in the unit of the file. "auto": from the noise and flux
        of a sample of the files; `minimum` is then the sky of each band.
    q
        Softening of `make_lupton_rgb`.
    minimum
        Black level of `make_lupton_rgb`, in the unit of the file; or one for each band.
    fill
        Value of NaN, infinite and BLANK pixels within the crop: the band's "median", or "zero".
        "none": reject the picture. Pixels outside the crop do not matter.
    max_fill
        Largest share of the pixels within the crop to fill; more reject the picture.
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
    pattern: str = "{id}.fits"
    mapping: str | None = None
    channels: tuple[int | str, int | str, int | str] = ("I", "R", "G")
    scales: tuple[float, float, float] = (0.8, 1.0, 1.4)
    stretch: float | Literal["auto"] = 0.35
    q: float = 10.0
    minimum: float | tuple[float, float, float] = 0.01
    kind: Literal["fits"] = "fits"
    fill: Fill = "none"
    max_fill: float = 0.1
    path_column: str | None = None
    fit: Fit = "square"
    allow_outside: bool = False

    def __post_init__(self) -> None:
        check_pattern(self.pattern.replace("{band}", "band"))
        if self.stretch != "auto" and not self.stretch > 0:
            raise ConfigError(f"stretch is {self.stretch}", "survey.images.stretch", "give a number above 0, or auto")

    def paths(self, object_ids: Sequence[str], duplicates: Duplicates = "reject") -> list[str | None]:
        """Return the path of each object's file, or None if it has none; see `locate`.

        With one file per band, the path holds all bands, as `m51-{i,r,g}.fits`.
        """
        bands = self._bands_of_files()
        return locate(self.root, self.pattern, self.mapping, object_ids, FITS_SUFFIXES, bands, duplicates)

    def expected_names(self, object_ids: Sequence[str]) -> list[str]:
        """Return the file name of each object below `root`; "" if the mapping lacks it."""
        return expected_names(self.pattern, self.mapping, object_ids, self._bands_of_files())

    def read(self, source: Source) -> list[bytes]:
        """Return the contents of the files of one object: one, or one per band.

        Errors are those of `read_source`.
        """
        return [read_source(file)[0] for file in self.files(source)]

    def files(self, source: Source) -> list[Source]:
        """Return the files of one object: one, or one per band."""
        bands = self._bands_of_files()
        return [*band_files(source, bands)] if isinstance(source, str) and bands else [source]

    def _bands_of_files(self) -> tuple[str, ...]:
        return tuple(map(str, self.channels)) if "{band}" in self.pattern and self.path_column is None else ()

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top: rows of the FITS arrays are flipped.

        Raises
        ------
        RejectedImage
            With the reason missing, unreadable, empty, corrupt or truncated; wrong-bands if a
            channel is missing; wrong-size if the bands differ in shape; not-finite if any pixel is
            NaN or infinite and `fill` does not allow it.

        References
        ----------
        Lupton et al. 2004, PASP 116, 133, arXiv:astro-ph/0312483.
        """
        contents = [read_source(file) for file in self.files(source)]
        where = contents[0][1]
        picture, missing = self.decode_bands([content for content, _ in contents], where)
        self.check_missing(float(missing.mean()), where)
        return picture

    def decode_bands(self, contents: Sequence[bytes], where: str) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 `[H, W, 3]`, and bool `[H, W]`: where a band is NaN or infinite.

        Such pixels have the value of `fill`; for "none", the median.
        """
        bands = self.bands(contents, where)
        missing = ~np.logical_and.reduce([np.isfinite(band) for band in bands])
        if missing.all():
            raise RejectedImage("not-finite", where, "all pixels are NaN or infinite")
        if missing.any():
            bands = [_filled(band, self.fill) for band in bands]
        return np.ascontiguousarray(self._stretched(bands)[::-1]), missing[::-1]

    def _stretched(self, bands: Sequence[np.ndarray]) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, made by strips of rows.

        Astropy takes 100 bytes for each pixel.
        """
        from astropy.visualization import make_lupton_rgb

        minimum = list(self.minimum) if isinstance(self.minimum, tuple) else self.minimum
        rows = max(1, _STRIP // bands[0].shape[1])
        strips = [[band[start : start + rows] for band in bands] for start in range(0, len(bands[0]), rows)]
        with np.errstate(divide="ignore", invalid="ignore"):  # astropy divides by an intensity of 0, and drops it
            return np.concatenate(
                [make_lupton_rgb(*strip, minimum=minimum, stretch=self.stretch, Q=self.q) for strip in strips]
            )

    def check_missing(self, share: float, where: str) -> None:
        """Raise RejectedImage if more pixels are NaN or infinite than `fill` allows.

        `share` is that of the pixels within the crop.
        """
        if not share:
            return
        if self.fill == "none":
            detail = f"{share:.2%} of the pixels are NaN or infinite; survey.images.fill=median replaces them"
            raise RejectedImage("not-finite", where, detail)
        if share > self.max_fill:
            detail = f"{share:.2%} of the pixels are NaN or infinite; survey.images.max_fill is {self.max_fill}"
            raise RejectedImage("not-finite", where, detail)

    def with_stretch_of(self, sample: Sequence[Sequence[bytes]]) -> FitsImages:
        """Return the source with the stretch and the minimum that fit a sample of files.

        Files that cannot be read are left out. CatalogError if none can.
        """
        bands, errors = [], []
        for contents in sample:
            try:
                bands.append(self.bands(contents, ""))
            except RejectedImage as error:
                errors.append(error)
        if not bands:
            raise self._unreadable(errors)
        stretch, minimum = choose_stretch(bands, self.root)
        return replace(self, stretch=stretch, minimum=minimum)

    def _unreadable(self, errors: Sequence[RejectedImage]) -> CatalogError:
        """Return the error of a sample of which no file can be read."""
        reason = f" ({errors[0].reason}: {errors[0].fix})" if errors else ""
        what = f"none of the sampled files can be read{reason}"
        fix = "check the files"
        if all(error.reason in ("wrong-bands", "wrong-size") for error in errors):
            fix = "set survey.images.channels to the extensions or planes for red, green and blue"
        return CatalogError(what, self.root, fix)

    def bands(self, contents: Sequence[bytes], where: str) -> list[np.ndarray]:
        """Return the three scaled bands, float64 `[H, W]`, row 0 at the bottom."""
        if len(contents) == 1:
            planes = self._planes(contents[0], self.channels, where)
        else:
            planes = [self._planes(content, (None,), where)[0] for content in contents]
        bands = [np.multiply(scale, plane, out=plane) for scale, plane in zip(self.scales, planes, strict=True)]
        if len({band.shape for band in bands}) > 1 or bands[0].ndim != 2 or not bands[0].size:
            raise RejectedImage("wrong-size", where, f"bands of shape {[band.shape for band in bands]}")
        return bands

    def _planes(self, content: bytes, channels: Sequence[int | str | None], where: str) -> list[np.ndarray]:
        from astropy.io import fits

        if foreign := describe_foreign(content):
            raise RejectedImage("corrupt", where, foreign)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_fits(io.BytesIO(content), where)
                # Astropy sets BLANK to NaN, except in the unsigned integers that uint=True gives.
                with fits.open(io.BytesIO(content), uint=False) as hdus:
                    images = [hdu for hdu in hdus if hdu.is_image and hdu.shape]
                    _check_size(images, len(content), where)
                    planes = [_plane(hdus, images, channel, where) for channel in channels]
            except CatalogError as error:
                raise (
                    error if isinstance(error, RejectedImage) else RejectedImage("corrupt", where, error.what)
                ) from error
            except (KeyError, IndexError) as error:
                names = ", ".join(map(str, self.channels))
                raise RejectedImage("wrong-bands", where, f"no plane for each of the channels {names}") from error
            except Exception as error:  # astropy raises a dozen types for damaged files
                reason = "truncated" if is_truncated([error, *(w.message for w in caught)]) else "corrupt"
                raise RejectedImage(reason, where, " ".join(str(error).split())) from error
        if is_truncated([w.message for w in caught]):
            raise RejectedImage("truncated", where, "the file ends before its last block")
        return planes


def _check_size(images: Sequence[Any], size: int, where: str) -> None:
    """Raise RejectedImage if a header announces more values than memory can hold.

    Values that a file of `size` bytes does not hold are left to astropy, unless they are too many.
    """
    for hdu in images:
        is_stored = hasattr(hdu, "compression_type") or hdu.size <= size
        if math.prod(hdu.shape) > MAX_VALUES or (is_stored and math.prod(sorted(hdu.shape)[-2:]) > MAX_PLANE):
            what = f"{' x '.join(map(str, hdu.shape))} values in one extension"
            raise RejectedImage(
                "wrong-size", where, f"{what}, and at most {MAX_PLANE / 1e6:.0f} million of a band are read"
            )


def _plane(hdus: Any, images: Sequence[Any], channel: int | str | None, where: str) -> np.ndarray:
    """Return a plane `[H, W]` of the first cube, of an extension, or the first image.

    The first image is that for the channel None.
    """
    if channel is None:
        data = images[0].data
    elif isinstance(channel, int) and images and len(_shape(images[0])) == 3:
        data = _planes_first(images[0].data.reshape(_shape(images[0])))[channel]
    else:
        try:
            data = hdus[find_extension(hdus, channel)].data
        except AmbiguousExtension as error:
            raise RejectedImage("wrong-bands", where, str(error)) from error
    if data is None:
        raise KeyError(channel)
    plane = np.array(data, dtype=np.float64)
    return plane.squeeze() if plane.ndim > 2 else plane


class AmbiguousExtension(Exception):
    """Report a name that several extensions of a file have."""


def find_extension(hdus: Any, channel: int | str) -> int | str:
    """Return the index of an extension by its number or name, also as "SCI,2".

    Without an image of this name, return `channel`. AmbiguousExtension if there are several.
    """
    if isinstance(channel, int):
        return channel
    names = [(hdu.name.upper(), hdu.ver) if hdu.is_image and hdu.shape else ("", 0) for hdu in hdus]
    match = _VERSION.fullmatch(channel)
    matches = [number for number, (name, _) in enumerate(names) if name == channel.strip().upper()]
    if match is not None and not matches:
        matches = [number for number, name in enumerate(names) if name == (match[1].strip().upper(), int(match[2]))]
    if len(matches) > 1:
        what = f"the extensions {', '.join(map(str, matches))} are all called {channel}"
        versions = {names[number][1] for number in matches}
        by_version = f", or versions such as '{channel},{min(versions)}'" if len(versions) == len(matches) else ""
        raise AmbiguousExtension(f"{what}: give their numbers{by_version}")
    return matches[0] if matches else channel


def _shape(hdu: Any) -> tuple[int, ...]:
    """Return the shape of an image; with more than three axes, drop those of length 1.

    Radio cubes have such axes.
    """
    shape: tuple[int, ...] = hdu.shape
    return shape if len(shape) <= 3 else tuple(length for length in shape if length > 1)


def _planes_first(cube: np.ndarray) -> np.ndarray:
    """Move the planes of a cube to its first axis."""
    is_last = cube.shape[2] <= _MAX_PLANES < min(cube.shape[:2])
    return np.moveaxis(cube, 2, 0) if is_last else cube


def _filled(band: np.ndarray, fill: Fill) -> np.ndarray:
    """Replace NaN and infinite pixels."""
    finite = np.isfinite(band)
    value = 0.0 if fill == "zero" or not finite.any() else float(np.median(band[finite]))
    return np.where(finite, band, value)


def unit_of(contents: Sequence[bytes]) -> str:
    """Return the unit of an object's pixels (BUNIT), or a note that no header has it."""
    from astropy.io import fits

    with suppress(Exception):  # astropy raises a dozen types for damaged files
        for content in contents:
            with fits.open(io.BytesIO(content)) as hdus:
                named = (str(hdu.header["BUNIT"]).strip() for hdu in hdus if hdu.is_image and "BUNIT" in hdu.header)
                if unit := next(filter(None, named), ""):
                    return f"'{unit}'"
    return "unknown, the files have no BUNIT"
