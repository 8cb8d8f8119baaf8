"""Find a registered set's folder: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

This module imports no mlflow.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.artifacts.manifest import exists
from raydistill.errors import ArtifactError, ArtifactIncompatible, ArtifactMissing, ConfigError, nearest
from raydistill.storage import Folder
from raydistill.tracking import mlflow_client
from raydistill.tracking.circuit_breaker import describe_cause, hide_password
from raydistill.tracking.registry import URI
from raydistill.tracking.uris import sqlite_file

if TYPE_CHECKING:
    from raydistill.tracking.mlflow_client import MlflowClient

PATTERN = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"


def find_folder(uri: str, tracking_uri: str | None = None) -> Folder:
    """Return the folder of a registered set.

    Parameters
    ----------
    uri
        `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
    tracking_uri
        MLflow's tracking URI; None: the environment variable MLFLOW_TRACKING_URI.

    Raises
    ------
    ConfigError
        `uri` has another form, or no tracking URI is known.
    ArtifactMissing
        There is no such database, model, version or alias, or the folder is gone.
    ArtifactIncompatible
        The model is no distilled set.
    ArtifactError
        The server does not answer.
    """
    match = PATTERN.fullmatch(uri)
    if match is None:
        raise ConfigError("this names no version of a model", uri, "write models:/NAME@best or models:/NAME/3")
    server = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        fix = "set MLFLOW_TRACKING_URI, or give tracking_uri=sqlite:////path/to/runs/NAME/mlflow.db"
        raise ConfigError("no MLflow server is known", uri, fix)
    shown = hide_password(server)
    database = sqlite_file(server)
    if database is not None and not database.exists():  # MLflow would create it
        raise ArtifactMissing(f"there is no database {database}", uri, "correct the tracking URI")
    try:
        version = _find_version(mlflow_client.open_client(server), uri, shown, **match.groupdict())
    except ArtifactError:
        raise
    except Exception as error:
        fix = "start the server, or correct the tracking URI"
        raise ArtifactError(f"{shown} does not answer ({describe_cause(error)})", uri, fix) from error
    return _existing_folder(version, uri, database)


def _find_version(client: MlflowClient, uri: str, shown: str, name: str, alias: str | None, version: str | None) -> Any:
    """Return MLflow's version of a model."""
    try:
        model = client.get_registered_model(name)
        number = version or model.aliases.get(alias)
        if number is not None:
            return client.get_model_version(name, str(number))
    except Exception as error:
        if mlflow_client.error_code(error) != NOT_FOUND:
            raise
    names = [one.name for one in client.search_registered_models()]
    if name not in names:
        hint = nearest(name, names) if names else "it has no models at all"
        raise ArtifactMissing(f"{shown} has no registered model '{name}'", uri, hint)
    versions = sorted(int(one.version) for one in client.search_model_versions(f"name = '{name}'"))
    known = f"its versions are {', '.join(map(str, versions))}" if versions else "it has no versions"
    aliases = f", its aliases {', '.join(model.aliases)}" if model.aliases else ""
    wanted = f"version {version}" if version else f"alias '{alias}'"
    raise ArtifactMissing(f"the model '{name}' has no {wanted}", uri, known + aliases)


def _existing_folder(version: Any, uri: str, database: Path | None) -> Folder:
    """Return the folder of a version, at its path or beside a moved database."""
    if URI not in version.tags:
        what = f"version {version.version} of '{version.name}' is no distilled set of raydistill"
        raise ArtifactIncompatible(what, uri, f"load it with mlflow.pyfunc.load_model('{uri}')")
    folder = Folder(version.tags[URI])
    if not exists(folder) and database is not None:
        beside = Folder(str(database.absolute().parent / Path(folder.uri).name))
        folder = beside if exists(beside) else folder
    if not exists(folder):
        what = f"version {version.version} of '{version.name}' is the set in {folder}, which is gone"
        raise ArtifactMissing(what, uri, "run its config again, or open another version")
    return folder
