"""A real S3-compatible server on the loopback, and what a run has put into its bucket."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from raydistill.artifacts.manifest import open_manifest
from raydistill.artifacts.storage import Folder
from tests.e2e import tools
from tests.e2e.gate import Gate, gate_before

RUNS = "s3://bucket/runs"


@contextmanager
def s3_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[dict[str, str], Gate]]:
    """moto's server with an empty bucket `bucket`; the environment in which clients find it, which is also this process's, and the gate
    through which they go."""
    (port,) = tools.free_ports(1)
    program = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    command = tools.start(program, folder, tools.environment(folder), "s3")
    try:
        with gate_before(port) as gate:
            url = f"http://127.0.0.1:{gate.port}"
            client = {
                "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_DISABLED": "true",
            }  # fmt: skip
            for name, value in client.items():
                monkeypatch.setenv(name, value)
            fsspec.get_filesystem_class("s3").clear_instance_cache()  # one made for an earlier server
            command.wait_until("the server answers", lambda: tools.answers(f"{url}/moto-api/"), 60)
            urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=10).close()
            yield client, gate
    finally:
        command.close()


def stored(pattern: str, runs: str = RUNS) -> list[str]:
    """Files of the run in the bucket."""
    return [name for name in Folder(f"{runs}/tiny").files() if pattern in name]


def contents(runs: str = RUNS) -> dict[str, object]:
    """Content digest of each artifact of the run in the bucket."""
    root = Folder(f"{runs}/tiny")
    folders = {name.partition("/")[0] for name in stored("/manifest.json", runs)}
    return {kind: open_manifest(root / name, kind).content for name in folders for kind in [name.partition("-")[0]]}
