"""Test FITS pictures: units, missing pixels, cubes, and one file per band."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import RejectedImage, around, pixels_of_crop, prepare
from raydistill.galaxies.pictures.levels import choose_stretch

NAMES = ("I", "R", "G")


def bands(seed: int = 0, side: int = 64) -> np.ndarray:
    """Return float64 `[3, H, W]`: a galaxy on noise, in units of 40 times the noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    light = 2 * np.exp(-np.hypot(x, 1.5 * y) / (side / 16))
    return np.stack([light, 0.8 * light, 0.5 * light]) + rng.normal(0, 0.025, (3, side, side))


def encode(*arrays: np.ndarray, names: tuple[str, ...] = NAMES, **header: object) -> bytes:
    """Encode arrays as extensions, or a single one as the primary image."""
    if len(arrays) == 1:
        hdus = [fits.PrimaryHDU(arrays[0])]
    else:
        hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(a, name=n) for a, n in zip(arrays, names, strict=True))]
    for key, value in header.items():
        hdus[-1].header[key] = value
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    return buffer.getvalue()


def pictures(images: FitsImages, contents: list[bytes]) -> np.ndarray:
    return np.stack([images.decode(content) for content in contents]).astype(int)


# Units


@given(st.floats(-9, 6), st.floats(0, 1e4), st.sampled_from([">f4", ">f8"]))
@settings(max_examples=8, deadline=None)
def test_automatic_stretch_does_not_depend_on_the_unit_or_the_sky(exponent, sky, dtype):
    """Maggies, counts on a sky of 1000 and nanomaggies give the same pictures."""
    surveys = [np.stack([bands(seed) for seed in range(4)])]
    unit = 10**exponent
    surveys.append((surveys[0] + min(sky, 100.0)) * unit)
    shown = []
    for survey in surveys:
        contents = [encode(*bands_HW.astype(dtype)) for bands_HW in survey]
        images = FitsImages("", stretch="auto").with_stretch_of([[content] for content in contents])
        shown.append(pictures(images, contents))
    differs = np.abs(shown[0] - shown[1]) > 1
    assert differs.mean() < 0.01, "only pixels at black, where the colour of Lupton et al. jumps"


@pytest.mark.parametrize("scale", [1.0, 1e-9, 500.0])
def test_automatic_stretch_shows_sky_noise_and_core(scale):
    contents = [encode(*(bands(seed) * scale).astype(">f4")) for seed in range(5)]
    images = FitsImages("", stretch="auto").with_stretch_of([[content] for content in contents])
    shown = pictures(images, contents)
    assert (shown == 255).mean() < 0.01
    assert 0 < np.median(shown) < 60
    assert shown[:, 30:34, 30:34].mean() > 100


def test_automatic_stretch_reads_unsigned_counts_on_a_sky():
    contents = []
    for seed in range(4):
        counts = np.clip(np.rint(1000 + 200 * bands(seed)), 0, 65535).astype(np.uint16)
        contents.append(encode(*counts))
    images = FitsImages("", stretch="auto").with_stretch_of([[content] for content in contents])
    assert all(0.7 * 1000 < level < 1.41 * 1000 for level in images.minimum)
    shown = pictures(images, contents)
    assert (shown == 255).mean() < 0.01
    assert np.ptp(shown[0]) > 100


def test_automatic_stretch_of_pictures_without_noise():
    flat = np.zeros((3, 64, 64))
    flat[:, 20:40, 20:40] = 1.0
    images = FitsImages("", stretch="auto").with_stretch_of([[encode(*flat)]])
    shown = images.decode(encode(*flat))
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert 150 < shown[30, 30, 1] < 220
    with pytest.raises(CatalogError, match="have no structure"):
        choose_stretch([np.zeros((3, 64, 64))], "files")


