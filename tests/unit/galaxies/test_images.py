"""Tests of images: every file format keeps the handedness of a spiral.

Bad files get a reason.
"""

import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from PIL import Image

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.cells import read_cell
from raydistill.galaxies.pictures.files import Source, read_source
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import RejectedImage, around, decode_picture, encode_png, inspect, prepare
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages


def spiral(side: int = 96, turns: float = 0.6) -> np.ndarray:
    """Return a spiral of two unequal arms, unlike its rotations and mirror images."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    phase = angle - turns * 2 * np.pi * np.log1p(radius / 4)
    flux = np.exp(-radius / (side / 5)) * (1.2 + np.cos(2 * phase) + 0.4 * np.cos(angle))
    tinted = np.stack([flux, 0.8 * flux, 0.5 * flux * (1 + 0.3 * np.sin(angle))], axis=-1)
    return np.uint8(np.clip(90 * tinted, 0, 255))


def dihedral(image: np.ndarray) -> list[np.ndarray]:
    """Return the image and its seven rotated and mirrored forms, itself first."""
    return [np.rot90(form, k) for form in (image, image[:, ::-1]) for k in range(4)]


def best_form(image: np.ndarray, reference: np.ndarray) -> int:
    return int(
        np.argmax([np.corrcoef(image.ravel().astype(float), form.ravel())[0, 1] for form in dihedral(reference)])
    )


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def fits_bytes(image: np.ndarray, cube: bool = False, dtype: str = ">f4") -> bytes:
    """Encode as FITS with three bands: row 0 of the array is the picture's bottom."""
    red, green, blue = (image[::-1, :, c].astype(dtype) / 200 for c in range(3))
    bands = [("I", red / 0.8), ("R", green), ("G", blue / 1.4)]
    if cube:
        hdus = [fits.PrimaryHDU(np.stack([band for _, band in reversed(bands)]))]
    else:
        hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(band, name=name) for name, band in bands)]
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    return buffer.getvalue()


# ---- orientation ----


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "FITS", "FITS cube"])
def test_handedness_survives_from_the_file_to_the_prepared_array(tmp_path, kind):
    image = spiral()
    if kind.startswith("FITS"):
        (tmp_path / "1.fits").write_bytes(fits_bytes(image, cube=kind == "FITS cube"))
        channels = (2, 1, 0) if kind == "FITS cube" else ("I", "R", "G")
        source: FitsImages | FolderImages = FitsImages(str(tmp_path), channels=channels, stretch=0.5)
    else:
        (tmp_path / f"1.{kind.lower()}").write_bytes(encoded(image, kind))
        source = FolderImages(str(tmp_path), pattern=f"{{id}}.{kind.lower()}")
    [path] = source.paths(["1"])
    decoded = source.decode(path)
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape
    assert best_form(decoded, image) == 0
    assert best_form(prepare(decoded, 0.75, 48), prepare(image, 0.75, 48)) == 0
    again = decode_picture(encode_png(prepare(decoded, 0.75, 48)))
    assert best_form(again, prepare(image, 0.75, 48)) == 0


def test_row_0_of_a_fits_array_is_the_bottom_row():
    image = np.full((40, 40, 3), 10, np.uint8)
    image[:5, 30:] = 250  # top right, as a viewer shows it
    decoded = FitsImages("").decode(fits_bytes(image))
    bright = np.argwhere(decoded[..., 1] > decoded.max() / 2)
    assert bright[:, 0].max() < 5
    assert bright[:, 1].min() >= 30


def test_fits_channels_are_red_green_blue_in_order():
    image = np.full((40, 40, 3), 20, np.uint8)
    image[10:30, 10:30, 0] = 250  # bright in i only: red
    red = FitsImages("").decode(fits_bytes(image))[20, 20]
    assert red[0] > 3 * red[2]
    blue = FitsImages("", channels=("G", "R", "I"), scales=(1.4, 1.0, 0.8)).decode(fits_bytes(image))[20, 20]
    assert blue[2] > 3 * blue[0]


