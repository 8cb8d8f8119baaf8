"""Test the display range of a survey: chosen from a sample, checked in the result."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from PIL import Image

from raydistill.config import Curate
from raydistill.datasets.base import DataSet
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.stages.curate.decoding import decode_row, to_table
from raydistill.surveys.levels import LevelChecks, resolve_levels

COUNT = 12
CURATE = Curate(image_size=32, crop_fraction=0.5)


def galaxy(number: int, side: int = 64) -> np.ndarray:
    """Return float64 `[H, W]` in [0, 1]: a galaxy, the first one the brightest."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    noise = np.random.default_rng(number).normal(0.03, 0.01, (side, side))
    return np.clip(noise + np.exp(-np.hypot(x, 1.5 * y) / 6) / (1 + 0.1 * number), 0, 1)


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def grey_16(number: int, bits: int) -> bytes:
    return png(np.rint(galaxy(number) * (2**bits - 1)).astype(np.uint16))


def in_folder(folder: Path, contents: list[bytes], suffix: str) -> pa.Table:
    folder.mkdir(exist_ok=True)
    names = [f"{number}.{suffix}" for number in range(len(contents))]
    for name, content in zip(names, contents, strict=True):
        (folder / name).write_bytes(content)
    return pa.table({"path": names})


def decoded(images: object, sources: list[object]) -> list[dict[str, object]]:
    return [decode_row(rank, source, f"{rank}", images, CURATE) for rank, source in enumerate(sources)]


def checked(images: object, rows: list[dict[str, object]], caplog: pytest.LogCaptureFixture) -> str:
    checks = LevelChecks()
    checks.add(to_table(rows))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        checks.warn(images)
    return caplog.text


def brightest(row: dict[str, object]) -> int:
    return int(np.asarray(Image.open(io.BytesIO(row["image"]))).max())


# Whole numbers


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_survey_of_16_bit_pictures_uses_the_bits_that_it_fills(tmp_path, caplog, bits):
    selected = in_folder(tmp_path / "i", [grey_16(number, bits) for number in range(COUNT)], "png")
    with caplog.at_level(logging.INFO):
        images = resolve_levels(FolderImages(str(tmp_path / "i"), pattern="{id}.png"), selected)
    chosen = "full" if bits == 16 else (0, 2**bits - 1)
    assert images.value_range == chosen
    shown = "full" if bits == 16 else f"[0, {2**bits - 1}]"
    assert f"in 12 sampled pictures; display range: survey.images.value_range={shown}" in caplog.text
    rows = decoded(images, [f"{tmp_path}/i/{path}" for path in selected["path"].to_pylist()])
    assert brightest(rows[0]) > 200
    assert brightest(rows[-1]) < 0.6 * brightest(rows[0]), "the faint galaxy stays faint"
    assert not checked(images, rows, caplog)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_pictures_of_8_bits_need_no_choice(tmp_path, caplog, kind):
    eight = [np.rint(galaxy(number) * 255).astype(np.uint8) for number in range(COUNT)]
    selected = in_folder(tmp_path / "i", [png(pose) for pose in eight], kind)
    images = FolderImages(str(tmp_path / "i"), pattern=f"{{id}}.{kind}")
    with caplog.at_level(logging.INFO):
        assert resolve_levels(images, selected) is images
    assert not caplog.text


def test_given_range_is_kept(tmp_path):
    selected = in_folder(tmp_path / "i", [grey_16(0, 8)], "png")
    for value_range in ("full", (0.0, 100.0)):
        images = FolderImages(str(tmp_path / "i"), pattern="{id}.png", value_range=value_range)
        assert resolve_levels(images, selected) is images


