"""Arrays of pictures and labels: HDF5 (Galaxy10), .npz (MedMNIST) and .npy.

    images [N, H, W, 3], ans [N]                         Galaxy10
    train_images, train_labels, val_images, …            MedMNIST, with its official splits
    x_train, y_train, x_test, y_test                     Keras
    train.h5 and test.h5, each with x and y              splits in the names of files

Names give the roles and the splits of the arrays. Where they do not, shapes decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from raydistill.datasets.array_files import ArrayInfo, open_arrays
from raydistill.datasets.base import (
    EncodedDataSet,
    PackedDataSet,
    file_rows,
    list_files,
    pick_rows,
    to_class_names,
)
from raydistill.datasets.layout import PARTS
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.cells import to_npy
from raydistill.galaxies.pictures.files import Source
from raydistill.log import get_logger

log = get_logger(__name__)

SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".hdf", ".he5")
PICTURE_WORDS = {"x", "images", "image", "imgs", "img", "pictures", "data", "pixels", "features"}
LABEL_WORDS = {"y", "labels", "label", "ans", "answers", "targets", "target", "classes", "class"}
LARGEST_PICTURE = 1 << 28  # bytes; a damaged header may announce more than the memory
LARGEST_LABELS = 1 << 28  # bytes

_FILE = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, SUFFIXES))}))(?:/(.*))?", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class _Array(NamedTuple):
    """An array of a file."""

    file: str
    key: str  # "" in a .npy file
    info: ArrayInfo
    part: str | None  # split that the name of the array, or of its file, tells

    @property
    def path(self) -> str:
        return f"{self.file}/{self.key}" if self.key else self.file

    @property
    def words(self) -> list[str]:
        return _words(self.key or self.file.rpartition(".")[0])

    @property
    def shape(self) -> str:
        return " x ".join(map(str, self.info.shape))

    @property
    def is_pictures(self) -> bool:
        shape = self.info.shape[1:]
        is_flat = len(shape) == 2 or (len(shape) == 3 and bool({shape[0], shape[2]} & {1, 3}))
        return is_flat and min(shape) > 0 and max(shape) > 1 and self.info.dtype.kind in "buif"

    @property
    def is_one_picture(self) -> bool:
        """Return whether the array may be H x W, or H x W of one to four channels."""
        shape = self.info.shape
        is_flat = len(shape) == 2 or (len(shape) == 3 and min(shape[0], shape[2]) <= 4)
        return is_flat and max(shape, default=0) > 1 and self.info.dtype.kind in "buif"

    @property
    def is_labels(self) -> bool:
        is_column = len(self.info.shape) == 2 or all(size == 1 for size in self.info.shape[1:])
        return is_column and self.info.dtype.kind in "buifSUO"


@dataclass(frozen=True, kw_only=True)
class ArraySet(EncodedDataSet, PackedDataSet):
    """An HDF5, .npz or .npy file of pictures and labels, or a folder of such files.

    Pictures are N x H x W, N x H x W x 3 or N x 3 x H x W. Labels are N integers, N texts, or N x K
    zeros with a one. Names such as images, x, ans, y, train_images and x_test give their role and
    their official split. HDF5 needs h5py.

    Parameters
    ----------
    image_key
        Name of the array of pictures, where names and shapes do not tell.
    label_key
        Name of the array of labels, where names and shapes do not tell.
    """

    image_key: str | None = None
    label_key: str | None = None
    kind: Literal["arrays"] = "arrays"

    def files(self) -> dict[str, int]:
        files = {name: size for name, size in list_files(self.root).items() if name.lower().endswith(SUFFIXES)}
        if not files:
            fix = f"check survey.root; its files end in {', '.join(SUFFIXES)}"
            raise CatalogError("there is no file of arrays in it", self.root, fix)
        return files

    def _rows(self) -> tuple[Sequence[str], pa.Table]:
        arrays, tables = self._arrays(), []
        for part, pictures in self._pictures(arrays).items():
            labels = self._labels_of(pictures, arrays)
            log.info("curate: pictures are '%s' (%s), labels are '%s'", pictures.path, pictures.shape, labels.path)
            names = self._read_labels(labels)
            rows = file_rows(pictures.path, part or "", names)
            unsplit = pa.nulls(len(rows), pa.string())
            tables.append(rows if part else rows.set_column(rows.schema.get_field_index("part"), "part", unsplit))
        return self.class_names, pa.concat_tables(tables)

    def read(self, path: str, row_group: int, rows: Sequence[int]) -> Iterator[Source]:
        """Yield each picture as the bytes of a .npy file."""
        match = _FILE.fullmatch(path)
        assert match is not None
        with open_arrays(self._at(match[1])) as file:
            blocks = file.blocks(match[2] or "", rows[0], rows[-1] + 1)
            yield from map(to_npy, pick_rows(blocks, rows, rows[0]))

    def _arrays(self) -> list[_Array]:
        files, arrays = self.files(), []
        for name in files:
            part_of_file = _part(_words(name)) if len(files) > 1 else None
            with open_arrays(self._at(name)) as file:
                for key, info in file.arrays().items():
                    arrays.append(_Array(name, key, info, _part(_words(key)) or part_of_file))
        return arrays

    def _pictures(self, arrays: list[_Array]) -> dict[str | None, _Array]:
        """Return the array of pictures per split. CatalogError if the choice is unclear."""
        usual = [array for array in arrays if array.is_pictures]
        chosen = _with_word(usual, PICTURE_WORDS) or usual
        if self.image_key is not None:
            chosen = _with_name(arrays, self.image_key)
        by_part = {array.part: array for array in chosen}
        if not chosen or len(by_part) < len(chosen):
            _check_one_array(arrays, self.root)
            what = "no array has the shape of pictures" if not chosen else "several arrays may be the pictures"
            fix = "set survey.image_key to its name" + ", or store them as one array" * (len(chosen) > 1)
            raise CatalogError(f"{what}: {_list(chosen or arrays)}", self.root, fix)
        for array in chosen:
            if not array.is_pictures or array.info.by_column or array.info.row_bytes > LARGEST_PICTURE:
                what = (
                    f"'{array.path}' is {array.shape}, {array.info.dtype}" + ", column by column" * array.info.by_column
                )
                raise CatalogError(what, self.root, "store pictures as N x H x W x 3 numbers, row by row")
        return {part: by_part[part] for part in (None, *PARTS) if part in by_part}

    def _labels_of(self, pictures: _Array, arrays: list[_Array]) -> _Array:
        """Return the labels of a picture array. CatalogError if the choice is unclear."""
        fitting = [
            array
            for array in arrays
            if array.is_labels and array.part == pictures.part and array.info.shape[0] == pictures.info.shape[0]
        ]
        usual = [array for array in fitting if array.info.dtype.kind in "uiSUO"]  # positions and redshifts are floats
        chosen = _with_word(fitting, LABEL_WORDS) or usual
        if self.label_key is not None:
            chosen = _with_name(fitting, self.label_key)
        if len(chosen) != 1:
            what = "no array holds" if not chosen else "several arrays may hold"
            raise CatalogError(
                f"{what} the {pictures.info.shape[0]} labels of '{pictures.path}': {_list(chosen or arrays)}",
                self.root, "set survey.label_key to its name",
            )  # fmt: skip
        return chosen[0]

    def _read_labels(self, array: _Array) -> pa.Array:
        """Return labels as class names; null means no label."""
        at = f"{self._at(array.file)}, '{array.key}'"
        if array.info.row_bytes * array.info.shape[0] > LARGEST_LABELS:
            raise CatalogError(f"labels of {array.shape} are too many", at, "set survey.label_key to its name")
        with open_arrays(self._at(array.file)) as file:
            if array.info.dtype.hasobject and array.info.dtype.metadata is None:  # HDF5's text has metadata
                raise CatalogError("labels are Python objects, which can run code", at, "store integers or text")
            if array.info.by_column:
                raise CatalogError("labels are stored column by column", at, "save np.ascontiguousarray(labels)")
            blocks = list(file.blocks(array.key, 0, array.info.shape[0]))
        return _label_names(np.concatenate(blocks), self.class_names, at) if blocks else pa.array([], pa.string())


def _check_one_array(arrays: list[_Array], root: str) -> None:
    """Raise CatalogError if each array is one picture: J0001/image, J0002/image, …"""
    alike: dict[tuple[str, str | None], list[_Array]] = {}
    for array in arrays:
        if array.is_one_picture:
            last = (array.key or array.file.rpartition(".")[0]).rpartition("/")[2]
            alike.setdefault((_DIGITS.sub("", last), array.part), []).append(array)
    most = max(alike.values(), key=len, default=[])
    if len(most) > 1:
        what = f"{len(most)} of its arrays are one picture each, such as {most[0].path} ({most[0].shape})"
        fix = (
            "store all pictures as one array N x H x W x C, and their labels as one of N: "
            "np.savez('all.npz', images=np.stack(pictures), labels=labels)"
        )
        raise CatalogError(what, root, fix)


def _with_name(arrays: list[_Array], name: str) -> list[_Array]:
    return [array for array in arrays if name in (array.key, array.path)]


def _with_word(arrays: list[_Array], words: set[str]) -> list[_Array]:
    return [array for array in arrays if words & {*array.words}]


def _list(arrays: list[_Array]) -> str:
    return ", ".join(f"{array.path} ({array.shape})" for array in arrays[:8]) or "it holds none"


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _part(words: list[str]) -> str | None:
    return next((word for word in words if word in PARTS), None)


def _label_names(values: np.ndarray, names: Sequence[str], where: str) -> pa.Array:
    """Return the class names of integers, texts, or rows of zeros with a one."""
    if values.size > len(values):
        is_one_hot = np.isin(values, (0, 1)).all() and (values.sum(axis=1) == 1).all()
        if not is_one_hot:
            what = f"{' x '.join(map(str, values.shape))} labels, and each picture needs one"
            raise CatalogError(what, where, "set survey.label_key to an array of one label per picture")
        values = values.argmax(axis=1)
    values = values.reshape(len(values))
    if values.dtype.kind in "SUO":
        try:
            texts = [text.decode() if isinstance(text, bytes) else str(text) for text in values]
        except UnicodeDecodeError as error:
            raise CatalogError("labels are bytes that are not UTF-8", where, "store them as UTF-8 text") from error
        return pa.array([text.strip() or None for text in texts], pa.string())
    whole = np.where(np.isfinite(values), values, -1)
    if (whole != np.rint(whole)).any():
        raise CatalogError("labels are not whole numbers", where, "set survey.label_key to the name of the labels")
    if len(whole) and float(np.max(whole)) >= 2.0**63:
        raise CatalogError(f"labels are as large as {np.max(whole)}", where, "correct the labels")
    return to_class_names(whole.astype(np.int64), names, where)
