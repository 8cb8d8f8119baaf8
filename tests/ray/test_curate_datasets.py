"""Curate data sets with Ray Data.

Splits are the official ones, every picture occurs once, and every format gives the same pixels.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ray_tools import SILENT

from raydistill.config import Config, Curate, Tracking
from raydistill.datasets.arrays import ArraySet
from raydistill.datasets.base import DataSet
from raydistill.datasets.binary import Cifar10, Idx
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.datasets.torchvision import TorchvisionSet
from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.images import decode_picture
from raydistill.galaxies.selection import SPLITS, assign_splits
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate import decoding, stage
from raydistill.stages.curate.artifact import CuratedSet

pytestmark = pytest.mark.usefixtures("cluster")

CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
SPLIT = (0.6, 0.2, 0.2)


def curated(output: Path, survey: DataSet, **curate: Any) -> CuratedSet:
    recipe = Curate(**{"classes": "all", "image_size": 32, "crop_fraction": 1.0, "split": SPLIT} | curate)
    config = Config(name="set", output=str(output), survey=survey, curate=recipe, tracking=Tracking(enabled=False))  # type: ignore[arg-type]
    return stage.curate(Plan(config), SILENT)


def rows_of(result: CuratedSet) -> dict[str, dict[str, Any]]:
    """Return the rows by object id, with their split."""
    rows = [row | {"split": split} for split in SPLITS for row in result.table(split).to_pylist()]
    assert len({row["object_id"] for row in rows}) == len(rows), "an id occurs twice"
    return {row["object_id"]: row for row in rows}


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def jpegs(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    """Return a table of real CIFAR-10 JPEGs of five classes.

    A class has 30 training and 10 test images. The names of the test images repeat those of
    training images. A row group has 17 rows.
    """
    whole = pq.read_table(data_root / "cifar10_jpeg.parquet")
    parts = []
    for split, count in (("train", 30), ("test", 10)):
        for label in range(5):
            is_class = pc.and_(pc.equal(whole["split"], split), pc.equal(whole["label"], label))
            parts.append(whole.filter(is_class).slice(0, count))
    path = tmp_path_factory.mktemp("jpegs") / "cifar.parquet"
    mixed = np.random.default_rng(0).permutation(200)
    pq.write_table(pa.concat_tables(parts).take(mixed), path, row_group_size=17)
    return ImageTable(root=str(path), image_column="jpeg", id_columns=("split", "name"), class_names=tuple(CLASSES))


def test_official_split_is_kept_with_every_image(jpegs: ImageTable, tmp_path: Path) -> None:
    result = curated(tmp_path, jpegs)
    rows = rows_of(result)
    table = {f"{row['split']}/{row['name']}": row for row in pq.read_table(jpegs.root).to_pylist()}
    assert sorted(rows) == sorted(table)
    cut = dict(zip(sorted(table), assign_splits(sorted(table), (0.75, 0.25, 0.0)), strict=True))
    for object_id, row in rows.items():
        theirs = table[object_id]
        assert row["split"] == ("test" if theirs["split"] == "test" else cut[object_id])
        assert row["class_name"] == CLASSES[theirs["label"]] == CLASSES[row["label"]]
        np.testing.assert_array_equal(pixels(row["image"]), decode_picture(theirs["jpeg"]))
    assert [entry.test for entry in result.summary.classes] == [10] * 5
    assert all(entry.train > entry.validation > 0 for entry in result.summary.classes)
    assert not result.summary.rejected


@pytest.mark.long
def test_order_of_rows_and_sorting_method_do_not_matter(
    jpegs: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = curated(tmp_path / "a", jpegs)
    other = tmp_path / "cifar.parquet"
    table = pq.read_table(jpegs.root)
    pq.write_table(table.take(np.arange(len(table))[::-1]), other, row_group_size=100)
    monkeypatch.setattr(decoding, "SIMPLE_SHUFFLE_ROWS", 0)
    again = curated(tmp_path / "b", ImageTable(**{**vars(jpegs), "root": str(other)}))
    assert again.manifest.content == first.manifest.content


def test_limits_of_classes_and_images_keep_the_test_split_whole(jpegs: ImageTable, tmp_path: Path) -> None:
    result = curated(tmp_path, jpegs, classes=("cat", "bird"), per_class=12)
    assert result.class_names == ["cat", "bird"]
    assert [(entry.train + entry.validation, entry.test) for entry in result.summary.classes] == [(12, 10)] * 2
    assert {row["class_name"] for row in rows_of(result).values()} == {"cat", "bird"}


def test_every_format_gives_the_same_pixels(tmp_path: Path) -> None:
    """Store sixty pictures as CIFAR binary, folder, zip, Parquet, .npz and HDF5."""
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    labels, names = np.arange(60) % 5, (*CLASSES, "dog", "frog", "horse", "ship", "truck")
    for name in ("bin", "folder", "parquet"):
        (tmp_path / name).mkdir()
    for number in range(6):
        cut = slice(10 * number, 10 * number + 10)
        planes = images[cut].transpose(0, 3, 1, 2).reshape(10, -1)
        name = "test_batch.bin" if number == 5 else f"data_batch_{number + 1}.bin"
        (tmp_path / "bin" / name).write_bytes(np.column_stack([labels[cut], planes]).astype(np.uint8).tobytes())
    (tmp_path / "bin" / "batches.meta.txt").write_text("\n".join(names))
    for n, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "folder" / ("train" if n < 50 else "test") / CLASSES[label] / f"{n % 50:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    for part, cut in (("train", slice(0, 50)), ("test", slice(50, 60))):
        stored = {"image": [png(image) for image in images[cut]], "label": [CLASSES[label] for label in labels[cut]]}
        pq.write_table(pa.table(stored), tmp_path / "parquet" / f"{part}-00000-of-00001.parquet", row_group_size=16)
    parts = {"train": slice(0, 50), "test": slice(50, 60)}
    arrays = {f"{part}_images": images[rows] for part, rows in parts.items()}
    arrays |= {f"{part}_labels": labels[rows] for part, rows in parts.items()}
    np.savez_compressed(tmp_path / "arrays.npz", **arrays)
    with h5py.File(tmp_path / "arrays.h5", "w") as file:
        for name, array in arrays.items():
            file[name.replace("_", "/")] = array
    surveys: dict[str, DataSet] = {
        "zip": ImageFolder(root=shutil.make_archive(str(tmp_path / "folder"), "zip", tmp_path / "folder")),
        "npz": ArraySet(root=str(tmp_path / "arrays.npz"), class_names=names),
        "h5": ArraySet(root=str(tmp_path / "arrays.h5"), class_names=names),
        "bin": Cifar10(root=str(tmp_path / "bin")),
        "parquet": ImageTable(root=str(tmp_path / "parquet")),
        "folder": ImageFolder(root=str(tmp_path / "folder")),
    }
    for kind, survey in surveys.items():
        rows = rows_of(curated(tmp_path / f"of-{kind}", survey, classes=tuple(CLASSES)))
        assert len(rows) == 60, kind
        for object_id, row in rows.items():
            part, number = object_id.split("/")[0], int(object_id.split("/")[-1].removesuffix(".png"))
            n = number + 50 * (part == "test")
            assert (row["split"] == "test") == (part == "test")
            assert row["class_name"] == CLASSES[labels[n]]
            np.testing.assert_array_equal(pixels(row["image"]), images[n], err_msg=f"{kind}: {object_id}")


def test_torchvision_reads_the_idx_files_of_mnist(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (60, 28, 28), dtype=np.uint8)
    for part, cut in (("train", slice(0, 50)), ("t10k", slice(50, 60))):
        for name, values in (("images-idx3", grey[cut]), ("labels-idx1", np.arange(60, dtype=np.uint8)[cut] % 10)):
            head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">i4").tobytes()
            (tmp_path / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes()))
    survey = TorchvisionSet(dataset="MNIST", root=str(tmp_path), class_names=tuple("0123456789"))
    rows = rows_of(curated(tmp_path / "out", survey, image_size=28, min_picture_size=8))
    assert len(rows) == 60
    for object_id, row in rows.items():
        part, number = object_id.split("/")
        n = int(number) + 50 * (part == "test")
        assert (row["split"] == "test", row["class_name"]) == (part == "test", str(n % 10))
        np.testing.assert_array_equal(pixels(row["image"]), np.repeat(grey[n, ..., None], 3, axis=2))


def test_images_of_any_shape_and_a_missing_one(tmp_path: Path) -> None:
    """Accept images of any shape and of a single colour; take the central square."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "x" / label).mkdir(parents=True)
        for n in range(20):
            Image.fromarray(rng.integers(0, 256, (40, 60 + n, 3), dtype=np.uint8)).save(tmp_path / f"x/{label}/{n}.png")
    Image.new("RGB", (32, 32), (9, 9, 9)).save(tmp_path / "x/cat/0.png")
    (tmp_path / "x/cat/1.png").write_text("<html>404</html>")
    Image.new("RGB", (16, 16)).save(tmp_path / "x/dog/2.png")
    result = curated(tmp_path, ImageFolder(root=str(tmp_path / "x")))
    rejected = pq.read_table(io.BytesIO(result.folder.read("rejected.parquet"))).to_pylist()
    assert {row["object_id"]: row["reason"] for row in rejected} == {"cat/1.png": "corrupt", "dog/2.png": "wrong-size"}
    rows = rows_of(result)
    assert len(rows) == 38
    ids = sorted(rows)
    assert [rows[object_id]["split"] for object_id in ids] == assign_splits(ids, SPLIT).tolist()


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> ImageFolder:
    """Return a data set of 40 training and 20 test pictures.

    Three of the latter are also in train. One copy is stored as BMP instead of PNG.
    """
    root = tmp_path_factory.mktemp("copies")
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    images[[40, 41, 42]] = images[[0, 1, 2]]
    for n, image in enumerate(images):
        path = root / ("train" if n < 40 else "test") / "ab"[n % 2] / f"{n:02d}.{'bmp' if n == 42 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return ImageFolder(root=str(root))


