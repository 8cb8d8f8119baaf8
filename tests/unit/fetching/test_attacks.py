"""Hostile servers redirect elsewhere, never end, trickle, and lie in headers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from raydistill.errors import ConfigError, DownloadError
from raydistill.fetching.download import Source, download
from raydistill.fetching.http import Patience, Reach, check_base
from raydistill.fetching.records import RECORDS, hosts_of
from tests.unit.fetching.file_server import Behaviour, FileServer, Request, file_server, redirect, serve

DATA = b"objid,asset_id\n" + b"1,2\n" * 5000
MD5 = f"md5:{hashlib.md5(DATA).hexdigest()}"


@pytest.fixture
def elsewhere() -> Iterator[FileServer]:
    """Yield a second server, to which nothing may be sent."""
    with file_server() as running:
        running.add("/table.csv", DATA)
        yield running


# ---- redirects ----

TARGETS: dict[str, Callable[[str, str], str]] = {
    "another port": lambda known, other: f"{other}/table.csv",
    "another name of this machine": lambda known, other: f"{known.replace('127.0.0.1', 'localhost')}/store",
    "a user before the host": lambda known, other: f"{known}@{other.partition('//')[2]}/table.csv",
    "a backslash": lambda known, other: f"{other}\\@{known.partition('//')[2]}/table.csv",
    "no scheme": lambda known, other: f"{other.partition(':')[2]}/table.csv",
    "the metadata of a cloud": lambda known, other: "http://169.254.169.254/latest/meta-data",
    "an unknown host": lambda known, other: "https://example.org/table.csv",
    "a name that begins alike": lambda known, other: "https://zenodo.org.example.org/table.csv",
    "http of a known host": lambda known, other: "http://zenodo.org/table.csv",
    "another port of a known host": lambda known, other: "https://zenodo.org:8443/table.csv",
    "a file": lambda known, other: "file:///etc/passwd",
    "ftp": lambda known, other: "ftp://zenodo.org/table.csv",
    "data": lambda known, other: "data:text/csv,1",
    "nothing that can be read": lambda known, other: "http://[::1",
    "a long name": lambda known, other: f"https://{'a' * 5000}.org/",
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_redirect_to_an_unknown_place_is_rejected(
    target: Callable[[str, str], str], server: FileServer, elsewhere: FileServer, quick: Patience, tmp_path: Path
) -> None:
    server.add("/store", DATA)
    url = server.add("/table.csv", b"", redirect(target(server.url, elsewhere.url)))
    reach = Reach(frozenset({"zenodo.org"}))
    with pytest.raises(DownloadError, match=r"^http.*: the server redirects ") as error:
        download(Source(url, None, MD5, reach=reach), tmp_path / "table.csv", patience=quick)
    assert len(str(error.value)) < 600
    assert {request.path for request in server.log} == {"/table.csv"}
    assert (elsewhere.log, list(tmp_path.iterdir())) == ([], [])


def test_redirect_inside_a_host_and_to_a_known_one_is_followed(
    server: FileServer, elsewhere: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add("/table.csv", b"", redirect("/a"))
    server.add("/a", b"", redirect(f"{elsewhere.url}/table.csv"))
    reach = Reach(frozenset({elsewhere.url.removeprefix("http://")}))
    download(Source(url, None, MD5, reach=reach), tmp_path / "table.csv", patience=quick)
    assert (tmp_path / "table.csv").read_bytes() == DATA


@pytest.mark.parametrize(
    ("url", "insecure", "is_safe"),
    [
        ("https://zenodo.org/a", False, True),
        ("http://zenodo.org/a", False, False),
        ("http://zenodo.org/a", True, True),
        ("http://127.0.0.1:80/a", False, True),
        ("http://127.8.8.8/a", False, True),
        ("http://[::1]:8080/a", False, True),
        ("http://localhost:8080/a", False, True),
        ("http://localhost.example.org/a", False, False),
        ("http://127.0.0.1.example.org/a", False, False),
        ("http://0.0.0.0/a", False, False),
        ("ftp://127.0.0.1/a", True, False),
        ("file:///a", True, False),
    ],
)
def test_only_https_and_loopback_are_safe(url: str, insecure: bool, is_safe: bool) -> None:
    assert Reach(insecure=insecure).is_safe(url) is is_safe


def test_mirror_without_https_needs_the_option() -> None:
    with pytest.raises(ConfigError, match=r"^--base-url: 'http://mirror\.org' is not encrypted.* or add --insecure$"):
        check_base("http://mirror.org")
    check_base("http://mirror.org", insecure=True)
    check_base("https://mirror.org")


def test_redirects_without_end_are_counted(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", b"", redirect("/table.csv"))
    with pytest.raises(DownloadError, match="the server redirects more than 5 times"):
        download(Source(url), tmp_path / "table.csv", patience=quick)
    assert len(server.log) == 6


def test_body_of_a_redirect_is_not_read(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    def endless(request: Request) -> None:
        request.start(302, {"Location": "/a", "Connection": "close"})
        for _ in range(1000):
            request.body(b"x" * (1 << 20))

    url = server.add("/table.csv", b"", endless)
    server.add("/a", DATA)
    download(Source(url, None, MD5), tmp_path / "table.csv", patience=quick)
    assert server.asked("/table.csv")[0].sent < 100 << 20


def test_hosts_of_a_record_are_few() -> None:
    for record in RECORDS.values():
        assert hosts_of(record) <= {file.url.split("/")[2] for file in record.files} | set(record.hosts)
        assert len(hosts_of(record)) <= 3


# ---- bodies ----


def pour(headers: dict[str, str]) -> Behaviour:
    """Send bytes without end."""

    def answer(request: Request) -> None:
        request.start(200, headers | {"Connection": "close"})
        while not request.stopping.is_set():
            request.body(b"1,2\n" * 10_000)

    return answer


def chunks(request: Request) -> None:
    """Send chunks without end."""
    request.start(200, {"Transfer-Encoding": "chunked"})
    while not request.stopping.is_set():
        request.body(b"9c40\r\n" + b"1,2\n" * 10_000 + b"\r\n")


@pytest.mark.parametrize(
    ("behaviour", "size", "sentence"),
    [
        (pour({}), None, "bytes, and the record has at most 1000000"),
        (chunks, None, "bytes, and the record has at most 1000000"),
        (pour({}), 500_000, "bytes, and the record says 500000"),
        (pour({"Content-Length": "99999999999"}), None, "a file of 99999999999 bytes, and the record has at most 1000000"),
        (pour({"Content-Length": "9" * 5000}), None, "bytes, and the record has at most 1000000"),
    ],
    ids=["no length", "chunks", "published size", "long length", "absurd length"],
)  # fmt: skip
def test_body_without_end_is_cut(
    behaviour: Behaviour, size: int | None, sentence: str, server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add("/table.csv", b"", behaviour)
    with pytest.raises(DownloadError, match=sentence):
        download(Source(url, size, "", 1_000_000), tmp_path / "table.csv", patience=quick)
    assert list(tmp_path.iterdir()) == []


def test_body_that_trickles_ends_the_download(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", DATA, serve(pause=0.05, block=10))
    started = time.monotonic()
    with pytest.raises(DownloadError, match="the server sends less than 1 kB a second, after 3 attempts"):
        download(Source(url), tmp_path / "table.csv", patience=replace(quick, stall_seconds=0.6, attempts=3))
    assert time.monotonic() - started < 10


def test_single_bytes_for_every_request_end_the_download(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    def send_byte(request: Request) -> None:
        headers = {"Content-Range": f"bytes {request.offset}-{len(DATA) - 1}/{len(DATA)}", "ETag": '"a"'}
        request.start(206 if request.offset else 200, headers | {"Content-Length": str(len(DATA) - request.offset)})
        request.body(DATA[request.offset : request.offset + 1])
        request.close_connection = True

    url = server.add("/table.csv", DATA, send_byte)
    with pytest.raises(DownloadError, match="after 4 attempts"):
        download(Source(url), tmp_path / "table.csv", patience=quick)
    assert len(server.log) == 4


# ---- headers ----


def with_headers(headers: dict[str, str], status: int = 200) -> Behaviour:
    def answer(request: Request) -> None:
        request.start(status, {"Content-Length": str(len(DATA)), **headers})
        request.body(DATA)
        request.close_connection = True

    return answer


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Disposition": 'attachment; filename="../../evil.csv"'},
        {"Content-Disposition": "attachment; filename*=UTF-8''%2Fetc%2Fpasswd"},
        {"Content-Location": "/etc/passwd", "Refresh": "0; url=http://example.org"},
        {"Content-Encoding": "gzip"},
        {"Content-Range": f"bytes 0-{'9' * 5000}/{'9' * 5000}"},
        {"ETag": '"' + "x" * 10_000 + '"', "Last-Modified": "\x1b[2J"},
        {"Content-Length": "\xb2"},
        {"Set-Cookie": "a=b; Domain=org"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_headers_choose_neither_name_nor_content(
    headers: dict[str, str], server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add("/table.csv", DATA, with_headers(headers))
    download(Source(url, None, MD5), tmp_path / "to" / "table.csv", patience=quick)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["table.csv"]
    assert (tmp_path / "to" / "table.csv").read_bytes() == DATA


@pytest.mark.parametrize("wait", ["\xb2", "9" * 500, "-5", "Mon, 01 Jan 99999 00:00:00 GMT", "01 Jan 0001 00:00 +2359"])
def test_wait_that_is_no_time_is_not_obeyed(wait: str, server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", DATA, with_headers({"Retry-After": wait}, 503), serve())
    download(Source(url, None, MD5), tmp_path / "table.csv", patience=quick)
    assert (tmp_path / "table.csv").read_bytes() == DATA


def test_reason_of_a_server_has_no_control_characters(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    def refuse(request: Request) -> None:
        request.wfile.write(b"HTTP/1.1 404 gone \x1b[2J\x1b]0;owned\x07\r\nContent-Length: 0\r\n\r\n")

    url = server.add("/table.csv", DATA, refuse)
    with pytest.raises(DownloadError, match=r"404 gone \\x1b\[2J\\x1b\]0;owned\\x07; open"):
        download(Source(url), tmp_path / "table.csv", patience=quick)
