"""Track each stage as a run in MLflow: config, inputs, metrics and status.

Two rules hold:

- Tracking never stops the computation. A failure gives one warning, and records wait until the
  server answers again (`circuit_breaker`, `delivery`).
- The status of a run is true: FINISHED; FAILED, with the error in a tag; KILLED after Ctrl-C or
  SIGTERM, or if the process dies (`cli.supervisor`). After `kill -9` of the supervisor too, a run
  stays RUNNING until the next run of the same identity sets it to KILLED.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime import driver_notes
from raydistill.runtime.signals import run_in_background, sigterm_raises
from raydistill.tracking import formatting, mlflow_client
from raydistill.tracking.delivery import CircuitBreaker, RecordQueue
from raydistill.tracking.formatting import InputDataset
from raydistill.tracking.mlflow_client import record_system
from raydistill.tracking.registry import Model, Registration, log_test_metrics
from raydistill.tracking.uris import default_uri, runs_page

if TYPE_CHECKING:
    from raydistill.tracking.mlflow_client import Metric, MlflowClient


@dataclass(frozen=True)
class Tracker:
    """The place where runs are recorded.

    It is small and picklable. A worker that receives it opens a connection of its own.

    Parameters
    ----------
    uri
        MLflow's tracking URI. SQLite serves one machine; several machines need a server
        (`http://…`).
    experiment
        Name of the experiment.
    enabled
        False: every method does nothing.
    system_metrics
        Record the load of this machine with each run, except trials of a search.
    """

    uri: str
    experiment: str
    enabled: bool = True
    system_metrics: bool = False

    def initialise(self) -> None:
        """Create database and experiment on the driver, before a worker opens them."""
        self._experiment_id()

    def page(self) -> str | None:
        """Return the address of MLflow's table of runs.

        None if tracking is off or the server does not answer.
        """
        experiment = self._experiment_id()
        return None if experiment is None else runs_page(self.uri, experiment)

    def _experiment_id(self) -> str | None:
        ids: list[str] = []
        if self.enabled:
            ensure = mlflow_client.ensure_experiment
            _breaker(self.uri).attempt(
                "experiment", lambda client: ids.append(ensure(client, self.uri, self.experiment))
            )
        return ids[0] if ids else None

    @contextmanager
    def run(
        self,
        stage: str,
        *,
        identity: str,
        config: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        parents: Mapping[str, str] | None = None,
        inputs: Sequence[InputDataset] = (),
        parent_run_id: str | None = None,
        name: str | None = None,
    ) -> Iterator[Run]:
        """Record the body as one run of a stage.

        Parameters
        ----------
        stage
            Name of the stage.
        identity
            Identity of its artifact. Runs of the same identity that are still RUNNING become
            KILLED: their process has died.
        config
            The resolved config; recorded as the file config.yaml, which `raydistill run` reads.
        params
            Values as nested mappings; the first 60 are recorded under dotted names.
        parents
            Kind of each parent artifact and its digest, for the tags `raydistill.parent.<kind>`.
        inputs
            The data sets that the stage reads.
        parent_run_id
            The `id` of the run under which MLflow shows this one.
        name
            Name of the run; by default the stage, the name of the config and 8 digits of the identity.

        Yields
        ------
        Run
            The run, to which the body adds metrics, tags and artifacts.
        """
        if not self.enabled:
            yield Run()
            return
        described = formatting.search_tags(config or params or {})
        tags = formatting.format_tags(stage, identity, parents or {}, parent_run_id) | described
        title = " ".join([stage, *([config["name"]] if config else []), f"#{identity[:8]}"])
        run = _MlflowRun(self, name or title, tags)
        run.describe(params or {}, config or {}, inputs)
        status, error = "FINISHED", None
        measured = self.system_metrics and stage != "trial"
        with sigterm_raises():
            try:
                with run_in_background(partial(record_system, run.metrics)) if measured else nullcontext():
                    yield run
            except Exception as failure:
                status, error = "FAILED", formatting.error_message(failure)
                raise
            except BaseException:
                status = "KILLED"
                raise
            finally:
                run.close(status, error)


class Run:
    """The interface of a run; this class records nothing, for a disabled tracker."""

    id: str | None = None

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Record numbers at a step; they are sent in batches.

        Infinity is recorded as NaN. A tag names the first value of a metric that is not finite.
        """

    def tags(self, values: Mapping[str, Any]) -> None:
        """Record descriptions of the run."""

    def note(self, markdown: str) -> None:
        """Put a text at the top of the run's page."""

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Copy a file, or all files of a folder, below `folder` of the run's artifacts."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Save rows as the artifact `<name>.json`, which MLflow shows as a table."""

    def register(self, model: Model) -> None:
        """Register a distilled set or a classifier as a model, and name the best version."""

    def test_metrics(self, identity: str, values: Mapping[str, float], dataset: tuple[str, str]) -> None:
        """Record metrics on test images with the model of a set, by the set's identity.

        `dataset` is name and digest of the images.
        """