def test_png_decodes_exactly_and_exif_orientation_is_ignored():
    image = spiral()
    np.testing.assert_array_equal(decode_picture(encoded(image, "PNG")), image)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    plain, tagged = encoded(image, "JPEG", quality=95), encoded(image, "JPEG", quality=95, exif=exif)
    np.testing.assert_array_equal(decode_picture(tagged), decode_picture(plain))


# ---- kinds of pictures ----


def test_grey_palette_and_transparent_pictures_become_rgb():
    image = spiral()
    grey = image[..., 0]
    repeated = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_picture(encoded(grey, "PNG")), repeated)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode_picture(encoded(deep, "PNG")), repeated)
    palette = Image.fromarray(grey).convert("P")
    assert palette.mode == "P"
    np.testing.assert_array_equal(decode_picture(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))
    alpha = np.dstack([image, np.full(grey.shape, 255, np.uint8)])
    np.testing.assert_array_equal(decode_picture(encoded(alpha, "PNG")), image)
    alpha[:10, :, :3], alpha[:10, :, 3] = 255, 0  # white but transparent: shown as black
    assert (decode_picture(encoded(alpha, "PNG"))[:10] == 0).all()


def test_16_bit_picture_is_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    decoded = decode_picture(encoded(Image.fromarray(ramp), "PNG"))
    assert decoded.min() == 0
    assert decoded.max() == 255
    assert abs(decoded.mean() - 127.5) < 1
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG", transparency=0)
    np.testing.assert_array_equal(decode_picture(buffer.getvalue()), decoded)


# ---- rejections ----


def reason_of(source: FolderImages | FitsImages | ParquetImages, content: bytes | str | None) -> str:
    with pytest.raises(RejectedImage) as caught:
        source.decode(content)
    return caught.value.reason


def test_unusable_pictures_are_rejected_with_a_reason(tmp_path):
    folder, jpeg, png = FolderImages(str(tmp_path)), encoded(spiral(), "JPEG"), encoded(spiral(), "PNG")
    assert reason_of(folder, None) == "missing"
    assert reason_of(folder, str(tmp_path / "absent.jpg")) == "missing"
    assert reason_of(folder, b"") == "empty"
    (tmp_path / "0.jpg").touch()
    assert reason_of(folder, str(tmp_path / "0.jpg")) == "empty"
    assert reason_of(folder, b"<html>404 not found</html>") == "corrupt"
    for content in (jpeg, png):
        for share in (0.3, 0.6, 0.95):
            assert reason_of(folder, content[: int(share * len(content))]) == "truncated"
    assert reason_of(folder, encoded(Image.fromarray(np.ones((40, 40), np.float32)), "TIFF")) == "corrupt"


def test_unreadable_file_is_rejected_but_failing_storage_is_an_error(tmp_path, monkeypatch):
    whole = gzip.compress(fits_bytes(spiral()))
    (tmp_path / "g.fits.gz").write_bytes(whole[: len(whole) // 2])
    assert reason_of(FitsImages(""), str(tmp_path / "g.fits.gz")) == "unreadable"

    def fail(uri: str) -> None:
        raise OSError("slow down")

    monkeypatch.setattr("raydistill.galaxies.pictures.files.open_stream", fail)
    with pytest.raises(CatalogError, match=r"cannot be read \(slow down\).*run the command again") as caught:
        read_source("s3://bucket/g.jpg")
    assert not isinstance(caught.value, RejectedImage)


def test_unusable_fits_files_are_rejected_with_a_reason():
    source, good = FitsImages(""), fits_bytes(spiral())
    assert reason_of(source, b"") == "empty"
    assert reason_of(source, b"not a FITS file") == "corrupt"
    assert reason_of(source, good[: len(good) - 2880 * 3]) == "truncated"
    with_nan = spiral().astype(float)
    with_nan[5, 5, 1] = np.nan
    assert reason_of(source, fits_bytes(with_nan)) == "not-finite"
    assert reason_of(FitsImages("", channels=("Z", "R", "G")), good) == "wrong-bands"
    assert reason_of(source, fits_bytes(np.zeros((0, 8, 3)))) == "wrong-size"


def test_every_astropy_error_of_a_damaged_file_is_a_rejection():
    rng = np.random.default_rng(0)
    bands = [fits.CompImageHDU(rng.poisson(100, (64, 64)).astype(np.int16), name=name) for name in ("I", "R", "G")]
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *bands]).writeto(buffer)
    whole = buffer.getvalue()
    FitsImages("").decode(whole)
    reasons = []
    for start in range(3000, len(whole) - 512, 1500):
        try:
            FitsImages("").decode(whole[:start] + bytes(512) + whole[start + 512 :])
        except RejectedImage as error:
            reasons.append(error.reason)
    assert "corrupt" in reasons


