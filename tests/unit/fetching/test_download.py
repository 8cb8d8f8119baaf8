"""One file from a faulty server.

The server stalls, truncates, lies about the length, changes the file or sends another one.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from raydistill.errors import ArtifactError, DownloadError
from raydistill.fetching.download import Progress, Source, download
from raydistill.fetching.http import Interrupted, Patience
from raydistill.storage.checked import from_json, to_json
from tests.damage import flipped
from tests.unit.fetching.file_server import (
    HTML,
    Behaviour,
    FileServer,
    announce,
    fail,
    glue,
    hang_up,
    redirect,
    send,
    serve,
    stall,
    truncate,
)

DATA = b"objid,sample,asset_id\n" + np.random.default_rng(0).integers(0, 255, 300_000, dtype=np.uint8).tobytes()
OTHER = b"objid,sample,asset_id\n" + np.random.default_rng(1).integers(0, 255, 300_000, dtype=np.uint8).tobytes()
MD5 = f"md5:{hashlib.md5(DATA).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("behaviours", "requests"),
    [
        pytest.param([], 1, id="a good server"),
        pytest.param([serve(pause=0.02)], 1, id="slow"),
        pytest.param([truncate(100_000), serve()], 2, id="truncates once"),
        pytest.param([truncate(70_000)], 5, id="truncates every time"),
        pytest.param([truncate(0), serve()], 2, id="sends headers only, once"),
        pytest.param([hang_up(), serve()], 2, id="hangs up"),
        pytest.param([fail(503), fail(500), serve()], 3, id="is busy twice"),
        pytest.param([truncate(100_000, ranges=False), serve(ranges=False)], 2, id="has no ranges"),
        pytest.param([truncate(100_000, validator="none"), serve(validator="none")], 2, id="has no validator"),
        pytest.param([truncate(100_000, validator="weak"), serve(validator="weak")], 2, id="has a weak validator"),
    ],
)
@pytest.mark.parametrize("checksum", [MD5, ""], ids=["checksum", "no checksum"])
def test_file_arrives_byte_for_byte(
    behaviours: list[Behaviour], requests: int, checksum: str, server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add("/table.csv", DATA, *behaviours)
    result = download(Source(url, None, checksum), tmp_path / "table.csv", patience=quick)
    assert (tmp_path / "table.csv").read_bytes() == DATA
    assert files_in(tmp_path) == ["table.csv"]
    assert (result.size, f"sha256:{result.sha256}", result.verified) == (len(DATA), SHA256, bool(checksum))
    assert len(server.asked("/table.csv")) == requests


def test_bytes_that_are_there_are_not_asked_for_again(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", DATA, truncate(100_000), stall(50_000), serve())
    download(Source(url), tmp_path / "table.csv", patience=replace(quick, stall_seconds=1))
    asked = server.asked("/table.csv")
    assert [request.first_byte for request in asked] == [0, 100_000, 150_000]
    assert sum(request.sent for request in asked) == len(DATA)
    assert {request.if_range for request in asked[1:]} == {f'"{MD5[4:]}"'}
    assert all(request.headers["Accept-Encoding"] == "identity" for request in asked)


def test_date_of_a_file_names_its_version_too(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", DATA, truncate(100_000, validator="date"), serve(validator="date"))
    download(Source(url), tmp_path / "table.csv", patience=quick)
    assert (tmp_path / "table.csv").read_bytes() == DATA
    assert [request.first_byte for request in server.log] == [0, 100_000]
    assert str(server.log[1].if_range).endswith(" GMT")


def test_redirected_file_is_continued(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    server.add("/store/1", DATA, truncate(100_000), serve())
    url = server.add("/table.csv", b"", redirect("/store/1"))
    download(Source(url), tmp_path / "table.csv", patience=quick)
    assert (tmp_path / "table.csv").read_bytes() == DATA
    assert [request.first_byte for request in server.asked("/store/1")] == [0, 100_000]


# A fault and its arguments; the server makes a behaviour of them.
FAULTS = st.one_of(
    st.tuples(st.just("truncate"), st.integers(0, 120_000), st.booleans(), st.sampled_from(["etag", "none", "date"])),
    st.tuples(st.just("announce"), st.integers(0, 500_000)),
    st.sampled_from([("fail", 503), ("fail", 429), ("hang_up",), ("glue",)]),
)


def behaviour_of(fault: tuple[Any, ...]) -> Behaviour:
    name, *arguments = fault
    if name == "truncate":
        return truncate(arguments[0], ranges=arguments[1], validator=arguments[2])
    return {"announce": announce, "fail": fail, "hang_up": hang_up, "glue": lambda: glue(OTHER)}[name](*arguments)


@hypothesis.given(faults=st.lists(FAULTS, max_size=3), change=st.booleans(), more=st.lists(FAULTS, max_size=3))
@hypothesis.example(faults=[("truncate", 1000, True, "date")], change=True, more=[("glue",)])
@hypothesis.settings(
    max_examples=30, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_no_series_of_faults_joins_two_versions(
    faults: list[tuple[Any, ...]],
    change: bool,
    more: list[tuple[Any, ...]],
    server: FileServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The file has one version of the server, or there is none.

    A checksum admits only the right one.

    Without a checksum the file may be shorter: a server that announces too little cannot be
    noticed.
    """
    quick = Patience(attempts=4, first_wait=0.001, longest_wait=0.002)
    for checksum in ("", MD5):
        path = tmp_path_factory.mktemp("faults") / "table.csv"
        url = server.add("/table.csv", DATA, *map(behaviour_of, faults), fail(404))
        with suppress(DownloadError):
            download(Source(url, None, checksum), path, patience=quick)
        server.add("/table.csv", OTHER if change else DATA, *map(behaviour_of, more), serve())
        with suppress(DownloadError):
            download(Source(url, None, checksum), path, patience=quick)
        if path.exists():
            versions = (DATA,) if checksum else (DATA, OTHER)
            content = path.read_bytes()
            assert any(content == version or (not checksum and version.startswith(content)) for version in versions)


