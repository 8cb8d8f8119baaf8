"""Start and kill real MLflow and PostgreSQL servers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
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


def mlflow_server(folder: Path, port: int, log_file: str, store: str | None = None) -> AbstractContextManager[None]:
    """Hold an MLflow server for the body, with its files in the folder.

    Its records are there too, or in a store.
    """
    command = ["mlflow", "server", "--backend-store-uri", store or f"sqlite:///{folder}/server.db"]
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
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # half a dozen processes of no use here
            start_new_session=True,
        )
    try:
        for _ in range(1800):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            assert process.poll() is None, log_file.read_text()
            time.sleep(0.1)
        else:
            raise TimeoutError(f"{' '.join(command)} does not answer")
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def find_postgresql() -> Path | None:
    """Return the newest folder of PostgreSQL's programs, Debian's or in PATH, or None."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    result = shutil.which("initdb")
    return folders[-1] if folders else Path(result).parent if result else None


@contextmanager
def postgresql() -> Iterator[str]:
    """Hold a PostgreSQL server with an empty database for the body; yield its URI.

    PostgreSQL refuses to run as root, so root starts it as `nobody`.
    """
    programs = find_postgresql()
    assert programs is not None
    folder, port = Path(tempfile.mkdtemp(prefix="postgresql-")), free_port()
    as_user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "nobody")

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs / program), *arguments]
        with (folder / "commands.log").open("a") as output:  # a pipe would stay open in the server
            subprocess.run(command, check=True, stdout=output, stderr=output, cwd=folder)

    run("initdb", "-D", f"{folder}/data", "-U", "mlflow", "-A", "trust")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    run("pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/server.log", "-w", "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow")
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)
