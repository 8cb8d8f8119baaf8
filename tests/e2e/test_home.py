"""Run without a home folder to write to, and keep Ray's token out of every file."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e import tools

pytestmark = pytest.mark.timeout(300)


@pytest.mark.long
def test_token_of_a_private_ray_is_in_no_file_log_or_command_line(env: dict[str, str], tmp_path: Path) -> None:
    """The home folder stays empty."""
    home = tmp_path / "home"
    home.mkdir()
    here = {**env, "HOME": str(home), "XDG_CACHE_HOME": ""}
    del here["RAY_AUTH_MODE"]
    command = tools.raydistill(tmp_path, here, stage="simulate")
    tokens, lines = set[str](), set[str]()

    def collect() -> bool:
        for process in psutil.Process(command.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                tokens.add(process.environ().get("RAY_AUTH_TOKEN", ""))
                lines.update(process.cmdline())
        return bool(command.workers("simulate_chunk"))

    command.wait_until("workers simulate", collect)
    assert command.wait() == 0, command.log[-4000:]
    (token,) = tokens - {""}
    assert not [line for line in lines if token in line]
    files = [path for root in (tmp_path, Path(env["RAY_TMPDIR"])) for path in root.rglob("*") if path.is_file()]
    assert "raylet.out" in {path.name for path in files}, "the logs of Ray are elsewhere, so this test proves nothing"
    assert not [path for path in files if token.encode() in path.read_bytes()]
    assert list(home.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("home", ["/dev/null", None])
def test_run_without_a_home_folder(tiny_run: Path, env: dict[str, str], tmp_path: Path, home: str | None) -> None:
    """No user makes a folder below /dev/null, root included."""
    here = {**env, "RAY_AUTH_MODE": "token"} | ({"HOME": home} if home else {})
    if home is None:
        del here["HOME"]
    command = tools.raydistill(tmp_path, here)
    assert command.wait() == 0, command.log[-4000:]
    assert "matplotlib" not in command.log
    assert tools.contents(tmp_path) == tools.contents(tiny_run)


@pytest.mark.parametrize("home", ["empty", "/dev/null"])
def test_figures_leave_the_home_folder_alone(tmp_path: Path, home: str) -> None:
    program = "import raydistill.pipeline.run, raydistill.figures.drawing as d; d.Figure().savefig('figure.png')"
    here = {name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "XDG_CONFIG_HOME")}
    path = tmp_path / home
    if home == "empty":
        path.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=here | {"HOME": str(path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "figure.png").exists()
    assert home != "empty" or list(path.iterdir()) == []
