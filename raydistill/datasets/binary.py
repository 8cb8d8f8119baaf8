"""Data sets of fixed-length records: binary CIFAR, and IDX files such as MNIST.

CIFAR-10: one label byte, then 3072 pixel bytes, the red plane first, row by row. CIFAR-100: coarse
label, fine label, pixels (https://www.cs.toronto.edu/~kriz/cifar.html).

IDX: two zero bytes, a type (8: unsigned bytes), the number of dimensions, their sizes as big-endian
int32, and the bytes (http://yann.lecun.com/exdb/mnist).

The Python version of CIFAR is read with torchvision, which checks its pickles.
"""

from __future__ import annotations

import re
import struct
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from raydistill.datasets.base import PackedDataSet, file_rows, list_files, pick_rows, to_class_names
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.files import Source, read_source
from raydistill.storage import open_stream

RECORDS_AT_ONCE = 1024
BYTES_AT_ONCE = 2**26
LARGEST_RECORD = 2**28  # bytes; a damaged header may ask for more than the memory

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


def _blocks(uri: str, skip: int, size: int) -> Iterator[bytes]:
    """Yield blocks of records of `size` bytes after `skip` bytes.

    The suffix selects the decompression.
    """
    fix = "download it again, and check survey.kind"
    if size > LARGEST_RECORD:
        raise CatalogError(f"its header announces records of {size} bytes", uri, fix)
    records = max(1, min(RECORDS_AT_ONCE, BYTES_AT_ONCE // max(size, 1)))
    try:
        with open_stream(uri) as stream:
            stream.read(skip)
            while block := stream.read(size * records):
                if len(block) % size:
                    raise CatalogError(f"the file ends within a record of {size} bytes", uri, fix)
                yield block
    except (OSError, EOFError) as error:
        raise CatalogError(f"cannot be read ({' '.join(str(error).split())})", uri, fix) from error


def _read_records(uri: str, skip: int, size: int, rows: Sequence[int]) -> Iterator[bytes]:
    """Yield the records of these rows (ascending)."""
    blocks = (np.frombuffer(block, np.uint8).reshape(-1, size) for block in _blocks(uri, skip, size))
    for record in pick_rows(blocks, rows):
        yield record.tobytes()


class _Layout(NamedTuple):
    """The files and records of a binary version of CIFAR."""

    parts: Mapping[str, str]  # file -> split
    label_bytes: int  # before the pixels of a record
    label_index: int  # of the label among these bytes
    names_file: str
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class _Cifar(PackedDataSet):
    """A folder with the files of CIFAR's binary version."""

    @property
    @abstractmethod
    def _layout(self) -> _Layout: ...

    @property
    def _record_size(self) -> int:
        return self._layout.label_bytes + _PIXELS

    def files(self) -> dict[str, int]:
        present, layout = list_files(self.root), self._layout
        for name in layout.parts:
            if name not in present and name.removesuffix(".bin") in present:
                raise CatalogError(
                    f"'{name.removesuffix('.bin')}' belongs to CIFAR's Python version", self.root,
                    f"set survey.kind=torchvision and survey.dataset={type(self).__name__.upper()}",
                )  # fmt: skip
            if name not in present:
                raise CatalogError(
                    f"there is no file '{name}'", self.root, "set survey.root to the folder that holds it"
                )
        return {name: size for name, size in present.items() if name in layout.parts or name == layout.names_file}

    def _rows(self) -> tuple[Sequence[str], pa.Table]:
        layout, files = self._layout, self.files()
        names: Sequence[str] = self.class_names or [str(label) for label in range(layout.num_classes)]
        if layout.names_file in files:
            with open_stream(f"{self.root}/{layout.names_file}") as stream:
                names = [line.strip() for line in stream.read().decode().splitlines() if line.strip()]
        tables = []
        for name, part in layout.parts.items():
            uri = f"{self.root}/{name}"
            blocks = [
                np.frombuffer(block, np.uint8).reshape(-1, self._record_size)[:, layout.label_index].copy()
                for block in _blocks(uri, 0, self._record_size)
            ]
            labels = np.concatenate([np.empty(0, np.uint8), *blocks]).astype(np.int64)
            tables.append(file_rows(name, part, to_class_names(labels, names, uri)))
        return names, pa.concat_tables(tables)

    def read(self, path: str, row_group: int, rows: Sequence[int]) -> Iterator[Source]:
        yield from _read_records(f"{self.root}/{path}", 0, self._record_size, rows)

    def decode(self, source: Source) -> np.ndarray:
        content, _ = read_source(source)
        planes = np.frombuffer(content[-_PIXELS:], np.uint8).reshape(3, _SIDE, _SIDE)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))


@dataclass(frozen=True, kw_only=True)
class Cifar10(_Cifar):
    """The binary version of CIFAR-10, `cifar-10-batches-bin`.

    Its files are data_batch_1.bin … data_batch_5.bin, test_batch.bin and batches.meta.txt (names).
    """

    kind: Literal["cifar10"] = "cifar10"

    @property
    def _layout(self) -> _Layout:
        parts = {f"data_batch_{number}.bin": "train" for number in range(1, 6)} | {"test_batch.bin": "test"}
        return _Layout(parts, label_bytes=1, label_index=0, names_file="batches.meta.txt", num_classes=10)


