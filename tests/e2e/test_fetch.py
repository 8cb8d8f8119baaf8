"""Test `raydistill fetch` as processes.

They are killed, interrupted, on a full disk, or go from real files to a curated set.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import raydistill as rd
from raydistill.cli import app
from raydistill.fetching.records import RECORDS
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.storage.checked import from_json
from tests.e2e import tools
from tests.unit.fetching.file_server import FileServer, Request, file_server, serve, stall, with_files

VOTES = "/gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz"
ZENODO = "/zenodo.org/records/3565489/files"
API = "/zenodo.org/api/records/3565489"
TABLE = np.random.default_rng(0).integers(0, 255, 2_000_000, dtype=np.uint8).tobytes()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@contextmanager
def fetching(record: str, to: Path, server: FileServer) -> Iterator[subprocess.Popen[str]]:
    """Start `raydistill fetch` in a process of its own; kill it if it runs at the end."""
    command = [sys.executable, "-m", "raydistill.cli", "fetch", record, "--to", str(to), "--base-url", server.url]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        # A background job of a shell ignores SIGINT, as do its children; restore the default of a terminal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_part(process: subprocess.Popen[str], part: Path, size: int) -> None:
    while not (part.exists() and part.stat().st_size >= size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_killed_process_loses_no_byte_that_it_counted(server: FileServer, tmp_path: Path) -> None:
    packed = gzip.compress(TABLE, 0)
    server.add(VOTES, packed, serve(pause=0.02, block=50_000))
    part = tmp_path / "gz2" / "gz2_hart16.csv.gz.part"
    kept = [0]
    for size in (400_000, 1_000_000):
        with fetching("hart16", tmp_path, server) as process:
            wait_for_part(process, part, size)
            process.send_signal(signal.SIGKILL)
            process.wait()
        kept.append(from_json(part.with_name(f"{part.name}.json").read_bytes())["done"])
        assert part.stat().st_size - kept[-1] <= 50_000 < kept[-1]
    with fetching("hart16", tmp_path, server) as process:
        stdout, stderr = process.communicate(timeout=tools.PATIENCE)
    assert process.returncode == 0, stderr
    assert stdout == f"{tmp_path / 'gz2'}\n"
    assert (tmp_path / "gz2" / "gz2_hart16.csv").read_bytes() == TABLE
    assert [request.first_byte for request in server.asked(VOTES)] == kept


def test_interrupt_ends_at_once_while_a_server_is_silent(server: FileServer, tmp_path: Path) -> None:
    server.add(VOTES, gzip.compress(TABLE, 0), stall(300_000))
    with fetching("hart16", tmp_path, server) as process:
        wait_for_part(process, tmp_path / "gz2" / "gz2_hart16.csv.gz.part", 300_000)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
    assert time.monotonic() - started < 10  # the server would be silent for 30 s
    assert (process.returncode, stdout) == (130, "")
    assert stderr.endswith("raydistill: stopped; run the same command again to resume\n")
    assert (tmp_path / "gz2" / "gz2_hart16.csv.gz.part").stat().st_size == 300_000


def test_full_disk_is_one_sentence_and_the_part_stays(server: FileServer, tmp_path: Path) -> None:
    def endless(request: Request) -> None:
        """Send the file without its length: only the disk can tell that it is too large."""
        request.start(200, {"Connection": "close"})
        request.body(gzip.compress(TABLE, 0))
        request.close_connection = True

    server.add(VOTES, b"", endless)
    tools.mount_small_disk(tmp_path / "full", "512k")
    try:
        result = CliRunner().invoke(
            app, ["fetch", "hart16", "--to", str(tmp_path / "full"), "--base-url", server.url],
            env={"NO_PROXY": "127.0.0.1"},
        )  # fmt: skip
        part = tmp_path / "full" / "gz2" / "gz2_hart16.csv.gz.part"
        assert result.exit_code == 3
        assert "the disk is full; free some space and run the same command again; it resumes" in result.stderr
        assert 0 < part.stat().st_size <= 512 * 1024
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "full")], check=True)


def test_help_lists_records_with_size_and_licence() -> None:
    text = " ".join(CliRunner().invoke(app, ["fetch", "--help"], env={"COLUMNS": "120"}).stdout.split())
    for record in RECORDS.values():
        assert f"{record.name} {record.title}. {record.size or 'Size not published'}; {record.licence}." in text


@pytest.mark.long
def test_real_galaxies_go_from_a_server_to_a_curated_set(
    data_root: Path, server: FileServer, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetch and curate 787 real galaxies, served as the public records are.

    Licence and citation arrive in the manifest.
    """
    sample = data_root / "gz2_hart16"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted((sample / "images").iterdir()):
            archive.write(path, f"images/{path.name}")
    files = {
        "images_gz2.zip": packed.getvalue(),
        "gz2_filename_mapping.csv": (sample / "gz2_filename_mapping.csv").read_bytes(),
    }
    listed = []
    for name, data in files.items():
        server.add(f"{ZENODO}/{name}", data)
        listed.append({"key": name, "size": len(data), "checksum": f"md5:{hashlib.md5(data).hexdigest()}"})
    server.add(API, json.dumps({"files": listed, "metadata": {"license": {"id": "cc-by-4.0"}}}).encode())
    server.add(VOTES, gzip.compress((sample / "gz2_hart16.csv").read_bytes()))
    monkeypatch.setitem(RECORDS, "gz2", with_files(RECORDS["gz2"], files))  # type: ignore[arg-type]
    rd.fetch("gz2", "hart16", to=tmp_path / "data", base_url=server.url)
    folder = tmp_path / "data" / "gz2"
    assert {path.name for path in (folder / "images").iterdir()} == {
        path.name for path in (sample / "images").iterdir()
    }
    arguments = ["curate", str(folder / "hart16.yaml"), f"output={tmp_path / 'runs'}", "tracking.enabled=false"]
    done = subprocess.run(
        [sys.executable, "-m", "raydistill.cli", *arguments], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr
    curated = CuratedSet.open(done.stdout.strip().splitlines()[-1])
    assert len(curated.to_pandas("train")) > 300
    manifest = json.loads((Path(curated.folder.uri) / "manifest.json").read_text())
    assert "CC BY 4.0" in manifest["config"]["licence"]
    assert "Hart et al. 2016" in manifest["config"]["citation"]
