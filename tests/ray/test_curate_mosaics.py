"""Test the curate stage with galaxies that are cut out of FITS mosaics."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.visualization import make_lupton_rgb
from astropy.wcs import WCS
from curate_tools import SIZE, curated, pixels, rejected, rows_of

from raydistill.config import CatalogSurvey
from raydistill.galaxies.pictures.cutouts import CutoutSource
from raydistill.galaxies.pictures.images import prepare
from raydistill.galaxies.pictures.mosaics import MosaicImages
from tests.mosaics import Spiral, make_wcs, write_bands

pytestmark = pytest.mark.usefixtures("cluster")

RA, DEC, PIXELS = 150.0, 20.0, 300
CLASSES = ("anticlockwise", "clockwise")
FILES = ("i/*.fits", "r/*.fits", "g/*.fits")


def positions(count: int) -> list[Spiral]:
    """Return spirals on a grid of 20 arcsec over two tiles.

    The tiles lie side by side to the north.
    """
    rng = np.random.default_rng(0)
    north, east = divmod(np.arange(count), 6)
    step = 20 / 3600
    ra = RA + (east - 2.5) * step / np.cos(np.radians(DEC)) + rng.uniform(-1, 1, count) / 3600
    dec = DEC + (north - 2.5) * step + rng.uniform(-1, 1, count) / 3600
    return [Spiral(a, d, 1 - 2 * (n % 2), 2.0) for n, (a, d) in enumerate(zip(ra.tolist(), dec.tolist(), strict=True))]


def write_survey(folder: Path, count: int = 60) -> CatalogSurvey:
    """Write a table and 150 arcsec tiles, 120 arcsec apart; the last row has no tile."""
    spirals = positions(count)
    for tile in range(2):
        wcs = make_wcs(RA, DEC + tile * 120 / 3600, PIXELS, PIXELS)
        write_bands(folder / "tiles", f"{tile}.fits", spirals, wcs, PIXELS, PIXELS)
    rows = [f"g{n:03d},{CLASSES[n % 2]},{spiral.ra!r},{spiral.dec!r},4.0" for n, spiral in enumerate(spirals)]
    (folder / "t.csv").write_text("id,label,ra,dec,petro_r90\n" + "\n".join([*rows, f"gone,clockwise,{RA},-5.0,4.0"]))
    images = MosaicImages(str(folder / "tiles"), FILES, "4.24 R90", stretch=0.5)
    return CatalogSurvey(catalog=str(folder / "t.csv"), images=images)


def test_curated_pictures_are_those_of_cutout2d(tmp_path: Path) -> None:
    survey = write_survey(tmp_path)
    result = curated(tmp_path, survey, classes=list(CLASSES), crop_fraction=1.0)
    assert rejected(result) == {"gone": "missing"}
    rows = rows_of(result)
    assert len(rows) == 60
    for row in rows:
        source = CutoutSource.parse(row["source"]["path"])
        bands = []
        for file in source.files:
            data, header = fits.getdata(tmp_path / "tiles" / file, header=True)
            position = WCS(header).all_world2pix(source.ra, source.dec, 0)
            bands.append(Cutout2D(data, tuple(position), (34, 34)).data)
        scaled = [scale * band.astype(float) for scale, band in zip((0.8, 1.0, 1.4), bands, strict=True)]
        expected = make_lupton_rgb(*scaled, minimum=0.01, stretch=0.5, Q=10)[::-1]
        np.testing.assert_array_equal(pixels(row["image"]), prepare(expected, 1.0, SIZE))
        spiral = positions(60)[int(row["object_id"][1:])]
        assert (round(spiral.ra, 7), round(spiral.dec, 7)) == (source.ra, source.dec)
        contents = survey.images.read(f"{tmp_path}/tiles/{row['source']['path']}")
        assert row["source"]["sha256"] == hashlib.sha256(b"".join(contents)).hexdigest()


@pytest.mark.long
def test_galaxy_that_is_listed_twice_is_found_as_a_duplicate(tmp_path: Path) -> None:
    survey = write_survey(tmp_path)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    copies = [f"copy{line}" for line in lines[1:31]]
    (tmp_path / "t.csv").write_text("\n".join([*lines, *copies]))
    result = curated(tmp_path, survey, classes=list(CLASSES), crop_fraction=1.0, duplicates="drop")
    assert set(rejected(result).values()) == {"missing", "duplicate"}
    assert result.summary.duplicates
