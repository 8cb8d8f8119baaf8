"""Read pictures from mosaics of the sky: a square around each catalogue position."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from fsspec.utils import glob_translate

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.archives import find_archive
from raydistill.galaxies.pictures.files import ALLOW_IMAGES, Source, check_links, digest_files, list_files
from raydistill.galaxies.pictures.fits import Fill, FitsImages
from raydistill.galaxies.pictures.images import Fit, RejectedImage
from raydistill.galaxies.pictures.paths import FoundPaths
from raydistill.galaxies.tables.ids import Duplicates, check_repeated
from raydistill.log import get_logger

log = get_logger(__name__)

R90 = "R90"
_ARCSEC = {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0}
_KEEP_ONE = "leave one of each pair out of survey.images.files"
_SIZE = re.compile(r"\s*([\d.]+(?:e[+-]?\d+)?)\s*([A-Za-z]\w*)\s*", re.ASCII)


@dataclass(frozen=True)
class MosaicImages:
    """FITS mosaics or tiles with world coordinates, cut out around table positions.

    A cut-out has north up and east left, and is stretched as in Lupton et al. 2004 (asinh).

    Parameters
    ----------
    root
        Path or URI of the folder.
    files
        Names of the files below `root` with `*` and `**`, for red, green and blue:
        `[i/*.fits, r/*.fits, g/*.fits]`. Or one name for files with all bands. Compressed files are
        those of fpack (`.fits.fz`). Where tiles overlap, that is cut in which the position is farthest
        from the edges. Two of the same piece of the sky: see `survey.duplicates`.
    size
        Side of a cut-out with its unit, arcsec, arcmin, deg or R90: `60 arcsec`, or `8.48 R90` for
        multiples of the galaxy's petroR90_r, which the table then needs.
    channels
        With one name of files, the planes for red, green and blue: names of extensions, or their
        numbers, or indices into the cube if the file's first image is a cube. With three, the
        extension of each file; null: the first image of each file.
    scales
        Factors on the three bands before the stretch. SDSS pictures use such factors because a
        galaxy's flux falls from i to g.
    stretch
        Linear width of `make_lupton_rgb`, in the unit of the files. "auto": from the noise and flux
        of a sample of the galaxies; `minimum` is then the sky of each band.
    q
        Softening of `make_lupton_rgb`.
    minimum
        Black level of `make_lupton_rgb`, in the unit of the files; or one for each band.
    fill
        Value of NaN and BLANK pixels, and of those beyond the edge of a tile, within the crop: the
        band's "median", or "zero". "none": reject the picture.
    max_fill
        Largest share of the pixels within the crop to fill; more reject the picture.
    allow_outside
        Take files outside `root`, to which links may lead. Else they are rejected.
    """

    root: str
    files: tuple[str, ...]
    size: str
    channels: tuple[int | str, int | str, int | str] | None = None
    scales: tuple[float, float, float] = (0.8, 1.0, 1.4)
    stretch: float | Literal["auto"] = "auto"
    q: float = 10.0
    minimum: float | tuple[float, float, float] = 0.01
    kind: Literal["mosaic"] = "mosaic"
    fill: Fill = "none"
    max_fill: float = 0.1
    allow_outside: bool = False

    def __post_init__(self) -> None:
        _parse_size(self.size)
        if len(self.files) not in (1, 3):
            what = f"{len(self.files)} names of files are given"
            raise ConfigError(what, "survey.images.files", "give those for red, green and blue, or one for all bands")
        if len(self.files) == 1 and self.channels is None:
            what = "one file has all bands, and nothing says which"
            raise ConfigError(what, "survey.images.channels", "give the extensions or planes for red, green and blue")
        if self.stretch != "auto" and not self.stretch > 0:
            raise ConfigError(f"stretch is {self.stretch}", "survey.images.stretch", "give a number above 0, or auto")

    @property
    def frame_r90(self) -> float | None:
        """Return the side of a cut-out in units of petroR90_r; None if it is an angle."""
        value, unit = _parse_size(self.size)
        return value if unit == R90 else None

    @property
    def fit(self) -> Fit:
        """Return "square": cut-outs are square."""
        return "square"

    def digest(self) -> str:
        """Return the digest of the names and sizes of the files; contents are not read."""
        names = sorted({name for of_band in self._names() for name in of_band})
        return digest_files(self.root, names)

    def find(
        self, ra_N: np.ndarray, dec_N: np.ndarray, r90_N: np.ndarray, duplicates: Duplicates = "reject"
    ) -> FoundPaths:
        """Find the tiles that show each position, and return the cut-outs there.

        The headers of all tiles are read.

        Parameters
        ----------
        ra_N, dec_N : float64 [N]
            Positions [deg, ICRS]; NaN if unknown.
        r90_N : float64 [N]
            Radii that hold 90 % of the light [arcsec]; NaN if unknown.
        duplicates
            What happens to tiles of one piece of the sky: "reject", or "first", by name.

        Raises
        ------
        CatalogError
            If no file has one of the names, a file is not a tile, or no galaxy has a position. If
            tiles show the same piece of the sky and are rejected.
        """
        from raydistill.galaxies.pictures.cutouts import CutoutSource

        value, unit = _parse_size(self.size)
        side_N = value * r90_N if unit == R90 else np.full(len(ra_N), value * _ARCSEC[unit])
        _check_known(ra_N, dec_N, side_N)
        matches = self._find_tiles(ra_N, dec_N, duplicates)
        reasons = np.full(len(ra_N), "", dtype=object)
        for band, tiles in enumerate(matches):
            lacking = np.array([tile is None for tile in tiles], bool)
            name = f" in {self.files[band]}" if len(matches) > 1 else ""
            reasons[lacking & (reasons == "")] = f"no tile{name} shows its position"
        reasons[~np.isfinite(side_N)] = "the table has no petro_r90 of it"
        reasons[~(np.isfinite(ra_N) & np.isfinite(dec_N))] = "the table has no position of it"
        sources = [
            None if reason else CutoutSource(tuple(map(str, tiles)), ra % 360, dec, side).format()
            for reason, ra, dec, side, *tiles in zip(reasons, ra_N, dec_N, side_N, *matches, strict=True)
        ]
        return FoundPaths(sources, [""] * len(sources), reasons.tolist())

    def _find_tiles(self, ra_N: np.ndarray, dec_N: np.ndarray, duplicates: Duplicates) -> list[list[str | None]]:
        """Return the name of each position's tile, for each list of files."""
        from raydistill.galaxies.pictures.tile_index import TileIndex, read_headers

        names, channels = self._names(), self.channels or (None, None, None)
        if len(names) == 1:
            headers = read_headers(self.root, names[0], channels)
        else:
            headers = [
                read_headers(self.root, *pair)[0]
                for pair in zip(names, [[channel] for channel in channels], strict=True)
            ]
        _warn_of_differences([of_band[0].unit for of_band in headers], [of_band[0].scale for of_band in headers])
        matches = []
        for of_band in headers[: len(names)]:
            index = TileIndex(of_band)
            if repeated := index.repeated():
                other, twin = next(iter(repeated.items()))
                what = f"show the same piece of the sky as another, such as {other} and {twin}"
                check_repeated(list(repeated), what, self.root, duplicates, _KEEP_ONE, "tiles")
                index = TileIndex([tile for tile in of_band if tile.name not in repeated])
            numbers = index.find(ra_N, dec_N)
            matches.append([None if number < 0 else index.tiles[number].name for number in numbers])
        return matches

    def _names(self) -> list[list[str]]:
        """Return the sorted names of the files, for each entry of `files`."""
        from raydistill.galaxies.pictures.tiles import check_packed

        if find_archive(self.root):
            raise CatalogError("files in a zip cannot be read in parts", self.root, "unpack it and give the folder")
        present = list_files(self.root, any("/" in name or "**" in name for name in self.files), once=True)
        names_of = []
        for pattern in self.files:
            matches = re.compile(glob_translate(pattern)).fullmatch
            names = sorted(name for name in present if matches(name))
            if not names:
                what = f"none of its {len(present)} files has a name like '{pattern}'"
                raise CatalogError(what, self.root, f"check survey.images.files; one of them is {min(present)}")
            if wrong := next((name for name in names if set(name) & set("{}|")), None):
                raise CatalogError(f"'{wrong}' has one of the characters {{, }} and |", self.root, "rename it")
            check_packed(names, self.root)
            if not self.allow_outside:
                check_links(self.root, names, ALLOW_IMAGES)
            names_of.append(names)
        return names_of

    def read(self, source: Source) -> list[bytes]:
        """Return the cut-out as three FITS files, one per band, with the unit as header.

        The unit is their only header. They depend on the pixels alone, not on the names of the
        tiles.

        Raises
        ------
        RejectedImage
            With the reason missing, unreadable, corrupt, truncated or wrong-size.
        CatalogError
            If a remote storage fails.
        """
        from raydistill.galaxies.pictures.cutouts import CutoutSource, cut
        from raydistill.galaxies.pictures.tiles import open_tile

        if not isinstance(source, str):
            raise RejectedImage("missing", detail="no picture for this object")
        where = CutoutSource.parse(source)
        files = [open_tile(uri) for uri in where.files]
        files = files * 3 if len(files) == 1 else files
        bands = [file.band(channel) for file, channel in zip(files, self.channels or (None,) * 3, strict=True)]
        pixels = cut(bands, where.ra, where.dec, where.side)
        return [_to_fits(pixels_HW, band.unit) for pixels_HW, band in zip(pixels, bands, strict=True)]

    def decode(self, source: Source) -> np.ndarray:
        """Return uint8 `[H, W, 3]`, row 0 at the top.

        Errors are those of `read` and `check_missing`.
        """
        picture, missing = self.decode_bands(self.read(source), "")
        self.check_missing(float(missing.mean()), "")
        return picture

    def decode_bands(self, contents: Sequence[bytes], where: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture of the cut-outs, and its missing pixels; see `FitsImages`."""
        return self._cutouts().decode_bands(contents, where)

    def check_missing(self, share: float, where: str) -> None:
        """Raise RejectedImage if more pixels are missing than `fill` allows.

        See `FitsImages`.
        """
        self._cutouts().check_missing(share, where)

    def with_stretch_of(self, sample: Sequence[Sequence[bytes]]) -> MosaicImages:
        """Return the source with the stretch and minimum that fit a sample of cut-outs."""
        chosen = self._cutouts().with_stretch_of(sample)
        return replace(self, stretch=chosen.stretch, minimum=chosen.minimum)

    def _cutouts(self) -> FitsImages:
        """Return how the cut-outs of `read` are shown."""
        return FitsImages(
            self.root, scales=self.scales, stretch=self.stretch, q=self.q, minimum=self.minimum, fill=self.fill,
            max_fill=self.max_fill,
        )  # fmt: skip


# Sources whose pictures are stretched from three bands of FITS files.
BandImages = FitsImages | MosaicImages


def _parse_size(size: str) -> tuple[float, str]:
    """Return the number and the unit of the side of a cut-out."""
    match = _SIZE.fullmatch(size)
    units = {unit.lower(): unit for unit in (*_ARCSEC, R90)}
    try:
        value, unit = (float(match[1]), units[match[2].lower()]) if match else (0.0, "")
    except (ValueError, KeyError):
        value, unit = 0.0, ""
    if not value > 0:
        what = f"'{size}' is not a size on the sky"
        raise ConfigError(what, "survey.images.size", f"give a number and {', '.join(_ARCSEC)} or {R90}, as '8.48 R90'")
    return value, unit


def _check_known(ra_N: np.ndarray, dec_N: np.ndarray, side_N: np.ndarray) -> None:
    """Raise CatalogError if no galaxy has a position, or none has a size."""
    if not (np.isfinite(ra_N) & np.isfinite(dec_N)).any():
        what = "no galaxy has a position, and cut-outs of mosaics need one"
        raise CatalogError(what, "survey.columns", "name the columns as ra and dec")
    if not np.isfinite(side_N).any():
        what = "no galaxy has a petro_r90, and survey.images.size is in units of it"
        raise CatalogError(what, "survey.columns", "name the column as petro_r90, or give the size in arcsec")


def _warn_of_differences(units: Sequence[str], scales: Sequence[float]) -> None:
    if len(set(units)) > 1:
        shown = ", ".join(f"'{unit}'" for unit in units)
        log.warning("curate: the bands have the units %s; survey.images.scales must bring them to one", shown)
    if max(scales) > 1.01 * min(scales):
        what = (
            "curate: the bands have pixels of %s arcsec, and are interpolated to the smallest; for fluxes per pixel, "
            "survey.images.scales must hold the ratios of their areas"
        )
        log.warning(what, ", ".join(f"{scale:.3g}" for scale in scales))


def _to_fits(pixels: np.ndarray, unit: str) -> bytes:
    """Return a FITS file of one image."""
    from astropy.io import fits

    hdu = fits.PrimaryHDU(np.where(np.isfinite(pixels), pixels, np.nan).astype(pixels.dtype, copy=False))
    if unit:
        hdu.header["BUNIT"] = unit
    stream = io.BytesIO()
    hdu.writeto(stream)
    return stream.getvalue()
