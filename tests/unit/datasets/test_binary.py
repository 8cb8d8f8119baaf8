"""Tests of CIFAR's binary version and IDX files.

Files that are written as specified are read back pixel for pixel.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_files import BATCHES, CLASSES, cut, planes, read_all, write_mnist

from raydistill.datasets import base, binary
from raydistill.datasets.binary import Cifar10, Cifar100, Idx
from raydistill.errors import CatalogError


def records(pictures: np.ndarray, *labels: np.ndarray) -> bytes:
    """Return label bytes, then the red, green and blue planes, row by row."""
    return np.column_stack([*labels, planes(pictures)]).astype(np.uint8).tobytes()


def write_cifar10(root: Path, pictures: np.ndarray) -> np.ndarray:
    """Write ten pictures into each batch; return the labels [60]."""
    labels = np.arange(60) * 7 % 10
    for number, name in enumerate(BATCHES):
        rows = slice(10 * number, 10 * number + 10)
        (root / f"{name}.bin").write_bytes(records(pictures[rows], labels[rows]))
    (root / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    return labels


def test_cifar10_has_its_pixels_labels_and_official_split(tmp_path: Path, pictures: np.ndarray) -> None:
    labels = write_cifar10(tmp_path, pictures)
    names, rows = Cifar10(root=str(tmp_path)).index()
    assert names == CLASSES
    assert rows["label"].to_pylist() == [CLASSES[label] for label in labels]
    assert rows["part"].to_pylist() == ["train"] * 50 + ["test"] * 10
    assert rows["object_id"].to_pylist() == [f"train/{n:07d}" for n in range(50)] + [f"test/{n:07d}" for n in range(10)]
    np.testing.assert_array_equal(read_all(Cifar10(root=str(tmp_path))), pictures[:60])


def test_selected_rows_are_read_across_blocks_and_row_groups(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path, pictures)
    monkeypatch.setattr(binary, "RECORDS_AT_ONCE", 3)
    monkeypatch.setattr(base, "ROWS_PER_GROUP", 4)
    data = Cifar10(root=str(tmp_path))
    np.testing.assert_array_equal(read_all(data), pictures[:60])
    some = [data.decode(source) for source in data.read("data_batch_3.bin", 0, [0, 2, 3, 8])]
    np.testing.assert_array_equal(some, pictures[[20, 22, 23, 28]])


def test_classes_of_cifar10_without_names_are_numerals(tmp_path: Path, pictures: np.ndarray) -> None:
    write_cifar10(tmp_path, pictures)
    (tmp_path / "batches.meta.txt").unlink()
    assert Cifar10(root=str(tmp_path)).index().names == [str(label) for label in range(10)]


@pytest.mark.parametrize(("labels", "count"), [("fine", 100), ("coarse", 20)])
def test_cifar100_has_the_requested_labels(tmp_path: Path, pictures: np.ndarray, labels: str, count: int) -> None:
    coarse, fine = np.arange(70) % 20, np.arange(70) * 3 % 100
    (tmp_path / "train.bin").write_bytes(records(pictures[:50], coarse[:50], fine[:50]))
    (tmp_path / "test.bin").write_bytes(records(pictures[50:], coarse[50:], fine[50:]))
    for name, number in (("fine", 100), ("coarse", 20)):
        lines = "".join(f"{name}_{label}\n" for label in range(number))
        (tmp_path / f"{name}_label_names.txt").write_text(lines)
    data = Cifar100(root=str(tmp_path), labels="fine" if labels == "fine" else "coarse")
    names, rows = data.index()
    assert names == [f"{labels}_{label}" for label in range(count)]
    assert rows["label"].to_pylist() == [names[label] for label in (fine if labels == "fine" else coarse)]
    assert rows["part"].to_pylist() == ["train"] * 50 + ["test"] * 20
    np.testing.assert_array_equal(read_all(data), pictures)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_have_their_pixels_labels_and_official_split(
    tmp_path: Path, pictures: np.ndarray, suffix: str
) -> None:
    grey = pictures[:60, :28, 2:32, 1]  # 28 x 30: detects a transposition
    labels = write_mnist(tmp_path, grey, suffix)
    data = Idx(root=str(tmp_path))
    names, rows = data.index()
    assert names == [str(label) for label in range(7)]
    assert rows["label"].to_pylist() == [str(label) for label in labels]
    assert rows["part"].to_pylist() == ["train"] * 50 + ["test"] * 10
    pixels = read_all(data)
    assert pixels.shape == (60, 28, 30, 3)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], grey)


def test_folder_with_a_name_like_an_idx_file_is_read(tmp_path: Path, pictures: np.ndarray) -> None:
    (tmp_path / "mnist-images").mkdir()
    write_mnist(tmp_path / "mnist-images", pictures[:60, :28, 2:32, 1], "")
    assert len(Idx(root=str(tmp_path)).index().rows) == 60


def test_idx_prefers_uncompressed_files_and_uses_class_names(tmp_path: Path, pictures: np.ndarray) -> None:
    """torchvision leaves the archives beside their content."""
    write_mnist(tmp_path, pictures[:60, ..., 0], ".gz")
    write_mnist(tmp_path, pictures[:60, ..., 0])
    data = Idx(root=str(tmp_path), class_names=tuple("abcdefg"))
    names, rows = data.index()
    assert names == list("abcdefg")
    assert len(rows) == 60
    assert all(not name.endswith(".gz") for name in data.files())


def test_digest_depends_only_on_the_files_of_the_data_set(tmp_path: Path, pictures: np.ndarray) -> None:
    write_cifar10(tmp_path, pictures)
    data = Cifar10(root=str(tmp_path))
    before = data.digest()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x").write_text("y")
    assert data.digest() == before
    (tmp_path / "test_batch.bin").write_bytes(records(pictures[:3], np.arange(3)))
    assert data.digest() != before


def python_version(root: Path) -> None:
    for name in BATCHES:
        (root / f"{name}.bin").unlink()
        (root / name).write_bytes(pickle.dumps({}))


BAD_CIFAR: list[tuple[Callable[[Path], object], str]] = [
    (cut("data_batch_4.bin", 3073 * 4 + 9), "data_batch_4.bin: the file ends within a record of 3073 bytes; download it again, and check"),
    (lambda root: (root / "data_batch_2.bin").unlink(), "there is no file 'data_batch_2.bin'; set survey.root to the folder that holds"),
    (python_version, "'data_batch_1' belongs to CIFAR's Python version; set survey.kind=torchvision and survey.dataset=CIFAR10"),
    (lambda root: (root / "test_batch.bin").write_bytes(bytes([77] * 3073)), "test_batch.bin: a picture has the label 77, but there are"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "sentence"), BAD_CIFAR)
def test_damaged_cifar_gives_a_fix(
    tmp_path: Path, pictures: np.ndarray, spoil: Callable[[Path], object], sentence: str
) -> None:
    write_cifar10(tmp_path, pictures)
    spoil(tmp_path)
    with pytest.raises(CatalogError) as caught:
        Cifar10(root=str(tmp_path)).index()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folder_gives_a_fix() -> None:
    with pytest.raises(CatalogError, match=r"nowhere: there is no such data set; check survey\.root"):
        Cifar10(root="nowhere").digest()


HUGE_IDX = bytes([0, 0, 8, 3, 0, 0, 0, 50]) + b"\xff" * 8  # 50 pictures of 4294967295 x 4294967295
BAD_IDX: list[tuple[Callable[[Path], object], str]] = [
    (cut("train-images-idx3-ubyte", 16 + 1024 * 20), "train-images-idx3-ubyte: 20 of 50 pictures and 50 of 50 labels are complete; down"),
    (cut("train-images-idx3-ubyte", 16 + 1024 * 20 + 5), "train-images-idx3-ubyte: the file ends within a record of 1024 bytes"),
    (cut("t10k-labels-idx1-ubyte", 8 + 4), "t10k-images-idx3-ubyte: 10 of 10 pictures and 4 of 10 labels are complete"),
    (cut("t10k-images-idx3-ubyte", 7), "t10k-images-idx3-ubyte: this is not an IDX file of bytes with 3 dimensions; download it again"),
    (lambda root: (root / "train-images-idx3-ubyte").write_bytes(HUGE_IDX), "announces records of 18446744065119617025 bytes"),
    (lambda root: (root / "t10k-labels-idx1-ubyte").unlink(), "there is no file 't10k-labels-idx1-ubyte' for 't10k-images-idx3-ubyte'"),
    (lambda root: [path.unlink() for path in root.iterdir()], "no file such as train-images-idx3-ubyte or train-images-idx3-ubyte.gz"),
    (lambda root: (root / "b-train-images-idx3-ubyte").write_bytes(b""), "there is no file 'b-train-labels-idx1-ubyte'"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "sentence"), BAD_IDX)
def test_damaged_idx_files_give_a_fix(
    tmp_path: Path, pictures: np.ndarray, spoil: Callable[[Path], object], sentence: str
) -> None:
    write_mnist(tmp_path, pictures[:60, ..., 0])
    spoil(tmp_path)
    with pytest.raises(CatalogError) as caught:
        Idx(root=str(tmp_path)).index()
    assert sentence in str(caught.value)


def test_truncated_compressed_file_is_an_error(tmp_path: Path, pictures: np.ndarray) -> None:
    write_mnist(tmp_path, pictures[:60, ..., 0], ".gz")
    cut("train-images-idx3-ubyte.gz", 9000)(tmp_path)
    with pytest.raises(
        CatalogError, match=r"train-images-idx3-ubyte.gz: cannot be read \(Truncated compressed stream\)"
    ):
        Idx(root=str(tmp_path)).index()


def test_two_data_sets_in_a_folder_are_an_error(tmp_path: Path, pictures: np.ndarray) -> None:
    for name in ("MNIST", "KMNIST"):
        (tmp_path / name).mkdir()
        write_mnist(tmp_path / name, pictures[:60, ..., 0])
    with pytest.raises(CatalogError, match=r"are two data sets; set survey\.root to a folder with one of them"):
        Idx(root=str(tmp_path)).index()