def test_stopped_download_is_continued_by_the_next_one(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", DATA, serve(pause=0.01, block=20_000))
    stop = threading.Event()

    def stop_early(state: Progress) -> None:
        if state.done > 100_000:
            stop.set()

    with pytest.raises(Interrupted):
        download(Source(url), tmp_path / "table.csv", patience=quick, stop=stop, on_progress=stop_early)
    part = (tmp_path / "table.csv.part").stat().st_size
    assert 100_000 < part < len(DATA)
    assert not (tmp_path / "table.csv").exists()
    seen: list[Progress] = []
    download(Source(url), tmp_path / "table.csv", patience=quick, on_progress=seen.append)
    assert (tmp_path / "table.csv").read_bytes() == DATA
    assert [request.first_byte for request in server.asked("/table.csv")] == [0, part]
    assert seen[0] == Progress(part, len(DATA))
    assert seen[-1] == Progress(len(DATA), len(DATA))


def leave_part(
    server: FileServer, quick: Patience, path: Path, size: int = 100_000, checksum: str = "", validator: str = "etag"
) -> str:
    """Start a download of DATA; the server sends `size` bytes, then answers 404."""
    url = server.add(f"/{path.name}", DATA, truncate(size, validator=validator), fail(404))
    with pytest.raises(DownloadError, match="404"):
        download(Source(url, None, checksum), path, patience=quick)
    assert path.with_name(f"{path.name}.part").stat().st_size == size
    return url


def test_changed_file_is_not_joined_with_the_old_one(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    leave_part(server, quick, path)
    url = server.add("/table.csv", OTHER)
    download(Source(url), path, patience=quick)
    assert path.read_bytes() == OTHER


@pytest.mark.parametrize("validator", ["etag", "date"])
def test_changed_file_is_noticed_if_the_server_ignores_the_condition(
    validator: str, server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    leave_part(server, quick, path, validator=validator)
    url = server.add("/table.csv", OTHER, glue(OTHER), serve())
    download(Source(url), path, patience=quick)
    assert path.read_bytes() == OTHER
    assert [request.first_byte for request in server.asked("/table.csv")][-2:] == [100_000, 0]


def test_part_of_another_address_is_not_used(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    leave_part(server, quick, path)
    download(Source(server.add("/moved.csv", OTHER)), path, patience=quick)
    assert path.read_bytes() == OTHER
    assert [request.first_byte for request in server.asked("/moved.csv")] == [0]


@pytest.mark.parametrize("checksum", [MD5, ""], ids=["checksum", "no checksum"])
@pytest.mark.parametrize(
    "damage",
    [("table.csv.part", lambda old: flipped(old, 70_000, 5)), ("table.csv.part", lambda old: old[:-1]),
     ("table.csv.part.json", lambda old: flipped(old, 10)), ("table.csv.part.json", lambda _: b"{")],
    ids=["bit of the bytes", "byte that is gone", "bit of the state", "no state"],
)  # fmt: skip
def test_damaged_part_is_fetched_again(
    damage: tuple[str, Callable[[bytes], bytes]],
    checksum: str,
    server: FileServer,
    quick: Patience,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, (name, change) = tmp_path / "table.csv", damage
    url = leave_part(server, quick, path, checksum=checksum)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    server.add("/table.csv", DATA)
    download(Source(url, None, checksum), path, patience=quick)
    assert path.read_bytes() == DATA
    assert server.asked("/table.csv")[-1].first_byte == 0
    assert "table.csv.part is damaged and is fetched again" in caplog.text


def test_bytes_after_those_of_the_state_are_asked_for_again(
    server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    """A process may die between a block and the state."""
    path = tmp_path / "table.csv"
    url = leave_part(server, quick, path)
    with (tmp_path / "table.csv.part").open("ab") as part:
        part.write(bytes(1000))
    server.add("/table.csv", DATA)
    download(Source(url), path, patience=quick)
    assert path.read_bytes() == DATA
    assert server.asked("/table.csv")[-1].first_byte == 100_000


def test_complete_part_needs_no_bytes(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    """A process may die between the last byte and the rename."""
    path, state = tmp_path / "table.csv", tmp_path / "table.csv.part.json"
    url = leave_part(server, quick, path, size=1000)
    (tmp_path / "table.csv.part").write_bytes(DATA)
    state.write_bytes(to_json({**from_json(state.read_bytes()), "done": len(DATA), "digest": SHA256[7:]}))
    server.add("/table.csv", DATA)
    download(Source(url), path, patience=quick)
    assert path.read_bytes() == DATA
    assert server.asked("/table.csv")[-1].sent == 0  # 416


@pytest.mark.parametrize("checksum", [MD5, SHA256])
def test_wrong_checksum_removes_the_file_and_names_both_digests(
    checksum: str, server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add("/table.csv", OTHER)
    with pytest.raises(DownloadError) as error:
        download(Source(url, None, checksum), tmp_path / "table.csv", patience=quick)
    kind, _, published = checksum.partition(":")
    result = hashlib.new(kind, OTHER).hexdigest()
    assert error.value.what == f"the {kind.upper()} of the file is {result}, and {published} is published"
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "behaviour", "sentence"),
    [
        ("images.zip", send(HTML), r"the server sent a web page \('Sign in'\) instead of images\.zip"),
        ("table.csv", send(HTML), r"the server sent a web page \('Sign in'\) instead of table\.csv"),
        ("table.csv", send(b"<?xml version='1.0'?><Error><Message>Access Denied</Message></Error>"),
         r"a web page \('Access Denied'\)"),
        ("images.zip", send(DATA), r"the server sent no zip archive instead of images\.zip"),
        ("table.csv.gz", send(b"PK\x03\x04" + DATA), "the server sent no gzip file"),
        ("table.csv", send(b"PK\x03\x04" + DATA), "the server sent a zip archive instead of table.csv"),
        ("table.csv", fail(404), "the server answers 404 Not Found"),
        ("table.csv", fail(403), "the server answers 403 Forbidden"),
    ],
)  # fmt: skip
def test_another_file_is_rejected_at_once(
    name: str, behaviour: Behaviour, sentence: str, server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add(f"/{name}", DATA, behaviour)
    with pytest.raises(DownloadError, match=sentence) as error:
        download(Source(url), tmp_path / name, patience=quick)
    assert len(server.log) == 1
    assert not (tmp_path / name).exists()
    assert (tmp_path / f"{name}.part").exists() is False
    assert str(error.value).startswith(f"{url}: ")


@pytest.mark.parametrize(
    ("behaviour", "size", "requests"),
    [
        pytest.param(announce(1000), len(DATA), 1, id="announces too little"),
        pytest.param(announce(len(DATA) + 1), len(DATA), 1, id="announces too much"),
        pytest.param(serve(), len(DATA) + 1, 1, id="has another file"),
    ],
)
def test_wrong_length_is_rejected_before_the_download(
    behaviour: Behaviour, size: int, requests: int, server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add("/table.csv", DATA, behaviour)
    with pytest.raises(DownloadError, match=f"bytes, and the record says {size}"):
        download(Source(url, size), tmp_path / "table.csv", patience=quick)
    assert len(server.log) == requests
    assert files_in(tmp_path) == []


def test_length_that_is_too_short_is_found_by_the_checksum(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", DATA, announce(1000))
    with pytest.raises(DownloadError, match="is published"):
        download(Source(url, None, MD5), tmp_path / "table.csv", patience=quick)
    assert files_in(tmp_path) == []


def test_server_that_announces_more_than_it_has_is_rejected(
    server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add("/table.csv", DATA, announce(len(DATA) + 5000))
    with pytest.raises(DownloadError, match=f"announced {len(DATA) + 5000} bytes, and then said .* has {len(DATA)}"):
        download(Source(url), tmp_path / "table.csv", patience=quick)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("checksum", "requests"), [(MD5, 2), ("", 3)])
def test_server_that_announces_more_than_it_has_once_is_asked_again(
    checksum: str, requests: int, server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    """Without a checksum the file is fetched again: its first bytes may lack the end."""
    url = server.add("/table.csv", DATA, announce(len(DATA) + 5000), serve())
    download(Source(url, None, checksum), tmp_path / "table.csv", patience=quick)
    assert (tmp_path / "table.csv").read_bytes() == DATA
    assert len(server.log) == requests


def test_server_that_stays_silent_ends_the_download_and_the_part_stays(
    server: FileServer, quick: Patience, tmp_path: Path
) -> None:
    url = server.add("/table.csv", DATA, stall(100_000), stall(0))
    with pytest.raises(DownloadError, match=r"the server stopped sending, after 2 attempts; .*it resumes"):
        download(Source(url), tmp_path / "table.csv", patience=replace(quick, stall_seconds=0.5, attempts=2))
    assert (tmp_path / "table.csv.part").stat().st_size == 100_000


def test_unreachable_server_is_named_in_one_sentence(
    quick: Patience, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "raydistill")
    with pytest.raises(DownloadError, match="the server cannot be reached, after 4 attempts"):
        download(Source("http://127.0.0.1:9/table.csv"), tmp_path / "table.csv", patience=quick)
    assert [record.getMessage() for record in caplog.records] == [
        f"fetch: table.csv: the server cannot be reached; attempt {number} follows in 0.0 s" for number in (2, 3, 4)
    ]


def test_proxy_of_the_environment_is_used(
    server: FileServer, quick: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is asked for the whole address."""
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://zenodo.invalid/table.csv"] = DATA
    download(Source("http://zenodo.invalid/table.csv"), tmp_path / "table.csv", patience=quick)
    assert (tmp_path / "table.csv").read_bytes() == DATA


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed(form: str, server: FileServer, quick: Patience, tmp_path: Path) -> None:
    asked = "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    url = server.add("/table.csv", DATA, fail(503 if form == "seconds" else 429, asked), serve())
    download(Source(url), tmp_path / "table.csv", patience=quick)
    first, second = server.log
    assert second.started - first.ended > 0.9


def test_retry_after_of_hours_ends_the_download(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", DATA, fail(429, "7200"))
    started = time.monotonic()
    with pytest.raises(DownloadError, match="429 Too Many Requests and asks to wait for 2 h 0 min"):
        download(Source(url), tmp_path / "table.csv", patience=quick)
    assert time.monotonic() - started < 2


def test_file_that_exists_is_verified_and_not_asked_for(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = server.add("/table.csv", DATA)
    (tmp_path / "table.csv").write_bytes(DATA)
    assert download(Source(url, None, MD5), tmp_path / "table.csv", patience=quick).verified
    (tmp_path / "table.csv").write_bytes(OTHER)
    with pytest.raises(DownloadError, match=r"table\.csv: the MD5 .*; remove it and run the same command again"):
        download(Source(url, None, MD5), tmp_path / "table.csv", patience=quick)
    assert server.log == []
    assert (tmp_path / "table.csv").read_bytes() == OTHER


def test_lack_of_space_is_reported_before_the_first_byte(
    server: FileServer, quick: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    url = server.add("/table.csv", DATA)
    with pytest.raises(DownloadError, match=r"the disk has 1 MB free and the rest of the file needs 1 MB; free some"):
        download(Source(url), tmp_path / "table.csv", patience=quick)


def test_destination_that_is_a_file_is_one_sentence(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ArtifactError, match="a file stands where a folder should be made; choose another folder"):
        download(Source(server.add("/table.csv", DATA)), tmp_path / "data" / "table.csv", patience=quick)


def test_state_of_a_part_names_its_version(server: FileServer, quick: Patience, tmp_path: Path) -> None:
    url = leave_part(server, quick, tmp_path / "table.csv")
    state = from_json((tmp_path / "table.csv.part.json").read_bytes())
    digest = hashlib.sha256(DATA[:100_000]).hexdigest()
    assert state == {
        "url": url, "etag": f'"{MD5[4:]}"', "last_modified": "", "size": len(DATA), "done": 100_000, "digest": digest,
    }  # fmt: skip
