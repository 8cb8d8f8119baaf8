"""What happened, told to MLflow: one run a stage, with its config, its inputs, its curves and how it ended.

The only file that imports mlflow, and it does so late. Two rules shape it. *Tracking never stops the science*: any
failure becomes one warning, and what could not be sent is kept until the server answers again (`tracking_link`).
*A run never lies about its end*: FINISHED, FAILED with the sentence, KILLED on Ctrl-C and SIGTERM; what `kill -9`
left RUNNING is closed by the next run of the same identity.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import re
import shlex
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.log import get_logger
from raydistill.pipeline.runtime.signals import sigterm_raises
from raydistill.pipeline.tracking import formatting
from raydistill.pipeline.tracking.circuit_breaker import CircuitBreaker, Outcome

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

log = get_logger(__name__)

MAX_TAG, MAX_DIGEST, METRICS_PER_BATCH, PARAMS_PER_BATCH = 8000, 36, 1000, 100  # mlflow/utils/validation.py, 3.17
SECONDS_BETWEEN_SENDS, POINTS_BETWEEN_SENDS = 1.0, 200
MAX_KEPT_POINTS, MAX_KEPT_RECORDS = (
    50_000,
    1_000,
)  # while a server is away; then the oldest points go, and of new records all but tags
ENVIRONMENT = {  # set unless the user set them
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's own 7 retries of 120 s would hold a step for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for the artifact's path
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


@dataclass(frozen=True)
class InputDataset:
    """A data set that a run read: `digest` is our own content digest, `source` a path or URI."""

    name: str
    digest: str
    source: str
    num_rows: int | None = None
    context: str = "training"


def default_uri(run_folder: str | Path) -> str:
    """The tracking URI of a run folder: SQLite in it, artifacts beside it in `mlartifacts`."""
    return f"sqlite:///{Path(run_folder).absolute()}/mlflow.db"


def ui_command(uri: str) -> str:
    """The command a person types to see the runs in a browser."""
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shlex.quote(uri)}"
    command = f"{shlex.quote(_program('mlflow'))} ui --backend-store-uri {shlex.quote(uri)}"
    folder = formatting.artifact_folder(uri)
    return command if folder is None else f"{command} --artifacts-destination {shlex.quote(str(folder))}"


def _program(name: str) -> str:
    """A program of this environment, as a person calls it who has not activated it."""
    beside = Path(sys.executable).parent / name
    if not beside.exists():
        return name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


@dataclass(frozen=True)
class Tracker:
    """Where runs are recorded. Small and picklable: send it to workers, each opens its own connection.

    A SQLite `uri` is for one machine; many machines need a server (`http://…`). Disabled, everything does nothing.
    """

    uri: str
    experiment: str
    enabled: bool = True

    def initialise(self) -> None:
        """Create the database and the experiment now, on the driver, before any worker opens it.

        (MLflow migrates on first use, and several processes doing so on one new SQLite file crash one another.)
        """
        if self.enabled:
            _link(self.uri).attempt("experiment", lambda client: _experiment_id(client, self.uri, self.experiment))

    @contextmanager
    def run(
        self,
        stage: str,
        *,
        identity: str,
        params: Mapping[str, Any] | None = None,
        parents: Mapping[str, str] | None = None,
        inputs: Sequence[InputDataset] = (),
        parent_run_id: str | None = None,
        name: str | None = None,
    ) -> Iterator[Run]:
        """Record what the body does as one run of `stage`.

        Parameters
        ----------
        stage, identity
            The stage and the digest that names its artifact. Runs of the same identity that are still RUNNING are
            set to KILLED first: their process is gone.
        params
            The resolved config, nested; recorded with dotted names. Dataclasses are welcome.
        parents
            Kind of artifact to digest, as tags `raydistill.parent.<kind>`.
        parent_run_id
            The `id` of the run this one belongs under, in the UI's tree.
        """
        if not self.enabled:
            yield Run()
            return
        run = _MlflowRun(_link(self.uri))
        tags = formatting.tags(stage, identity, parents or {}, parent_run_id)
        run.start(self, name or f"{stage}-{identity[:8]}", tags)
        run.describe(params or {}, inputs)
        status, error = "FINISHED", None
        with sigterm_raises():
            try:
                yield run
            except Exception as failure:
                status, error = "FAILED", formatting.sentence(failure)
                raise
            except BaseException:
                status = "KILLED"
                raise
            finally:
                run.close(status, error)


class Run:
    """A run that records nothing: what a disabled tracker gives, and the interface of the one that does."""

    id: str | None = None

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        """Numbers at a step. Sent in batches; NaN and infinity become NaN, with a tag that says which and when."""

    def tags(self, values: Mapping[str, Any]) -> None:
        """Words about the run."""

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """A file, or all files of a folder, copied below `folder` of the run's artifacts."""