def test_parquet_file_and_data_sets_have_one_range_too(tmp_path):
    contents = [grey_16(number, 12) for number in range(COUNT)]
    table = pa.table({"id_str": list(map(str, range(COUNT))), "image": contents, "label": [0, 1] * (COUNT // 2)})
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=3)
    uri = str(tmp_path / "train.parquet")
    assert resolve_levels(ParquetImages(uri), pa.table({"path": []})).value_range == (0, 4095)
    packed = ImageTable(root=uri)
    assert resolve_levels(packed, packed.index().rows).value_range == (0, 4095)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        in_folder(tmp_path / "set" / name, contents, "png")
    folder = ImageFolder(root=str(tmp_path / "set"))
    resolved = resolve_levels(folder, folder.index().rows)
    assert resolved.value_range == (0, 4095)
    rows = decoded(resolved, [f"{tmp_path}/set/a/0.png"])
    assert brightest(rows[0]) > 200


def test_arrays_in_parquet_have_one_range(tmp_path):
    arrays = [galaxy(number).astype(np.float32)[:, :, None].repeat(3, axis=2).tolist() for number in range(4)]
    pq.write_table(pa.table({"id_str": list("abcd"), "image": arrays}), tmp_path / "v.parquet")
    assert resolve_levels(ParquetImages(str(tmp_path / "v.parquet")), pa.table({"path": []})).value_range == (0, 1)


def test_broken_files_do_not_disturb_the_sample(tmp_path):
    contents = [b"rubbish", b"", *[grey_16(number, 12) for number in range(4)]]
    selected = in_folder(tmp_path / "i", contents, "png")
    assert resolve_levels(FolderImages(str(tmp_path / "i"), pattern="{id}.png"), selected).value_range == (0, 4095)
    broken = in_folder(tmp_path / "j", contents[:2], "png")
    assert resolve_levels(FolderImages(str(tmp_path / "j"), pattern="{id}.png"), broken).value_range == "auto"


def test_range_that_nobody_can_tell_is_an_error(tmp_path):
    floats = io.BytesIO()
    Image.fromarray((galaxy(0) * 1e-3).astype(np.float32)).save(floats, "TIFF")
    selected = in_folder(tmp_path / "i", [floats.getvalue()], "tif")
    with pytest.raises(CatalogError, match=r"give the display range: survey\.images\.value_range: \[low"):
        resolve_levels(FolderImages(str(tmp_path / "i"), pattern="{id}.tif"), selected)


# FITS


def in_fits(folder: Path, unit: float, sky: float, bands: tuple[float, ...] = (1, 1, 1)) -> pa.Table:
    contents = []
    for number in range(COUNT):
        values = (galaxy(number) - 0.03) * unit
        planes = [(values * band + sky).astype(np.float32) for band in bands]
        buffer = io.BytesIO()
        hdus = [fits.ImageHDU(plane, name=name) for plane, name in zip(planes, "IRG", strict=True)]
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(buffer)
        contents.append(buffer.getvalue())
    return in_folder(folder, contents, "fits")


@pytest.mark.parametrize(("unit", "sky"), [(1e-9, 0.0), (500.0, 1000.0), (3.0, 0.0)])
def test_automatic_stretch_suits_every_unit(tmp_path, caplog, unit, sky):
    selected = in_fits(tmp_path / "i", unit, sky)
    with caplog.at_level(logging.INFO):
        images = resolve_levels(FitsImages(str(tmp_path / "i"), stretch="auto"), selected)
    assert f"survey.images.stretch=auto is {images.stretch:g}, minimum " in caplog.text
    rows = decoded(images, [f"{tmp_path}/i/{path}" for path in selected["path"].to_pylist()])
    assert not checked(images, rows, caplog)
    assert 120 < brightest(rows[0]) <= 255


@pytest.mark.parametrize(
    ("unit", "sky", "sentence"),
    [(500.0, 1000.0, "of the pixels of a band are white"), (1e-9, 0.0, "of the sampled pictures have no structure")],
)
def test_stretch_in_another_unit_is_rejected(tmp_path, unit, sky, sentence):
    selected = in_fits(tmp_path / "i", unit, sky)
    with pytest.raises(CatalogError) as error:
        resolve_levels(FitsImages(str(tmp_path / "i")), selected)
    unit = "unknown, the files have no BUNIT"
    assert f"with stretch 0.35 and minimum 0.01 (unit: {unit}), 100% {sentence}; set survey.images.stretch=auto" in str(
        error.value
    )


def test_sentences_name_the_unit_of_the_files(tmp_path, caplog):
    selected = in_fits(tmp_path / "i", 1e-9, 0.0)
    for path in selected["path"].to_pylist():
        fits.setval(tmp_path / "i" / path, "BUNIT", value="maggy", ext=1)
    with pytest.raises(CatalogError, match=r"minimum 0\.01 \(unit: 'maggy'\)"):
        resolve_levels(FitsImages(str(tmp_path / "i")), selected)
    with caplog.at_level(logging.INFO):
        resolve_levels(FitsImages(str(tmp_path / "i"), stretch="auto"), selected)
    assert "(unit: 'maggy')" in caplog.text


def test_usual_stretch_is_kept_as_given(tmp_path):
    selected = in_fits(tmp_path / "i", 3.0, 0.0)
    images = FitsImages(str(tmp_path / "i"))
    assert resolve_levels(images, selected) is images


def test_band_without_light_gives_a_warning(tmp_path, caplog):
    selected = in_fits(tmp_path / "i", 3.0, 0.0, bands=(1, 0, 1))
    images = resolve_levels(FitsImages(str(tmp_path / "i")), selected)
    rows = decoded(images, [f"{tmp_path}/i/{path}" for path in selected["path"].to_pylist()])
    assert "a colour is constant in 12 of 12 pictures; check survey.images.channels" in checked(images, rows, caplog)


def test_saturated_pictures_give_a_warning(tmp_path, caplog):
    selected = in_fits(tmp_path / "i", 500.0, 0.0)
    images = FitsImages(str(tmp_path / "i"), stretch=0.1)
    rows = decoded(images, [f"{tmp_path}/i/{path}" for path in selected["path"].to_pylist()])
    assert "% of the pixels are saturated (level 255); check survey.images.stretch" in checked(images, rows, caplog)


@pytest.mark.parametrize(("crop", "reason"), [(0.5, None), (1.0, "not-finite")])
def test_missing_border_matters_only_within_the_crop(tmp_path, crop, reason):
    selected = in_fits(tmp_path / "i", 3.0, 0.0)
    with fits.open(tmp_path / "i" / "0.fits", mode="update") as hdus:
        hdus["R"].data[:2] = np.nan
        hdus["G"].data[:, -3:] = np.nan
    images = FitsImages(str(tmp_path / "i"))
    at = f"{tmp_path}/i/{selected['path'][0]}"
    row = decode_row(0, at, "0.fits", images, Curate(image_size=32, crop_fraction=crop))
    assert row.get("reason") == reason
    filled = decode_row(
        0, at, "0.fits", FitsImages(str(tmp_path / "i"), fill="median"), Curate(image_size=32, crop_fraction=1.0)
    )
    assert filled.get("reason") is None


# The whole survey


def test_dark_and_flat_pictures_give_a_warning(tmp_path, caplog):
    dark = (galaxy(0) * 20).astype(np.uint8)[..., None].repeat(3, axis=2)
    flat = np.full((64, 64, 3), 40, np.uint8)
    folder: DataSet = ImageFolder(root=str(tmp_path))
    rows = decoded(folder, [png(dark), png(flat)])
    text = checked(folder, rows, caplog)
    assert "the brightest pixel has level 40 of 255; check survey.value_range" in text
    assert "1 of 2 pictures have a contrast below 3 levels" in text
    bright = (galaxy(0) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    assert not checked(folder, decoded(folder, [png(bright)] * 3), caplog)


def test_survey_that_one_bright_pixel_darkens_gives_a_warning(tmp_path, caplog):
    """A pixel of 65535 in one of many 12-bit pictures makes the range 16 bits wide."""
    values = [np.rint(galaxy(number) * 4095).astype(np.uint16) for number in range(COUNT)]
    values[3][32, 32] = 65535
    selected = in_folder(tmp_path / "pictures", [png(value) for value in values], "png")
    images = resolve_levels(FolderImages(str(tmp_path / "pictures"), "{id}.png"), selected)
    rows = decoded(images, [str(tmp_path / "pictures" / name) for name in selected["path"].to_pylist()])
    text = checked(images, rows, caplog)
    assert (
        f"{COUNT - 1} of {COUNT} pictures have no pixel above level 64 of 255; check survey.images.value_range" in text
    )


@pytest.mark.parametrize("size", [8, 31, 300])
def test_sums_and_levels_of_a_picture_are_exact(size):
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)
    pixels[..., 1], pixels[0] = 254, 255
    recipe = Curate(image_size=size, crop_fraction=1.0, min_picture_size=8)
    decoded_row = decode_row(0, png(pixels), "0", ImageFolder(root="i"), recipe)
    _, row, other = to_table([{"rank": 0, "reason": "missing"}, decoded_row, dict(decoded_row)]).to_pylist()
    assert row == other
    flat = pixels.reshape(-1, 3).astype(np.int64)
    assert row["sum"] == flat.sum(axis=0).tolist()
    assert row["squares"] == (flat**2).sum(axis=0).tolist()
    assert row["saturated"] == (flat == 255).any(axis=1).mean()
    assert (row["highest"], row["flat_channels"]) == (255, 1)
