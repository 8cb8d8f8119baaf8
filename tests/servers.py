"""Start and kill real MLflow servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def mlflow_server(folder: Path, port: int, log_file: str) -> AbstractContextManager[None]:
    """Hold an MLflow server for the body, with all its data in the folder."""
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    return serving(command, port, folder / log_file)


@contextmanager
def serving(command: list[str], port: int, log_file: Path) -> Iterator[None]:
    """Hold a server that answers for the body; then kill its process group."""
    program = Path(sys.executable).with_name("mlflow") if command[0] == "mlflow" else Path.cwd() / command[0]
    command = [str(program), *command[1:], "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log_file.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=log_file.parent,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            assert process.poll() is None, log_file.read_text()
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
