"""Keep distilled sets and classifiers in MLflow's model registry.

A finished set becomes a logged model, which shows its metrics, inputs and run, and a version of a
registered model. The alias `best` names the version of the highest balanced accuracy on validation
images. Test images play no part in it.

The sets stay in their folders; the registry stores where they are. Classifiers are copied into
MLflow. This module imports no mlflow.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from raydistill.artifacts.manifest import exists
from raydistill.errors import ArtifactError, ArtifactIncompatible, ArtifactMissing, ConfigError, nearest
from raydistill.storage import Folder
from raydistill.tracking import mlflow_client
from raydistill.tracking.delivery import describe_cause, hide_password
from raydistill.tracking.formatting import NOTE
from raydistill.tracking.uris import sqlite_file

if TYPE_CHECKING:
    from raydistill.tracking.mlflow_client import MlflowClient


BEST = "best"  # the alias
DISTILLED_SET, CLASSIFIER = "distilled-set", "classifier"  # types of models
VALIDATION = "validation/balanced_accuracy"
URI, IDENTITY = "raydistill.uri", "raydistill.identity"  # tags of logged models and versions
ACCURACY = "raydistill.validation.balanced_accuracy"  # tag of a version
MODEL_VERSIONS = "mlflow.modelVersions"  # tag by which MLflow's page of a logged model links to its versions
EXTERNAL = "mlflow.model.isExternal"  # tag of a model whose files are outside MLflow


@dataclass(frozen=True)
class Model:
    """A distilled set or a classifier, as the registry describes it.

    Parameters
    ----------
    name
        Name of the registered model.
    kind
        Type of the model in MLflow, such as `DISTILLED_SET`.
    uri
        Folder of the artifact, absolute or a URI.
    identity, content
        Digests of the artifact.
    accuracy
        Balanced accuracy on validation images, in [0, 1].
    step
        Its iteration, for the curves of metrics.
    dataset, dataset_digest
        Name and digest of the curated set, as the run records its inputs.
    params
        Values shown with the model.
    save
        Writes the files of a classifier of pictures into a folder; None: the files stay outside of
        MLflow.
    code
        Python file that loads a folder of `save`: it sets MLflow's model.
    """

    name: str
    kind: str
    uri: str
    identity: str
    content: str
    accuracy: float
    step: int
    dataset: str
    dataset_digest: str
    params: Mapping[str, str] = field(default_factory=dict)
    save: Callable[[Folder], None] | None = None
    code: Path | None = None

    @property
    def tags(self) -> dict[str, str]:
        return {IDENTITY: self.identity, "raydistill.content": self.content, URI: self.uri}

    @property
    def description(self) -> str:
        """Return Markdown for the page of the version."""
        call = "raydistill.open" if self.save is None else "mlflow.pyfunc.load_model"
        return (
            f"{self.kind}, balanced accuracy {self.accuracy:.3f} on validation images. Files: `{self.uri}`\n\n"
            f'Load it with `{call}("models:/{self.name}@{BEST}")` (the best on validation images), '
            f'or `"models:/{self.name}/VERSION"`.'
        )


def registered_name(config_name: str) -> str:
    """Return the name of a config with characters that MLflow and `models:/…` accept."""
    return re.sub(r"[^\w.\-]", "_", config_name)


def model_name(config_name: str, images_per_class: int) -> str:
    """Return the model name `<config>_ipc<n>`, or the config's name if it ends so.

    >>> model_name("gz2_kaggle5", 10), model_name("cifar10_ipc1", 1)
    ('gz2_kaggle5_ipc10', 'cifar10_ipc1')
    """
    name = registered_name(config_name)
    suffix = f"_ipc{images_per_class}"
    return name if name.endswith(suffix) else name + suffix


class Registration:
    """Register one model; a call that failed on the way continues where it stopped.

    Parameters
    ----------
    model
        The model.
    timestamp
        Milliseconds at which it was finished.
    """

    def __init__(self, model: Model, timestamp: int) -> None:
        self._model, self._timestamp = model, timestamp
        self._logged: Any = None
        self._version: Any = None

    def __call__(self, client: MlflowClient, run_id: str) -> None:
        model = self._model
        if self._logged is None:
            experiment = client.get_run(run_id).info.experiment_id
            tags = {**model.tags, NOTE: model.description} | ({} if model.save else {EXTERNAL: "true"})
            self._logged = client.create_logged_model(
                experiment, model.name, run_id, tags, dict(model.params), model.kind
            )
        model_id = self._logged.model_id
        if model.save is not None and model.code is not None:
            with TemporaryDirectory() as place:
                files = Folder(f"{place}/{CLASSIFIER}")
                model.save(files)
                mlflow_client.log_classifier(client, model.code, files.uri, model_id, run_id)
        mlflow_client.log_output(client, run_id, model_id, model.step)
        dataset = model.dataset, model.dataset_digest
        point = mlflow_client.model_metric(VALIDATION, model.accuracy, self._timestamp, model.step, model_id, dataset)
        mlflow_client.log_metrics(client, run_id, [point])
        client.finalize_logged_model(model_id, "READY")
        _ensure_registered(client, model.name)
        if self._version is None:
            tags = {**model.tags, ACCURACY: repr(model.accuracy)}
            self._version = client.create_model_version(
                model.name,
                self._logged.artifact_location,
                run_id,
                tags,
                description=model.description,
                await_creation_for=0,
                model_id=model_id,
            )
        versions = [{"name": model.name, "version": self._version.version}]
        client.set_logged_model_tags(model_id, {MODEL_VERSIONS: json.dumps(versions)})
        move_best(client, model.name)


def _ensure_registered(client: MlflowClient, name: str) -> None:
    description = f"Versions of {name}. The alias `{BEST}` has the highest balanced accuracy on validation images."
    try:
        client.create_registered_model(name, description=description)
    except Exception as error:
        if mlflow_client.error_code(error) != "RESOURCE_ALREADY_EXISTS":
            raise


def move_best(client: MlflowClient, name: str) -> None:
    """Move the alias `best` to the version of highest accuracy on validation images.

    The earlier of equal versions is best.

    Another process may move it at the same time, to a version that is best among those it has
    seen. So each process looks again after it has moved the alias. The last one that moves it
    thereby sees all versions.
    """
    while True:
        versions = [version for version in client.search_model_versions(f"name = '{name}'") if ACCURACY in version.tags]
        best = max(versions, key=lambda version: (float(version.tags[ACCURACY]), -int(version.version)))
        aliases = client.get_registered_model(name).aliases
        if str(aliases.get(BEST)) == str(best.version):
            return
        client.set_registered_model_alias(name, BEST, str(best.version))


def log_test_metrics(
    client: MlflowClient,
    run_id: str,
    identity: str,
    points: Mapping[str, float],
    timestamp: int,
    dataset: tuple[str, str],
) -> None:
    """Record metrics of an evaluation with a set's logged models, if it has any."""
    experiment = client.get_run(run_id).info.experiment_id
    models = client.search_logged_models([experiment], f"tags.`{IDENTITY}` = '{identity}'")
    for model in models:
        mlflow_client.log_model_input(client, run_id, model.model_id)
        metrics = [
            mlflow_client.model_metric(name, value, timestamp, 0, model.model_id, dataset)
            for name, value in points.items()
        ]
        mlflow_client.log_metrics(client, run_id, metrics)