class _MlflowRun(Run):
    """A run in MLflow; its records pass through a queue. Several threads may use it."""

    def __init__(self, tracker: Tracker, name: str, tags: dict[str, str]) -> None:
        self.id: str | None = None
        self._breaker = _breaker(tracker.uri)
        self._non_finite: set[str] = set()
        self._tables: list[str] = []
        start_time = _milliseconds()

        def create(client: MlflowClient) -> None:
            experiment = mlflow_client.ensure_experiment(client, tracker.uri, tracker.experiment)
            self.id = mlflow_client.create_run(client, experiment, name, tags, start_time)
            driver_notes.note("opened", tracker.uri, self.id)

        def send_metrics(batch: list[Metric], client: MlflowClient) -> None:
            mlflow_client.log_metrics(client, self._opened_id, batch)

        self._queue: RecordQueue[MlflowClient, Metric] = RecordQueue(self._breaker, create, send_metrics)
        self._queue.send()

    def describe(self, params: Mapping[str, Any], config: Mapping[str, Any], inputs: Sequence[InputDataset]) -> None:
        self._queue.put("params", lambda client: mlflow_client.log_params(client, self._opened_id, params))
        if config:
            self._queue.put("config", lambda client: client.log_dict(self._opened_id, dict(config), "config.yaml"))
        if inputs:
            self._queue.put("inputs", lambda client: mlflow_client.log_inputs(client, self._opened_id, inputs))

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        now = _milliseconds()
        for name, value in values.items():
            try:
                self._queue.put_point(self._point(formatting.valid_name(name), float(value), now, int(step)))
            except Exception as error:  # the value is not a number, or mlflow is not installed
                self._breaker.warn_once("metric", f"the metric '{name}' could not be recorded ({error})")
        self._queue.send_if_due()

    def tags(self, values: Mapping[str, Any]) -> None:
        tags = {formatting.valid_name(name): str(value)[: formatting.MAX_TAG] for name, value in values.items()}
        self._queue.put("tags", lambda client: mlflow_client.log_tags(client, self._opened_id, tags), always=True)

    def note(self, markdown: str) -> None:
        self.tags({formatting.NOTE: markdown})

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        def copy(client: MlflowClient) -> None:
            if not Path(path).exists():
                raise FileNotFoundError(f"no such file: {path}")
            client.log_artifact(self._opened_id, str(path), folder)

        def copy_all(client: MlflowClient) -> None:
            client.log_artifacts(self._opened_id, str(path), folder)

        self._queue.put("artifact", copy_all if Path(path).is_dir() else copy)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        file = f"{name}.json"
        text = formatting.format_table(rows)
        self._tables.append(file)
        self._queue.put("table", lambda client: client.log_text(self._opened_id, text, file))
        self.tags({formatting.TABLES: json.dumps([{"path": file, "type": "table"} for file in self._tables])})

    def register(self, model: Model) -> None:
        registration = Registration(model, _milliseconds())
        self._queue.put("model", lambda client: registration(client, self._opened_id), always=True)

    def test_metrics(self, identity: str, values: Mapping[str, float], dataset: tuple[str, str]) -> None:
        now = _milliseconds()

        def log(client: MlflowClient) -> None:
            log_test_metrics(client, self._opened_id, identity, values, now, dataset)

        self._queue.put("model metrics", log)

    def close(self, status: str, error: str | None) -> None:
        if error is not None:
            self.tags({"raydistill.error": error})
        end_time = _milliseconds()
        self._queue.close(lambda client: client.set_terminated(self._opened_id, status, end_time))
        if self.id is not None:
            driver_notes.note("closed", self.id)

    @property
    def _opened_id(self) -> str:
        if self.id is None:
            raise ValueError("the run could not be opened")
        return self.id

    def _point(self, name: str, value: float, timestamp: int, step: int) -> Metric:
        if not math.isfinite(value):
            if name not in self._non_finite:
                self._non_finite.add(name)
                self.tags({f"raydistill.non_finite.{name}": f"{value} at step {step}"})
            value = math.nan  # MLflow stores infinity as 1.8e308, which flattens every plot
        return mlflow_client.metric(name, value, timestamp, step)


_breakers: dict[tuple[int, str], CircuitBreaker[MlflowClient]] = {}


def _breaker(uri: str) -> CircuitBreaker[MlflowClient]:
    """Return the server's circuit breaker, which all runs of this process share."""
    return _breakers.setdefault((os.getpid(), uri), CircuitBreaker(uri, mlflow_client.open_client))


def kill_run(uri: str, run_id: str) -> None:
    """Set the run of a dead process to KILLED, with its children."""
    _breaker(uri).attempt("end", partial(mlflow_client.kill_run, run_id=run_id))


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


# Return the tracker of a plan.

log = get_logger(__name__)


def tracking_uri(plan: Plan) -> str | None:
    """Return the tracking URI of a plan's runs, by default SQLite in the run folder.

    None if no URI is set and the run folder is in object storage: SQLite needs a disk.
    """
    if plan.config.tracking.uri or not plan.root.is_local:
        return plan.config.tracking.uri
    return default_uri(Path(plan.root.uri).absolute())


def tracker_of(plan: Plan) -> Tracker:
    """Return the tracker of a plan; it has opened nothing."""
    config, uri = plan.config.tracking, tracking_uri(plan)
    return Tracker(
        uri or "", config.experiment or plan.config.name, config.enabled and uri is not None, config.system_metrics
    )


def make_tracker(plan: Plan) -> Tracker:
    """Return the tracker of a plan, whose database exists before any worker opens it."""
    if tracking_uri(plan) is None and plan.config.tracking.enabled:
        log.warning(
            "tracking is off: SQLite needs a disk, and %s is in object storage; set tracking.uri=http://… of an MLflow server",
            plan.root,
        )
    tracker = tracker_of(plan)
    tracker.initialise()
    return tracker
