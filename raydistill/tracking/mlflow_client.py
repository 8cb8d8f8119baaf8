"""Call MLflow: only this file of a run imports mlflow, and at the first call."""

from __future__ import annotations

import functools
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from raydistill.log import get_logger
from raydistill.tracking import formatting
from raydistill.tracking.formatting import InputDataset
from raydistill.tracking.uris import artifact_folder, relocate, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient as MlflowClient
    from mlflow.entities import Metric as Metric


log = get_logger(__name__)

MOST_PARAMS = 60
ENVIRONMENT = {  # a user's own values stay
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's default of 7 retries of 120 s would block a step for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout carries the artifact's path alone
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


@functools.cache
def _mlflow() -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.entities

    for name in ("alembic", "urllib3.connectionpool"):  # they log each migration and each retry
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs a traceback for an error that the circuit breaker reports in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


def open_client(uri: str) -> MlflowClient:
    """Return a client of a tracking URI.

    MLflow creates and migrates a SQLite file when it opens it. Two processes that do so at once
    crash each other, so a file lock admits one at a time. A database whose folder was moved is
    relocated first.
    """
    client = _mlflow().MlflowClient
    database = sqlite_file(uri)
    if database is None:
        return client(uri)
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=30), warnings.catch_warnings(action="ignore"):  # alembic's warnings
        relocate(database)
        return client(uri)


def ensure_experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Return the id of an experiment, a new one if needed; ValueError if deleted.

    Tags that it lacks are added, so a user's own description stays.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        folder = artifact_folder(uri)
        try:
            client.create_experiment(name, artifact_location=None if folder is None else folder.as_uri())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise ValueError(f"experiment '{name}' was deleted: restore it with `mlflow experiments restore`")
    experiment_id = str(experiment.experiment_id)
    for key, value in formatting.experiment_tags(experiment_id).items():
        if key not in experiment.tags:
            client.set_experiment_tag(experiment_id, key, value)
    return experiment_id


def create_run(client: MlflowClient, experiment: str, name: str, tags: dict[str, str], start_time: int) -> str:
    """Create a run and return its id; close stale runs of the same identity."""
    _close_stale_runs(client, experiment, f"tags.`raydistill.identity` = '{tags['raydistill.identity']}'")
    return str(client.create_run(experiment, start_time=start_time, tags=tags, run_name=name).info.run_id)


def _close_stale_runs(client: MlflowClient, experiment: str, condition: str) -> None:
    """Set RUNNING runs and their children to KILLED.

    A run that is alive after all sets its own status at its end.
    """
    for stale in client.search_runs([experiment], f"{condition} AND attributes.status = 'RUNNING'"):
        client.set_terminated(stale.info.run_id, "KILLED")
        log.info("tracking: run %s was left running by a killed process; now KILLED", stale.info.run_name)
        _close_stale_runs(client, experiment, f"tags.`mlflow.parentRunId` = '{stale.info.run_id}'")


def kill_run(client: MlflowClient, run_id: str) -> None:
    """Set a run and its RUNNING children to KILLED."""
    client.set_terminated(run_id, "KILLED")
    experiment = client.get_run(run_id).info.experiment_id
    _close_stale_runs(client, experiment, f"tags.`mlflow.parentRunId` = '{run_id}'")


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    """Record the first nested values as parameters: MLflow's page of many is slow."""
    values = formatting.format_params(params)
    entities = [_mlflow().entities.Param(name, value) for name, value in values.items()]
    client.log_batch(run_id, params=entities[:MOST_PARAMS])


def log_inputs(client: MlflowClient, run_id: str, inputs: Iterable[InputDataset]) -> None:
    """Record the data sets that a run reads."""
    entities = _mlflow().entities
    client.log_inputs(
        run_id,
        [
            entities.DatasetInput(
                entities.Dataset(**formatting.format_input(dataset)),
                [entities.InputTag("mlflow.data.context", dataset.context)],
            )
            for dataset in inputs
        ],
    )


