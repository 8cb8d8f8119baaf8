"""Run Ray tasks, one per worker at a time; fits keep each result in a file."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import ray
import torch

from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.config import Resources
from raydistill.log import Progress, progress
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import CAPACITY_CHECK_INTERVAL, choose_num_workers, ensure_schedulable
from raydistill.storage import Folder, checked, disk_errors

T = TypeVar("T")


def worker_task(function: Any, resources: Resources, **options: Any) -> Any:
    """Return a function as a Ray task with the resources of a worker.

    They are arguments of `ray.remote`: in `.options()`, num_gpus would not make Ray end the process
    after its task, and CUDA would stay on the GPU on which it began.
    """
    remote: Any = ray.remote
    of_worker = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": resources.max_restarts}
    return remote(**of_worker | options)(function)


def run_tasks(items: Sequence[T], start: Callable[[T], Any], resources: Resources) -> Iterator[tuple[T, Any]]:
    """Yield each item with its result, in the order in which the tasks end.

    Parameters
    ----------
    items
        What to work on; earlier ones start first.
    start
        Starts the task of an item, and returns its reference.
    resources
        CPUs and GPUs of a worker, and the number of workers.

    Raises
    ------
    ClusterError
        No task ended for a while, and no machine of the cluster has the resources of a worker.
    """
    queue, running = list(items)[::-1], dict[Any, T]()
    workers = choose_num_workers(resources, len(items))
    while queue or running:
        while queue and len(running) < workers:
            item = queue.pop()
            running[start(item)] = item
        finished, _ = ray.wait(list(running), num_returns=1, timeout=CAPACITY_CHECK_INTERVAL)
        if not finished:
            ensure_schedulable(resources)
        for reference in finished:
            yield running.pop(reference), ray.get(reference)


def map_tasks(
    function: Any, items: Sequence[T], arguments: Callable[[T], tuple[Any, ...]], resources: Resources, stage: str,
    doing: str, unit: str, sizes: Sequence[int] | None = None,
) -> list[Any]:  # fmt: skip
    """Return the result of a Ray task for each item, and show progress.

    Parameters
    ----------
    function, arguments
        What a task calls, and with what.
    stage, doing, unit
        Words for errors and the progress bar.
    sizes
        What each item counts in the progress; None: 1.
    """
    task, sizes, results = worker_task(function, resources), sizes or [1] * len(items), dict[int, Any]()
    with progress(sum(sizes), doing, unit) as shown, translate_errors(stage):
        numbers = range(len(items))
        for number, result in run_tasks(numbers, lambda number: task.remote(*arguments(items[number])), resources):
            results[number] = result
            shown.advance(sizes[number])
    return [results[number] for number in range(len(items))]


F = TypeVar("F")
R = TypeVar("R")


@dataclass(kw_only=True)
class FitRunner(ABC, Generic[F, R]):
    """Train networks; a fit whose file is intact is not trained again.

    A subclass names the stage, the function that trains a fit in a Ray task, and its arguments. Fits
    are dataclasses, and results named tuples of arrays and numbers, unless a subclass says otherwise.

    Parameters
    ----------
    folder
        Folder of the results.
    resources
        CPUs, GPUs and number of workers.
    """

    stage: ClassVar[str]
    task: ClassVar[Callable[..., Any]]
    result: ClassVar[type]
    unit: ClassVar[str] = "networks"
    suffix: ClassVar[str] = "safetensors"
    folder: Folder
    resources: Resources
    _known: dict[str, R] = field(default_factory=dict)

    @abstractmethod
    def arguments(self, fit: F) -> tuple[Any, ...]:
        """Return the arguments of `task` for a fit."""

    @abstractmethod
    def shown(self, fit: F, result: R) -> dict[str, Any]:
        """Return the values of a finished fit beside the progress bar."""

    def key(self, fit: Any) -> str:
        """Return the name of a fit's file."""
        return hashlib.sha256(json.dumps(asdict(fit), sort_keys=True).encode()).hexdigest()[:32]

    def pack(self, result: Any) -> bytes:
        """Return the content of a result's file."""
        values: dict[str, Any] = result._asdict()
        arrays = {name: torch.tensor(value) for name, value in values.items() if isinstance(value, np.ndarray)}
        return pack_tensors(arrays, {name: value for name, value in values.items() if name not in arrays})

    def unpack(self, data: bytes) -> R:
        """Return a result; a subclass may leave out what need not stay in memory."""
        tensors, numbers = unpack_tensors(data)
        return self.result(**{name: tensor.numpy() for name, tensor in tensors.items()}, **numbers)

    def train(self, fits: Sequence[F], description: str) -> list[R]:
        """Return the result of each fit, which may repeat."""
        missing, total = self.missing(fits), len(set(map(self.key, fits)))
        if missing:
            with (
                disk_errors(self.folder.uri),
                progress(total, description, self.unit, start=total - len(missing)) as bar,
                translate_errors(self.stage),
            ):
                self.train_missing(missing, bar)
        return self.results(fits)

    def missing(self, fits: Sequence[F]) -> list[F]:
        """Return the fits without a result, each once; a damaged file counts as absent."""
        wanted = {self.key(fit): fit for fit in fits}
        for key in wanted.keys() - self._known.keys():
            if (data := checked.read(self.folder, self._file(key))) is not None:
                self._known[key] = self.unpack(data)
        return [fit for key, fit in wanted.items() if key not in self._known]

    def train_missing(self, fits: Sequence[F], bar: Progress) -> None:
        """Train fits, and store their results."""
        task = worker_task(type(self).task, self.resources)
        for fit, result in run_tasks(fits, lambda fit: task.remote(*self.arguments(fit)), self.resources):
            bar.advance(**self.shown(fit, self.store(fit, result)))

    def store(self, fit: F, result: Any) -> R:
        """Write the file of a result, and return what is kept in memory."""
        key, data = self.key(fit), self.pack(result)
        checked.write(self.folder, self._file(key), data)
        self._known[key] = self.unpack(data)
        return self._known[key]

    def results(self, fits: Sequence[F]) -> list[R]:
        """Return the results of trained fits."""
        return [self._known[self.key(fit)] for fit in fits]

    def stored(self, fit: F) -> bytes:
        """Return the content of a trained fit's file."""
        return checked.require(self.folder, self._file(self.key(fit)))

    def _file(self, key: str) -> str:
        return f"{key}.{self.suffix}"
