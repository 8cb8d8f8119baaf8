"""Find the tile of a mosaic that shows a position."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from scipy.spatial import KDTree

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.files import below
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.tiles import Channel, TileFile

_READERS = 16  # headers that are read from a storage at the same time


class TileHeader(NamedTuple):
    """Describe a tile without its pixels.

    Attributes
    ----------
    name
        Path below the folder of the survey.
    wcs
        Its world coordinates.
    shape
        Its rows and columns.
    unit
        Its BUNIT, or "".
    scale
        Side of a pixel [arcsec].
    """

    name: str
    wcs: WCS
    shape: tuple[int, int]
    unit: str
    scale: float


def read_headers(root: str, names: Sequence[str], channels: Sequence[Channel]) -> list[list[TileHeader]]:
    """Return the headers of tiles in their order, for each channel.

    Raises
    ------
    CatalogError
        If a file cannot be read, has no such image or no world coordinates, or if their units differ.
    """
    # Python's filters of warnings are those of all threads, so they are restored after the last one.
    with warnings.catch_warnings(record=True), ThreadPoolExecutor(_READERS) as pool:
        tiles = list(pool.map(lambda name: _read_file(root, name, channels), names))
    headers = [list(band) for band in zip(*tiles, strict=True)]
    for band in headers:
        other = next((tile for tile in band if tile.unit != band[0].unit), None)
        if other is not None:
            what = f"tiles of one band have different units: {_named(band[0])} and {_named(other)}"
            raise CatalogError(what, root, "convert them to one unit")
    return headers


def _named(tile: TileHeader) -> str:
    return f"'{tile.unit}' in {tile.name}"


def _read_file(root: str, name: str, channels: Sequence[Channel]) -> list[TileHeader]:
    """Return the headers of the channels of one file."""
    uri = below(root, name)
    try:
        file = TileFile(uri)
        bands = [file.band(channel) for channel in channels]
        file.close()
    except RejectedImage as error:
        what = f"the tile cannot be read ({': '.join(filter(None, (error.reason, error.fix)))})"
        raise CatalogError(what, uri, "download it again, or leave it out of survey.images.files") from error
    scales = [float(np.mean(proj_plane_pixel_scales(band.wcs)) * 3600) for band in bands]
    return [TileHeader(name, band.wcs, band.shape, band.unit, scale) for band, scale in zip(bands, scales, strict=True)]


class TileIndex:
    """The tiles of one band.

    Parameters
    ----------
    tiles
        At least one, in an order that decides between equal ones.
    """

    def __init__(self, tiles: Sequence[TileHeader]) -> None:
        self.tiles = list(tiles)
        self._circles = [_circle(tile) for tile in self.tiles]

    def repeated(self) -> dict[str, str]:
        """Return tiles that show the piece of the sky of an earlier one, by name.

        Their corners agree within a pixel.

        Returns
        -------
        dict of str to str
            The name of the earlier one.
        """
        pixel = max(tile.scale for tile in self.tiles)
        reach = float((2 * pixel * u.arcsec).to_value(u.rad))
        tree = KDTree(np.stack([_vectors(centre) for centre, _ in self._circles]))
        pairs = sorted((first, second) for first, second in tree.query_pairs(reach))
        repeated: dict[str, str] = {}
        for first, second in pairs:
            earlier, other = self.tiles[first], self.tiles[second]
            if earlier.name not in repeated and _share_corners(earlier, other):
                repeated.setdefault(other.name, earlier.name)
        return repeated

    def find(self, ra_N: np.ndarray, dec_N: np.ndarray) -> np.ndarray:
        """Return the index of the tile in which each position is farthest from the edges.

        Parameters
        ----------
        ra_N, dec_N : float64 [N]
            Positions [deg, ICRS]; NaN if unknown.

        Returns
        -------
        int64 [N]
            -1 where no tile shows the position.
        """
        tile_N, depth = np.full(len(ra_N), -1), np.full(len(ra_N), -np.inf)
        known = np.flatnonzero(np.isfinite(ra_N) & np.isfinite(dec_N))
        if not len(known):
            return tile_N
        positions = SkyCoord(ra_N[known], dec_N[known], unit="deg")
        tree = KDTree(_vectors(positions))
        for number, (tile, (centre, radius)) in enumerate(zip(self.tiles, self._circles, strict=True)):
            near = np.sort(tree.query_ball_point(_vectors(centre), 2 * np.sin(radius / 2)))
            if len(near):
                rows, depth_M = known[near], _depth(tile, positions[near])
                better = (depth_M >= 0) & (depth_M > depth[rows])
                tile_N[rows[better]], depth[rows[better]] = number, depth_M[better]
        return tile_N


def _vectors(positions: SkyCoord) -> np.ndarray:
    """Return unit vectors `[..., 3]`."""
    return np.moveaxis(positions.cartesian.xyz.value, 0, -1)


def _circle(tile: TileHeader) -> tuple[SkyCoord, float]:
    """Return the centre of a tile, and the radius [rad] of a circle around all of it."""
    rows, columns = tile.shape
    centre = tile.wcs.pixel_to_world((columns - 1) / 2, (rows - 1) / 2).icrs
    radius = np.hypot(rows, columns) / 2 * tile.scale * 1.05  # a projection's scale changes over a tile
    return centre, float(min((radius * u.arcsec).to_value(u.rad), np.pi))


def _share_corners(tile: TileHeader, other: TileHeader) -> bool:
    """Return whether each corner of a tile lies within a pixel of a corner of another."""
    distances = np.linalg.norm(_corners(tile)[:, None] - _corners(other)[None], axis=2)
    reach = float((max(tile.scale, other.scale) * u.arcsec).to_value(u.rad))
    return bool((distances.min(axis=1) <= reach).all() and (distances.min(axis=0) <= reach).all())


def _corners(tile: TileHeader) -> np.ndarray:
    """Return the outer corners as unit vectors `[4, 3]`."""
    rows, columns = tile.shape
    x, y = np.array([-0.5, columns - 0.5, -0.5, columns - 0.5]), np.array([-0.5, -0.5, rows - 0.5, rows - 0.5])
    return _vectors(tile.wcs.pixel_to_world(x, y).icrs)


def _depth(tile: TileHeader, positions: SkyCoord) -> np.ndarray:
    """Return the distance [arcsec] from the closest edge of a tile; -1 outside."""
    x, y = tile.wcs.world_to_pixel(positions)
    rows, columns = tile.shape
    depth = np.minimum.reduce([x + 0.5, columns - 0.5 - x, y + 0.5, rows - 0.5 - y]) * tile.scale
    return np.where(np.isfinite(depth), np.maximum(depth, -1), -1)
