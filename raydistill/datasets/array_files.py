"""Files of large arrays, read a block of rows at a time: .npz, .npy and HDF5.

An `ArrayFile` lists its arrays from their headers, and yields blocks of rows. Python objects, which
could run code, are never read.
"""

from __future__ import annotations

import math
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import pyarrow.fs as pafs

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.archives import DAMAGE, MAX_BYTES, MAX_RATIO, SMALL, Archive
from raydistill.imports import import_extra
from raydistill.storage import arrow_filesystem, error_message

BYTES_AT_ONCE = 1 << 25

# Errors of NumPy and h5py for damaged files.
_DAMAGE = (*DAMAGE, KeyError, TypeError, RuntimeError, MemoryError, SyntaxError, tokenize.TokenError)

HDF5_MAGIC, NPY_MAGIC, ZIP_MAGIC = b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"PK"


class ArrayInfo(NamedTuple):
    """Shape and type of a stored array, and whether NumPy stored its columns first."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool = False

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class ArrayFile(Protocol):
    """An open file of arrays."""

    def arrays(self) -> dict[str, ArrayInfo]:
        """Return the arrays with at least one axis, by name."""

    def blocks(self, name: str, start: int, stop: int) -> Iterator[np.ndarray]:
        """Yield the rows from `start` to `stop` of an array, in blocks of bounded size."""


@contextmanager
def open_arrays(uri: str) -> Iterator[ArrayFile]:
    """Open a file of arrays, whose first bytes tell its format.

    Raises
    ------
    CatalogError
        If the file is damaged or of another format, also while it is read.
    ConfigError
        If it is HDF5 and h5py is not installed.
    """
    system, path = arrow_filesystem(uri)
    try:
        with system.open_input_file(path) as stream:
            head = stream.read(8)
            stream.seek(0)
            if head == HDF5_MAGIC:
                with _open_hdf5(path if isinstance(system, pafs.LocalFileSystem) else stream) as file:
                    yield _Hdf5(file, uri)
            elif head.startswith(ZIP_MAGIC):
                yield _Npz(Archive(uri), uri)
            elif head.startswith(NPY_MAGIC):
                yield _Npy(stream, system.get_file_info(path).size, uri)
            else:
                raise CatalogError("this is neither HDF5 nor .npz nor .npy", uri, "check survey.root")
    except FileNotFoundError as error:
        raise CatalogError("there is no such file", uri, "check survey.root") from error
    except _DAMAGE as error:
        raise CatalogError(f"cannot be read ({error_message(error)})", uri, "download it again") from error


# ---- NumPy ----


class _Npz:
    """A .npz file: a zip of .npy files."""

    def __init__(self, archive: Archive, uri: str) -> None:
        self._archive, self._uri = archive, uri

    def arrays(self) -> dict[str, ArrayInfo]:
        arrays = {}
        for member, size in self._archive.sizes().items():
            if member.endswith(".npy"):
                with self._archive.open(member) as stream:
                    info = read_header(stream, size, f"{self._uri}/{member}")
                if info.shape:
                    arrays[member.removesuffix(".npy")] = info
        return arrays

    def blocks(self, name: str, start: int, stop: int) -> Iterator[np.ndarray]:
        member = f"{name}.npy"
        with self._archive.open(member) as stream:
            info = read_header(stream, self._archive.sizes()[member], self._uri)
            yield from _blocks_of_stream(stream, info, start, stop)


class _Npy:
    """A .npy file; its only array has the name ""."""

    def __init__(self, stream: IO[bytes], size: int, uri: str) -> None:
        self._stream, self._size, self._uri = stream, size, uri

    def arrays(self) -> dict[str, ArrayInfo]:
        self._stream.seek(0)
        info = read_header(self._stream, self._size, self._uri)
        return {"": info} if info.shape else {}

    def blocks(self, name: str, start: int, stop: int) -> Iterator[np.ndarray]:
        yield from _blocks_of_stream(self._stream, self.arrays()[name], start, stop)


def read_header(stream: IO[bytes], size: int, where: str) -> ArrayInfo:
    """Read the header of a .npy stream of `size` bytes up to its data.

    CatalogError if the data has another size than announced.
    """
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if min(shape, default=0) < 0:
        raise CatalogError(f"the header announces the shape {shape}", where, "download it again")
    announced = math.prod(shape) * dtype.itemsize
    if announced != size - stream.tell() and not dtype.hasobject:
        what = f"the header announces {announced} bytes, and the file holds {max(0, size - stream.tell())}"
        raise CatalogError(what, where, "download it again")
    return ArrayInfo(shape, dtype, is_fortran and len(shape) > 1)


def _blocks_of_stream(stream: IO[bytes], info: ArrayInfo, start: int, stop: int) -> Iterator[np.ndarray]:
    """Yield rows of an array whose data begins at the position of the stream."""
    stream.seek(stream.tell() + start * info.row_bytes)
    count = max(1, BYTES_AT_ONCE // max(1, info.row_bytes))
    for first in range(start, stop, count):
        rows = min(count, stop - first)
        content = stream.read(rows * info.row_bytes)
        if len(content) < rows * info.row_bytes:
            raise EOFError("the file ends within the array")
        yield np.frombuffer(content, info.dtype).reshape(rows, *info.shape[1:])


# ---- HDF5 ----


def _open_hdf5(file: Any) -> Any:
    what, fix = "the file is HDF5, and h5py is not installed", "run pip install 'raydistill[hdf5]'"
    h5py = import_extra("h5py", what, "survey.root", fix)
    return h5py.File(file, "r", locking=False) if isinstance(file, str) else h5py.File(file, "r")


class _Hdf5:
    """An HDF5 file. Links into other files are not followed."""

    def __init__(self, file: Any, uri: str) -> None:
        self._file, self._uri = file, uri

    def arrays(self) -> dict[str, ArrayInfo]:
        arrays = {}
        for name, entry in _entries(self._file):
            if getattr(entry, "shape", ()) and not entry.is_virtual and not entry.external:
                self._check_size(name, entry)
                arrays[name] = ArrayInfo(entry.shape, entry.dtype)
        return arrays

    def _check_size(self, name: str, entry: Any) -> None:
        """Raise CatalogError if an array announces far more values than the file holds."""
        announced, stored = math.prod(entry.shape) * entry.dtype.itemsize, entry.id.get_storage_size()
        if announced > max(SMALL, MAX_RATIO * stored):
            shape = " x ".join(map(str, entry.shape))
            what = f"'{name}' announces {shape} values and holds {stored} bytes"
            raise CatalogError(what, self._uri, "download it again")
        if entry.chunks and math.prod(entry.chunks) * entry.dtype.itemsize > MAX_BYTES:
            what = f"'{name}' is stored in chunks of {' x '.join(map(str, entry.chunks))} values"
            raise CatalogError(what, self._uri, "store it in smaller chunks, for example with h5repack")

    def blocks(self, name: str, start: int, stop: int) -> Iterator[np.ndarray]:
        entry = self._file[name]
        row_bytes = ArrayInfo(entry.shape, entry.dtype).row_bytes
        chunk = entry.chunks[0] if entry.chunks else 1  # rows that HDF5 unpacks together
        count = max(1, chunk, BYTES_AT_ONCE // max(1, row_bytes) // chunk * chunk)
        values = entry.asstr() if _is_text(entry) else entry
        for first in range(start, stop, count):
            yield np.asarray(values[first : min(stop, first + count)])


def _entries(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield each object of an HDF5 file once, by its path.

    h5py's own `visititems` also sums the sizes of the groups' indices. For that, HDF5 follows the
    index from node to node, and never ends if damage makes a node its own successor.
    """
    import h5py

    groups, seen = [("", file)], set()
    while groups:
        path, group = groups.pop()
        for name in group:  # raises for a damaged group
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            entry = group[name]
            address = h5py.h5g.get_objinfo(entry.id).objno
            if address in seen:
                continue
            seen.add(address)
            yield path + name, entry
            if isinstance(entry, h5py.Group):
                groups.append((f"{path}{name}/", entry))


def _is_text(entry: Any) -> bool:
    import h5py

    return h5py.check_string_dtype(entry.dtype) is not None
