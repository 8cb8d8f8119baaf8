"""Cut squares of the sky out of mosaics, with north up and east left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.nddata import NoOverlapError, extract_array
from astropy.wcs import WCS
from scipy import ndimage

from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.tiles import Band

MAX_SIDE = 8192  # px of a cut-out
_STRAIGHT = 0.5  # px; a cut-out whose corners are closer to whole rows and columns is not interpolated
_SAME_GRID = 0.1  # px; bands that are shifted less against one another are not interpolated
_MARGIN = 4  # px around an interpolated cut-out, the reach of a cubic spline

_FILES = re.compile(r"(?P<start>.*)\{(?P<middles>[^{}]*\|[^{}]*)\}(?P<end>[^{}]*)", re.DOTALL)
_SOURCE = re.compile(
    r"(?P<files>.*)#ra=(?P<ra>[\d.]+)&dec=(?P<dec>[+-][\d.]+)&side=(?P<side>[\d.]+)", re.DOTALL
)  # fmt: skip


class CutoutSource(NamedTuple):
    """Where a cut-out is.

    Attributes
    ----------
    files
        The file of each band, or one file for all.
    ra, dec
        Its centre [deg, ICRS].
    side
        Its width and height [arcsec].
    """

    files: tuple[str, ...]
    ra: float
    dec: float
    side: float

    def format(self) -> str:
        """Return one text: `{i|r|g}/tile-7.fits#ra=185.7&dec=+15.8&side=60.0`."""
        return f"{_join(self.files)}#ra={self.ra:.7f}&dec={self.dec:+.7f}&side={self.side:.4f}"

    @classmethod
    def parse(cls, text: str) -> CutoutSource:
        """Return the cut-out that `format` describes."""
        match = _SOURCE.fullmatch(text)
        if match is None:
            raise RejectedImage("missing", text, "not a cut-out of a mosaic")
        return cls(_split(match["files"]), *(float(match[key]) for key in ("ra", "dec", "side")))


def _join(files: tuple[str, ...]) -> str:
    """Return `a/{i|r|g}.fits` for `a/i.fits`, `a/r.fits`, `a/g.fits`."""
    if len(set(files)) == 1 and len(files) == 1:
        return files[0]
    start = _common(files)
    rests = [file[len(start) :] for file in files]
    end = _common([rest[::-1] for rest in rests])[::-1]
    return f"{start}{{{'|'.join(rest[: len(rest) - len(end)] for rest in rests)}}}{end}"


def _common(texts: Sequence[str]) -> str:
    """Return the longest common start."""
    first, last = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:length]


def _split(text: str) -> tuple[str, ...]:
    match = _FILES.fullmatch(text)
    if match is None:
        return (text,)
    return tuple(f"{match['start']}{middle}{match['end']}" for middle in match["middles"].split("|"))


class Affine(NamedTuple):
    """Pixel coordinates near a position: `centre + matrix @ (west, north)`.

    Attributes
    ----------
    centre : float64 [2]
        Column and row of the position, from 0.
    matrix : float64 [2, 2]
        Columns and rows per arcsec to the west, and to the north.
    """

    centre: np.ndarray
    matrix: np.ndarray

    @property
    def scale(self) -> float:
        """Return the side of a pixel [arcsec]."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.matrix))))


def _cross(ra: float, dec: float, side: float) -> SkyCoord:
    """Return a square's centre and edge middles: west, east, north, south."""
    steps = [0, side / 2, side / 2, side / 2, side / 2] * u.arcsec
    return SkyCoord(ra, dec, unit="deg").directional_offset_by([0, 270, 90, 0, 180] * u.deg, steps)


def _local_affine(wcs: WCS, cross: SkyCoord, side: float) -> Affine:
    """Return the pixel coordinates around the centre of a square of `side` arcsec.

    In a square of 5 arcmin, half a degree from the tangent point, a projection differs from an affine
    map by less than 0.01 px of 0.25 arcsec.
    """
    points = np.stack(wcs.world_to_pixel(cross), axis=-1)
    west, north = (points[1] - points[2]) / side, (points[3] - points[4]) / side
    return Affine(points[0], np.stack([west, north], axis=-1))


