"""Run Ray tasks with the resources of a worker, one per worker at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

from raydistill.config import Resources
from raydistill.runtime.resources import CAPACITY_CHECK_INTERVAL, choose_num_workers, ensure_schedulable

T = TypeVar("T")


def worker_task(function: Any, resources: Resources) -> Any:
    """Return a function as a Ray task with the resources of a worker.

    They are arguments of `ray.remote`: in `.options()`, num_gpus would not make Ray end the process
    after its task, and CUDA would stay on the GPU on which it began.
    """
    return ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=resources.max_restarts)(function)


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
            ensure_schedulable(resources, resources.cpus, resources.gpus, "")
        for reference in finished:
            yield running.pop(reference), ray.get(reference)
