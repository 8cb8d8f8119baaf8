"""Files on a local disk or an object store, all through fsspec.

- `Folder` holds the files of one artifact. Readers see a file complete or not at all: a local file
  is written to a temporary neighbour and renamed, an object is written by one put.
- `open_stream` and `arrow_filesystem` read tables and images. pyarrow reaches an object store
  through fsspec too, so credentials, retries and errors are the same everywhere.
- Libraries that need a real path (memory maps, matplotlib, FITS) get one from `Folder.local` and
  `Folder.writing`.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from fsspec.implementations.local import LocalFileSystem

from raydistill.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    is_storage_error,
)
from raydistill.storage.caches import cache_folder
from raydistill.storage.filesystems import (
    CHECK_ACCESS,
    arrow_filesystem,
    check_no_device,
    check_path,
    compression_of,
    error_message,
    kind_of,
    open_stream,
    resolve_uri,
)

CACHE_DAYS = 14.0  # an unused copy is removed after this time
FULL = (errno.ENOSPC, errno.EDQUOT)

P = ParamSpec("P")
R = TypeVar("R")


def _storage_errors(method: Callable[Concatenate[Folder, P], R]) -> Callable[Concatenate[Folder, P], R]:
    """Turn errors of a store's client, which pickling may break, into ArtifactError."""

    @functools.wraps(method)
    def wrapped(folder: Folder, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(folder, *args, **kwargs)
        except FileExistsError:
            raise
        except Exception as error:
            # s3fs raises OSError for S3's replies; a copy to the local cache may meet a full disk.
            is_reply = isinstance(error, OSError) and not folder.is_local and error.errno not in FULL
            if not (is_storage_error(error) or is_reply):
                raise
            what, fix = "did not answer", "see that it can be reached, and run the same command again; it resumes"
            if isinstance(error, FileNotFoundError | PermissionError):
                what, fix = "refused", "check its name and that you may read and write there"
            raise ArtifactError(f"the storage {what} ({error_message(error)})", str(folder), fix) from error

    return wrapped


class Folder:
    """A folder at a path or fsspec URI (`runs/x`, `/data/x`, `s3://bucket/x`).

    The folder need not exist before its first file is written.

    Parameters
    ----------
    uri : str or os.PathLike
        A relative path is resolved against the current directory at once.

    Raises
    ------
    ConfigError
        The scheme of the URI is unknown, or its fsspec package is missing.
    """

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        self._fs, path = resolve_uri(uri)
        self._path: str = path.rstrip("/")
        self.is_local: bool = isinstance(self._fs, LocalFileSystem)

    @property
    def uri(self) -> str:
        return self._path if self.is_local else self._fs.unstrip_protocol(self._path)

    def __str__(self) -> str:
        return self.uri

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    @property
    def shown(self) -> str:
        """The URI for a person: relative to the working directory if it lies below it."""
        path, here = Path(self.uri), Path.cwd()
        return str(path.relative_to(here)) if self.is_local and path.is_relative_to(here) else self.uri

    @classmethod
    def holding(cls, uri: str) -> tuple[Folder, str]:
        """Return the folder of a file or folder at a path or URI, and its name there."""
        parent, _, name = uri.rstrip("/").rpartition("/")
        return cls(parent or ("/" if uri.startswith("/") else ".")), name

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.uri}/{name}")

    @_storage_errors
    def exists(self, name: str = "") -> bool:
        return bool(self._fs.exists(self._at(name)))

    @_storage_errors
    def read(self, name: str) -> bytes:
        """Return the bytes of a file. ArtifactMissing if it is not there."""
        with self._reading(name):
            return self._fs.cat_file(self._at(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file; readers see all of it or nothing."""
        with self.writing(name) as path:
            path.write_bytes(data)

    def create(self, name: str, data: bytes) -> bool:
        """Create a file and return True, or return False if it exists.

        The store decides between writers. A local disk decides by O_EXCL, S3 by `If-None-Match: *`,
        Google by `ifGenerationMatch=0`. A server that ignores the condition overwrites the file, so
        remote callers must read it back.
        """
        if not self.is_local:
            with suppress(FileExistsError):
                self._create_remote(name, data)
                return True
            return False
        with disk_errors(self.uri):
            path = Path(self._at(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                stream = path.open("xb")
            except FileExistsError:
                return False
            with stream:
                stream.write(data)
        return True

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a local path to write to; `name` appears unless the body raises an error."""
        target = self._at(name)
        if not self.is_local:
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / Path(name).name
                with disk_errors(scratch):
                    yield path
                with disk_errors(self.uri):
                    self._put(path, name)
            return
        with disk_errors(self.uri):
            final = Path(target)
            final.parent.mkdir(parents=True, exist_ok=True)
            # matplotlib, pyarrow and astropy choose their format by the suffix, so it stays last.
            temporary = final.with_name(f".{uuid.uuid4().hex[:8]}.{final.name}")
            try:
                yield temporary
                _flush_to_disk(temporary)
                os.replace(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)

    def check_writable(self) -> None:
        """Raise ArtifactError if the folder is not writable; leave no file or folder."""
        if self.is_local:
            path = Path(self._path)
            nearest = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
            with disk_errors(self.uri), tempfile.TemporaryFile(dir=nearest):
                return
        name = f".{uuid.uuid4().hex[:8]}.tried"
        self.write(name, b"")
        self.remove(name)

    def local(self, name: str, sha256: str | None = None) -> Path:
        """Return a local path of the file, or of a copy checked against `sha256`."""
        path = self._at(name)
        if self.is_local:
            with self._reading(name):
                return Path(path)
        cache = cache_folder()
        copy = cache / (sha256 or hashlib.sha256(path.encode()).hexdigest()) / Path(name).name
        if sha256 is None or not _has_digest(copy, sha256):
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary = copy.with_name(f".{uuid.uuid4().hex[:8]}.{copy.name}")
            try:
                with disk_errors(str(cache)):
                    self._get(name, temporary)
                    if sha256 is not None and not _has_digest(temporary, sha256):
                        what, fix = f"'{name}' is not the file that was written", "remove the folder and make it again"
                        raise ArtifactCorrupt(what, self.uri, fix)
                    os.replace(temporary, copy)
            finally:
                temporary.unlink(missing_ok=True)
            _remove_unused_copies(cache)
        with suppress(PermissionError):  # another user's file in a shared cache
            os.utime(copy)
        return copy

    def put_tree(self, local: str | os.PathLike[str]) -> None:
        """Copy all files below a local folder into this one."""
        root = Path(local)
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            with self.writing(path.relative_to(root).as_posix()) as target:
                shutil.copyfile(path, target)

    @_storage_errors
    def open(self, name: str) -> Any:
        """Open a file for binary reading with seek."""
        with self._reading(name):
            return self._fs.open(self._at(name), "rb")

    @_storage_errors
    def files(self, under: str = "") -> list[str]:
        """Return the sorted names of complete files below `under`, relative to the folder."""
        self._fs.invalidate_cache()
        root = self._at(under)
        paths = self._fs.find(root) if self._fs.exists(root) else []
        # Some programs mark folders in a bucket by empty objects named "folder/"; fsspec lists them
        # as files.
        names = [name for path in paths if (name := path[len(self._path) + 1 :]) and not name.endswith("/")]
        return sorted(name for name in names if not Path(name).name.startswith("."))

    @_storage_errors
    def remove_unfinished(self) -> None:
        """Remove temporary files of writers that were killed."""
        for path in self._fs.find(self._path):
            if path.rpartition("/")[2].startswith("."):
                self.remove(path[len(self._path) + 1 :])

    @_storage_errors
    def change_token(self) -> str:
        """Return a digest of sizes, times and ETags, which differs after a file change.

        Reads no file.
        """
        self._fs.invalidate_cache()
        infos = self._fs.find(self._path, detail=True)
        return hashlib.sha256(
            repr(sorted((name, sorted(map(str, info.items()))) for name, info in infos.items())).encode()
        ).hexdigest()

    @_storage_errors
    def size(self, name: str) -> int:
        return int(self._fs.size(self._at(name)))

    @_storage_errors
    def remove(self, name: str = "") -> None:
        """Remove a file, or a folder with its contents. A missing one is not an error."""
        with suppress(FileNotFoundError):
            self._fs.rm(self._at(name), recursive=True)

    @_storage_errors
    def sha256(self, name: str) -> str:
        with self.open(name) as stream, self._reading(name):
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        """Raise ArtifactError for what cannot be read.

        A pipe or a device may never end.
        """
        path = self._at(name)
        if self.is_local and os.path.exists(path) and not os.path.isfile(path):
            what = f"'{name}' is a folder, a pipe or a device, not a file"
            raise ArtifactError(what, self.uri, "remove it")
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactMissing(
                f"there is no '{name}'", self.uri, "check the path, or run the stage that writes it"
            ) from error
        except MemoryError as error:
            what = f"'{name}' is larger than the memory"
            raise ArtifactError(what, self.uri, "see that it is the right file") from error
        except OSError as error:
            if not self.is_local:
                raise
            what = f"'{name}' cannot be read ({error.strerror or error})"
            raise ArtifactError(what, self.uri, "check its permissions and the disk") from error

    @_storage_errors
    def _create_remote(self, name: str, data: bytes) -> None:
        """Raise FileExistsError if the file exists."""
        try:
            self._fs.pipe_file(self._at(name), data, mode="create")
        except FileExistsError:
            raise
        except Exception:
            if self._fs.exists(self._at(name)):
                raise FileExistsError(name) from None
            self._fs.pipe_file(self._at(name), data)  # a store without conditional writes

    @_storage_errors
    def _get(self, name: str, path: Path) -> None:
        self._fs.get_file(self._at(name), str(path))

    @_storage_errors
    def _put(self, path: Path, name: str) -> None:
        self._fs.put_file(str(path), self._at(name))

    def _at(self, name: str) -> str:
        """Return the path of a file; ArtifactCorrupt for a name outside of the folder."""
        if ".." in name.split("/") or "\0" in name:
            raise ArtifactCorrupt(f"it names a file outside of its folder: {name!r}", self.uri, "remove it")
        path = f"{self._path}/{name}" if name else self._path
        if self.is_local:
            check_no_device(path, path, ArtifactCorrupt)
        return path


def _remove_unused_copies(cache: Path) -> None:
    """Remove copies that were not used for `CACHE_DAYS` from the cache."""
    oldest = time.time() - CACHE_DAYS * 86400
    for path in cache.glob("*/*"):
        with suppress(OSError):  # another user's, or already removed
            if path.stat().st_mtime < oldest:
                path.unlink()
                path.parent.rmdir()


def _flush_to_disk(path: Path) -> None:
    """Sync the bytes before the rename.

    After a power failure a name without its bytes could remain.
    """
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _has_digest(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


@contextmanager
def disk_errors(where: str, elsewhere: str = "choose another output=FOLDER") -> Iterator[None]:
    """Turn a full disk, a missing permission or a blocking file into ArtifactError.

    A blocking file is in place of a folder.

    `elsewhere` says how to choose another folder.
    """
    try:
        yield
    except OSError as error:
        short_write = error.errno is None and " written" in str(error)  # numpy's message for a full disk
        if error.errno in FULL or short_write:
            raise ArtifactError(
                "the disk is full", where, "free some space and run the same command again; it resumes"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise ArtifactError("no permission to write", where, elsewhere) from error
        if isinstance(error, NotADirectoryError | FileExistsError):
            what = "a file stands where a folder should be made"
            raise ArtifactError(what, where, elsewhere) from error
        raise