class _MlflowRun(Run):
    """Records wait in order in `_waiting`, points in `_points`; `_send` passes them on until the server is away. For several threads."""

    def __init__(self, link: CircuitBreaker[MlflowClient]) -> None:
        self.id: str | None = None
        self._link = link
        self._sending = threading.RLock()
        self._unkept = 0  # records that came when too many waited
        self._waiting: deque[tuple[str, Callable[[MlflowClient], object]]] = deque()
        self._points: deque[Metric] = deque(maxlen=MAX_KEPT_POINTS)
        self._non_finite: set[str] = set()
        self._last_send = time.monotonic()
        self._refused = False

    def start(self, tracker: Tracker, name: str, tags: dict[str, str]) -> None:
        began = _milliseconds()

        def create(client: MlflowClient) -> None:
            experiment = _experiment_id(client, tracker.uri, tracker.experiment)
            _close_stale(client, experiment, f"tags.`raydistill.identity` = '{tags['raydistill.identity']}'")
            self.id = client.create_run(experiment, start_time=began, tags=tags, run_name=name).info.run_id

        self._record("run", create)

    def describe(self, config: Mapping[str, Any], inputs: Sequence[InputDataset]) -> None:
        def log_params(client: MlflowClient) -> None:
            tree = formatting.as_tree(config)
            params, was_cut = formatting.params(tree)
            entities = [_mlflow().entities.Param(name, value) for name, value in params.items()]
            for first in range(0, len(entities), PARAMS_PER_BATCH):
                client.log_batch(self._id, params=entities[first : first + PARAMS_PER_BATCH])
            if was_cut:
                client.log_dict(self._id, tree, "params.json")

        self._record("params", log_params)
        if inputs:
            self._record("inputs", lambda client: client.log_inputs(self._id, [_input_entity(i) for i in inputs]))

    def metrics(self, values: Mapping[str, Any], step: int) -> None:
        now = _milliseconds()
        for name, value in values.items():
            try:
                self._points.append(self._point(formatting.allowed(name), float(value), now, int(step)))
            except Exception as error:  # not a number, or no mlflow here
                self._link.warn_once("metric", f"the metric '{name}' could not be recorded ({error})")
        due = time.monotonic() - self._last_send >= SECONDS_BETWEEN_SENDS
        if due or len(self._points) >= POINTS_BETWEEN_SENDS:
            with self._sending:
                self._send()

    def tags(self, values: Mapping[str, Any]) -> None:
        tags = {formatting.allowed(name): str(value)[:MAX_TAG] for name, value in values.items()}

        def log_tags(client: MlflowClient) -> None:
            client.log_batch(self._id, tags=[_mlflow().entities.RunTag(*tag) for tag in tags.items()])

        self._record("tags", log_tags)

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        def copy(client: MlflowClient) -> None:
            if not Path(path).exists():
                raise FileNotFoundError(f"no such file: {path}")
            client.log_artifact(self._id, str(path), folder)

        def copy_all(client: MlflowClient) -> None:
            client.log_artifacts(self._id, str(path), folder)

        self._record("artifact", copy_all if Path(path).is_dir() else copy)

    def close(self, status: str, error: str | None) -> None:
        if error is not None:
            self.tags({"raydistill.error": error})
        ended = _milliseconds()
        with self._sending:
            self._waiting.append(("end", lambda client: self._end(client, status, ended)))
            self._send(last=True)
        kept = len(self._waiting) + len(self._points) + self._unkept
        if kept and not self._refused:
            log.info("tracking: %d records did not reach %s", kept, self._link.shown_uri)

    @property
    def _id(self) -> str:
        if self.id is None:
            raise ValueError("the run could not be opened")
        return self.id

    def _record(self, what: str, action: Callable[[MlflowClient], object]) -> None:
        with self._sending:
            if len(self._waiting) < MAX_KEPT_RECORDS or what == "tags":
                self._waiting.append((what, action))
            else:
                self._unkept += 1
            self._send()

    def _send(self, last: bool = False) -> None:
        """Under the lock, pass on what waits, in order: records, then points; the end of the run comes after its last point."""
        self._last_send = time.monotonic()
        while self._waiting and self._waiting[0][0] != "end" and not self._refused:
            if self._link.attempt(*self._waiting[0], last=last) is Outcome.RETRY:
                return
            self._waiting.popleft()
            self._refused = self.id is None  # the first record opens the run: without it nothing else has a place
        if self._refused:
            self._points.clear()
            self._waiting.clear()
        while self._points and self.id is not None:
            batch = [self._points[i] for i in range(min(len(self._points), METRICS_PER_BATCH))]
            send = functools.partial(self._send_points, batch)
            if self._link.attempt("metrics", send, last=last) is Outcome.RETRY:
                return
            for _ in batch:
                self._points.popleft()
        if self._waiting and self._link.attempt(*self._waiting[0], last=last) is not Outcome.RETRY:
            self._waiting.popleft()

    def _send_points(self, batch: list[Metric], client: MlflowClient) -> None:
        client.log_batch(self._id, metrics=batch)  # a repeated batch changes nothing: points are keyed by all they hold

    def _end(self, client: MlflowClient, status: str, ended: int) -> None:
        client.set_terminated(self._id, status, ended)

    def _point(self, name: str, value: float, timestamp: int, step: int) -> Metric:
        if not math.isfinite(value):
            if name not in self._non_finite:
                self._non_finite.add(name)
                self.tags({f"raydistill.non_finite.{name}": f"{value} at step {step}"})
            value = math.nan  # MLflow stores infinity as 1.8e308, which flattens every plot
        metric: Metric = _mlflow().entities.Metric(name, value, timestamp, step)
        return metric


