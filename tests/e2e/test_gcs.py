"""Run all stages in a bucket of a Google Cloud Storage emulator."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from raydistill.storage.gcs import PatientGCS
from tests.e2e import tools
from tests.e2e.bucket import contents

RUNS = "gs://bucket/runs"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_run_in_a_google_bucket_has_the_digests_of_a_run_on_disk(
    tiny_run: Path, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = tools.free_ports(1)
    program = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}"]
    server = tools.start([*program, "--in-memory", "--default-bucket=bucket"], tmp_path / "gcs", env)
    url = f"http://127.0.0.1:{port}"
    client = {"STORAGE_EMULATOR_HOST": url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    for name, value in client.items():
        monkeypatch.setenv(name, value)
    PatientGCS.clear_instance_cache()
    try:
        server.wait_until("the server answers", lambda: tools.answers(f"{url}/storage/v1/b/bucket"), 60)
        there = {**env, **client, "RAYDISTILL_CACHE": str(tmp_path / "cache")}
        command = tools.typed(tmp_path / "run", there, "run", str(tools.TINY), f"output={RUNS}")
        assert command.wait() == 0, command.log[-4000:]
        assert command.answer.startswith(f"{RUNS}/tiny/evaluation-")
        assert contents(RUNS) == tools.contents(tiny_run)
    finally:
        server.close()
