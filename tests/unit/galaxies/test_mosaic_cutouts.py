"""Test mosaic cut-outs: orientation, handedness, edges, grids, formats, damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.visualization import make_lupton_rgb
from astropy.wcs import WCS

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.cutouts import CutoutSource, _cross, _local_affine, cut
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.galaxies.pictures.tiles import TileFile
from tests.mosaics import Spiral, make_wcs, sky, write_bands, write_tile

RA, DEC = 150.0, 20.0
ROWS, COLUMNS, SIDE, SCALE = 201, 181, 40.5, 0.5  # 81 px
AT = f"#ra={RA:.7f}&dec={DEC:+.7f}&side={SIDE:.4f}"
STRAIGHT = [(0, False), (90, False), (180, False), (270, False), (0, True), (90, True), (180, True), (270, True)]
TURNED = [(30, False), (200, True), (-50, False)]


def truth(winding: int, side: int = 81, scale: float = SCALE) -> np.ndarray:
    """Return the light on a grid with north at the last row, west at the last column."""
    steps = (np.arange(side) - (side - 1) / 2) * scale
    return Spiral(RA, DEC, winding).light(steps[None], steps[:, None])


def outside_core(side: int = 81) -> np.ndarray:
    """Return where the light is smooth enough for splines."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.hypot(x, y) > 8


@pytest.mark.parametrize("winding", [1, -1])
@pytest.mark.parametrize(("angle", "mirrored"), STRAIGHT)
def test_tile_of_any_right_angle_and_parity_is_copied_north_up_east_left(
    tmp_path: Path, winding: int, angle: int, mirrored: bool
) -> None:
    wcs = make_wcs(RA, DEC, ROWS, COLUMNS, angle=angle, mirrored=mirrored)
    write_tile(tmp_path / "t.fits", [Spiral(RA, DEC, winding)], wcs, ROWS, COLUMNS, noise=0)
    band = TileFile(str(tmp_path / "t.fits")).band(None)
    (pixels,) = cut([band], RA, DEC, SIDE)
    np.testing.assert_allclose(pixels, truth(winding), atol=1e-4)
    assert set(pixels.ravel().tolist()) <= set(fits.getdata(tmp_path / "t.fits").ravel().tolist()), "interpolated"


@pytest.mark.parametrize(("angle", "mirrored"), TURNED)
def test_turned_tile_is_interpolated_and_keeps_the_handedness(tmp_path: Path, angle: int, mirrored: bool) -> None:
    wcs = make_wcs(RA, DEC, ROWS, COLUMNS, angle=angle, mirrored=mirrored)
    write_tile(tmp_path / "t.fits", [Spiral(RA, DEC, -1)], wcs, ROWS, COLUMNS, noise=0)
    (pixels,) = cut([TileFile(str(tmp_path / "t.fits")).band(None)], RA, DEC, SIDE)
    expected, smooth = truth(-1), outside_core()
    assert abs(pixels - expected)[smooth].max() < 0.02 * expected[smooth].max()
    assert abs(pixels - truth(1))[smooth].max() > 0.3 * expected[smooth].max()


def test_picture_is_that_of_cutout2d_and_make_lupton_rgb(tmp_path: Path) -> None:
    wcs, ra, dec = make_wcs(RA, DEC, ROWS, COLUMNS), RA + 0.004, DEC - 0.003
    write_bands(tmp_path, "t.fits", [Spiral(ra, dec)], wcs, ROWS, COLUMNS)
    images = MosaicImages(str(tmp_path), ("i/*.fits", "r/*.fits", "g/*.fits"), "20 arcsec", stretch=0.5)
    result = images.find(np.array([ra]), np.array([dec]), np.array([np.nan]))
    assert result.reasons == [""]
    position = WCS(wcs.to_header()).all_world2pix(ra, dec, 0)
    bands = [Cutout2D(fits.getdata(tmp_path / band / "t.fits"), tuple(position), (40, 40)).data for band in "irg"]
    scaled = [scale * band.astype(float) for scale, band in zip((0.8, 1.0, 1.4), bands, strict=True)]
    expected = make_lupton_rgb(*scaled, minimum=0.01, stretch=0.5, Q=10)[::-1]
    np.testing.assert_array_equal(images.decode(f"{tmp_path}/{result.files[0]}"), expected)


