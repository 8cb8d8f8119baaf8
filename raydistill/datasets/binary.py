"""Data sets of records of equal length: CIFAR's binary version and the IDX files of MNIST and its likes.

CIFAR-10: a byte of label, then 3072 of pixels, the red plane first, row by row. CIFAR-100: coarse label, fine label, pixels
(https://www.cs.toronto.edu/~kriz/cifar.html). IDX: two zero bytes, a type (8: unsigned bytes), the number of dimensions, their sizes as
big-endian int32, and the bytes (http://yann.lecun.com/exdb/mnist). The python version of CIFAR is pickles, and reading a
pickle runs whatever code is in it: it is refused.
"""

from __future__ import annotations

import re
import struct
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from raydistill.datasets.base import StoredSet, file_rows, listing, named, within
from raydistill.errors import CatalogError
from raydistill.galaxies.sources import Source, read_source
from raydistill.storage import open_stream

RECORDS_AT_ONCE = 1024

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


def _blocks(uri: str, skip: int, size: int) -> Iterator[bytes]:
    """The file's records of `size` bytes behind the first `skip` bytes, a thousand at a time; it is decompressed by its suffix."""
    fix = "fetch it again, and check that survey.kind is what it holds"
    try:
        with open_stream(uri) as stream:
            stream.read(skip)
            while block := stream.read(size * RECORDS_AT_ONCE):
                if len(block) % size:
                    raise CatalogError(f"the file ends within a record of {size} bytes", uri, fix)
                yield block
    except (OSError, EOFError) as error:
        raise CatalogError(f"cannot be read ({' '.join(str(error).split())})", uri, fix) from error


def _picked(uri: str, skip: int, size: int, rows: Sequence[int]) -> Iterator[bytes]:
    """The records of these rows (rising)."""
    first = 0
    for block in _blocks(uri, skip, size):
        count = len(block) // size
        for row in within(rows, first, count):
            yield block[(row - first) * size : (row - first + 1) * size]
        first += count
        if first > rows[-1]:
            return


@dataclass(frozen=True, kw_only=True)
class _Cifar(StoredSet):
    """A folder with the files of CIFAR's binary version."""

    @property
    @abstractmethod
    def _layout(self) -> tuple[Mapping[str, str], int, int, str, int]:
        """Split of each file, bytes of labels, which of them is the label, the file of names, number of classes."""

    @property
    def _record(self) -> int:
        return self._layout[1] + _PIXELS

    def files(self) -> dict[str, int]:
        found, (wanted, _, _, names, _) = listing(self.root), self._layout
        for name in wanted:
            if name not in found and name.removesuffix(".bin") in found:
                raise CatalogError(
                    f"'{name.removesuffix('.bin')}' belongs to CIFAR's Python version", self.root,
                    f"set survey.kind=torchvision and survey.dataset={type(self).__name__.upper()}",
                )  # fmt: skip
            if name not in found:
                raise CatalogError(
                    f"there is no file '{name}'", self.root, "set survey.root to the folder that holds it"
                )
        return {name: size for name, size in found.items() if name in wanted or name == names}

    def _rows(self) -> tuple[Sequence[str], pa.Table]:
        parts, _, at, names_file, num_classes = self._layout
        there = self.files()
        names: Sequence[str] = self.class_names or [str(label) for label in range(num_classes)]
        if names_file in there:
            with open_stream(f"{self.root}/{names_file}") as stream:
                names = [line.strip() for line in stream.read().decode().splitlines() if line.strip()]
        tables = []
        for name, part in parts.items():
            uri = f"{self.root}/{name}"
            blocks = [
                np.frombuffer(b, np.uint8).reshape(-1, self._record)[:, at].copy()
                for b in _blocks(uri, 0, self._record)
            ]
            labels = np.concatenate([np.empty(0, np.uint8), *blocks]).astype(np.int64)
            tables.append(file_rows(name, part, named(labels, names, uri)))
        return names, pa.concat_tables(tables)

    def read(self, path: str, piece: int, rows: Sequence[int]) -> Iterator[Source]:
        yield from _picked(f"{self.root}/{path}", 0, self._record, rows)

    def decode(self, source: Source) -> np.ndarray:
        content, _ = read_source(source)
        planes = np.frombuffer(content[-_PIXELS:], np.uint8).reshape(3, _SIDE, _SIDE)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))


@dataclass(frozen=True, kw_only=True)
class Cifar10(_Cifar):
    """`cifar-10-batches-bin`: data_batch_1.bin … data_batch_5.bin, test_batch.bin; names from batches.meta.txt."""

    kind: Literal["cifar10"] = "cifar10"

    @property
    def _layout(self) -> tuple[Mapping[str, str], int, int, str, int]:
        train = {f"data_batch_{number}.bin": "train" for number in range(1, 6)}
        return train | {"test_batch.bin": "test"}, 1, 0, "batches.meta.txt", 10


