"""Requests to a silent server end in time, and each wait is logged."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import requests
import urllib3

from raydistill.errors import ArtifactError, ConfigError
from raydistill.fetching.http import Patience, Reach, make_session, open_url, read_body
from raydistill.storage import Folder, arrow_filesystem, patience
from raydistill.tracking.delivery import CircuitBreaker, Outcome
from tests.e2e.bucket import client_of
from tests.silent_server import FAULTS, silent_server

OPERATIONS: dict[str, Callable[[Folder], object]] = {
    "exists": lambda folder: folder.exists("a"),
    "list": lambda folder: folder.files(),
    "write": lambda folder: folder.write("a", b"1"),
    "create": lambda folder: folder.create("a", b"1"),
    "read": lambda folder: folder.read("a"),
    "copy": lambda folder: folder.local("a"),
    "remove": lambda folder: folder.remove("a"),
}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.LIMIT, "0.6")
    monkeypatch.setattr(patience, "SECONDS_BETWEEN_LINES", 0.1)
    monkeypatch.setattr(patience, "AFTER_SILENCE", 0.1)


def s3_folder(port: int, monkeypatch: pytest.MonkeyPatch) -> Folder:
    pytest.importorskip("s3fs")
    from raydistill.storage.s3 import PatientS3

    for name, value in client_of(port).items():
        monkeypatch.setenv(name, value)
    PatientS3.clear_instance_cache()
    return Folder("s3://bucket/runs")


@pytest.mark.parametrize(
    ("fault", "operation"),
    [("silent", name) for name in OPERATIONS] + [(f, n) for f in FAULTS[1:] for n in ("list", "read", "copy")],
)
@pytest.mark.usefixtures("short")
def test_requests_to_s3_end_in_time(
    fault: str, operation: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with silent_server(fault) as port:
        folder = s3_folder(port, monkeypatch)
        started = time.monotonic()
        with pytest.raises(ArtifactError, match=r"s3://bucket/runs: the storage did not answer \(no answer for .* s\)"):
            OPERATIONS[operation](folder)
    assert time.monotonic() - started < 10
    assert "waiting for s3://bucket/runs" in caplog.text
    assert "; it is given up after 0.6 s" in caplog.text


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("fault", FAULTS)
def test_remote_tables_and_pictures_end_in_time(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_server(fault) as port:
        system, path = arrow_filesystem(s3_folder(port, monkeypatch).uri)
        for read in (system.open_input_stream, system.open_input_file):
            with pytest.raises(OSError, match="no answer for"):
                read(f"{path}/a.csv").read()


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_limit_is_a_positive_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(patience.LIMIT, text)
    with pytest.raises(ConfigError, match=f"{patience.LIMIT}: '{text}' is not a positive number of seconds"):
        patience.seconds_of_a_request()


def test_no_timeout_of_the_client_ends_a_request_before_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3fs would repeat the request."""
    with silent_server() as port:
        folder = s3_folder(port, monkeypatch)
    assert folder._fs.config_kwargs["read_timeout"] > patience.seconds_of_a_request()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("fault", FAULTS[:2])
def test_waits_of_a_download_are_logged(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "raydistill")
    patience_of_fetch = Patience(stall_seconds=0.6)
    with silent_server(fault) as port, make_session() as session:
        url = f"http://127.0.0.1:{port}/a"
        with (
            pytest.raises((requests.RequestException, urllib3.exceptions.HTTPError)),
            open_url(session, url, patience_of_fetch, Reach(insecure=True)) as response,
        ):
            read_body(response, patience_of_fetch, 10**6)
    assert f"waiting for {url} for" in caplog.text


@pytest.mark.usefixtures("short")
def test_waits_for_a_tracking_server_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "raydistill")
    breaker = CircuitBreaker("http://me:secret@host", lambda _: None)
    assert breaker.attempt("metrics", lambda _: time.sleep(0.3)) is Outcome.DONE
    assert "waiting for http://…@host for" in caplog.text