_links: dict[tuple[int, str], CircuitBreaker[MlflowClient]] = {}


def _link(uri: str) -> CircuitBreaker[MlflowClient]:
    """One per process and server, so that a hundred short runs share one pause and one warning."""
    return _links.setdefault((os.getpid(), uri), CircuitBreaker(uri, _open))


@functools.cache
def _mlflow() -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.entities

    for name in ("alembic", "urllib3.connectionpool"):  # they narrate each migration and each retry
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a traceback for what we say in a line
    return mlflow


def _open(uri: str) -> MlflowClient:
    """A client. MLflow creates and migrates a SQLite file while it opens it: one process at a time."""
    client = _mlflow().MlflowClient
    database = formatting.sqlite_file(uri)
    if database is None:
        return client(uri)
    from filelock import FileLock

    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=30), warnings.catch_warnings(action="ignore"):  # alembic's, on its work
        return client(uri)


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        folder = formatting.artifact_folder(uri)
        try:
            return client.create_experiment(name, artifact_location=None if folder is None else folder.as_uri())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was quicker
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise ValueError(f"experiment '{name}' was deleted: restore it with `mlflow experiments restore`")
    return str(found.experiment_id)


def _close_stale(client: MlflowClient, experiment: str, which: str) -> None:
    """Set RUNNING runs to KILLED, and those below them. (Was one alive after all, its own end corrects it.)"""
    for stale in client.search_runs([experiment], f"{which} AND attributes.status = 'RUNNING'"):
        client.set_terminated(stale.info.run_id, "KILLED")
        log.info("tracking: run %s was left running by a killed process; now KILLED", stale.info.run_name)
        _close_stale(client, experiment, f"tags.`mlflow.parentRunId` = '{stale.info.run_id}'")


def _input_entity(given: InputDataset) -> Any:
    """MLflow cuts digests to 36 characters, so the whole one goes into the profile."""
    entities = _mlflow().entities
    scheme = re.match(r"([a-z0-9]+)://", given.source)
    source_type = scheme[1] if scheme and scheme[1] != "file" else "local"
    profile = {"num_rows": given.num_rows, "digest": given.digest}
    source = json.dumps({"url" if source_type.startswith("http") else "uri": given.source})
    source_type = "http" if source_type == "https" else source_type
    dataset = entities.Dataset(given.name, given.digest[:MAX_DIGEST], source_type, source, None, json.dumps(profile))
    return entities.DatasetInput(dataset, [entities.InputTag("mlflow.data.context", given.context)])


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000