def test_inspect_rejects_wrong_shapes_and_constant_pictures():
    inspect(spiral())
    for image, reason in [
        (np.zeros((31, 31, 3), np.uint8), "wrong-size"),
        (spiral()[:80], "wrong-size"),
        (np.full((64, 64, 3), 7, np.uint8), "constant"),
    ]:
        with pytest.raises(RejectedImage) as caught:
            inspect(image, where="galaxy.jpg")
        assert caught.value.reason == reason
        assert str(caught.value).startswith(f"galaxy.jpg: {reason}")


def test_rejection_can_be_pickled():
    import pickle

    error = pickle.loads(pickle.dumps(RejectedImage("empty", "a.jpg", "a file of 0 bytes")))
    assert (error.reason, error.where, str(error)) == ("empty", "a.jpg", "a.jpg: empty; a file of 0 bytes")


# ---- prepare ----


@pytest.mark.parametrize(("side", "crop", "size"), [(96, 0.5, 32), (97, 0.5, 32), (96, 0.37, 48), (64, 1.0, 64)])
def test_prepare_commutes_with_mirrors_and_rotations(side, crop, size):
    """This needs a crop centred to a fraction of a pixel, and no transposition."""
    image = spiral(side)
    for form, expected in zip(dihedral(image), dihedral(prepare(image, crop, size)), strict=True):
        prepared = prepare(np.ascontiguousarray(form), crop, size).astype(int)
        assert np.abs(prepared - expected).max() <= 1


def test_prepare_without_resizing_is_a_slice():
    image = spiral(96)
    np.testing.assert_array_equal(prepare(image, 1.0, 96), image)
    np.testing.assert_array_equal(prepare(image, 0.5, 48), image[24:72, 24:72])
    assert prepare(image[:90], 0.5, 10).shape == (10, 10, 3)


def test_prepare_antialiases():
    """A checkerboard with a period of 2 px, shrunk by three, is uniformly grey."""
    checkerboard = np.repeat((np.indices((96, 96)).sum(axis=0) % 2 * 200).astype(np.uint8)[..., None], 3, axis=2)
    inner = prepare(checkerboard, 1.0, 32)[4:-4, 4:-4].astype(int)
    assert np.abs(inner - 100).max() <= 3


@pytest.mark.parametrize(("crop", "size"), [(0.0, 8), (1.1, 8), (0.5, 0)])
def test_prepare_rejects_sizes_out_of_range(crop, size):
    with pytest.raises(ConfigError):
        prepare(spiral(), crop, size)


def test_png_bytes_are_deterministic_and_lossless():
    image = spiral()
    assert encode_png(image) == encode_png(image.copy())
    np.testing.assert_array_equal(decode_picture(encode_png(image)), image)
    with pytest.raises(ValueError, match="uint8"):
        encode_png(image.astype(np.float32))


# ---- sources ----