def cut(bands: Sequence[Band], ra: float, dec: float, side: float) -> list[np.ndarray]:
    """Return a square of the sky in each band, all on one grid of pixels.

    Parameters
    ----------
    bands
        Images that show the position.
    ra, dec
        The centre [deg, ICRS].
    side
        Width and height [arcsec].

    Returns
    -------
    list of float arrays `[n, n]`
        Row 0 is the south, column 0 the east; NaN beyond the edges of an image. The pixels are those
        of the band with the smallest ones.

    Raises
    ------
    RejectedImage
        With the reason wrong-size for too many pixels, missing if an image does not show the
        position, truncated or corrupt.

    Notes
    -----
    Where rows and columns follow the sky, pixels are copied, also from an image that is turned by 90
    degrees or mirrored; the centre is then up to half a pixel off. Otherwise, and where the bands
    have different grids, the values are interpolated by cubic splines. They are not summed: a flux
    per pixel stays that of the pixels of its own image.
    """
    cross = _cross(ra, dec, side)
    affines = [_local_affine(band.wcs, cross, side) for band in bands]
    scale = min(affine.scale for affine in affines)
    if not np.isfinite(scale):
        raise RejectedImage("missing", detail="the image does not show the position")
    count = max(1, round(side / scale))
    if count > MAX_SIDE:
        raise RejectedImage("wrong-size", detail=f"a cut-out of {count} x {count} px, at most {MAX_SIDE} are read")
    steps = [affine.matrix * scale for affine in affines]  # pixels of the image per pixel of the cut-out
    turn, shifts = np.rint(steps[0]), [affine.centre - affines[0].centre for affine in affines]
    try:
        if _is_straight(turn, steps, shifts, count):
            centres = [affines[0].centre + np.rint(shift) for shift in shifts]
            return [
                _turned(_section(band, centre, (count, count))[0], turn)
                for band, centre in zip(bands, centres, strict=True)
            ]
        return [
            _interpolated(band, affine.centre, step, count)
            for band, affine, step in zip(bands, affines, steps, strict=True)
        ]
    except NoOverlapError as error:
        raise RejectedImage("missing", detail="the image does not show the position") from error


def _is_straight(turn: np.ndarray, steps: Sequence[np.ndarray], shifts: Sequence[np.ndarray], count: int) -> bool:
    """Return whether all bands have one grid, whose rows and columns run north, east."""
    is_turn = (abs(turn).sum(axis=0) == 1).all() and (abs(turn).sum(axis=1) == 1).all()
    deviations = [abs(step - turn).sum(axis=1).max() * count / 2 for step in steps]
    offsets = [abs(shift - np.rint(shift)).max() for shift in shifts]
    return bool(is_turn and max(deviations) < _STRAIGHT and max(offsets) < _SAME_GRID)


def _section(band: Band, centre: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """Return pixels around a position, NaN beyond edges, and its row and column there.

    These are the pixels of `astropy.nddata.Cutout2D`, which does not read planes of a cube in
    parts.
    """
    pixels, position = extract_array(
        band, shape, (centre[1], centre[0]), mode="partial", fill_value=np.nan, return_position=True
    )
    return pixels, position


def _turned(pixels: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return pixels with west on the right and north at the last row."""
    (column_west, column_north), (row_west, row_north) = turn.astype(int)
    if column_west:
        return pixels[::row_north, ::column_west]
    return pixels.T[::column_north, ::row_west]


def _interpolated(band: Band, centre: np.ndarray, step: np.ndarray, count: int) -> np.ndarray:
    """Return the band on the grid of the cut-out; NaN where its pixels are missing."""
    columns, rows = (int(np.ceil(extent)) for extent in abs(step).sum(axis=1) * count + 2 * _MARGIN)
    pixels, (y, x) = _section(band, centre, (rows, columns))
    is_missing = ~np.isfinite(pixels)
    if is_missing.all():
        return np.full((count, count), np.nan, band.dtype)
    values = np.where(is_missing, np.median(pixels[~is_missing]), pixels)
    steps_n = np.arange(count) - (count - 1) / 2
    west_1n, north_n1 = steps_n[None], steps_n[:, None]
    at = [y + step[1, 0] * west_1n + step[1, 1] * north_n1, x + step[0, 0] * west_1n + step[0, 1] * north_n1]
    result = ndimage.map_coordinates(values, at, order=3, mode="nearest")
    near_missing = ndimage.map_coordinates(is_missing.astype(np.float32), at, order=1, cval=1.0)
    return np.asarray(np.where(near_missing > 1e-3, np.nan, result), band.dtype)
