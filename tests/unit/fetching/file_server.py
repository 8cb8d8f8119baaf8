"""A local HTTP server that misbehaves as public servers do.

A behaviour is a function of one request. Each path has a list of them: the first one answers the
first request, and the last one all further requests. Without any, the server is a good one.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from raydistill.fetching.records import Record

HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>...</body></html>"


@dataclass
class Asked:
    """One request as the server saw it."""

    path: str
    first_byte: int
    if_range: str | None
    headers: dict[str, str]
    started: float
    sent: int = 0
    ended: float = 0.0  # when the last byte was sent


class Request(BaseHTTPRequestHandler):
    """A request, with what behaviours need to answer it."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        owner = self.server.owner
        result = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self.offset = int(result[1]) if result else 0
        self.asked = Asked(self.path, self.offset, self.headers.get("If-Range"), dict(self.headers), time.monotonic())
        with owner.lock:
            owner.log.append(self.asked)
            behaviours = owner.behaviours.get(self.path, [])
            behaviour = (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]) if behaviours else serve()
        self.data = owner.files.get(self.path, b"")
        self.stopping = owner.stopping
        try:
            if self.path in owner.files or behaviours:
                behaviour(self)
            elif owner.fallback is not None:
                owner.fallback(self)
            else:
                self.send_error(404)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def start(self, status: int, headers: dict[str, str]) -> None:
        """Send status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def body(self, data: bytes) -> None:
        """Send bytes, and count them."""
        self.wfile.write(data)
        self.wfile.flush()
        self.asked.sent += len(data)
        self.asked.ended = time.monotonic()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


Behaviour = Callable[[Request], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: FileServer

    def handle_error(self, *_: object) -> None:
        """Print nothing: clients that time out close connections."""


@dataclass
class FileServer:
    """Files by their paths, behaviours, and the log of requests."""

    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    behaviours: dict[str, list[Behaviour]] = field(default_factory=dict)
    log: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    fallback: Behaviour | None = None  # answers all other paths

    def add(self, path: str, data: bytes, *behaviours: Behaviour) -> str:
        """Serve `data` at a path, and return its address."""
        self.files[path] = data
        self.behaviours[path] = list(behaviours)
        return f"{self.url}{path}"

    def asked(self, path: str) -> list[Asked]:
        """Return the requests of a path, in order."""
        return [request for request in self.log if request.path == path]


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Hold a server on a free port of 127.0.0.1 for the body."""
    owner = FileServer()
    server = _Server(("127.0.0.1", 0), Request)
    server.owner = owner
    owner.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        owner.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


def with_files(record: Record, contents: Mapping[str, bytes]) -> Record:
    """Return a record whose files are these: it has their checksums built in."""
    files = [replace(file, checksum=f"md5:{hashlib.md5(contents[file.name]).hexdigest()}") for file in record.files]
    return replace(record, files=tuple(files))


# ---- behaviours ----


def etag(data: bytes) -> str:
    """Return a strong ETag of the content."""
    return f'"{hashlib.md5(data).hexdigest()}"'


def _date(data: bytes) -> str:
    """Return a date that depends on the content."""
    return formatdate(zlib.crc32(data), usegmt=True)


def _headers(request: Request, validator: str) -> dict[str, str]:
    return {"etag": {"ETag": etag(request.data)}, "weak": {"ETag": f"W/{etag(request.data)}"}, "none": {},
            "date": {"Last-Modified": _date(request.data)}}[validator]  # fmt: skip


def _rest(request: Request, ranges: bool, validator: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of a right answer to the request."""
    headers, data, size = _headers(request, validator), request.data, len(request.data)
    condition = request.headers.get("If-Range")
    if not ranges or not request.offset or (condition and condition not in headers.values()):
        return 200, headers, data
    if request.offset >= size:
        return 416, {**headers, "Content-Range": f"bytes */{size}"}, b""
    return 206, {**headers, "Content-Range": f"bytes {request.offset}-{size - 1}/{size}"}, data[request.offset :]


def serve(*, ranges: bool = True, validator: str = "etag", pause: float = 0.0, block: int = 1 << 16) -> Behaviour:
    """Answer rightly; `pause` seconds between blocks makes it slow."""

    def answer(request: Request) -> None:
        status, headers, body = _rest(request, ranges, validator)
        request.start(status, {**headers, "Content-Length": str(len(body))})
        for start in range(0, len(body), block):
            request.body(body[start : start + block])
            request.stopping.wait(pause)

    return answer


def truncate(after: int, *, ranges: bool = True, validator: str = "etag") -> Behaviour:
    """Announce the rest of the file, send `after` bytes, and close the connection."""

    def answer(request: Request) -> None:
        status, headers, body = _rest(request, ranges, validator)
        request.start(status, {**headers, "Content-Length": str(len(body))})
        request.body(body[:after])
        request.close_connection = True

    return answer


def stall(after: int) -> Behaviour:
    """Send `after` bytes of the rest, and then nothing, with the connection open."""

    def answer(request: Request) -> None:
        status, headers, body = _rest(request, True, "etag")
        request.start(status, {**headers, "Content-Length": str(len(body))})
        request.body(body[:after])
        request.stopping.wait(30)
        request.close_connection = True

    return answer


def announce(length: int) -> Behaviour:
    """Announce another length than that of the rest, which is sent as far as it goes."""

    def answer(request: Request) -> None:
        status, headers, body = _rest(request, True, "etag")
        request.start(
            status, {**headers, "Content-Length": str(length)} if status != 416 else headers | {"Content-Length": "0"}
        )
        request.body(body[:length])
        request.close_connection = True

    return answer


def fail(status: int, retry_after: str | None = None) -> Behaviour:
    """Answer with an error, and perhaps Retry-After."""

    def answer(request: Request) -> None:
        asked = {"Retry-After": retry_after} if retry_after else {}
        request.asked.ended = time.monotonic()
        request.start(status, {**asked, "Content-Length": "0"})

    return answer


def fail_after(owner: FileServer, path: str, sent: int) -> Behaviour:
    """Answer with 404 when `sent` bytes of another path have been sent."""

    def answer(request: Request) -> None:
        while sum(request.sent for request in owner.asked(path)) < sent and not request.stopping.wait(0.01):
            pass
        fail(404)(request)

    return answer


def send(data: bytes, content_type: str = "text/html") -> Behaviour:
    """Send other bytes with status 200, such as a page to sign in."""

    def answer(request: Request) -> None:
        request.start(200, {"Content-Type": content_type, "Content-Length": str(len(data))})
        request.body(data)

    return answer


def redirect(path: str) -> Behaviour:
    """Send the client to another path."""

    def answer(request: Request) -> None:
        request.start(302, {"Location": path, "Content-Length": "0"})

    return answer


def hang_up() -> Behaviour:
    """Close the connection without an answer."""

    def answer(request: Request) -> None:
        request.close_connection = True

    return answer


def glue(data: bytes) -> Behaviour:
    """Ignore If-Range, and send the rest of another version with the old length."""

    def answer(request: Request) -> None:
        size = len(data)
        request.start(206, {"Content-Range": f"bytes {request.offset}-{size - 1}/{size}", "ETag": etag(data),
                            "Content-Length": str(size - request.offset)})  # fmt: skip
        request.body(data[request.offset :])

    return answer