def test_pictures_in_two_splits_are_counted(
    copies: ImageFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = curated(tmp_path, copies, duplicates="keep")
    assert sum(result.summary.duplicates.values()) == 3
    assert set(result.summary.duplicates) <= {"train/test", "validation/test"}
    assert sum(entry.test for entry in result.summary.classes) == 20
    assert "pictures occur in two splits: " in caplog.text
    assert "(first: test/a/40.png equals train/a/00.png), so test results are too good" in caplog.text


def test_pictures_in_two_splits_are_dropped_from_the_later_one(copies: ImageFolder, tmp_path: Path) -> None:
    result = curated(tmp_path, copies)
    rejected = pq.read_table(io.BytesIO(result.folder.read("rejected.parquet"))).to_pylist()
    assert [(row["object_id"], row["reason"]) for row in rejected] == [
        (name, "duplicate") for name in ("test/a/40.png", "test/a/42.bmp", "test/b/41.png")
    ]
    assert re.fullmatch("the (train|validation) split has the same picture: train/a/00.png", rejected[0]["detail"])
    assert sum(entry.test for entry in result.summary.classes) == 17
    assert result.summary.rejected == {"duplicate": 3}


def test_pictures_in_two_splits_are_rejected(copies: ImageFolder, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"curate\.duplicates: pictures occur in two splits: .*; remove them from"):
        curated(tmp_path, copies, duplicates="reject")


def test_damaged_row_group_ends_the_stage(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    stored = {"label": [n % 2 for n in range(40)], "image": [png(image) for image in images]}
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(stored), path, row_group_size=20, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=r"x\.parquet: cannot be read as a Parquet file \(.+\); download it again"):
        curated(tmp_path, ImageTable(root=str(path)))


def test_options_that_do_not_apply_are_errors(jpegs: ImageTable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"curate\.classes: the data set has no class 'cta'; did you mean 'cat'\?"):
        curated(tmp_path, jpegs, classes=("cta",))
    with pytest.raises(
        ConfigError, match=r"curate\.classes: 'gz2-9' are classes of galaxies, .*; set it to all, or to a"
    ):
        curated(tmp_path, jpegs, classes="gz2-9")
    with pytest.raises(ConfigError, match=r"curate\.thresholds: the table has labels, but thresholds apply to votes"):
        curated(tmp_path, jpegs, thresholds="n10")
    only_test = ImageTable(**{**vars(jpegs), "splits": {"train": None}})
    with pytest.raises(
        CatalogError,
        match=r"cifar\.parquet: the data set has no training split; name it with survey\.splits\.NAME=train",
    ):
        curated(tmp_path, only_test)
    with pytest.raises(CatalogError, match="there is no file such as train-images-idx3-ubyte"):
        curated(tmp_path, Idx(root=str(tmp_path)))
