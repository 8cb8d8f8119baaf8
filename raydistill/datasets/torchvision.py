"""Data sets that torchvision reads: CIFAR, the MNIST family, SVHN, STL10, USPS.

torchvision checks the md5 sum of each CIFAR, SVHN and STL10 file before it opens it. CIFAR's files
are pickles, which can run code when they are opened, so this check is never switched off.
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from raydistill.datasets.base import PackedDataSet, file_rows, to_class_names
from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.files import Source, read_source
from raydistill.imports import import_beside_torchvision

EmnistSplit = Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"]

_SIZE = ">2I"  # height and width in px, in front of the RGB bytes of an image
_IDX = tuple(f"{part}-{content}-ubyte" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1"))
_STL10 = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin")

# Folder below torchvision's root, and the files in it.
_FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "CIFAR10": ("cifar-10-batches-py", (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta")),
    "CIFAR100": ("cifar-100-python", ("train", "test", "meta")),
    "MNIST": ("MNIST/raw", _IDX),
    "FashionMNIST": ("FashionMNIST/raw", _IDX),
    "KMNIST": ("KMNIST/raw", _IDX),
    "EMNIST": ("EMNIST/raw", tuple("emnist-{}-" + name.replace("t10k", "test") for name in _IDX)),
    "SVHN": ("", ("train_32x32.mat", "test_32x32.mat")),
    "STL10": ("stl10_binary", _STL10),
    "USPS": ("", ("usps.bz2", "usps.t.bz2")),
}


@dataclass(frozen=True, kw_only=True)
class TorchvisionSet(PackedDataSet):
    """A data set that torchvision reads, with its official training and test split.

    Parameters
    ----------
    dataset
        Name of the class in `torchvision.datasets`.
    emnist_split
        The variant of EMNIST; the other data sets ignore it.
    download
        Download missing files into `root`. Without it nothing uses the internet.

    Notes
    -----
    `root` is a local folder: torchvision's root, or the folder that holds the files. The IDX files
    of MNIST may be `.gz`. Files must be the official ones. Grey images become three equal channels.
    """

    dataset: Literal["CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "EMNIST", "SVHN", "STL10", "USPS"]
    emnist_split: EmnistSplit = "balanced"
    download: bool = False
    kind: Literal["torchvision"] = "torchvision"

    def files(self) -> dict[str, int]:
        if importlib.util.find_spec("torchvision") is None:
            fix = "run 'pip install torchvision', in the version that fits torch"
            raise ConfigError("torchvision is not installed", "survey.kind", fix)
        if "://" in self.root:
            raise ConfigError(
                "torchvision reads local files only", "survey.root", "copy the data set to a local folder"
            )
        if self.download and self._folder() is None:
            self._download()
        folder = self._folder()
        if folder is None:
            inside = _FILES[self.dataset][0]
            where = f"in this folder or in its folder '{inside}'" if inside else "in this folder"
            what = f"{self.dataset} needs the files {', '.join(self._names())} {where}"
            raise CatalogError(what, self.root, "check survey.root, or set survey.download=true")
        return {path.name: path.stat().st_size for path in (_stored(folder, name) for name in self._names()) if path}

    def _names(self) -> list[str]:
        return [name.format(self.emnist_split) for name in _FILES[self.dataset][1]]

    def _folder(self) -> Path | None:
        """Return the folder that holds all files, or None."""
        inside = Path(_FILES[self.dataset][0])
        root = Path(self.root).expanduser()  # as torchvision does when it downloads
        candidates = (root / inside, root / inside.name, root)
        return next((path for path in candidates if all(_stored(path, name) for name in self._names())), None)

    def _options(self, part: str) -> dict[str, Any]:
        """Return the arguments that select a split."""
        if self.dataset in ("SVHN", "STL10"):
            return {"split": part}
        return {"train": part == "train"} | ({"split": self.emnist_split} if self.dataset == "EMNIST" else {})

    def _download(self) -> None:
        reader = getattr(_import_readers(), self.dataset)
        try:
            for part in ("train", "test"):
                reader(self.root, **self._options(part), download=True)
        except (OSError, RuntimeError, ValueError) as error:
            fix = "check the connection, or download the files by hand and set survey.download=false"
            raise CatalogError(f"{self.dataset} cannot be downloaded ({_one_line(error)})", self.root, fix) from error

    def _open(self, part: str) -> Any:
        """Return torchvision's data set of a split. CatalogError for unreadable files."""
        self.files()
        folder = self._folder()
        assert folder is not None
        reader = getattr(_import_readers(), self.dataset)
        try:
            with _without_gz(folder, self._names()) as plain:
                # With these two attributes a reader finds its files in `plain` itself.
                here = type(reader.__name__, (reader,), {"base_folder": "", "raw_folder": str(plain)})
                data = here(str(plain), **self._options(part))
            counts = len(data), len(_labels(data))
        except Exception as error:  # the readers raise what numpy, pickle, bz2 and scipy raise
            reason = "an md5 sum is not the official one" if "corrupted" in str(error) else _one_line(error)
            what = f"torchvision cannot read the files of {self.dataset} ({reason})"
            raise CatalogError(what, str(folder), "download the official files again") from error
        if counts[0] != counts[1]:
            what = f"the {part} split of {self.dataset} has {counts[0]} images and {counts[1]} labels"
            raise CatalogError(what, str(folder), "download the official files again")
        return data

    def _rows(self) -> tuple[Sequence[str], pa.Table]:
        names: Sequence[str] = self.class_names
        tables = []
        for part in ("train", "test"):
            data = self._open(part)
            names = names or getattr(data, "classes", ())
            tables.append(file_rows(part, part, to_class_names(np.asarray(_labels(data), np.int64), names, self.root)))
        return names, pa.concat_tables(tables)

    def read(self, path: str, row_group: int, rows: Sequence[int]) -> Iterator[Source]:
        """Yield the height, width and RGB bytes of images; `path` names their split."""
        data = self._open(path)
        for row in rows:
            image = np.asarray(data[row][0].convert("RGB"))
            yield struct.pack(_SIZE, *image.shape[:2]) + image.tobytes()

    def decode(self, source: Source) -> np.ndarray:
        content, _ = read_source(source)
        height, width = struct.unpack_from(_SIZE, content)
        return np.frombuffer(content, np.uint8, offset=struct.calcsize(_SIZE)).reshape(height, width, 3)


def _import_readers() -> ModuleType:
    """Return `torchvision.datasets`; its readers use no compiled operator."""
    return import_beside_torchvision("torchvision.datasets")


def _labels(data: Any) -> Any:
    return data.labels if hasattr(data, "labels") else data.targets


def _stored(folder: Path, name: str) -> Path | None:
    """Return the file, or its `.gz`, or None."""
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)


@contextmanager
def _without_gz(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield `folder`, or a temporary folder with its `.gz` files decompressed."""
    if all((folder / name).is_file() for name in names):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        for path in (_stored(folder, name) for name in names):
            if path is not None and path.suffix == ".gz":
                importlib.import_module("torchvision.datasets.utils").extract_archive(str(path), temporary)
            elif path is not None:
                Path(temporary, path.name).symlink_to(path.resolve())
        yield Path(temporary)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
