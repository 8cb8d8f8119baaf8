"""Write small data sets in official file formats, read them, and cut their files."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from raydistill.datasets.base import PackedDataSet

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def planes(pictures: np.ndarray) -> np.ndarray:
    """Return red, green and blue planes of pictures, row by row; uint8 `[N, 3 H W]`."""
    return pictures.transpose(0, 3, 1, 2).reshape(len(pictures), -1)


def read_all(data: PackedDataSet) -> np.ndarray:
    """Return the pixels of every picture in the index, read by row group."""
    rows = data.index().rows.to_pylist()
    pixels = []
    for path, row_group in dict.fromkeys((row["path"], row["row_group"]) for row in rows):
        selected = [row["row"] for row in rows if (row["path"], row["row_group"]) == (path, row_group)]
        pixels += [data.decode(source) for source in data.read(path, row_group, selected)]
    return np.stack(pixels)


def cut(name: str, size: int) -> Callable[[Path], object]:
    """Return a function that shortens a file of a folder to `size` bytes."""
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:size])


def write_idx(path: Path, values: np.ndarray) -> None:
    content = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(root: Path, grey: np.ndarray, suffix: str = "") -> np.ndarray:
    """Write fifty training pictures and ten test pictures; return the labels [60]."""
    root.mkdir(parents=True, exist_ok=True)
    labels = np.arange(60) % 7
    for name, rows in (("train", slice(0, 50)), ("t10k", slice(50, 60))):
        write_idx(root / f"{name}-images-idx3-ubyte{suffix}", grey[rows])
        write_idx(root / f"{name}-labels-idx1-ubyte{suffix}", labels[rows])
    return labels


def write_pickle(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_cifar10_pickles(root: Path, pictures: np.ndarray) -> np.ndarray:
    """Write ten pictures into each batch of the Python version; return labels [60]."""
    labels = np.arange(60) * 7 % 10
    for number, name in enumerate(BATCHES):
        rows = slice(10 * number, 10 * number + 10)
        write_pickle(root / name, {"data": planes(pictures[rows]), "labels": labels[rows].tolist()})
    write_pickle(root / "batches.meta", {"label_names": CLASSES})
    return labels