# Find a registered set's folder: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
#
# This module imports no mlflow.

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
        The model is not a distilled set.
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
    names = [model.name for model in client.search_registered_models()]
    if name not in names:
        hint = nearest(name, names) if names else "it has no models at all"
        raise ArtifactMissing(f"{shown} has no registered model '{name}'", uri, hint)
    versions = sorted(int(entry.version) for entry in client.search_model_versions(f"name = '{name}'"))
    known = f"its versions are {', '.join(map(str, versions))}" if versions else "it has no versions"
    aliases = f", its aliases {', '.join(model.aliases)}" if model.aliases else ""
    wanted = f"version {version}" if version else f"alias '{alias}'"
    raise ArtifactMissing(f"the model '{name}' has no {wanted}", uri, known + aliases)


def _existing_folder(version: Any, uri: str, database: Path | None) -> Folder:
    """Return the folder of a version, at its path or beside a moved database."""
    if URI not in version.tags:
        what = f"version {version.version} of '{version.name}' is not a distilled set of raydistill"
        raise ArtifactIncompatible(what, uri, f"load it with mlflow.pyfunc.load_model('{uri}')")
    folder = Folder(version.tags[URI])
    if not exists(folder) and database is not None:
        beside = Folder(str(database.absolute().parent / Path(folder.uri).name))
        folder = beside if exists(beside) else folder
    if not exists(folder):
        what = f"version {version.version} of '{version.name}' is the set in {folder}, which is gone"
        raise ArtifactMissing(what, uri, "run its config again, or open another version")
    return folder
