"""Write FITS mosaics of spiral galaxies, whose light depends on the sky position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

COLOURS = (1.0, 0.8, 0.5)  # of red, green and blue


@dataclass(frozen=True)
class Spiral:
    """A galaxy with two arms.

    Parameters
    ----------
    ra, dec
        Its centre [deg].
    winding
        +1: going outwards along an arm turns anticlockwise in a picture with north up and east left.
    scale
        Scale length of its light [arcsec].
    """

    ra: float
    dec: float
    winding: int = 1
    scale: float = 6.0

    def light(self, west: np.ndarray, north: np.ndarray) -> np.ndarray:
        """Return its light at offsets from the centre [arcsec]."""
        radius, angle = np.hypot(west, north), np.arctan2(north, west)
        turns = 2.5 * np.log(np.maximum(radius, 0.3 * self.scale) / self.scale)
        arms = np.exp(2 * (np.cos(2 * (angle - self.winding * turns)) - 1))
        return (0.3 + arms) * np.exp(-radius / self.scale)


def sky(spirals: Sequence[Spiral], wcs: WCS, rows: int, columns: int) -> np.ndarray:
    """Return the light of galaxies on the pixels of a tile, float64 `[rows, columns]`."""
    y, x = np.mgrid[:rows, :columns]
    ra, dec = wcs.all_pix2world(x, y, 0)
    total = np.zeros((rows, columns))
    for spiral in spirals:
        west = -((ra - spiral.ra + 180) % 360 - 180) * np.cos(np.radians(spiral.dec)) * 3600
        total += spiral.light(west, (dec - spiral.dec) * 3600)
    return total


def make_wcs(
    ra: float, dec: float, rows: int, columns: int, *, scale: float = 0.5, angle: float = 0.0, mirrored: bool = False
) -> WCS:
    """Return a tangential projection whose centre is at a position.

    Parameters
    ----------
    scale
        Side of a pixel [arcsec].
    angle
        Turn of north from the columns towards higher rows [deg].
    mirrored
        East is at the right of north.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [(columns + 1) // 2, (rows + 1) // 2]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    east = 1 if mirrored else -1
    wcs.wcs.cd = np.array([[east, 0], [0, 1]]) @ np.array([[cos, -sin], [sin, cos]]) * scale / 3600
    wcs.wcs.set()
    return wcs


def write_tile(
    path: Path, spirals: Sequence[Spiral], wcs: WCS, rows: int, columns: int, *, colour: float = 1.0, seed: int = 0,
    noise: float = 0.01, unit: str = "nmgy", compressed: bool = False,
) -> None:  # fmt: skip
    """Write one band of a tile, float32."""
    pixels = colour * sky(spirals, wcs, rows, columns)
    pixels += np.random.default_rng(seed).normal(0, noise, pixels.shape)
    header = wcs.to_header()
    header["BUNIT"] = unit
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    hdu = kind(pixels.astype(np.float32), header)
    hdus = [fits.PrimaryHDU(), hdu] if compressed else [fits.PrimaryHDU(hdu.data, hdu.header)]
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True)


def write_bands(root: Path, name: str, spirals: Sequence[Spiral], wcs: WCS, rows: int, columns: int) -> None:
    """Write `i/NAME`, `r/NAME` and `g/NAME` below a folder."""
    for seed, (band, colour) in enumerate(zip("irg", COLOURS, strict=True)):
        write_tile(root / band / name, spirals, wcs, rows, columns, colour=colour, seed=seed)