def log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, str]) -> None:
    """Record tags in one batch."""
    client.log_batch(run_id, tags=[_mlflow().entities.RunTag(*tag) for tag in tags.items()])


def log_metrics(client: MlflowClient, run_id: str, metrics: Sequence[Metric]) -> None:
    """Record metric points in one batch; a repeated batch changes nothing."""
    client.log_batch(run_id, metrics=metrics)


def metric(name: str, value: float, timestamp: int, step: int) -> Metric:
    """Return a metric point; `timestamp` is in milliseconds."""
    return _mlflow().entities.Metric(name, value, timestamp, step)


def model_metric(name: str, value: float, timestamp: int, step: int, model_id: str, dataset: tuple[str, str]) -> Metric:
    """Return a metric point of a logged model, on a data set of this name and digest."""
    own_name, digest = dataset[0], dataset[1][: formatting.MAX_DIGEST]
    return _mlflow().entities.Metric(name, value, timestamp, step, model_id, own_name, digest)


def log_output(client: MlflowClient, run_id: str, model_id: str, step: int) -> None:
    """Record a logged model as the output of a run; MLflow refuses to do so twice."""
    outputs = client.get_run(run_id).outputs
    if outputs is None or model_id not in [output.model_id for output in outputs.model_outputs]:
        client.log_outputs(run_id, [_mlflow().entities.LoggedModelOutput(model_id, step)])


def log_model_input(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Record a logged model as an input of a run; MLflow refuses to do so twice."""
    inputs = client.get_run(run_id).inputs
    if inputs is None or model_id not in [model.model_id for model in inputs.model_inputs]:
        client.log_inputs(run_id, models=[_mlflow().entities.LoggedModelInput(model_id)])


def error_code(error: Exception) -> str:
    """Return MLflow's error code, e.g. "RESOURCE_DOES_NOT_EXIST"; empty for others."""
    return str(getattr(error, "error_code", ""))


def log_classifier(client: MlflowClient, code: Path, folder: str, model_id: str, run_id: str) -> None:
    """Save files and their loader as a model that `mlflow.pyfunc.load_model` loads.

    The model holds no pickle.
    """
    mlflow = _mlflow()
    logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)  # it asks for type hints of the input
    with TemporaryDirectory() as place, warnings.catch_warnings(action="ignore"):
        mlflow.pyfunc.save_model(
            f"{place}/model",
            python_model=str(code),
            artifacts={"classifier": folder},
            model_config={"custom": ""},  # a user names the factory of a custom network here
            pip_requirements=[f"raydistill=={version('raydistill')}"],  # else MLflow guesses for a minute
            mlflow_model=mlflow.models.Model(model_id=model_id, run_id=run_id),
        )
        client.log_model_artifacts(model_id, f"{place}/model")


class SystemMonitor:
    """Measure CPU, memory, disk, network and any GPUs with MLflow's own monitors."""

    def __init__(self) -> None:
        _mlflow()
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(Exception):  # no GPU, no driver, or no nvidia-ml-py
            self._monitors.append(GPUMonitor())

    def measure(self) -> dict[str, float]:
        """Return the present values, with names as on MLflow's page "System metrics"."""
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= {f"system/{name}": value for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return values


# Record the load of the driver's machine while a run lasts.

SECONDS = 10.0
VARIABLE = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"  # MLflow's own, in seconds


def record_system(record: Callable[[Mapping[str, float], int], None], done: threading.Event) -> None:
    """Measure at an interval, and once more when `done` is set; warn once on failure.

    A failure ends the measurement.

    Parameters
    ----------
    record
        Called with the values and the number of the measurement.
    done
        Set at the end of the run.
    """
    try:
        monitor, interval, step = SystemMonitor(), float(os.environ.get(VARIABLE) or SECONDS), 0
        while True:
            is_last = done.wait(interval)
            record(monitor.measure(), step)
            step += 1
            if is_last:
                return
    except Exception as error:  # no failure of tracking may stop the computation
        log.warning("tracking: system metrics cannot be measured (%s); the run continues without them", error)
