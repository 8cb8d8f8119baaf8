"""Derive the default tracking URI, its files, and the command that shows its runs."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from raydistill.tracking.formatting import runs_path
from raydistill.tracking.relocation import ARTIFACTS


def default_uri(run_folder: str | Path) -> str:
    """Return the tracking URI of a run folder: a SQLite file in it."""
    return f"sqlite:///{Path(run_folder).absolute()}/mlflow.db"


def sqlite_file(uri: str) -> Path | None:
    """Return the database file of a SQLite URI, without its query.

    None for other URIs, and for a database in memory.
    """
    if not uri.startswith("sqlite:///"):
        return None
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(path) if path not in ("", ":memory:") else None


def artifact_folder(uri: str) -> Path | None:
    """Return the artifact folder beside a SQLite file; None if the server chooses it."""
    database = sqlite_file(uri)
    return None if database is None else database.absolute().parent / ARTIFACTS


def ui_command(uri: str, between: str = " ") -> str:
    """Return the shell command that shows the runs of a tracking URI in a browser.

    Paths below the working directory are relative. `between` separates the program and its options.
    """
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shlex.quote(uri)}"
    database, folder = sqlite_file(uri), artifact_folder(uri)
    own = uri if database is None or "?" in uri else f"sqlite:///{_short(database)}"
    parts = [f"{shlex.quote(_program_path('mlflow'))} ui", f"--backend-store-uri {shlex.quote(own)}"]
    if folder is not None:
        parts.append(f"--artifacts-destination {shlex.quote(_short(folder))}")
    return between.join(parts)


def runs_page(uri: str, experiment_id: str) -> str:
    """Return the address of an experiment's runs, at the server or from `ui_command`."""
    server = uri if uri.startswith(("http://", "https://")) else "http://127.0.0.1:5000"
    return f"{server.rstrip('/')}/#{runs_path(experiment_id)}"


def _program_path(name: str) -> str:
    """Return a program's path, which works even if its environment is not activated."""
    path = Path(sys.executable).parent / name
    return _short(path) if path.exists() else name


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
