"""Start an S3-compatible server on loopback; list a run's files in its bucket."""

from __future__ import annotations

import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from raydistill.artifacts.manifest import open_manifest
from raydistill.storage import Folder
from raydistill.storage.s3 import PatientS3
from tests.e2e import tools
from tests.e2e.gate import Gate, gate_before

RUNS = "s3://bucket/runs"


def client_of(port: int) -> dict[str, str]:
    """Return the environment variables of a client of the server on this port."""
    return {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


@contextmanager
def s3_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, str], Gate]]:
    """Start moto's server with an empty bucket `bucket`.

    Yield the environment of its clients, and its gate. The environment is also set in this process.
    """
    (port,) = tools.free_ports(1)
    program = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    command = tools.start(program, folder, tools.environment(folder), "s3")
    try:
        with gate_before(port) as gate:
            client = client_of(gate.port)
            url = client["AWS_ENDPOINT_URL"]
            for name, value in client.items():
                monkeypatch.setenv(name, value)
            PatientS3.clear_instance_cache()  # a client of an earlier server
            command.wait_until("the server answers", lambda: tools.answers(f"{url}/moto-api/"), 60)
            urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=10).close()
            yield client, gate
    finally:
        command.close()


class _Forbidden(BaseHTTPRequestHandler):
    """Answer every request as S3 answers a client without access."""

    def refuse(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = refuse

    def log_message(self, *_: object) -> None:
        """Keep requests out of the test's output."""


@contextmanager
def refusing_server() -> Iterator[dict[str, str]]:
    """Start a server that refuses every request; yield its clients' environment."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Forbidden) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield client_of(server.server_port)
        server.shutdown()
        thread.join(10)


def stored(pattern: str, runs: str = RUNS) -> list[str]:
    """Return the files of the run in the bucket whose names contain the pattern."""
    return [name for name in Folder(f"{runs}/tiny").files() if pattern in name]


def contents(runs: str = RUNS) -> dict[str, object]:
    """Return the content digest of each artifact of the run in the bucket."""
    root = Folder(f"{runs}/tiny")
    folders = {name.partition("/")[0] for name in stored("/manifest.json", runs)}
    return {kind: open_manifest(root / name, kind).content for name in folders for kind in [name.partition("-")[0]]}