def test_galaxy_at_the_edge_of_one_tile_is_cut_from_the_other(tmp_path: Path) -> None:
    """Two tiles overlap, and the galaxy is 5 px from the edge of the first."""
    first, other = make_wcs(RA, DEC, 100, 100), make_wcs(RA, DEC + 35 / 3600, 100, 100)
    spiral = Spiral(RA, DEC + 22.5 / 3600)
    write_bands(tmp_path, "a.fits", [spiral], first, 100, 100)
    write_bands(tmp_path, "b.fits", [spiral], other, 100, 100)
    images = MosaicImages(str(tmp_path), ("i/*.fits", "r/*.fits", "g/*.fits"), "20 arcsec")
    positions = [(RA, spiral.dec), (RA, DEC), (RA, DEC - 30 / 3600), (RA, np.nan), (RA + 180, -DEC)]
    result = images.find(*np.array(positions).T, np.full(5, 9.0))
    assert [source and source.partition("#")[0] for source in result.files] == [
        "{i|r|g}/b.fits", "{i|r|g}/a.fits", None, None, None,
    ]  # fmt: skip
    outside = "no tile in i/*.fits shows its position"
    assert result.reasons == ["", "", outside, "the table has no position of it", outside]
    cut_out = images.read(f"{tmp_path}/{result.files[0]}")
    assert all(np.isfinite(fits.HDUList.fromstring(content)[0].data).all() for content in cut_out)


@pytest.mark.parametrize(
    ("name", "angle", "shift", "same"),
    [("a.fits", 0, 0.0, True), ("z.fits", 0, 0.3, True), ("z.fits", 90, 0.0, True), ("z.fits", 0, 4.0, False)],
)
def test_tiles_of_one_piece_of_sky_are_rejected_or_the_first_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, angle: int, shift: float, same: bool
) -> None:
    for file, turn, east in (("m.fits", 0, 0.0), (name, angle, shift)):
        wcs = make_wcs(RA + east * SCALE / 3600, DEC, ROWS, ROWS, angle=turn)
        for band in "irg":
            write_tile(tmp_path / band / file, [Spiral(RA, DEC)], wcs, ROWS, ROWS)
    images = MosaicImages(str(tmp_path), ("i/*.fits", "r/*.fits", "g/*.fits"), "20 arcsec")
    ra, dec, r90 = np.array([RA]), np.array([DEC]), np.array([np.nan])
    if same:
        message = f"1 tiles show the same piece of the sky as another, such as i/{max('m.fits', name)} and i/{min('m.fits', name)}"
        with pytest.raises(CatalogError, match=message):
            images.find(ra, dec, r90)
    (source,) = images.find(ra, dec, r90, "first").files
    assert source is not None
    assert source.startswith(f"{{i|r|g}}/{min('m.fits', name)}")
    assert ("the first one is taken" in caplog.text) == same


def test_pixels_beyond_a_tile_are_missing_and_filled_on_request(tmp_path: Path) -> None:
    wcs = make_wcs(RA, DEC, 61, 61)
    write_bands(tmp_path, "t.fits", [Spiral(RA, DEC)], wcs, 61, 61)
    source = f"{tmp_path}/{{i|r|g}}/t.fits#ra={RA:.7f}&dec={DEC + 12 / 3600:+.7f}&side=20.5000"
    images = MosaicImages(str(tmp_path), ("i/*", "r/*", "g/*"), "20.5 arcsec", stretch=0.5)
    picture, missing = images.decode_bands(images.read(source), "")
    assert missing[:14].all()  # 15.5 px are left of 20.5 px to the north
    assert not missing[15:].any()
    with pytest.raises(RejectedImage, match="not-finite"):
        images.decode(source)
    filled = MosaicImages(str(tmp_path), images.files, images.size, stretch=0.5, fill="zero", max_fill=0.5)
    np.testing.assert_array_equal(filled.decode(source)[15:], picture[15:])


def test_bands_on_different_grids_agree(tmp_path: Path) -> None:
    """Blue has larger pixels, and red is turned by 3 degrees."""
    spiral = Spiral(RA, DEC, -1)
    for band, scale, angle in (("i", 0.5, 3.0), ("r", 0.5, 0.0), ("g", 0.75, 0.0)):
        wcs = make_wcs(RA, DEC, ROWS, COLUMNS, scale=scale, angle=angle)
        write_tile(tmp_path / band / "t.fits", [spiral], wcs, ROWS, COLUMNS, noise=0)
    bands = [TileFile(f"{tmp_path}/{band}/t.fits").band(None) for band in "irg"]
    smooth, expected = outside_core(), truth(-1)
    for pixels, tolerance in zip(cut(bands, RA, DEC, SIDE), (0.02, 0.01, 0.1), strict=True):
        assert abs(pixels - expected)[smooth].max() < tolerance * expected[smooth].max()


