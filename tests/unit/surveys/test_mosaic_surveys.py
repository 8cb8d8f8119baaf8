"""Test surveys of FITS mosaics: identity, choice of stretch, scale of prototypes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raydistill.config import CatalogSurvey, Config, Curate
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.decoding import decode_row
from raydistill.surveys.finding import find_pictures
from raydistill.surveys.levels import resolve_levels
from tests.mosaics import Spiral, make_wcs, write_bands

RA, DEC, PIXELS = 150.0, 20.0, 160
FILES = ("i/*.fits", "r/*.fits", "g/*.fits")
SPIRALS = [Spiral(RA + east / 3600, DEC + north / 3600, scale=2.0) for east in (-20, 0, 20) for north in (-20, 0, 20)]
CATALOG = pa.table(
    {
        "object_id": [f"g{number}" for number in range(len(SPIRALS))],
        "ra": [spiral.ra for spiral in SPIRALS],
        "dec": [spiral.dec for spiral in SPIRALS],
        "petro_r90": pa.nulls(len(SPIRALS), pa.float64()),
    }
)


def survey(folder: Path, **images: Any) -> CatalogSurvey:
    """Write a tile with nine galaxies; return the survey."""
    write_bands(folder / "tiles", "0.fits", SPIRALS, make_wcs(RA, DEC, PIXELS, PIXELS), PIXELS, PIXELS)
    (folder / "t.csv").write_text("id,label\n1,a\n2,b\n")
    options = {"files": FILES, "size": "20 arcsec"} | images
    return CatalogSurvey(catalog=str(folder / "t.csv"), images=MosaicImages(str(folder / "tiles"), **options))


def identity(config: CatalogSurvey) -> str:
    return Plan(Config(name="mosaics", survey=config, curate=Curate(classes=("a", "b")))).curated.identity


def test_identity_follows_the_names_and_sizes_of_the_tiles(tmp_path: Path) -> None:
    mosaics = survey(tmp_path)
    before = identity(mosaics)
    (tmp_path / "tiles" / "notes.txt").write_text("not a tile")
    assert identity(mosaics) == before
    (tmp_path / "tiles" / "i" / "0.fits").rename(tmp_path / "tiles" / "i" / "1.fits")
    assert identity(mosaics) != before


def test_automatic_stretch_shows_galaxies_in_any_unit(tmp_path: Path) -> None:
    mosaics = survey(tmp_path)
    result = find_pictures(mosaics, CATALOG)
    selected = pa.table({"path": result.files})
    pictures = []
    for factor in (1.0, 1e-9):
        images = mosaics.images
        assert isinstance(images, MosaicImages)
        if factor != 1:
            images = MosaicImages(images.root, FILES, images.size, scales=tuple(factor * s for s in images.scales))
        resolved: Any = resolve_levels(images, selected)
        assert resolved.stretch != "auto"
        pictures.append(resolved.decode(f"{tmp_path}/tiles/{result.files[4]}").astype(int))
    assert pictures[0].max() > 100
    assert np.median(pictures[0]) < 60
    assert abs(pictures[0] - pictures[1]).max() <= 2


def test_row_has_the_tile_and_the_digest_of_its_pixels(tmp_path: Path) -> None:
    mosaics = survey(tmp_path, stretch=0.5)
    path = find_pictures(mosaics, CATALOG).files[0]
    curate = Curate(classes=("a", "b"), image_size=16)
    row = decode_row(0, f"{tmp_path}/tiles/{path}", str(path), mosaics.images, curate)
    assert row["path"] == path
    assert str(path).startswith("{i|r|g}/0.fits#ra=")
    (tmp_path / "tiles").rename(tmp_path / "moved")
    assert decode_row(0, f"{tmp_path}/moved/{path}", str(path), mosaics.images, curate)["sha256"] == row["sha256"]
    assert decode_row(0, f"{tmp_path}/tiles/{path}", str(path), mosaics.images, curate)["reason"] == "missing"


def test_size_in_r90_is_the_scale_of_the_prototypes(tmp_path: Path) -> None:
    assert survey(tmp_path, size="4.24 R90").frame_r90 == 4.24
    mosaics = survey(tmp_path)
    assert mosaics.frame_r90 is None
    with pytest.raises(ValueError, match="frame_r90"):
        CatalogSurvey(catalog="t.csv", images=MosaicImages("tiles", FILES, "4 R90"), frame_r90=8.48)
