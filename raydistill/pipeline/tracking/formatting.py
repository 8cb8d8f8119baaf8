"""What a run is called and described by, in words that MLflow accepts, and where a run folder keeps it.

Pure: imports no mlflow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from raydistill.artifacts.manifest import source_commit
from raydistill.errors import RaydistillError

MAX_PARAM, MAX_KEY = 6000, 250  # mlflow/utils/validation.py, 3.17: longer is refused, or cut without a word


def tags(stage: str, identity: str, parents: Mapping[str, str], parent_run_id: str | None) -> dict[str, str]:
    """The tags of one stage's run, MLflow's own (`mlflow.*`) among them."""
    tags = {"raydistill.stage": stage, "raydistill.identity": identity}
    tags |= {allowed(f"raydistill.parent.{kind}"): digest for kind, digest in parents.items()}
    tags |= {"mlflow.source.name": f"raydistill {stage}", "mlflow.source.type": "LOCAL"}
    if parent_run_id is not None:
        tags["mlflow.parentRunId"] = parent_run_id
    if commit := source_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags


def as_tree(value: Any) -> Any:
    """Dataclasses as dicts, at any depth."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_tree(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_tree(below) for key, below in value.items()}
    return value


def params(tree: dict[str, Any]) -> tuple[dict[str, str], bool]:
    """The tree's leaves under dotted names, and whether any had to be cut to MLflow's limit."""
    leaves, was_cut = {}, False
    for name, value in _leaves(tree):
        text = str(value)
        if len(text) > MAX_PARAM:
            note = f" … [cut: {len(text)} characters, whole in params.json]"
            text, was_cut = text[: MAX_PARAM - len(note)] + note, True
        leaves[allowed(name)] = text
    return leaves, was_cut


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def allowed(name: str) -> str:
    """`name` as MLflow accepts it: letters, digits and `_-. :/`, a tidy relative path, at most 250 characters."""
    tidy = re.sub(r"/{2,}", "/", re.sub(r"[^\w.\- :/]", "_", name))[:MAX_KEY].strip("/")
    return re.sub(r"(^|/)\.{1,2}(?=/|$)|^\.\.", r"\1_", tidy) or "_"


def sentence(failure: Exception) -> str:
    """What goes into the tag `raydistill.error`."""
    return str(failure) if isinstance(failure, RaydistillError) else f"{type(failure).__name__}: {failure}"


def sqlite_file(uri: str) -> Path | None:
    """The database file of a SQLite URI; None for a server, another database, or one in memory."""
    path = uri.removeprefix("sqlite:///")
    return Path(path) if path not in (uri, "", ":memory:") else None


def artifact_folder(uri: str) -> Path | None:
    """Artifacts lie beside a SQLite file; None: the server decides."""
    database = sqlite_file(uri)
    return None if database is None else database.absolute().parent / "mlartifacts"
