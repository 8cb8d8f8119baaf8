"""Keep distilled sets in MLflow's model registry, and find them by name.

A finished set becomes a logged model, which shows its metrics, inputs and run, and a version of a
registered model. The alias `best` names the version of the highest balanced accuracy on validation
images. Test images play no part in it.

The sets stay in their folders; the registry stores where they are. This module imports no mlflow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raydistill.pipeline.tracking import mlflow_client

if TYPE_CHECKING:
    from raydistill.pipeline.tracking.mlflow_client import MlflowClient

BEST = "best"  # the alias
MODEL_TYPE = "distilled-set"
VALIDATION = "validation/balanced_accuracy"
URI, IDENTITY = "raydistill.uri", "raydistill.identity"  # tags of logged models and versions
ACCURACY = "raydistill.validation.balanced_accuracy"  # tag of a version
MODEL_VERSIONS = "mlflow.modelVersions"  # tag by which MLflow's page of a logged model links to its versions
EXTERNAL = "mlflow.model.isExternal"  # tag of a model whose files are outside MLflow


@dataclass(frozen=True)
class DistilledModel:
    """A finished distilled set, as the registry describes it.

    Parameters
    ----------
    name
        Name of the registered model.
    uri
        Folder of the set, absolute or a URI.
    identity, content
        Digests of the set.
    accuracy
        Balanced accuracy on validation images of the selected iterate, in [0, 1].
    iteration
        Its iteration.
    dataset, dataset_digest
        Name and digest of the curated set, as the run records its inputs.
    params
        Values shown with the model.
    """

    name: str
    uri: str
    identity: str
    content: str
    accuracy: float
    iteration: int
    dataset: str
    dataset_digest: str
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def tags(self) -> dict[str, str]:
        return {IDENTITY: self.identity, "raydistill.content": self.content, URI: self.uri}

    @property
    def description(self) -> str:
        """Return Markdown for the pages of the model."""
        return (
            f"Distilled set in `{self.uri}`: balanced accuracy {self.accuracy:.3f} on validation images "
            f"at iteration {self.iteration}.\n\n"
            f'Open it with `raydistill.open("models:/{self.name}@{BEST}")` (the best on validation images), '
            f'or `"models:/{self.name}/VERSION"`.'
        )


def model_name(config_name: str, images_per_class: int) -> str:
    """Return the name of a registered model: `<config>_ipc<n>`, or the config's name where it ends so.

    >>> model_name("gz2_kaggle5", 10), model_name("cifar10_ipc1", 1)
    ('gz2_kaggle5_ipc10', 'cifar10_ipc1')
    """
    name = re.sub(r"[^\w.\-]", "_", config_name)
    suffix = f"_ipc{images_per_class}"
    return name if name.endswith(suffix) else name + suffix


class Registration:
    """Register one set; a call that failed on the way continues where it stopped.

    Parameters
    ----------
    model
        The set.
    timestamp
        Milliseconds at which the set was finished.
    """

    def __init__(self, model: DistilledModel, timestamp: int) -> None:
        self._model, self._timestamp = model, timestamp
        self._logged: Any = None
        self._version: Any = None

    def __call__(self, client: MlflowClient, run_id: str) -> None:
        model = self._model
        if self._logged is None:
            experiment = client.get_run(run_id).info.experiment_id
            self._logged = client.create_logged_model(
                experiment, model.name, run_id, {**model.tags, EXTERNAL: "true"}, dict(model.params), MODEL_TYPE
            )
        model_id = self._logged.model_id
        mlflow_client.log_output(client, run_id, model_id, model.iteration)
        dataset = model.dataset, model.dataset_digest
        point = mlflow_client.model_metric(
            VALIDATION, model.accuracy, self._timestamp, model.iteration, model_id, dataset
        )
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
    description = (
        f"Distilled sets of {name}. The alias `{BEST}` has the highest balanced accuracy on validation images."
    )
    try:
        client.create_registered_model(name, description=description)
    except Exception as error:
        if mlflow_client.error_code(error) != "RESOURCE_ALREADY_EXISTS":
            raise


def move_best(client: MlflowClient, name: str) -> None:
    """Move the alias `best` to the version of the highest accuracy on validation images; the earlier of equals.

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
    """Record metrics of an evaluation with the logged models of a set; a set that has none is no error."""
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_logged_models([experiment], f"tags.`{IDENTITY}` = '{identity}'")
    for model in found:
        mlflow_client.log_model_input(client, run_id, model.model_id)
        metrics = [
            mlflow_client.model_metric(name, value, timestamp, 0, model.model_id, dataset)
            for name, value in points.items()
        ]
        mlflow_client.log_metrics(client, run_id, metrics)
