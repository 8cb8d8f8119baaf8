"""Download a file by HTTP: resume, verify, and rename it only when complete.

`NAME.part` has the bytes so far, and `NAME.part.json` their digest, and the address and the
validator (ETag or Last-Modified) that they belong to. A later run asks for the rest with `Range` and
`If-Range`: a server whose file has changed then sends it from the start, so that two versions are
never joined. Damaged bytes are fetched again.
Without a validator the rest is asked for only if a checksum is published, which finds a wrong join.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import requests

from raydistill.errors import DownloadError
from raydistill.escaping import hide_passwords
from raydistill.fetching.http import (
    TRANSIENT,
    Interrupted,
    Patience,
    Reach,
    TransientError,
    check_permanent,
    check_status,
    make_session,
    open_url,
    parse_whole,
    read_blocks,
    wait_for_retry,
)
from raydistill.fetching.kinds import HEAD, check_kind
from raydistill.log import get_logger
from raydistill.storage import disk_errors
from raydistill.storage.checked import from_json, to_json

log = get_logger(__name__)

ELSEWHERE = "choose another folder with --to"
AGAIN = "run the same command again"


@dataclass(frozen=True)
class Source:
    """A file on a server.

    Parameters
    ----------
    url
        Its address.
    size
        Its published size in bytes, if known.
    checksum
        Its published checksum, "md5:…" or "sha256:…", or "". The file must have each of several,
        which a blank separates.
    most
        Most bytes that it may have if its size is not published.
    reach
        Addresses to which the server may redirect.
    """

    url: str
    size: int | None = None
    checksum: str = ""
    most: int = 10_000_000_000
    reach: Reach = Reach()


@dataclass(frozen=True)
class Progress:
    """Bytes of a file so far, and its size if known."""

    done: int
    size: int | None


@dataclass(frozen=True)
class Downloaded:
    """A complete file: size [bytes], SHA-256, whether a published checksum matched."""

    size: int
    sha256: str
    verified: bool


def download(
    source: Source,
    path: Path,
    *,
    patience: Patience | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Downloaded:
    """Download a file, or the rest of it.

    Parameters
    ----------
    source
        Address, size and checksum.
    path
        Local file. If it exists it is only verified.
    patience
        Limits of time and of retries.
    stop
        Ends the download when it is set; the bytes so far stay.
    on_progress
        Called after each block.

    Raises
    ------
    DownloadError
        If the server refuses the file, sends another one, or does not answer any more.
    ArtifactError
        If the file cannot be written.
    Interrupted
        If `stop` was set.
    """
    patience, stop = patience or Patience(), stop or threading.Event()
    if path.exists():
        return _verify(path, source, keep=True)
    with disk_errors(str(path), ELSEWHERE):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(path, source)
        with make_session() as session:
            _complete(session, part, patience, stop, on_progress)
        return part.commit()


def _complete(
    session: requests.Session,
    part: _Part,
    patience: Patience,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> None:
    """Ask for the missing bytes until there are none."""
    failures, most = 0, part.size
    while True:
        try:
            _transfer(session, part, patience, stop, on_progress)
            return
        except (TransientError, *TRANSIENT) as error:
            check_permanent(error, part.source.url)
            failures = 1 if part.size >= most + patience.least_progress else failures + 1
            most = max(most, part.size)
            wait_for_retry(error, failures, patience, part.source.url, stop)


def _transfer(
    session: requests.Session,
    part: _Part,
    patience: Patience,
    stop: threading.Event,
    on_progress: Callable[[Progress], None],
) -> None:
    """Make one request, and append what it sends."""
    url, offset = part.source.url, part.resumable()
    if offset and offset == part.source.size:
        return
    with open_url(session, url, patience, part.source.reach, part.range_headers(offset)) as response:
        if stop.is_set():  # from here on files change, and another download may have started
            raise Interrupted
        check_status(response, url)
        if response.status_code == 416:
            part.check_end(response)
            return
        size = part.begin(response, offset)
        on_progress(Progress(part.size, size))
        for block in read_blocks(response, patience):
            if stop.is_set():
                raise Interrupted
            if part.size == 0:
                check_kind(part.path.name, block[:HEAD], url)
            part.append(block)
            on_progress(Progress(part.size, size))
    if size is not None and part.size < size:
        raise TransientError(f"the server announced {size} bytes and sent {part.size}")


@dataclass(frozen=True)
class _State:
    """Version on the server that the bytes of a part belong to."""

    url: str
    etag: str = ""
    last_modified: str = ""
    size: int | None = None
    done: int = 0  # bytes so far
    digest: str = ""  # their sha256

    @property
    def validator(self) -> str:
        """Return a value for If-Range; weak ETags do not promise equal bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified

    @property
    def version(self) -> _State:
        """Return what the headers of each response say."""
        return replace(self, size=None, done=0, digest="")

    def differs_from(self, other: _State) -> bool:
        """Return whether a partial response is another version; it may omit validators."""
        other_date = self.last_modified and other.last_modified and other.last_modified != self.last_modified
        return bool((other.etag and other.etag != self.etag) or other_date)