@pytest.mark.parametrize("side", [64, 400])  # the larger one is stretched in strips of rows
def test_fixed_stretch_and_minimum_keep_their_meaning(side: int):
    from astropy.visualization import make_lupton_rgb

    layers = bands(side=side)
    scaled = [scale * band for scale, band in zip((0.8, 1.0, 1.4), layers, strict=True)]
    by_astropy = make_lupton_rgb(*scaled, minimum=0.01, stretch=0.35, Q=10.0)[::-1]
    np.testing.assert_array_equal(FitsImages("").decode(encode(*layers)), by_astropy)
    per_band = FitsImages("", minimum=(0.01, 0.01, 0.01))
    np.testing.assert_array_equal(per_band.decode(encode(*layers)), by_astropy)
    with pytest.raises(ConfigError, match="stretch is -1"):
        FitsImages("", stretch=-1)


# Missing pixels


def with_nan(where: tuple[slice, slice], value: float = np.nan) -> np.ndarray:
    sky = bands()
    sky[1][where] = value
    return sky


BORDER = (slice(0, 2), slice(None))
CENTRE = (slice(30, 32), slice(30, 32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_missing_pixels_are_marked_and_filled(value):
    content = encode(*with_nan(BORDER, value))
    for fill in ("none", "median", "zero"):
        picture, missing = FitsImages("", fill=fill).decode_bands([content], "")
        assert missing[-2:].all(), "row 0 of FITS is at the bottom"
        assert not missing[:-2].any()
        np.testing.assert_array_equal(picture[:-2], FitsImages("").decode(encode(*bands()))[:-2])
    with pytest.raises(RejectedImage, match=r"not-finite; 3\.12% of the pixels .*fill=median"):
        FitsImages("").decode(content)
    assert FitsImages("", fill="median").decode(content).shape == (64, 64, 3)


def test_fill_has_a_bound():
    content = encode(*with_nan((slice(0, 20), slice(None))))
    with pytest.raises(RejectedImage, match=r"max_fill is 0\.1"):
        FitsImages("", fill="median").decode(content)
    FitsImages("", fill="median", max_fill=0.5).decode(content)
    with pytest.raises(RejectedImage, match="all pixels are NaN"):
        FitsImages("", fill="median", max_fill=1.0).decode(encode(*np.full((3, 64, 64), np.nan)))


def test_blank_integers_are_missing():
    counts = np.rint(100 + 50 * bands()).astype(np.int16)
    counts[:, :2] = -32768
    _, missing = FitsImages("", stretch=50.0, minimum=100.0).decode_bands([encode(*counts, BLANK=-32768)], "")
    assert missing[-2:].all() == missing.any()
    assert missing.any()


@pytest.mark.parametrize(("crop", "size"), [(0.5, 32), (0.3, 64), (0.8, 16)])
def test_pixels_outside_the_crop_do_not_change_the_prepared_picture(crop, size):
    picture = FitsImages("").decode(encode(*bands(side=200)))
    within = pixels_of_crop(200, 200, crop * 200, size, align=False)
    assert within.any()
    other = picture.copy()
    other[~within] = [200, 100, 50]
    np.testing.assert_array_equal(prepare(picture, crop, size), prepare(other, crop, size))
    turned = pixels_of_crop(200, 200, crop * 200, size, align=True)
    assert turned[within].mean() > 0.98, "the square turns within a circle"
    assert turned.sum() >= within.sum()


def test_the_crop_around_another_centre_is_as_large() -> None:
    picture = FitsImages("").decode(encode(*bands(side=200)))
    missing = around(np.arange(200 * 200).reshape(200, 200), (20, 0))
    used = missing[pixels_of_crop(*missing.shape, 0.5 * 200, 64, align=False)]
    other = picture.copy().reshape(-1, 3)
    other[np.setdiff1d(np.arange(200 * 200), used)] = [200, 100, 50]
    expected = prepare(picture, 0.5, 64, centre=(20, 0))
    np.testing.assert_array_equal(prepare(other.reshape(200, 200, 3), 0.5, 64, centre=(20, 0)), expected)


# Cubes, extensions, and files


def test_cubes_with_planes_first_last_and_with_single_axes():
    sky = bands()
    expected = FitsImages("").decode(encode(*sky))
    images = FitsImages("", channels=(0, 1, 2))
    for cube in (sky, np.moveaxis(sky, 0, 2), sky[None], sky[:, None], np.moveaxis(sky, 0, 2)[None]):
        np.testing.assert_array_equal(images.decode(encode(cube)), expected)
    with pytest.raises(RejectedImage, match="wrong-bands"):
        images.decode(encode(np.zeros((2, 3, 64, 64))))


def test_single_band_is_grey():
    sky = bands()[0]
    shown = FitsImages("", channels=(0, 0, 0), scales=(1, 1, 1)).decode(encode(sky))
    assert np.ptp(shown, axis=2).max() == 0
    np.testing.assert_array_equal(shown, FitsImages("", channels=(0, 0, 0), scales=(1, 1, 1)).decode(encode(sky[None])))


def test_one_file_per_band(tmp_path):
    layers = bands()
    for name, band in zip("irg", layers, strict=True):
        (tmp_path / f"i7_{name}.fits").write_bytes(encode(band))
    (tmp_path / "8_i.fits").write_bytes(encode(layers[0]))
    images = FitsImages(str(tmp_path), pattern="{id}_{band}.fits", channels=("i", "r", "g"))
    path, absent = images.paths(["i7", "8"])
    assert path == f"{tmp_path}/i7_{{i,r,g}}.fits"
    assert absent is None, "two bands are missing"
    assert images.files(path) == [f"{tmp_path}/i7_{band}.fits" for band in "irg"]
    np.testing.assert_array_equal(images.decode(path), FitsImages("").decode(encode(*layers)))
    in_folders = FitsImages(str(tmp_path), pattern="{band}/{id}.fits", channels=("i", "r", "g"))
    assert in_folders.paths(["i7"]) == [None]
    with pytest.raises(ConfigError, match=r"write .id. in place"):
        FitsImages(str(tmp_path), pattern="{band}.fits")


def test_any_fits_suffix(tmp_path):
    import bz2
    import gzip

    content = encode(*bands())
    (tmp_path / "1.fits").write_bytes(content)
    (tmp_path / "2.FIT").write_bytes(content)
    (tmp_path / "3.fits.gz").write_bytes(gzip.compress(content))
    (tmp_path / "3.txt").write_bytes(b"notes")
    (tmp_path / "4.fits.BZ2").write_bytes(bz2.compress(content))
    images = FitsImages(str(tmp_path), pattern="{id}.*")
    paths = images.paths(["1", "2", "3", "4", "5"])
    expected = ["1.fits", "2.FIT", "3.fits.gz", "4.fits.BZ2", None]
    assert [path and path.rpartition("/")[2] for path in paths] == expected
    for path in paths[:4]:
        np.testing.assert_array_equal(images.decode(path), FitsImages("").decode(content))


def test_header_that_announces_too_many_values_is_rejected():
    content = encode(bands()[0]).replace(b"NAXIS1  =                   64", b"NAXIS1  =            900000000")
    with pytest.raises(RejectedImage, match="wrong-size"):
        FitsImages("", channels=(0, 0, 0)).decode(content)


@pytest.mark.parametrize(
    ("content", "reason", "fix"),
    [
        (encode(*bands(), names=("I", "R", "Z")), "wrong-bands: no plane", "survey.images.channels"),
        (encode(bands()[0]), "wrong-bands: no plane", "survey.images.channels"),
        (encode(bands()[0], bands()[1], bands()[2][:32]), "wrong-size: bands of shape", "survey.images.channels"),
        (encode(*bands())[:-9000], "truncated: ", "check the files"),
        (b"no FITS file", "corrupt: ", "check the files"),
        (encode(bands()[0], bands()[1], np.full((64, 64), np.nan)), "no pixel is finite", "survey.images.channels"),
    ],
    ids=["another band", "one image", "sizes", "truncated", "text", "a band of NaN"],
)
def test_automatic_stretch_names_the_fault_of_files_without_bands(content, reason, fix):
    with pytest.raises(CatalogError, match=reason) as raised:
        FitsImages("survey", stretch="auto").with_stretch_of([[content]] * 3)
    assert raised.value.where == "survey"
    assert fix in raised.value.fix


# Extensions of one name


@pytest.mark.parametrize("compressed", [False, True])
def test_extensions_of_one_name_need_a_version_or_a_number(compressed):
    lossless = functools.partial(fits.CompImageHDU, compression_type="GZIP_2", quantize_level=0)
    kind = lossless if compressed else fits.ImageHDU
    layers, expected = [kind(band, name="SCI") for band in bands()], FitsImages("").decode(encode(*bands()))
    for number, layer in enumerate(layers, start=1):
        layer.ver = number
    others = [
        fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])], name="SCI"),
        fits.ImageHDU(name="sci"),
    ]
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *layers, *others]).writeto(buffer)
    content = buffer.getvalue()
    for channels in (("SCI,1", "sci, 2", "SCI,3"), (1, 2, 3)):
        np.testing.assert_array_equal(FitsImages("", channels=channels).decode(content), expected)
    with pytest.raises(
        RejectedImage, match="wrong-bands; the extensions 1, 2, 3 are all called SCI: give their numbers, or"
    ):
        FitsImages("", channels=("SCI", "SCI", "SCI")).decode(content)
    with pytest.raises(RejectedImage, match="wrong-bands; no plane for each of the channels SCI,1, SCI,2, SCI,4"):
        FitsImages("", channels=("SCI,1", "SCI,2", "SCI,4")).decode(content)


