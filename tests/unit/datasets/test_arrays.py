"""Tests of arrays of pictures and labels: HDF5, .npz and .npy."""

from __future__ import annotations

import io
import logging
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from dataset_files import read_all

from raydistill.datasets import array_files
from raydistill.datasets.arrays import ArraySet
from raydistill.errors import CatalogError
from raydistill.surveys.levels import resolve_levels

LABELS = np.arange(60) * 7 % 10


def write_hdf5(path: Path, arrays: dict[str, Any], **options: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **(options if np.ndim(values) > 1 else {}))


def galaxy10(pictures: np.ndarray) -> dict[str, Any]:
    """Return the arrays of Galaxy10 DECaLS."""
    sky = {name: np.linspace(0, 1, 60) for name in ("dec", "pxscale", "ra", "redshift")}
    return {"ans": LABELS.astype(np.uint8), "images": pictures[:60], **sky}


STORAGE: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunks": {"chunks": (7, 16, 32, 1), "compression": "gzip"},
    "chunks across rows": {"chunks": (60, 4, 4, 3), "compression": "lzf"},
}


@pytest.mark.parametrize("storage", STORAGE)
def test_galaxy10_has_its_pixels_and_labels(tmp_path, pictures, caplog, storage):
    write_hdf5(tmp_path / "Galaxy10_DECals.h5", galaxy10(pictures), **STORAGE[storage])
    data = ArraySet(root=f"{tmp_path}/Galaxy10_DECals.h5")
    with caplog.at_level(logging.INFO):
        names, rows = data.index()
    assert "'Galaxy10_DECals.h5/images' (60 x 32 x 32 x 3), labels are 'Galaxy10_DECals.h5/ans'" in caplog.text
    assert names == [str(label) for label in range(10)]
    assert rows["label"].to_pylist() == [str(label) for label in LABELS]
    assert rows["part"].to_pylist() == [None] * 60
    assert rows["object_id"][59].as_py() == "0000059"
    np.testing.assert_array_equal(read_all(data), pictures[:60])


def medmnist(pictures: np.ndarray) -> dict[str, np.ndarray]:
    parts = {"train": slice(0, 40), "val": slice(40, 50), "test": slice(50, 60)}
    images = {f"{part}_images": pictures[rows] for part, rows in parts.items()}
    return images | {f"{part}_labels": LABELS[rows, None].astype(np.uint8) for part, rows in parts.items()}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("is_grey", [False, True], ids=["colour", "grey"])
def test_medmnist_has_its_pixels_labels_and_official_splits(tmp_path, pictures, save, is_grey):
    shown = pictures[:60, ..., 0] if is_grey else pictures[:60]
    save(tmp_path / "x.npz", **medmnist(shown))
    data = ArraySet(root=f"{tmp_path}/x.npz", class_names=tuple("abcdefghij"))
    names, rows = data.index()
    assert names == list("abcdefghij")
    assert rows["part"].to_pylist() == ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    assert rows["label"].to_pylist() == ["abcdefghij"[label] for label in LABELS]
    assert rows["object_id"][45].as_py() == "val/0000005"
    expected = shown[..., None].repeat(3, axis=3) if is_grey else shown
    np.testing.assert_array_equal(read_all(data), expected)


NAMES = {
    "x and y": ("x", "y"),
    "images and labels": ("images", "labels"),
    "capital letters": ("X", "Y"),
    "data and target": ("data", "target"),
    "groups": ("set/images", "set/labels"),
    "other names": ("cutouts", "morphology"),
}


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("kind", NAMES)
def test_arrays_are_found_by_their_names_or_shapes(tmp_path, pictures, kind, suffix):
    arrays = dict(zip(NAMES[kind], (pictures[:60], LABELS), strict=True)) | {"redshift": np.linspace(0, 1, 60)}
    if suffix == "npz":
        np.savez(tmp_path / "a.npz", **arrays)
    else:
        write_hdf5(tmp_path / "a.h5", arrays)
    data = ArraySet(root=f"{tmp_path}/a.{suffix}")
    assert data.index().rows["label"].to_pylist() == [str(label) for label in LABELS]
    np.testing.assert_array_equal(read_all(data), pictures[:60])


SPLIT_FILES = {
    "names of .npy files": ("{0}_train.npy", "{0}_test.npy", ""),
    "names of HDF5 files": ("camelyon_level_2_split_train_{0}.h5", "camelyon_level_2_split_test_{0}.h5", "{0}"),
    "one file per split": ("train.npz", "test.npz", "{0}"),
    "folders of splits": ("train/{0}.npy", "test/{0}.npy", ""),
    "names of arrays": ("all.h5", "all.h5", "{1}/{0}"),
    "Keras": ("mnist.npz", "mnist.npz", "{0}_{1}"),
}