class _Part:
    """The bytes of a file so far."""

    def __init__(self, path: Path, source: Source) -> None:
        self.path, self.source = path, source
        self._file = path.with_name(f"{path.name}.part")
        self._state_file = path.with_name(f"{path.name}.part.json")
        self._state, self._digest = _State(""), hashlib.sha256()
        self._restore()
        if self.source.size is not None and self.size > self.source.size:
            self.discard()

    @property
    def size(self) -> int:
        """Return the number of bytes so far."""
        return self._file.stat().st_size if self._file.exists() else 0

    def resumable(self) -> int:
        """Return the byte to continue from; 0 if the bytes may be of another version."""
        known = self._state.url == hide_passwords(self.source.url) and (self._state.validator or self.source.checksum)
        return self.size if known else 0

    def range_headers(self, offset: int) -> dict[str, str]:
        """Return headers that request the same version's bytes from `offset`."""
        if not offset:
            return {}
        condition = {"If-Range": self._state.validator} if self._state.validator else {}
        return {"Range": f"bytes={offset}-", **condition}

    def begin(self, response: requests.Response, offset: int) -> int | None:
        """Prepare the part for a response body; return the whole file's size if known."""
        url, headers = hide_passwords(self.source.url), response.headers
        state = _State(url, headers.get("ETag", ""), headers.get("Last-Modified", ""))
        size = parse_whole(response.headers.get("Content-Length", ""))
        if response.status_code == 206:
            start, size = _content_range(response)
            if start != offset or self._state.differs_from(state) or self._state.size not in (None, size):
                self.discard()
                raise TransientError("the file changed on the server")
        elif offset:
            reason = "the file changed on the server" if state != self._state.version else "no ranges there"
            log.info("fetch: %s: %s, so it starts again", self.path.name, reason)
            offset = 0
        self._check_size(size)
        if not offset:
            self.discard()
        self._check_space(size, offset)
        self._state = replace(state, size=size)
        self._save()
        return size if size is not None else self.source.size

    def append(self, block: bytes) -> None:
        """Write a block at once, so that a killed process leaves whole blocks."""
        with self._file.open("ab", buffering=0) as stream:
            view = memoryview(block)
            while view:
                written = stream.write(view)
                self._digest.update(view[:written])
                view = view[written:]
        self._save()
        if self.size > (self.source.most if self.source.size is None else self.source.size):
            self._check_size(self.size)

    def check_end(self, response: requests.Response) -> None:
        """Accept the part as complete on status 416 if it has all bytes; else restart."""
        _, size = _content_range(response)
        if size != self.size:
            self.discard()
            raise TransientError("the server refused to continue the file")
        if self._state.size not in (None, size) and not self.source.checksum:
            announced = self._state.size
            self.discard()
            raise TransientError(f"the server announced {announced} bytes, and then said that the file has {size}")

    def commit(self) -> Downloaded:
        """Verify the bytes, make them durable, and give the file its name."""
        self._file.touch()
        with self._file.open("rb") as stream:
            os.fsync(stream.fileno())
        try:
            result = _verify(self._file, self.source, keep=False)
        except DownloadError:
            self.discard()
            raise
        self._file.replace(self.path)
        _sync_folder(self.path.parent)
        self._state_file.unlink(missing_ok=True)
        return result

    def discard(self) -> None:
        """Remove the bytes and their state."""
        self._file.unlink(missing_ok=True)
        self._state_file.unlink(missing_ok=True)
        self._state, self._digest = _State(""), hashlib.sha256()

    def _save(self) -> None:
        self._state = replace(self._state, done=self.size, digest=self._digest.hexdigest())
        temporary = self._state_file.with_suffix(".new")
        temporary.write_bytes(to_json(asdict(self._state)))
        temporary.replace(self._state_file)

    def _restore(self) -> None:
        """Read what an earlier run left, less a block that it had not counted.

        Damaged bytes are discarded.
        """
        if not self._state_file.exists():
            return
        with suppress(ValueError, TypeError):
            state = _State(**from_json(self._state_file.read_bytes()))
            if self._file.exists():
                os.truncate(self._file, state.done)
                with self._file.open("rb") as stream:
                    self._digest = hashlib.file_digest(stream, "sha256")
            if self._digest.hexdigest() == state.digest:
                self._state = state
                return
        log.warning("fetch: %s is damaged and is fetched again", self._file)
        self.discard()

    def _check_size(self, size: int | None) -> None:
        published, most = self.source.size, self.source.most
        if size is None or (size == published if published is not None else size <= most):
            return
        self.discard()
        says = f"says {published}" if published is not None else f"has at most {most}"
        what = f"the server sends a file of {size} bytes, and the record {says}"
        raise DownloadError(what, self.source.url, f"{AGAIN} later, or give a mirror with --base-url")

    def _check_space(self, size: int | None, offset: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if size is not None and size - offset > free:
            what = f"the disk has {_mb(free)} MB free and the rest of the file needs {_mb(size - offset)} MB"
            raise DownloadError(what, str(self.path), f"free some space and {AGAIN}, or {ELSEWHERE}")


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the first byte and file size of `bytes 5-9/10` or `bytes */10`."""
    match = re.fullmatch(
        r"bytes (?:([0-9]{1,15})-[0-9]+|\*)/([0-9]{1,15}|\*)", response.headers.get("Content-Range", "").strip()
    )
    if match is None:
        return None, None
    return int(match[1]) if match[1] else None, int(match[2]) if match[2] != "*" else None


def _verify(path: Path, source: Source, keep: bool) -> Downloaded:
    """Compare a file with its published size and checksums."""
    published = dict(checksum.split(":") for checksum in source.checksum.split())
    digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in published}
    sha256 = digests.setdefault("sha256", hashlib.sha256())
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            for digest in digests.values():
                digest.update(block)
    size = path.stat().st_size
    fix = f"remove it and {AGAIN}" if keep else f"the file was removed; {AGAIN}, or give a mirror with --base-url"
    where = str(path) if keep else source.url
    for kind, value in published.items():
        if (actual := digests[kind].hexdigest()) != value:
            raise DownloadError(f"the {kind.upper()} of the file is {actual}, and {value} is published", where, fix)
    if source.size is not None and size != source.size:
        raise DownloadError(f"the file has {size} bytes, and the record says {source.size}", where, fix)
    return Downloaded(size, sha256.hexdigest(), bool(published))


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _mb(size: int) -> int:
    return -(-size // 1_000_000)