def test_extensions_without_versions_have_numbers_only():
    content = encode(*bands(), names=("SCI",) * 3)
    for channels in (("SCI", "SCI", "SCI"), ("SCI,1", "SCI,1", "SCI,1")):
        with pytest.raises(RejectedImage, match=f"1, 2, 3 are all called {channels[0]}: give their numbers$"):
            FitsImages("", channels=channels).decode(content)
    file = encode(bands()[0], bands()[1], names=("SCI", "ERR"))
    grey = FitsImages("", channels=("SCI", "SCI", "SCI"), scales=(1, 1, 1)).decode(file)
    assert (grey == grey[..., :1]).all(), "one extension may be all three"


def test_automatic_stretch_leaves_out_files_without_bands():
    good, blank = encode(*bands()), encode(bands()[0], bands()[1], np.full((64, 64), np.nan))
    expected = FitsImages("", stretch="auto").with_stretch_of([[good]])
    sample = [[good], [good[:-9000]], [blank], [encode(bands()[0])]]
    assert FitsImages("", stretch="auto").with_stretch_of(sample) == expected


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("dtype", "blank", "zero"),
    [
        (np.int16, -32768, 0),
        (np.int16, -32768, 32768),
        (np.int16, 32767, 32768),
        (np.int32, -(2**31), 2**31),
        (np.int32, -999, 0),
    ],
)
def test_blank_pixels_are_missing_also_of_unsigned_integers(dtype, blank, zero, compressed):
    rng = np.random.default_rng(0)
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    hdus, counts = [fits.PrimaryHDU()], []
    for name in NAMES:
        values = rng.integers(1000, 2000, (64, 64))
        stored = (values - zero).astype(dtype)
        stored[:3, :5] = blank
        hdu = kind(stored, name=name, do_not_scale_image_data=True)
        hdu.header.update(BSCALE=1, BZERO=zero, BLANK=blank)
        hdus.append(hdu)
        counts.append(np.where(stored == blank, np.nan, values))
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    result = FitsImages("", scales=(1.0, 1.0, 1.0)).bands([buffer.getvalue()], "")
    assert np.array_equal(np.stack(result), np.stack(counts), equal_nan=True)