@pytest.mark.parametrize("layout", SPLIT_FILES)
def test_splits_are_in_the_names_of_arrays_or_files(tmp_path, pictures, layout):
    *files, key = SPLIT_FILES[layout]
    contents: dict[str, dict[str, np.ndarray]] = {}
    for part, file, block in zip(("train", "test"), files, (slice(0, 40), slice(40, 60)), strict=True):
        for word, values in (("x", pictures[block]), ("y", LABELS[block].reshape(-1, 1, 1, 1))):
            contents.setdefault(file.format(word), {})[key.format(word, part)] = values
    for name, arrays in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("h5"):
            write_hdf5(tmp_path / name, arrays)
        elif name.endswith("npz"):
            np.savez(tmp_path / name, **arrays)
        else:
            np.save(tmp_path / name, arrays[""])
    (tmp_path / "README.md").write_text("not an array")
    data = ArraySet(root=str(tmp_path))
    rows = {row["object_id"]: row for row in data.index().rows.to_pylist()}
    assert [row["part"] for row in rows.values()].count("test") == 20
    assert rows["train/0000039"]["label"] == str(LABELS[39])
    assert rows["test/0000000"]["label"] == str(LABELS[40])
    in_order = np.argsort([row["part"] == "test" for row in rows.values()], kind="stable")
    np.testing.assert_array_equal(read_all(data)[in_order], pictures[:60])


LABEL_FORMS: dict[str, tuple[Any, list[str | None]]] = {
    "integers": (np.array([3, 0, -1]), ["3", "0", None]),
    "columns": (np.array([[3], [0], [1]], np.uint8), ["3", "0", "1"]),
    "whole floats": (np.array([3.0, 0.0, np.nan]), ["3", "0", None]),
    "one of several": (np.array([[0, 1], [1, 0], [0, 1]], np.float32), ["1", "0", "1"]),
    "text": (np.array(["E", "Sb", ""]), ["E", "Sb", None]),
    "bytes": (np.array([b"E", b"Sb", b""]), ["E", "Sb", None]),
    "truth": (np.array([True, False, True]), ["1", "0", "1"]),
}


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("form", LABEL_FORMS)
def test_labels_have_many_forms(tmp_path, pictures, form, suffix):
    values, expected = LABEL_FORMS[form]
    if suffix == "npz":
        np.savez(tmp_path / "a.npz", images=pictures[:3], labels=values)
    else:
        is_text = values.dtype.kind == "U"
        write_hdf5(tmp_path / "a.h5", {"images": pictures[:3], "labels": values.tolist() if is_text else values})
    assert ArraySet(root=f"{tmp_path}/a.{suffix}").index().rows["label"].to_pylist() == expected


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_deep_pictures_have_one_range(tmp_path, pictures, suffix):
    deep = pictures[:4].astype(np.uint16) * 16
    np.savez(tmp_path / "a.npz", images=np.moveaxis(deep, 3, 1), labels=[0, 1, 0, 1])
    write_hdf5(tmp_path / "a.h5", {"images": deep, "labels": [0, 1, 0, 1]})
    data = resolve_levels(result := ArraySet(root=f"{tmp_path}/a.{suffix}"), result.index().rows)
    assert data.value_range == (0, 4095)
    assert np.abs(read_all(data).astype(int) - pictures[:4]).max() <= 1


def test_row_groups_read_their_own_rows(tmp_path, pictures):
    many = np.broadcast_to(np.arange(20_000, dtype=np.uint16)[:, None, None], (20_000, 2, 2))
    np.savez_compressed(tmp_path / "a.npz", x=many, y=np.arange(20_000) % 2)
    data = ArraySet(root=f"{tmp_path}/a.npz", value_range="full")
    rows = data.index().rows
    assert rows["row_group"].to_pylist()[-1] == 2
    sources = list(data.read("a.npz/x", 1, [8192, 8200, 16383]))
    assert [np.load(io.BytesIO(source))[0, 0] for source in sources] == [8192, 8200, 16383]


# Refused