def test_paths_use_subfolders_and_a_mapping(tmp_path):
    (tmp_path / "img" / "58").mkdir(parents=True)
    (tmp_path / "img" / "58" / "587.png").touch()
    (tmp_path / "img" / "7.jpg").touch()
    nested = FolderImages(str(tmp_path / "img"), pattern="{id:.2}/{id}.png")
    assert nested.paths(["587", "588", ""]) == [str(tmp_path / "img" / "58" / "587.png"), None, None]
    (tmp_path / "map.csv").write_text("objid,sample,asset_id\n1000,original,7\n1001,original,8\n")
    mapped = FolderImages(str(tmp_path / "img"), mapping=str(tmp_path / "map.csv"))
    assert mapped.paths(["1000", "1001", "1002"]) == [str(tmp_path / "img" / "7.jpg"), None, None]


def test_folder_is_listed_once_for_many_ids(tmp_path, monkeypatch):
    import raydistill.galaxies.pictures.files as picture_files

    (tmp_path / "1.jpg").touch()
    calls, list_files = [], picture_files.list_files
    monkeypatch.setattr(picture_files, "list_files", lambda *a, **k: calls.append(a) or list_files(*a, **k))
    assert sum(p is not None for p in FolderImages(str(tmp_path)).paths([str(i) for i in range(1000)])) == 1
    assert len(calls) == 1


def test_wrong_folder_or_pattern_is_an_error(tmp_path):
    with pytest.raises(CatalogError, match="no such image folder"):
        FolderImages(str(tmp_path / "absent")).paths(["1"])
    with pytest.raises(CatalogError, match="empty"):
        FolderImages(str(tmp_path)).paths(["1"])
    for pattern in ("galaxy.jpg", "{name}.jpg", "{}.jpg"):
        with pytest.raises(ConfigError, match=r"write .id. in place of the object id"):
            FolderImages(str(tmp_path), pattern=pattern)
    for pattern in ("{id:06d}.jpg", "{id:06}.jpg"):
        with pytest.raises(ConfigError, match=r"or .id:0>6. for six digits"):
            FolderImages(str(tmp_path), pattern=pattern)
    (tmp_path / "000012.jpg").touch()
    assert FolderImages(str(tmp_path), pattern="{id:0>6}.jpg").paths(["12"]) == [f"{tmp_path}/000012.jpg"]


def stored(source: ParquetImages) -> list[Source]:
    """Return the sources in the table's first rows."""
    return [read_cell(cell, source.folder()) for cell in source.dataset().head(3)[source.image_column]]


@pytest.mark.parametrize("struct", [False, True])
def test_parquet_images_decode_bytes_and_structs(tmp_path, struct):
    pictures = [encoded(spiral(turns=t), "PNG") for t in (0.3, 0.6, 0.9)]
    column = [{"bytes": p, "path": "x.png"} for p in pictures] if struct else pictures
    pq.write_table(pa.table({"id_str": [10, 11, 12], "image": column, "extra": [0] * 3}), tmp_path / "a.parquet")
    source = ParquetImages(str(tmp_path / "a.parquet"))
    assert source.rows()["object_id"].to_pylist() == ["10", "11", "12"]
    np.testing.assert_array_equal(source.decode(stored(source)[1]), spiral(turns=0.6))
    with pytest.raises(CatalogError, match="id_str, image, extra"):
        ParquetImages(str(tmp_path / "a.parquet"), image_column="jpeg").rows()


def test_null_picture_is_missing_and_path_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(spiral(), "PNG"))
    struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    column = pa.array([None, {"bytes": None, "path": str(tmp_path / "a.png")}], struct)
    pq.write_table(pa.table({"id_str": ["a", "b"], "image": column}), tmp_path / "a.parquet")
    source = ParquetImages(str(tmp_path / "a.parquet"))
    null, path = stored(source)
    assert reason_of(source, null) == "missing"
    np.testing.assert_array_equal(source.decode(path), spiral())


