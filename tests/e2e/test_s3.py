"""A whole run whose survey, artifacts and memory lie in a bucket of a real S3-compatible server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from raydistill.artifacts.manifest import open_manifest
from raydistill.artifacts.storage import Folder
from tests.e2e import tools
from tests.e2e.nodes import s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUNS = "s3://bucket/runs"


def test_a_run_in_a_bucket_has_the_digests_of_one_on_a_disk(
    undisturbed: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path / "s3") as client:
        program = [sys.executable, "-m", "raydistill.cli", "run", str(tools.TINY), f"output={RUNS}"]
        command = tools.start(program, tmp_path, {**env, **client, "RAYDISTILL_CACHE": str(tmp_path / "cache")})
        assert command.wait() == 0, command.said[-4000:]
        assert command.answer.startswith(f"{RUNS}/tiny/evaluation-")
        assert "tracking is off" in command.said, "SQLite needs a disk"
        for name, value in client.items():
            monkeypatch.setenv(name, value)
        root = Folder(f"{RUNS}/tiny")
        kinds = {name.partition("/")[0] for name in root.files() if name.endswith("/manifest.json")}
        found = {kind: open_manifest(root / name, kind).content for name in kinds for kind in [name.partition("-")[0]]}
        assert found == tools.contents(undisturbed)
        assert not [name for name in root.files() if "/partial/" in name]