IMAGES, WITH_LABELS = np.zeros((4, 8, 8, 3), np.uint8), {"labels": np.arange(4)}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no pictures": (
        {"x": np.zeros((4, 64)), "y": np.arange(4)},
        r"no array has the shape of pictures: a.*/x \(4 x 64\)",
    ),
    "cubes": ({"images": np.zeros((4, 28, 28, 28), np.uint8)} | WITH_LABELS, "no array has the shape of pictures"),
    "no labels": ({"images": IMAGES}, "no array holds the 4 labels of"),
    "labels of others": ({"images": IMAGES, "labels": np.arange(5)}, "no array holds the 4 labels of"),
    "several pictures": (
        {"a": IMAGES, "b": IMAGES} | WITH_LABELS,
        "several arrays may be the pictures: .*; set survey.image_key to its name, or store them as one array",
    ),
    "a picture each": ({f"J{n}": IMAGES[0] for n in range(12)}, "12 of its arrays are one picture each, such as .*J"),
    "a picture each, planes first": ({f"{n}": IMAGES[0].T for n in range(2)}, "2 of its arrays are one picture each"),
    "a grey picture each": (
        {f"J{n}/image": IMAGES[0, ..., 0] for n in range(3)} | {f"J{n}/label": np.arange(1) for n in range(3)},
        r"3 of its arrays are one picture each, such as .*/image \(8 x 8\); store all pictures as one array N x H x W x C",
    ),
    "several labels": (
        {"images": IMAGES, "a": np.arange(4), "b": np.arange(4)},
        "several arrays may hold the 4 labels of",
    ),
    "several classes": (
        {"images": IMAGES, "labels": np.ones((4, 14), int)},
        "4 x 14 labels, and each picture needs one",
    ),
    "fractions": ({"images": IMAGES, "labels": np.array([0.5, 1, 2, 3])}, "labels are not whole numbers"),
    "huge": (
        {"images": IMAGES, "labels": np.array([0, 1, 2, 2**64 - 1], dtype=np.uint64)},
        "labels are as large as 18446744073709551615",
    ),
}


@pytest.mark.parametrize("suffix", ["npz", "h5"])
@pytest.mark.parametrize("kind", REFUSED)
def test_arrays_without_a_clear_role_are_rejected(tmp_path, kind, suffix):
    arrays, sentence = REFUSED[kind]
    if suffix == "npz":
        np.savez(tmp_path / "a.npz", **arrays)
    else:
        write_hdf5(tmp_path / "a.h5", arrays)
    with pytest.raises(CatalogError, match=sentence):
        ArraySet(root=f"{tmp_path}/a.{suffix}").index()


def test_keys_name_the_arrays(tmp_path, pictures):
    arrays = {"a": pictures[:4], "b": pictures[4:8], "first": [0, 1, 0, 1], "second": [1, 0, 1, 0]}
    np.savez(tmp_path / "a.npz", **arrays)
    data = ArraySet(root=f"{tmp_path}/a.npz", image_key="b", label_key="second")
    assert data.index().rows["label"].to_pylist() == ["1", "0", "1", "0"]
    np.testing.assert_array_equal(read_all(data), pictures[4:8])


def test_python_objects_are_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=np.array([0, 1, "x", None], object))
    with pytest.raises(CatalogError, match="Python objects, which can run code"):
        ArraySet(root=f"{tmp_path}/a.npz").index()


def test_arrays_stored_by_column_are_rejected(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(IMAGES), **WITH_LABELS)
    with pytest.raises(CatalogError, match="column by column; store pictures as N x H x W x 3 numbers, row by row"):
        ArraySet(root=f"{tmp_path}/a.npz").index()


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("shape", [(10**9, 100, 100, 3), (4, 10**6, 10**6, 3), (2**62, 2, 2), (-1, 8, 8), (-5, -10, 2)])
def test_array_that_announces_more_than_it_holds_is_rejected(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", npy_header(shape) + bytes(100))
        archive.writestr("labels.npy", npy_header((shape[0],)) + bytes(100))
    with pytest.raises(CatalogError, match=r"the header announces (.* bytes, and the file holds 100|the shape \(-)"):
        ArraySet(root=f"{tmp_path}/a.npz").index()


def test_hdf5_array_that_announces_more_than_it_holds_is_rejected(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**9, 100, 100, 3), np.uint8, chunks=(1, 100, 100, 3))
        file.create_dataset("ans", (10**9,), np.uint8, chunks=(1000,))
    with pytest.raises(CatalogError, match=r"'\w+' announces 1000000000( x 100 x 100 x 3)? values and holds 0 bytes"):
        ArraySet(root=f"{tmp_path}/a.h5").index()


LIST_ARRAYS = """
import sys
from raydistill.datasets.array_files import open_arrays
from raydistill.errors import CatalogError
try:
    with open_arrays(sys.argv[1]) as file:
        print({name: info.shape for name, info in file.arrays().items()})
except CatalogError as error:
    print(error)
"""


def damaged_index(first_child: int | None) -> bytes:
    """Return an HDF5 file of version 0 with a loop in its group's index.

    The node of the index is its own successor.
    """
    stored = io.BytesIO()
    with h5py.File(stored, "w", libver="earliest") as file:
        file["images"], file["ans"] = np.zeros((2, 4, 4, 3), np.uint8), np.arange(2)
    content = stored.getvalue()
    node = content.index(b"TREE\x00\x00")  # signature, kind 0 (groups), level 0
    successor, child = slice(node + 16, node + 24), slice(node + 32, node + 40)
    damaged = bytearray(content)
    damaged[successor] = node.to_bytes(8, "little")
    if first_child is not None:
        damaged[child] = first_child.to_bytes(8, "little")
    return bytes(damaged)