def test_image_sources_are_parsed_from_a_config():
    from typing import Annotated

    from pydantic import Field, TypeAdapter

    union = TypeAdapter(Annotated[FolderImages | ParquetImages | FitsImages, Field(discriminator="kind")])
    assert union.validate_python({"kind": "fits", "root": "x", "channels": ["I", 1, "G"]}) == FitsImages(
        "x", channels=("I", 1, "G")
    )
    assert isinstance(union.validate_python({"kind": "parquet", "uri": "x"}), ParquetImages)


# ---- real images ----


def test_real_pictures_decode_inspect_and_keep_their_orientation(data_root):
    from raydistill.galaxies.catalog import read_catalog

    root = data_root / "gz2_hart16"
    ids = read_catalog(str(root / "gz2_hart16.csv"))["object_id"].to_pylist()
    source = FolderImages(str(root / "images"), mapping=str(root / "gz2_filename_mapping.csv"))
    paths = source.paths(ids)
    assert None not in paths
    for path in paths[:25]:
        image = source.decode(path)
        inspect(image)
        assert image.shape == (424, 424, 3)
        prepared = prepare(image, 0.5, 64)
        assert (
            best_form(prepared, np.asarray(Image.open(path).crop((106, 106, 318, 318)).reduce(2).resize((64, 64)))) == 0
        )
        assert abs(prepared.mean() - image[106:318, 106:318].mean()) < 0.1  # levels of 255


def test_real_folder_and_parquet_file_are_decoded(data_root):
    efigi = FolderImages(str(data_root / "efigi" / "images"))
    [path, absent] = efigi.paths(["PGC0000212", "PGC9999999"])
    assert absent is None
    assert efigi.decode(path).shape == (88, 88, 3)
    parquet = ParquetImages(str(data_root / "gz2_unlabelled.parquet"), "galaxy_id", "jpeg")
    assert "100037" in parquet.rows()["object_id"].to_pylist()
    assert parquet.decode(stored(parquet)[0]).shape == (424, 424, 3)


def blob(x: float, y: float, side: int = 200, axis_ratio: float = 1.0) -> np.ndarray:
    """Return a picture of a galaxy, x to the right and y below the middle [px]."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    light = 200 * np.exp(-((columns - x) ** 2 + ((rows - y) / axis_ratio) ** 2) / (2 * 20**2))
    return np.repeat(light[..., None], 3, axis=2).astype(np.uint8)


def offset(image: np.ndarray) -> np.ndarray:
    """Return the centroid of the light, to the right and downwards of the middle [px]."""
    light = image.sum(axis=2).astype(float)
    rows, columns = np.mgrid[: len(light), : len(light)] - (len(light) - 1) / 2
    return np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()


@pytest.mark.parametrize("centre", [(2.0, 1.9), (-3.5, 0.0), (0.4, -7.1)])
@pytest.mark.parametrize("align", [False, True])
def test_prepared_galaxy_lies_in_the_middle_if_its_centre_is_known(centre, align):
    picture = blob(*centre, axis_ratio=0.5)
    prepared = prepare(picture, 0.5, 50, align, centre)
    assert prepared.shape == (50, 50, 3)
    source_pixels = 100 / 50
    assert np.abs(offset(prepared)).max() * source_pixels < 0.4
    if not align:
        np.testing.assert_allclose(offset(prepare(picture, 0.5, 50)) * source_pixels, centre, atol=0.4)


def test_scale_is_that_of_the_whole_picture_and_nothing_beyond_it_is_invented():
    known, unknown = prepare(blob(6, -4), 0.5, 50, centre=(6, -4)), prepare(blob(0, 0), 0.5, 50)
    assert np.abs(known.astype(int) - unknown.astype(int)).max() <= 1
    assert prepare(blob(6, -4), 1.0, 50, centre=(6, -4)).shape == (50, 50, 3)
    np.testing.assert_array_equal(around(np.arange(5)[:, None] * np.ones((1, 5)), (0, 1))[:, 0], [2, 3, 4])
    np.testing.assert_array_equal(around(np.arange(5)[:, None] * np.ones((1, 5)), (0, -0.5))[:, 0], [0, 1, 2, 3])
