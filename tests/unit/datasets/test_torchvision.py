"""Read small data sets in the official formats with torchvision's readers."""

from __future__ import annotations

import bz2
import functools
import hashlib
import importlib.util
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from dataset_files import (
    CLASSES,
    cut,
    planes,
    read_all,
    write_cifar10_pickles,
    write_idx,
    write_mnist,
    write_pickle,
)

from raydistill.datasets import base, torchvision
from raydistill.datasets.binary import Idx
from raydistill.datasets.torchvision import TorchvisionSet
from raydistill.errors import CatalogError, ConfigError

READERS = torchvision._import_readers()
IDS = [f"train/{n:07d}" for n in range(50)] + [f"test/{n:07d}" for n in range(10)]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def make_official(monkeypatch: pytest.MonkeyPatch, dataset: str, folder: Path) -> None:
    """Replace torchvision's official md5 sums with those of these small files."""
    reader = getattr(READERS, dataset)
    for key in ("train_list", "test_list"):
        listed = [[name, md5(folder / name)] for name, _ in getattr(reader, key)]
        monkeypatch.setattr(reader, key, listed)
    if hasattr(reader, "meta"):
        monkeypatch.setattr(reader, "meta", reader.meta | {"md5": md5(folder / reader.meta["filename"])})


@pytest.fixture
def cifar10(tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar10_pickles(folder, pictures)
    make_official(monkeypatch, "CIFAR10", folder)
    return folder


@pytest.mark.parametrize("root", [".", ".."])
def test_cifar10_gives_its_pixels_labels_and_official_split(cifar10: Path, pictures: np.ndarray, root: str) -> None:
    data = TorchvisionSet(dataset="CIFAR10", root=str((cifar10 / root).resolve()))
    names, rows = data.index()
    assert names == CLASSES
    assert rows["label"].to_pylist() == [CLASSES[label] for label in np.arange(60) * 7 % 10]
    assert rows["part"].to_pylist() == ["train"] * 50 + ["test"] * 10
    assert rows["object_id"].to_pylist() == IDS
    np.testing.assert_array_equal(read_all(data), pictures[:60])


def test_rows_are_read_across_blocks(cifar10: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "ROWS_PER_GROUP", 4)
    data = TorchvisionSet(dataset="CIFAR10", root=str(cifar10))
    np.testing.assert_array_equal(read_all(data), pictures[:60])


def test_cifar100_has_the_fine_classes(tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-100-python"
    fine = np.arange(70) * 3 % 100
    for part, rows in (("train", slice(0, 50)), ("test", slice(50, 70))):
        write_pickle(folder / part, {"data": planes(pictures[rows]), "fine_labels": fine[rows].tolist()})
    write_pickle(folder / "meta", {"fine_label_names": [f"class {n}" for n in range(100)]})
    make_official(monkeypatch, "CIFAR100", folder)
    data = TorchvisionSet(dataset="CIFAR100", root=str(tmp_path))
    assert data.index().rows["label"].to_pylist() == [f"class {label}" for label in fine]
    np.testing.assert_array_equal(read_all(data), pictures)


@pytest.mark.parametrize("dataset", ["MNIST", "FashionMNIST", "KMNIST"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inside", [".", "raw", "DATASET/raw"])
def test_idx_files_plain_or_compressed(
    tmp_path: Path, pictures: np.ndarray, dataset: Any, suffix: str, inside: str
) -> None:
    grey = pictures[:60, :28, 2:32, 1]  # 28 x 30 px: rows and columns differ
    labels = write_mnist(tmp_path / inside.replace("DATASET", dataset), grey, suffix)
    data = TorchvisionSet(dataset=dataset, root=str(tmp_path), class_names=tuple("0123456789"))
    names, rows = data.index()
    assert names == list("0123456789")
    assert rows["label"].to_pylist() == [str(label) for label in labels]
    assert rows["object_id"].to_pylist() == IDS
    np.testing.assert_array_equal(read_all(data), np.repeat(grey[..., None], 3, axis=3))


def test_root_in_the_home_folder_is_found(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_mnist(tmp_path / "MNIST" / "raw", pictures[:60, ..., 0])
    data = TorchvisionSet(dataset="MNIST", root="~")
    assert len(data.index().rows) == 60
    assert data.digest() == TorchvisionSet(dataset="MNIST", root=str(tmp_path)).digest()


def test_the_kinds_idx_and_torchvision_agree(tmp_path: Path, pictures: np.ndarray) -> None:
    write_mnist(tmp_path, pictures[:60, ..., 0], ".gz")
    old, new = Idx(root=str(tmp_path)), TorchvisionSet(dataset="MNIST", root=str(tmp_path))
    assert old.index().rows["object_id"] == new.index().rows["object_id"]
    assert [name[0] for name in new.index().rows["label"].to_pylist()] == old.index().rows["label"].to_pylist()
    np.testing.assert_array_equal(read_all(old), read_all(new))


def test_fashion_mnist_has_its_own_class_names(tmp_path: Path, pictures: np.ndarray) -> None:
    write_mnist(tmp_path, pictures[:60, ..., 0])
    assert TorchvisionSet(dataset="FashionMNIST", root=str(tmp_path)).index().names[:2] == ["T-shirt/top", "Trouser"]


def test_emnist_reads_the_requested_split(tmp_path: Path, pictures: np.ndarray) -> None:
    for part, rows in (("train", slice(0, 50)), ("test", slice(50, 60))):
        write_idx(tmp_path / f"emnist-digits-{part}-images-idx3-ubyte", pictures[rows, ..., 0])
        write_idx(tmp_path / f"emnist-digits-{part}-labels-idx1-ubyte", np.arange(60)[rows] % 10)
    data = TorchvisionSet(dataset="EMNIST", emnist_split="digits", root=str(tmp_path))
    assert data.index().names == list("0123456789")
    np.testing.assert_array_equal(read_all(data)[..., 2], pictures[:60, ..., 0])
    with pytest.raises(CatalogError, match="emnist-balanced-train-images-idx3-ubyte"):
        TorchvisionSet(dataset="EMNIST", root=str(tmp_path)).index()


def test_svhn_counts_the_digit_0_as_0(tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = dict(READERS.SVHN.split_list)
    labels = np.arange(60) % 10
    for part, rows in (("train", slice(0, 50)), ("test", slice(50, 60))):
        path = tmp_path / f"{part}_32x32.mat"
        stored = {"X": pictures[rows].transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[rows, None]}
        scipy.io.savemat(path, stored)
        listed[part] = [listed[part][0], path.name, md5(path)]
    monkeypatch.setattr(READERS.SVHN, "split_list", listed)
    data = TorchvisionSet(dataset="SVHN", root=str(tmp_path))
    assert data.index().names == list("0123456789")
    assert data.index().rows["label"].to_pylist() == [str(label) for label in labels]
    np.testing.assert_array_equal(read_all(data), pictures[:60])


def test_stl10_is_read_with_its_names(tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    large = pictures[:60].repeat(3, axis=1).repeat(3, axis=2)  # 96 x 96 px
    for part, rows in (("train", slice(0, 50)), ("test", slice(50, 60)), ("unlabeled", slice(0, 1))):
        (tmp_path / f"{part}_X.bin").write_bytes(large[rows].transpose(0, 3, 2, 1).tobytes())
        (tmp_path / f"{part}_y.bin").write_bytes((np.arange(60)[rows] % 10 + 1).astype(np.uint8).tobytes())
    (tmp_path / "class_names.txt").write_text("\n".join(CLASSES) + "\n")
    make_official(monkeypatch, "STL10", tmp_path)
    data = TorchvisionSet(dataset="STL10", root=str(tmp_path))
    assert data.index().names == CLASSES
    np.testing.assert_array_equal(read_all(data), large)


def test_usps_is_read_from_its_text(tmp_path: Path) -> None:
    for name, count in (("usps.bz2", 20), ("usps.t.bz2", 10)):
        lines = [
            f"{n % 10 + 1} " + " ".join(f"{i + 1}:{(n + i) % 2 * 2 - 1}" for i in range(256)) for n in range(count)
        ]
        (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    data = TorchvisionSet(dataset="USPS", root=str(tmp_path))
    assert data.index().names == list("0123456789")
    assert data.index().rows["part"].to_pylist() == ["train"] * 20 + ["test"] * 10
    expected = (np.arange(30) % 20 % 2)[:, None] ^ np.arange(256) % 2
    np.testing.assert_array_equal(read_all(data)[..., 0], 255 * expected.reshape(30, 16, 16))


def test_files_that_are_not_official_are_never_unpickled(tmp_path: Path, pictures: np.ndarray) -> None:
    write_cifar10_pickles(tmp_path, pictures)
    marker = tmp_path / "opened"
    (tmp_path / "test_batch").write_bytes(f"cos\nmkdir\n(V{marker}\ntR.".encode())
    with pytest.raises(
        CatalogError,
        match=r"torchvision cannot read the files of CIFAR10 \(an md5 sum is not the official one\); download the official",
    ):
        TorchvisionSet(dataset="CIFAR10", root=str(tmp_path)).index()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (cut("train-images-idx3-ubyte", 16 + 1024 * 20), "torchvision cannot read the files of MNIST ("),
        (cut("train-images-idx3-ubyte", 5), "torchvision cannot read the files of MNIST ("),
        (lambda root: write_idx(root / "t10k-labels-idx1-ubyte", np.arange(4)), "the test split of MNIST has 10 images and 4 labels"),
        (lambda root: (root / "t10k-labels-idx1-ubyte").unlink(), "MNIST needs the files train-images-idx3-ubyte, "),
    ],
)  # fmt: skip
def test_damaged_idx_files(
    tmp_path: Path, pictures: np.ndarray, spoil: Callable[[Path], object], sentence: str
) -> None:
    write_mnist(tmp_path, pictures[:60, ..., 0])
    spoil(tmp_path)
    with pytest.raises(CatalogError) as caught:
        TorchvisionSet(dataset="MNIST", root=str(tmp_path)).index()
    assert str(caught.value).startswith(f"{tmp_path}: {sentence}")
    assert "\n" not in str(caught.value)


def test_download_fetches_missing_files_once(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, root = tmp_path / "server", tmp_path / "root"
    write_mnist(server, pictures[:60, ..., 0], ".gz")
    listed = [(name, md5(server / name)) for name, _ in READERS.MNIST.resources]
    monkeypatch.setattr(READERS.MNIST, "resources", listed)
    data = TorchvisionSet(dataset="MNIST", root=str(root), download=True)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(server))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        monkeypatch.setattr(READERS.MNIST, "mirrors", [f"http://127.0.0.1:{http.server_port}/"])
        before = data.digest()
        http.shutdown()
    assert data.digest() == before == TorchvisionSet(dataset="MNIST", root=str(root)).digest()
    np.testing.assert_array_equal(read_all(data)[..., 0], pictures[:60, ..., 0])


def test_download_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(READERS.MNIST, "mirrors", [f"{(tmp_path / 'nowhere').as_uri()}/"])
    with pytest.raises(CatalogError, match=r"MNIST cannot be downloaded \(.*\); check the connection") as caught:
        TorchvisionSet(dataset="MNIST", root=str(tmp_path), download=True).digest()
    assert "\n" not in str(caught.value)


def test_remote_root_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"survey\.root: torchvision reads local files only; copy the data set"):
        TorchvisionSet(dataset="MNIST", root="s3://bucket/mnist").digest()


def test_missing_torchvision_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="torchvision is not installed; run 'pip install torchvision'"):
        TorchvisionSet(dataset="MNIST", root=str(tmp_path)).digest()
