"""Files of an artifact, on a disk or an object store, through fsspec.

A `Folder` writes a file so that it is either whole or not there: on a disk into a temporary neighbour that is then renamed, on an
object store by one put. Whatever needs a real path (memory maps, matplotlib, FITS) writes or reads through a local one.
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

import fsspec

from raydistill.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ConfigError, is_storage_error

# Copies of a bucket's files, which may be removed at any time.
CACHE = Path(os.environ.get("RAYDISTILL_CACHE", Path.home() / ".cache" / "raydistill"))
CACHE_DAYS = 14.0  # that a copy stays there unused
FULL = (errno.ENOSPC, errno.EDQUOT)
# Amazon's clients give up after some seconds by default; ten attempts last for about a minute.
os.environ.setdefault("AWS_RETRY_MODE", "standard")
os.environ.setdefault("AWS_MAX_ATTEMPTS", "10")

P = ParamSpec("P")
R = TypeVar("R")


def _answered(method: Callable[Concatenate[Folder, P], R]) -> Callable[Concatenate[Folder, P], R]:
    """A store that does not answer is an ArtifactError; the clients' own would not all survive the way back from a worker."""

    @functools.wraps(method)
    def told(folder: Folder, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(folder, *args, **kwargs)
        except Exception as error:
            # s3fs makes the system's errors of what S3 answers; a local copy may meet a full disk.
            answered = isinstance(error, OSError) and not folder.is_local and error.errno not in FULL
            if not (is_storage_error(error) or answered):
                raise
            what, fix = "did not answer", "see that it can be reached, and run the same command again; it resumes"
            if isinstance(error, FileNotFoundError | PermissionError):
                what, fix = "refused", "check its name and that you may read and write there"
            raise ArtifactError(f"the storage {what} ({error})", str(folder), fix) from error

    return told


class Folder:
    """A folder at any fsspec URI (`runs/x`, `/data/x`, `s3://bucket/x`); it need not exist before the first file is written."""

    def __init__(self, uri: str | os.PathLike[str]) -> None:
        try:
            self._fs, path = fsspec.core.url_to_fs(os.fspath(uri))
        except ImportError as error:
            raise ConfigError(f"this storage needs another package ({error})", str(uri), "install it") from error
        except ValueError as error:
            scheme = str(uri).partition("://")[0]
            fix = "give a folder, or a URI such as s3://bucket/folder"
            raise ConfigError(f"no storage is known as '{scheme}://'", str(uri), fix) from error
        self._path: str = path.rstrip("/")
        self.is_local: bool = "file" in (
            self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        )

    @property
    def uri(self) -> str:
        return self._path if self.is_local else self._fs.unstrip_protocol(self._path)

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.uri}/{name}")

    @_answered
    def exists(self, name: str = "") -> bool:
        return bool(self._fs.exists(self._at(name)))

    @_answered
    def read(self, name: str) -> bytes:
        try:
            return self._fs.cat_file(self._at(name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArtifactMissing(
                f"there is no '{name}'", self.uri, "check the path, or run the stage that writes it"
            ) from error
        except OSError as error:
            what = f"'{name}' cannot be read ({error.strerror or error})"
            raise ArtifactError(what, self.uri, "check its permissions and the disk") from error

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file, or none."""
        with self.writing(name) as path:
            path.write_bytes(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local path to write to; when the block ends well the file appears as `name`, whole."""
        if not self.is_local:
            with tempfile.TemporaryDirectory() as scratch:
                path = Path(scratch) / Path(name).name
                with disk_errors(scratch):
                    yield path
                with disk_errors(self.uri):
                    self._put(path, name)
            return
        with disk_errors(self.uri):
            final = Path(self._at(name))
            final.parent.mkdir(parents=True, exist_ok=True)
            # The suffix stays last: matplotlib, pyarrow and astropy choose their format by it.
            temporary = final.with_name(f".{uuid.uuid4().hex[:8]}.{final.name}")
            try:
                yield temporary
                _to_the_disk(temporary)
                os.replace(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)

    def check_writable(self) -> None:
        """ArtifactError where nothing can be written, before anything long is begun; nothing stays behind."""
        if self.is_local:
            path = Path(self._path)
            nearest = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
            with disk_errors(self.uri), tempfile.TemporaryFile(dir=nearest):
                return
        name = f".{uuid.uuid4().hex[:8]}.tried"
        self.write(name, b"")
        self.remove(name)

    def local(self, name: str, sha256: str | None = None) -> Path:
        """A local path of the file: the file itself, or a copy in the cache, named by its digest and checked against it."""
        if self.is_local:
            return Path(self._at(name))
        copy = CACHE / (sha256 or hashlib.sha256(self._at(name).encode()).hexdigest()) / Path(name).name
        if sha256 is None or not _holds(copy, sha256):
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary = copy.with_name(f".{uuid.uuid4().hex[:8]}.{copy.name}")
            try:
                with disk_errors(str(CACHE)):
                    self._get(name, temporary)
                    if sha256 is not None and not _holds(temporary, sha256):
                        what, fix = f"'{name}' is not the file that was written", "remove the folder and make it again"
                        raise ArtifactCorrupt(what, self.uri, fix)
                    os.replace(temporary, copy)
            finally:
                temporary.unlink(missing_ok=True)
            _drop_unused()
        with suppress(PermissionError):  # another user's, in a cache that is shared
            os.utime(copy)
        return copy

    def put_tree(self, local: str | os.PathLike[str]) -> None:
        """Copy all files below a local folder into this one."""
        root = Path(local)
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            with self.writing(path.relative_to(root).as_posix()) as target:
                shutil.copyfile(path, target)

    @_answered
    def open(self, name: str) -> Any:
        """A seekable binary file."""
        return self._fs.open(self._at(name), "rb")

    @_answered
    def files(self, under: str = "") -> list[str]:
        """Names of all whole files below `under`, relative to this folder, sorted; temporary ones are not whole."""
        self._fs.invalidate_cache()
        root = self._at(under)
        found = self._fs.find(root) if self._fs.exists(root) else []
        # Other programs mark folders in a bucket with empty objects whose names end in a slash; fsspec counts them as files.
        names = [name for path in found if (name := path[len(self._path) + 1 :]) and not name.endswith("/")]
        return sorted(name for name in names if not Path(name).name.startswith("."))

    @_answered
    def remove_unfinished(self) -> None:
        """Drop what writers that were killed left of files they had not finished."""
        for path in self._fs.find(self._path):
            if path.rpartition("/")[2].startswith("."):
                self.remove(path[len(self._path) + 1 :])

    @_answered
    def change_token(self) -> str:
        """Another one when a file has changed, as far as the storage tells without reading it: by sizes, times and ETags."""
        self._fs.invalidate_cache()
        found = self._fs.find(self._path, detail=True)
        return hashlib.sha256(
            repr(sorted((name, sorted(map(str, info.items()))) for name, info in found.items())).encode()
        ).hexdigest()

    @_answered
    def size(self, name: str) -> int:
        return int(self._fs.size(self._at(name)))

    @_answered
    def remove(self, name: str = "") -> None:
        """Remove a file or a folder with all that is in it; nothing there is fine."""
        with suppress(FileNotFoundError):
            self._fs.rm(self._at(name), recursive=True)

    @_answered
    def sha256(self, name: str) -> str:
        with self.open(name) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    @_answered
    def _get(self, name: str, path: Path) -> None:
        self._fs.get_file(self._at(name), str(path))

    @_answered
    def _put(self, path: Path, name: str) -> None:
        self._fs.put_file(str(path), self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path


def _drop_unused() -> None:
    """Copies of the cache that nobody has asked for in `CACHE_DAYS`."""
    oldest = time.time() - CACHE_DAYS * 86400
    for path in CACHE.glob("*/*"):
        with suppress(OSError):  # of another user, or gone
            if path.stat().st_mtime < oldest:
                path.unlink()
                path.parent.rmdir()


def _to_the_disk(path: Path) -> None:
    """Else the name of a file could outlive a power failure that its bytes do not."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _holds(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


@contextmanager
def disk_errors(where: str) -> Iterator[None]:
    """What goes wrong with disks while the body writes below `where`, as sentences."""
    try:
        yield
    except OSError as error:
        short_write = error.errno is None and " written" in str(error)  # how numpy tells of a full disk
        if error.errno in FULL or short_write:
            raise ArtifactError(
                "the disk is full", where, "free some space and run the same command again; it resumes"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise ArtifactError("no permission to write", where, "choose another output=FOLDER") from error
        if isinstance(error, NotADirectoryError | FileExistsError):
            what = "a file stands where a folder should be made"
            raise ArtifactError(what, where, "choose another output=FOLDER") from error
        raise