def test_digest_depends_on_the_pixels_and_not_on_names_or_compression(tmp_path: Path) -> None:
    wcs = make_wcs(RA, DEC, ROWS, COLUMNS)
    images = MosaicImages(str(tmp_path), ("i/*", "r/*", "g/*"), f"{SIDE} arcsec")
    write_bands(tmp_path, "t.fits", [Spiral(RA, DEC)], wcs, ROWS, COLUMNS)
    first = images.read(f"{tmp_path}/{{i|r|g}}/t.fits{AT}")
    for band in "irg":
        data, header = fits.getdata(tmp_path / band / "t.fits", header=True)
        lossless = fits.CompImageHDU(data, header, compression_type="GZIP_2", quantize_level=0)
        fits.HDUList([fits.PrimaryHDU(), lossless]).writeto(tmp_path / f"packed-{band}.fits.fz")
    assert images.read(f"{tmp_path}/packed-{{i|r|g}}.fits.fz{AT}") == first


def test_rice_tiles_cubes_and_integers_are_read_in_parts(tmp_path: Path) -> None:
    wcs, spiral = make_wcs(RA, DEC, ROWS, COLUMNS), Spiral(RA, DEC)
    expected = truth(1)
    write_tile(tmp_path / "t.fits.fz", [spiral], wcs, ROWS, COLUMNS, noise=1e-3, compressed=True)
    light = sky([spiral], wcs, ROWS, COLUMNS)
    cube = np.stack([light, 2 * light, 3 * light]).astype(np.float32)
    fits.PrimaryHDU(cube, wcs.to_header()).writeto(tmp_path / "cube.fits")
    counts = fits.PrimaryHDU(np.rint(light * 1e4).astype(np.int16), wcs.to_header())
    counts.header["BLANK"] = -1
    counts.data[ROWS // 2, COLUMNS // 2] = -1
    counts.writeto(tmp_path / "counts.fits")
    for name, channel, factor in (("t.fits.fz", None, 1.0), ("cube.fits", 2, 3.0), ("counts.fits", None, 1e4)):
        (pixels,) = cut([TileFile(str(tmp_path / name)).band(channel)], RA, DEC, SIDE)
        is_blank = name == "counts.fits"
        assert np.isnan(pixels[40, 40]) == is_blank
        np.testing.assert_allclose(np.nan_to_num(pixels, nan=factor * expected[40, 40]) / factor, expected, atol=6e-3)


def test_only_the_rows_of_the_cutout_are_read(tmp_path: Path) -> None:
    """The file ends midway: cut-outs before its end are read, others are rejected."""
    wcs = make_wcs(RA, DEC, ROWS, COLUMNS)
    write_bands(tmp_path, "t.fits", [Spiral(RA, DEC)], wcs, ROWS, COLUMNS)
    for band in "irg":
        path = tmp_path / band / "t.fits"
        path.write_bytes(path.read_bytes()[: 2880 * 2 + 4 * COLUMNS * 150])
    images = MosaicImages(str(tmp_path), ("i/*", "r/*", "g/*"), "10 arcsec")
    start, end = f"{tmp_path}/{{i|r|g}}/t.fits#ra={RA:.7f}", "&side=10.0000"
    assert len(images.read(f"{start}&dec={DEC - 20 / 3600:+.7f}{end}")) == 3
    with pytest.raises(RejectedImage) as error:
        images.read(f"{start}&dec={DEC + 35 / 3600:+.7f}{end}")
    assert error.value.reason in ("truncated", "corrupt")


def test_source_survives_as_text() -> None:
    for files in (
        ("a.fits",),
        ("i/t.fits", "r/t.fits", "g/t.fits"),
        ("x-i.fits", "y/r4,5.fits", "g.fits"),
        ("a", "a", "a"),
    ):
        source = CutoutSource(files, 1.25, -3.5, 60.0)
        assert CutoutSource.parse(source.format()) == source
        below = CutoutSource.parse(f"s3://bucket/#1/{source.format()}").files
        assert below == tuple(f"s3://bucket/#1/{file}" for file in files)


def test_galaxies_near_the_pole_and_at_ra_zero_are_found(tmp_path: Path) -> None:
    for number, (ra, dec) in enumerate([(0.0, 0.0), (123.0, 89.999)]):
        write_tile(tmp_path / f"{number}.fits", [], make_wcs(ra, dec, 99, 99), 99, 99)
    images = MosaicImages(str(tmp_path), ("*.fits",), "5 arcsec", channels=(0, 0, 0))
    result = images.find(np.array([359.999, 0.001, -0.001, 303.0]), np.array([0.0, 0.0, 0.0, 89.9995]), np.full(4, 5.0))
    assert result.reasons == [""] * 4
    assert [images.read(f"{tmp_path}/{source}")[0] for source in result.files]


def test_projection_is_affine_within_a_cutout() -> None:
    """The corners of a 5 arcmin square have the affine map's pixels to 0.01 px."""
    ra, dec, side = RA + 0.5, DEC + 0.45, 300.0
    wcs, tangent = make_wcs(RA, DEC, 9001, 9001, scale=0.25), make_wcs(ra, dec, 1, 1, scale=1.0)
    affine = _local_affine(wcs, _cross(ra, dec, side), side)
    corners = side / 2 * np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    exact = wcs.all_world2pix(tangent.all_pix2world(corners, 0), 0)
    assert 1e-6 < abs(affine.centre + corners @ affine.matrix.T - exact).max() < 0.01


# Errors


def no_wcs(path: Path) -> None:
    fits.PrimaryHDU(np.zeros((50, 50), np.float32)).writeto(path / "t.fits")


def packed(path: Path) -> None:
    (path / "t.fits.gz").write_bytes(b"\x1f\x8b")


def no_fits(path: Path) -> None:
    (path / "t.fits").write_text("<html>not found</html>")


def two_units(path: Path) -> None:
    for name, unit in (("a", "nmgy"), ("b", "Jy")):
        write_tile(path / f"{name}.fits", [], make_wcs(RA, DEC, 50, 50), 50, 50, unit=unit)


def other_name(path: Path) -> None:
    no_wcs(path)
    (path / "t.fits").rename(path / "t.fts")


def one_name(path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(np.zeros((50, 50)), name="SCI") for _ in "RG")]).writeto(
        path / "t.fits"
    )


