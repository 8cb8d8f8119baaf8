"""Start the command line in processes that the tests watch and kill.

Only processes started here are ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "configs" / "tiny.yaml"
KINDS = ("survey", "curated", "trajectories", "distilled", "evaluation")
PATIENCE = 540.0  # seconds; a busy machine is ten times slower than a quiet one


def environment(ray_folder: Path, **more: str) -> dict[str, str]:
    """Return an environment without token and telemetry, with one thread.

    Ray's session files are in `ray_folder`.
    """
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(ray_folder)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return inherited | settings | {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "PATH": path, **more}


@dataclass
class Command:
    """A running command; the files `out` and `err` receive its stdout and stderr."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def log(self) -> str:
        return self.err.read_text(errors="replace")

    @property
    def answer(self) -> str:
        """Return the last line of stdout."""
        lines = self.out.read_text().strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def error_line(self) -> str:
        """Return the only line of the log that reports an error."""
        (line,) = [line for line in self.log.splitlines() if line.startswith("raydistill:")]
        return line

    def wait(self, timeout: float = PATIENCE) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"not done after {timeout:g} s; its log ends with:\n{self.log[-3000:]}") from None

    def wait_until(self, what: str, condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
        """Return once the condition holds; fail if the command ends before, or on timeout."""
        deadline = time.monotonic() + timeout
        while not condition():
            ended = self.process.poll()
            if ended is not None and not condition():
                raise AssertionError(
                    f"the command ended ({ended}) before: {what}. Its log ends with:\n{self.log[-3000:]}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{timeout:g} s went by without: {what}. The log ends with:\n{self.log[-3000:]}")
            time.sleep(0.005)

    def workers(self, name: str) -> list[psutil.Process]:
        """Return the Ray workers of this command that run `name`."""
        processes = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if (process.cmdline() or [""])[0].startswith(f"ray::{name}"):
                    processes.append(process)
        return processes

    def kill(self) -> None:
        """Send SIGKILL to the command itself, as the kernel does when memory is full.

        Ray's workers exit within about three seconds; two of its agents stay and are killed here.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGSTOP)  # no progress while its children are listed
        children = self._children()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        _end(children, patience=5)

    def close(self) -> None:
        """Kill the command if it still runs."""
        if self.process.poll() is None:
            self.kill()

    def _children(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []


def _end(processes: Sequence[psutil.Process], patience: float) -> None:
    """Wait until these processes exit; kill those that do not."""
    deadline = time.monotonic() + patience
    left = list(processes)
    while left and time.monotonic() < deadline:
        left = [process for process in left if _is_alive(process)]
        time.sleep(0.02)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def start(command: Sequence[str], folder: Path, env: Mapping[str, str], name: str = "command") -> Command:
    """Start a program in a new session; its output goes to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob(f"{name}-*.out")))
    out, err = folder / f"{name}-{number}.out", folder / f"{name}-{number}.err"
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(
            list(command), cwd=ROOT, env=dict(env), stdout=stdout, stderr=stderr, start_new_session=True,
            # A background job of a shell ignores SIGINT, as do its children; restore the default of a terminal.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    return Command(process, out, err)


def typed(folder: Path, env: Mapping[str, str], *words: str) -> Command:
    """Start `raydistill WORDS`."""
    return start([sys.executable, "-m", "raydistill.cli", *words], folder, env)


def raydistill(output: Path, env: Mapping[str, str], *words: str, stage: str = "run") -> Command:
    """Start `raydistill STAGE tests/configs/tiny.yaml output=OUTPUT/runs WORDS`."""
    return typed(output, env, stage, str(TINY), f"output={output / 'runs'}", *words)


def assert_each_was_built_once(log: str) -> None:
    """Check the log of two concurrent runs: one builds each artifact, the other waits."""
    assert "is being built by process" in log
    built = re.findall(r"(\w+): done, content", log)
    assert sorted(built) == sorted(KINDS), "an artifact was built twice"


def artifact(output: Path, kind: str) -> Path | None:
    """Return the folder of the run's only artifact of this kind, finished or not."""
    folders = list((output / "runs" / "tiny").glob(f"{kind}-*"))
    assert len(folders) <= 1, f"two artifacts of one kind: {folders}"
    return folders[0] if folders else None


def there(output: Path, kind: str, pattern: str) -> bool:
    """Return whether the artifact's folder holds a file of this pattern."""
    folder = artifact(output, kind)
    return folder is not None and any(folder.glob(pattern))


def manifest(output: Path, kind: str) -> dict[str, object]:
    folder = artifact(output, kind)
    assert folder is not None, f"there is no {kind}"
    read: dict[str, object] = json.loads((folder / "manifest.json").read_text())
    return read


def contents(output: Path) -> dict[str, object]:
    """Return the content digest of each artifact of a run."""
    return {kind: manifest(output, kind)["content"] for kind in KINDS}


def copy_of(output: Path, to: Path, *kinds: str) -> None:
    """Copy these artifacts into the run below `to`."""
    for kind in kinds:
        folder = artifact(output, kind)
        assert folder is not None, f"there is no {kind}"
        shutil.copytree(folder, to / "runs" / "tiny" / folder.name)


def free_ports(count: int) -> list[int]:
    """Return free ports below the ephemeral range, where no connection takes them."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            listener = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", random.SystemRandom().randrange(10_000, 32_000)))
                ports.append(int(listener.getsockname()[1]))
    return ports


def answers(url: str) -> bool:
    """Return whether a server answers with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def mount_small_disk(folder: Path, size: str) -> None:
    """Mount a small file system at `folder`, which the caller unmounts.

    Skip the test without the right to mount.
    """
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a small disk ({done.stderr.decode().strip()})")
