"""The Python functions and the commands, as users call them."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

import raydistill as rd
from raydistill.cli import app
from tests.unit.fetching.file_server import FileServer, send

VOTES = "/gz2hart.s3.amazonaws.com/gz2_hart16.csv.gz"
TABLE = b"dr7objid,ra\n1,150\n"


def jpeg(side: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def test_python_function_returns_folder_and_config(server: FileServer, tmp_path: Path) -> None:
    server.add(VOTES, gzip.compress(TABLE))
    (fetched,) = rd.fetch("hart16", to=tmp_path, base_url=server.url)
    assert (fetched.folder / "gz2_hart16.csv").read_bytes() == TABLE
    assert rd.load_config(str(fetched.config)).survey.catalog == str(tmp_path / "gz2" / "gz2_hart16.csv")


def test_python_function_fetches_cutouts(server: FileServer, tmp_path: Path) -> None:
    server.fallback = send(jpeg(64), "image/jpeg")
    (tmp_path / "t.csv").write_text("objid,ra,dec\n7,150,2\n")
    request = rd.CutoutRequest(survey="legacy", pixels=64, scale=0.262)
    report = rd.fetch_cutouts(tmp_path / "t.csv", tmp_path / "cut", request, base_url=server.url)
    assert (report.fetched, report.failed) == (1, 0)
    assert (tmp_path / "cut" / "7.jpg").read_bytes() == jpeg(64)
    assert server.log[0].path.startswith("/www.legacysurvey.org/viewer/cutout.jpg?layer=ls-dr10&ra=150.0000000&")


def test_command_prints_the_folder_and_reads_the_mirror_from_the_environment(
    server: FileServer, tmp_path: Path
) -> None:
    server.add(VOTES, gzip.compress(TABLE))
    environment = {"RAYDISTILL_FETCH_BASE_URL": server.url}
    result = CliRunner().invoke(app, ["fetch", "hart16", "--to", str(tmp_path)], env=environment)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'gz2'}\n")


def test_command_of_cutouts_takes_columns_and_reports_failures(server: FileServer, tmp_path: Path) -> None:
    server.fallback = send(jpeg(64), "image/jpeg")
    (tmp_path / "t.csv").write_text("name,alpha,delta,size\na,150,2,5\nb,150,2,\n")
    columns = ["--id", "name", "--ra", "alpha", "--dec", "delta", "--r90", "size"]
    options = ["--to", str(tmp_path / "cut"), "--pixels", "64", "--rate", "100", "--base-url", server.url]
    result = CliRunner().invoke(app, ["fetch", "cutouts", str(tmp_path / "t.csv"), *columns, *options])
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'cut'}\n")
    assert "galaxies without a picture: 1 (the table has no R90)" in result.stderr
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == [
        "a.jpg", "cutouts.provenance.json", "failures.csv",
    ]  # fmt: skip


def test_dry_run_asks_no_server(server: FileServer, tmp_path: Path) -> None:
    command = ["fetch", "gz2", "--to", str(tmp_path / "new"), "--dry-run", "--json", "--base-url", server.url]
    result = CliRunner().invoke(app, command)
    (row,) = json.loads(result.stdout)
    assert (row["record"], row["licence"], row["complete"]) == ("gz2", "CC BY 4.0", False)
    assert row["files"][0]["url"] == f"{server.url}/zenodo.org/records/3565489/files/images_gz2.zip"
    assert server.log == []
    assert not (tmp_path / "new").exists()


def test_destination_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    for options in ([], ["--dry-run"]):
        result = CliRunner().invoke(app, ["fetch", "hart16", "--to", f"{tmp_path}/caf\udce9", *options])
        assert result.exit_code == 2
        assert result.stderr.endswith("caf\\xe9: the path has bytes that are not UTF-8; rename the file or folder\n")
    assert not list(tmp_path.iterdir())