def a_table(path: Path) -> None:
    fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])]).writeto(path / "t.fits")


@pytest.mark.parametrize(
    ("spoil", "channels", "message"),
    [
        (no_wcs, (0, 0, 0), "the header has no world coordinates (CTYPE1, CTYPE2); add them, as astrometry.net does"),
        (no_wcs, ("SCI", "SCI", "SCI"), "there is no extension 'SCI', but PRIMARY; set survey.images.channels"),
        (
            one_name,
            ("SCI", "SCI", "SCI"),
            "the extensions 1, 2 are all called SCI: give their numbers; set survey.images.channels",
        ),
        (packed, (0, 0, 0), "'t.fits.gz' is compressed as a whole, so no part of it can be read; unpack it"),
        (no_fits, (0, 0, 0), "the tile cannot be read (corrupt"),
        (two_units, (0, 0, 0), "tiles of one band have different units: 'nmgy' in a.fits and 'Jy' in b.fits"),
        (other_name, (0, 0, 0), "none of its 1 files has a name like 't.fits*'; check survey.images.files"),
        (a_table, (1, 1, 1), "'1' is not an image; check survey.images.files and survey.images.channels"),
    ],
)
def test_unusable_tile_is_reported_in_one_sentence(tmp_path: Path, spoil, channels, message: str) -> None:
    spoil(tmp_path)
    pattern = "*.fits*" if spoil is two_units else "t.fits*"
    with pytest.raises(CatalogError) as error:
        MosaicImages(str(tmp_path), (pattern,), "9 arcsec", channels=channels).find(*np.array([[RA], [DEC], [5.0]]))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_mosaics_in_a_zip_are_rejected(tmp_path: Path) -> None:
    no_wcs(tmp_path)
    archive = shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path, "t.fits")
    with pytest.raises(CatalogError, match="files in a zip cannot be read in parts; unpack it"):
        MosaicImages(archive, ("*.fits",), "9 arcsec", channels=(0, 0, 0)).find(*np.array([[RA], [DEC], [5.0]]))


def test_sizes_in_r90_need_one(tmp_path: Path) -> None:
    write_bands(tmp_path, "t.fits", [], make_wcs(RA, DEC, 99, 99), 99, 99)
    images = MosaicImages(str(tmp_path), ("i/*", "r/*", "g/*"), "4.24 r90")
    result = images.find(np.array([RA, RA]), np.array([DEC, DEC]), np.array([5.0, np.nan]))
    assert CutoutSource.parse(str(result.files[0])).side == 21.2
    assert result.reasons == ["", "the table has no petro_r90 of it"]
    with pytest.raises(CatalogError, match="no galaxy has a petro_r90"):
        images.find(*np.array([[RA], [DEC], [np.nan]]))
    with pytest.raises(CatalogError, match="no galaxy has a position"):
        images.find(*np.array([[np.nan], [DEC], [5.0]]))