@pytest.mark.parametrize(
    ("first_child", "shown"),
    [(None, "{'ans': (2,), 'images': (2, 4, 4, 3)}"), (1 << 48, "cannot be read (Unable to get group info")],
)
def test_hdf5_with_a_loop_in_an_index_is_read_or_rejected(tmp_path, first_child, shown):
    """`visititems` of h5py never ends on such files (HDF5 File Format 3.0, III.A.1)."""
    (tmp_path / "a.h5").write_bytes(damaged_index(first_child))
    command = [sys.executable, "-c", LIST_ARRAYS, f"{tmp_path}/a.h5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert shown in done.stdout, done.stderr


def test_group_of_hdf5_in_itself_is_listed_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("a/b")
        file["a/images"] = np.zeros((2, 4, 4, 3), np.uint8)
        group["images"], group["again"] = file["a/images"], file["a"]  # hard links
        group["ans"] = np.arange(2)
    with array_files.open_arrays(f"{tmp_path}/a.h5") as opened:
        shapes = {name: info.shape for name, info in opened.arrays().items()}
    assert shapes == {"a/images": (2, 4, 4, 3), "a/b/ans": (2,)}


def test_links_of_hdf5_into_other_files_are_not_followed(tmp_path, pictures):
    write_hdf5(tmp_path / "secret.h5", {"images": pictures[:4], "labels": [0, 1, 0, 1]})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.ExternalLink("secret.h5", "/images")
        file["labels"] = h5py.SoftLink("/nowhere")
        virtual = h5py.VirtualLayout((4, 32, 32, 3), np.uint8)
        virtual[:] = h5py.VirtualSource(tmp_path / "secret.h5", "images", (4, 32, 32, 3))
        file.create_virtual_dataset("x", virtual)
        file.create_dataset("raw", (4, 8, 8, 3), np.uint8, external=[(str(tmp_path / "secret.h5"), 0, 768)])
    with pytest.raises(CatalogError, match="no array has the shape of pictures: it holds none"):
        ArraySet(root=f"{tmp_path}/a.h5").index()


DAMAGE = {
    "text": b"not an array",
    "half an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "half a zip": b"PK\x03\x04" + bytes(100),
    "half a header": b"\x93NUMPY\x01\x00v\x00{'descr': '|u1'",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_rejected_with_one_sentence(tmp_path, kind):
    (tmp_path / "a.h5").write_bytes(DAMAGE[kind])
    with pytest.raises(CatalogError, match=r"cannot be read|neither HDF5 nor") as error:
        ArraySet(root=f"{tmp_path}/a.h5").index()
    assert "\n" not in str(error.value)


def test_data_cut_short_or_damaged_is_rejected_while_it_is_read(tmp_path, pictures):
    np.savez_compressed(tmp_path / "a.npz", x=pictures[:60], y=LABELS)
    data = ArraySet(root=f"{tmp_path}/a.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[2000:2040] = bytes(40)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(CatalogError, match="cannot be read"):
        list(data.read("a.npz/x", 0, range(60)))


WITHOUT_H5PY = """
import sys
sys.modules["h5py"] = None
from raydistill.datasets.arrays import ArraySet
from raydistill.errors import ConfigError
try:
    ArraySet(root=sys.argv[1]).index()
except ConfigError as error:
    print(error)
"""


def test_missing_h5py_is_named(tmp_path, pictures):
    write_hdf5(tmp_path / "a.h5", galaxy10(pictures))
    command = [sys.executable, "-c", WITHOUT_H5PY, f"{tmp_path}/a.h5"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "the file is HDF5, and h5py is not installed; run pip install 'raydistill[hdf5]'" in shown


PEAK = """
import resource, sys
from raydistill.datasets.arrays import ArraySet
data = ArraySet(root=sys.argv[1])
rows = data.index().rows
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in data.read(rows["path"][0].as_py(), 0, rows["row"].to_pylist()))
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_arrays_are_read_in_blocks(tmp_path, suffix):
    images = np.zeros((1500, 256, 256, 3), np.uint8)
    if suffix == "npz":
        np.savez(tmp_path / "a.npz", images=images, labels=np.arange(1500) % 2)
    else:
        write_hdf5(tmp_path / "a.h5", {"images": images, "labels": np.arange(1500) % 2})
    command = [sys.executable, "-c", PEAK, f"{tmp_path}/a.{suffix}"]
    count, grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(count) == 1500
    assert int(grown) < 5 * array_files.BYTES_AT_ONCE / 1000, "kB of 300 MB"
