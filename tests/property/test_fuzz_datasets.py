"""Damaged data sets and odd folders give pictures, or one sentence of rejection."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raydistill.datasets.arrays import ArraySet
from raydistill.datasets.base import DataSet, PackedDataSet
from raydistill.datasets.binary import Cifar10, Idx
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.galaxies.pictures.images import RejectedImage
from tests.property.fuzz import damage, fast_or_long, rejected, repeat

WORDS = (
    "train",
    "test",
    "val",
    "Train",
    "cat",
    "dog",
    "7",
    "a b",
    "é",
    ".hidden",
    "training_set",
    "images",
    "-x",
    "a\nb",
)


def png(random: Random, side: int = 8) -> bytes:
    rng, content = np.random.default_rng(random.getrandbits(32)), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(content, format="PNG")
    return content.getvalue()


def write_folder(root: Path, random: Random) -> DataSet:
    """Write pictures at random depths below folders with usual and unusual names."""
    for number in range(random.randint(1, 12)):
        folder = root.joinpath(*(random.choice(WORDS) for _ in range(random.randint(0, 4))))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}{random.choice(['.png', '.PNG', '.jpg', '.txt'])}").write_bytes(png(random))
    return ImageFolder(root=str(root))


def write_parquet(root: Path, random: Random) -> DataSet:
    count = random.randint(1, 20)
    pictures = [{"bytes": png(random), "path": None} for _ in range(count)]
    labels = [0, *(random.choice([0, 1, -1]) for _ in range(count - 1))]  # at least one picture has a label
    pq.write_table(pa.table({"image": pictures, "label": labels}), root / "train-00000-of-00001.parquet")
    return ImageTable(root=str(root))


def write_idx(root: Path, random: Random) -> DataSet:
    count = random.randint(1, 20)
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (count, 6, 6))
    (root / "train-images-idx3-ubyte").write_bytes(header + random.randbytes(count * 36))
    labels = bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + bytes(k % 3 for k in range(count))
    (root / "train-labels-idx1-ubyte").write_bytes(labels)
    return Idx(root=str(root))


def write_cifar(root: Path, random: Random) -> DataSet:
    for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
        (root / name).write_bytes(b"".join(bytes([k % 10]) + random.randbytes(3072) for k in range(3)))
    return Cifar10(root=str(root))


def write_arrays(root: Path, random: Random) -> DataSet:
    count = random.randint(1, 20)
    arrays = {"images": np.frombuffer(random.randbytes(count * 192), np.uint8).reshape(count, 8, 8, 3)}
    arrays["labels"] = np.arange(count) % 3
    if random.random() < 0.5:
        random.choice([np.savez, np.savez_compressed])(root / "a.npz", **arrays)
        return ArraySet(root=str(root))
    with h5py.File(root / "a.h5", "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, compression=random.choice([None, "gzip"]))
    return ArraySet(root=str(root))


def write_zip(root: Path, random: Random) -> DataSet:
    with zipfile.ZipFile(root / "a.zip", "w", random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for number in range(random.randint(1, 12)):
            archive.writestr(f"{random.choice(WORDS)}/{random.choice(WORDS)}/{number}.png", png(random))
    return ImageFolder(root=f"{root}/a.zip")


def read_pictures(data: DataSet) -> int:
    """Read all pictures of a data set as the stage does; return how many are rejected."""
    rows, num_rejected = data.index().rows.to_pylist(), 0
    for path, row_group in dict.fromkeys((row["path"], row["row_group"]) for row in rows):
        selected = [row["row"] for row in rows if (row["path"], row["row_group"]) == (path, row_group)]
        is_packed = isinstance(data, PackedDataSet)
        sources = data.read(path, row_group, selected) if is_packed else [f"{data.root}/{path}"]
        for source in sources:
            try:
                pixels = data.decode(source)
            except RejectedImage:
                num_rejected += 1
                continue
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
    return num_rejected


def check_dataset(random: Random) -> None:
    write = random.choice([write_folder, write_parquet, write_idx, write_cifar, write_arrays, write_zip])
    with tempfile.TemporaryDirectory() as folder:
        data = write(Path(folder), random)
        is_damaged = random.random() < 0.7
        if is_damaged:
            file = random.choice([path for path in Path(folder).rglob("*") if path.is_file()])
            file.write_bytes(damage(file.read_bytes(), random))
        num_rejected = rejected(lambda: read_pictures(data))
    if not is_damaged and write not in (write_folder, write_zip):
        assert num_rejected == 0


@fast_or_long
def test_damaged_data_set_is_rejected_or_gives_its_pictures(seconds: float) -> None:
    repeat(check_dataset, seconds)
