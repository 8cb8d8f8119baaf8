"""A command that ends without a word gets a sentence and an exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="commands have no supervisor")
PROGRAM = "import os, signal, sys, time; from raydistill.cli.supervisor import supervise; supervise(lambda: ({}))"
AGAIN = "; run the same command again; what is finished is kept\n"


def start(body: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM.format(body)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ("sys.exit(3)", 3, ""),
        ("None", 0, ""),
        ("os._exit(1)", 5, "Ray: it ended the command, because its raylet or GCS cannot be reached"),
        ("os.abort()", 5, "this machine: SIGABRT ended the command, perhaps for lack of memory"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", 5,
         "this machine: SIGXCPU ended the command, because of a limit of CPU time (ulimit -t)"),
    ],
)  # fmt: skip
def test_exit_code_is_that_of_the_command_or_of_a_lost_cluster(body: str, code: int, sentence: str) -> None:
    with start(body) as process:
        assert process.communicate()[1] == (f"raydistill: {sentence}{AGAIN}" if sentence else "")
        assert process.returncode == code


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 7), (signal.SIGTERM, 7), (signal.SIGKILL, -signal.SIGKILL)])
def test_signals_to_the_supervisor_reach_the_command(sent: signal.Signals, code: int) -> None:
    # short naps: a signal that comes just before one is noticed at its end
    exits = (
        "[signal.signal(n, lambda *_: sys.exit(7)) for n in (2, 15)], print(os.getpid(), flush=True), "
        "[time.sleep(0.1) for _ in range(600)]"
    )
    with start(exits) as process:
        assert process.stdout is not None
        child = Path(f"/proc/{int(process.stdout.readline())}")
        os.kill(process.pid, sent)
        assert process.wait(30) == code
        deadline = time.monotonic() + 30
        while child.exists() and " Z " not in (child / "stat").read_text():
            assert time.monotonic() < deadline, "the command outlived its supervisor"
            time.sleep(0.02)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_opened(closed: str) -> None:
    program = PROGRAM.format(
        "print(1, flush=True), print(2, file=sys.stderr, flush=True), sys.exit(9 if os.open('/', 0) > 2 else 1)"
    )
    done = subprocess.run(["bash", "-c", f'exec "$@" {closed}', "bash", sys.executable, "-c", program])
    assert done.returncode == 9


def test_working_directory_that_was_removed_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM.format("print(1)")]
    remove = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["bash", "-c", remove, "bash", *command], cwd=tmp_path, env=here, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "raydistill: the working directory was removed; change to another one\n"
