"""A cluster whose nodes share no disk: everything lies in an S3-compatible store, and a node is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raydistill.artifacts.manifest import open_manifest
from raydistill.artifacts.storage import Folder
from tests.e2e import tools
from tests.e2e.nodes import head_node, s3_server, worker_node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RUNS = "s3://bucket/runs"
LONG = "experts.training.epochs=60"  # long enough for something to happen in between


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path / "s3") as client:
        for name, value in client.items():
            monkeypatch.setenv(name, value)
        yield client


def stored(pattern: str) -> list[str]:
    """Files of the run in the bucket."""
    return [name for name in Folder(f"{RUNS}/tiny").files() if pattern in name]


def contents() -> dict[str, str]:
    root = Folder(f"{RUNS}/tiny")
    kinds = {name.partition("/")[0] for name in root.files() if name.endswith("/manifest.json")}
    return {kind: open_manifest(root / folder, kind).content for folder in kinds for kind in [folder.partition("-")[0]]}


def test_a_node_lost_on_a_cluster_without_a_common_disk(
    store: dict[str, str], env: dict[str, str], tmp_path: Path
) -> None:
    undisturbed = tools.raydistill(tmp_path, env, LONG)
    assert undisturbed.wait() == 0, undisturbed.said[-4000:]
    caches = {name: str(tmp_path / name / "cache") for name in ("first", "second")}
    with head_node(tmp_path / "first", {**env, **store, "RAYDISTILL_CACHE": caches["first"]}, cpus=1) as head:
        second = {**env, **store, "RAYDISTILL_CACHE": caches["second"]}
        with worker_node(head, tmp_path / "second", second) as node:
            job = head.submitted(
                tmp_path, "python", "jobs/run.py", str(tools.TINY), LONG, f"output={RUNS}", "tracking.enabled=false"
            )
            job.wait_until("both nodes train", lambda: len(stored("/state.npz")) >= 2)
            node.kill()
        assert job.wait() == 0, (job.out.read_text() + job.said)[-6000:]
    assert contents() == tools.contents(tmp_path)
    assert not stored("/partial/")