@dataclass(frozen=True, kw_only=True)
class Cifar100(_Cifar):
    """The binary version of CIFAR-100, `cifar-100-binary`.

    Its files are train.bin, test.bin and {fine,coarse}_label_names.txt.

    Parameters
    ----------
    labels
        The 100 fine or the 20 coarse classes.
    """

    labels: Literal["fine", "coarse"] = "fine"
    kind: Literal["cifar100"] = "cifar100"

    @property
    def _layout(self) -> _Layout:
        label_index, num_classes = (1, 100) if self.labels == "fine" else (0, 20)
        return _Layout(
            {"train.bin": "train", "test.bin": "test"},
            label_bytes=2,
            label_index=label_index,
            names_file=f"{self.labels}_label_names.txt",
            num_classes=num_classes,
        )


# train-images-idx3-ubyte.gz, t10k-images.idx3-ubyte, emnist-letters-test-images-idx3-ubyte.gz
_IMAGES = re.compile(r"(?:.*[-/])?(train|t10k|test)-images[-.]idx3-ubyte(?:\.gz)?")


@dataclass(frozen=True, kw_only=True)
class Idx(PackedDataSet):
    """A folder with the IDX files of MNIST, FashionMNIST or KMNIST, plain or .gz.

    Grey pictures become three equal channels.
    """

    kind: Literal["idx"] = "idx"

    def files(self) -> dict[str, int]:
        files = list_files(self.root)
        return {name: files[name] for pair in self._pairs(files).values() for name in pair}

    def _pairs(self, files: Mapping[str, int]) -> dict[str, tuple[str, str]]:
        """Return the files of pictures and labels by split, preferring uncompressed files."""
        pairs: dict[str, tuple[str, str]] = {}
        for name in sorted(files, key=lambda name: (name.endswith(".gz"), name)):
            if match := _IMAGES.fullmatch(name):
                part = "train" if match[1] == "train" else "test"
                folder, _, file = name.rpartition("/")
                labels = file.replace("-images", "-labels").replace("idx3", "idx1")
                labels = f"{folder}/{labels}" if folder else labels
                label_file = next(
                    (label for label in (labels, f"{labels}.gz", labels.removesuffix(".gz")) if label in files), None
                )
                if label_file is None:
                    raise CatalogError(
                        f"there is no file '{labels}' for '{name}'", self.root, "download the labels too"
                    )
                first = pairs.setdefault(part, (name, label_file))[0]
                if first != name.removesuffix(".gz") and first != name:
                    raise CatalogError(
                        f"'{first}' and '{name}' are two data sets",
                        self.root,
                        "set survey.root to a folder with one of them",
                    )
        if not pairs:
            raise CatalogError(
                "there is no file such as train-images-idx3-ubyte or train-images-idx3-ubyte.gz",
                self.root,
                "check survey.root",
            )
        return pairs

    def _rows(self) -> tuple[Sequence[str], pa.Table]:
        tables = []
        for part, (pictures, labels) in sorted(self._pairs(list_files(self.root)).items(), reverse=True):
            uri = f"{self.root}/{pictures}"
            (count, height, width), (num_labels,) = _sizes(uri, 3), _sizes(f"{self.root}/{labels}", 1)
            read = sum(len(block) // (height * width) for block in _blocks(uri, 16, height * width))
            values = np.frombuffer(b"".join(_blocks(f"{self.root}/{labels}", 8, 1)), np.uint8).astype(np.int64)
            if not count == read == num_labels == len(values):
                what = f"{read} of {count} pictures and {len(values)} of {num_labels} labels are complete"
                raise CatalogError(what, uri, "download both files again")
            tables.append(file_rows(pictures, part, to_class_names(values, self.class_names, uri)))
        return self.class_names, pa.concat_tables(tables)

    def read(self, path: str, row_group: int, rows: Sequence[int]) -> Iterator[Source]:
        """Yield each picture as an IDX file with one picture."""
        uri = f"{self.root}/{path}"
        _, height, width = _sizes(uri, 3)
        head = struct.pack(">HBB3I", 0, 8, 3, 1, height, width)
        for record in _read_records(uri, 16, height * width, rows):
            yield head + record

    def decode(self, source: Source) -> np.ndarray:
        content, _ = read_source(source)
        height, width = struct.unpack_from(">2I", content, 8)
        grey = np.frombuffer(content, np.uint8, offset=16).reshape(height, width, 1)
        return np.repeat(grey, 3, axis=2)


def _sizes(uri: str, dimensions: int) -> tuple[int, ...]:
    """Return the sizes in the header of an IDX file of bytes."""
    try:
        with open_stream(uri) as stream:
            head = stream.read(4 + 4 * dimensions)
    except OSError as error:
        raise CatalogError(f"cannot be read ({' '.join(str(error).split())})", uri, "download it again") from error
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, 8, dimensions)):
        raise CatalogError(f"this is not an IDX file of bytes with {dimensions} dimensions", uri, "download it again")
    return struct.unpack(f">{dimensions}I", head[4:])