@dataclass(frozen=True, kw_only=True)
class Cifar100(_Cifar):
    """`cifar-100-binary`: train.bin, test.bin; names from {fine,coarse}_label_names.txt. labels: the 100 fine or the 20 coarse classes."""

    labels: Literal["fine", "coarse"] = "fine"
    kind: Literal["cifar100"] = "cifar100"

    @property
    def _layout(self) -> tuple[Mapping[str, str], int, int, str, int]:
        parts = {"train.bin": "train", "test.bin": "test"}
        fine = self.labels == "fine"
        return parts, 2, int(fine), f"{self.labels}_label_names.txt", 100 if fine else 20


# train-images-idx3-ubyte.gz, t10k-images.idx3-ubyte, emnist-letters-test-images-idx3-ubyte.gz
_IMAGES = re.compile(r"(?:.*[-/])?(train|t10k|test)-images[-.]idx3-ubyte(?:\.gz)?")


@dataclass(frozen=True, kw_only=True)
class Idx(StoredSet):
    """A folder with the IDX files of MNIST, FashionMNIST or KMNIST, plain or as .gz. Grey becomes three equal channels."""

    kind: Literal["idx"] = "idx"

    def files(self) -> dict[str, int]:
        found = listing(self.root)
        return {name: found[name] for pair in self._pairs(found).values() for name in pair}

    def _pairs(self, found: Mapping[str, int]) -> dict[str, tuple[str, str]]:
        """Split -> files of pictures and of labels; where a file lies there twice, the one that is not compressed."""
        pairs: dict[str, tuple[str, str]] = {}
        for name in sorted(found, key=lambda name: (name.endswith(".gz"), name)):
            if match := _IMAGES.fullmatch(name):
                part = "train" if match[1] == "train" else "test"
                folder, _, file = name.rpartition("/")
                labels = file.replace("-images", "-labels").replace("idx3", "idx1")
                labels = f"{folder}/{labels}" if folder else labels
                there = next(
                    (label for label in (labels, f"{labels}.gz", labels.removesuffix(".gz")) if label in found), None
                )
                if there is None:
                    raise CatalogError(f"there is no file '{labels}' for '{name}'", self.root, "fetch the labels too")
                first = pairs.setdefault(part, (name, there))[0]
                if first != name.removesuffix(".gz") and first != name:
                    raise CatalogError(
                        f"'{first}' and '{name}' are two data sets", self.root, "give a folder with one of them"
                    )
        if not pairs:
            raise CatalogError(
                "no file is called like train-images-idx3-ubyte or its .gz", self.root, "check survey.root"
            )
        return pairs

    def _rows(self) -> tuple[Sequence[str], pa.Table]:
        tables = []
        for part, (pictures, labels) in sorted(self._pairs(listing(self.root)).items(), reverse=True):
            at = f"{self.root}/{pictures}"
            (count, height, width), (num_labels,) = _sizes(at, 3), _sizes(f"{self.root}/{labels}", 1)
            read = sum(len(block) // (height * width) for block in _blocks(at, 16, height * width))
            values = np.frombuffer(b"".join(_blocks(f"{self.root}/{labels}", 8, 1)), np.uint8).astype(np.int64)
            if not count == read == num_labels == len(values):
                what = f"{read} of {count} pictures and {len(values)} of {num_labels} labels are there"
                raise CatalogError(what, at, "fetch both files again")
            tables.append(file_rows(pictures, part, named(values, self.class_names, at)))
        return self.class_names, pa.concat_tables(tables)

    def read(self, path: str, piece: int, rows: Sequence[int]) -> Iterator[Source]:
        """Each picture as an IDX file of its own."""
        uri = f"{self.root}/{path}"
        _, height, width = _sizes(uri, 3)
        head = struct.pack(">HBB3I", 0, 8, 3, 1, height, width)
        for record in _picked(uri, 16, height * width, rows):
            yield head + record

    def decode(self, source: Source) -> np.ndarray:
        content, _ = read_source(source)
        height, width = struct.unpack_from(">2I", content, 8)
        grey = np.frombuffer(content, np.uint8, offset=16).reshape(height, width, 1)
        return np.repeat(grey, 3, axis=2)


def _sizes(uri: str, dimensions: int) -> tuple[int, ...]:
    """The sizes in the header of an IDX file of bytes."""
    try:
        with open_stream(uri) as stream:
            head = stream.read(4 + 4 * dimensions)
    except OSError as error:
        raise CatalogError(f"cannot be read ({' '.join(str(error).split())})", uri, "fetch it again") from error
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, 8, dimensions)):
        raise CatalogError(f"this is no IDX file of bytes with {dimensions} dimensions", uri, "fetch it again")
    return struct.unpack(f">{dimensions}I", head[4:])
