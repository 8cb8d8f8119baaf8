"""Derive the default tracking URI, its files, and the command that shows its runs."""

from __future__ import annotations

import os
import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from raydistill.log import get_logger
from raydistill.tracking.formatting import runs_path


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
    backend = uri if database is None or "?" in uri else f"sqlite:///{_short(database)}"
    parts = [f"{shlex.quote(_program_path('mlflow'))} ui", f"--backend-store-uri {shlex.quote(backend)}"]
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


# Follow a moved or copied run folder: MLflow stores absolute paths of artifacts.
#
# raydistill keeps artifacts in `mlartifacts` beside its SQLite file. If the database names another
# folder of that name, its folder was moved, and the paths are rewritten. This module imports no
# mlflow.

log = get_logger(__name__)

ARTIFACTS = "mlartifacts"
BUSY_SECONDS = 30.0  # another process may hold the database
# The tables and columns of MLflow 3 with paths below an experiment's artifact location.
PATHS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(database: Path) -> None:
    """Rewrite the artifact paths of a database whose folder was moved; log it once.

    A path stays if its folder still exists and has no copy beside the database.
    """
    if not database.is_file():
        return
    folder = database.absolute().parent / ARTIFACTS
    with closing(sqlite3.connect(database, timeout=BUSY_SECONDS)) as connection, connection:
        if "experiments" not in _tables(connection):
            return
        locations = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for old in [location for (location,) in locations if _is_elsewhere(location, folder)]:
            connection.execute(
                "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (folder.as_uri(), old)
            )
            for table, column in PATHS:
                if table in _tables(connection):
                    _rewrite(connection, table, column, old, folder)
            log.info("tracking: the run folder was moved from %s to %s", _path(old).parent, folder.parent)


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _is_elsewhere(location: str | None, folder: Path) -> bool:
    """Return whether `location` is an artifact folder of another database.

    Other paths of this database's own folder do not count.
    """
    if not location or not location.startswith("file:") or location == folder.as_uri():
        return False
    old = _path(location)
    return old.name == ARTIFACTS and not (old.exists() and folder.exists() and old.samefile(folder))


def _rewrite(connection: sqlite3.Connection, table: str, column: str, old: str, folder: Path) -> None:
    """Replace the prefix `old` of a column, row by row."""
    rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
    below = [(row, uri, uri.removeprefix(old)) for row, uri in rows if uri and uri.startswith(f"{old}/")]
    moved = [
        (folder.as_uri() + rest, row)
        for row, uri, rest in below
        if not _path(uri).exists() or _path(folder.as_uri() + rest).exists()
    ]
    connection.executemany(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", moved)


def _path(uri: str) -> Path:
    return Path(url2pathname(urlsplit(uri).path))
