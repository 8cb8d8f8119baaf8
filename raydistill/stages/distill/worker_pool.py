"""The trainer's Ray task, and the pool of workers that evaluate segments for it.

trainer (a Ray task, `run_trainer`)
    distributes `SharedState`, evaluates its own segments, and advances by all segments in their order
worker (an actor, `PoolWorker`)
    evaluates the segments that it is given

With equal threads a segment has the same bits on every worker. Workers add throughput; progress
never depends on them: the trainer does not wait for a worker that has not started. It evaluates the
segments of a worker that died, and starts another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import ray
import torch

from raydistill.distillation.distiller import Distiller
from raydistill.distillation.matching import MatchResult
from raydistill.distillation.segments import SegmentResult, SharedState
from raydistill.runtime.cluster import PROGRESS_INTERVAL
from raydistill.runtime.failures import WORKER_FAILURES, one_line
from raydistill.stages.distill.task import DistillTask, TrainerInputs
from raydistill.stages.distill.trainer import ProgressUpdate, Trainer

CPU = torch.device("cpu")


def run_trainer(task: DistillTask) -> Iterator[ProgressUpdate]:
    """Distil until all images are written; yield an update about once a second."""
    torch.set_num_threads(task.threads)
    trainer = Trainer(task)
    reported = time.monotonic()
    yield trainer.progress_update()
    with closing(WorkerPool(task, trainer.warn)) as pool:
        while not trainer.distiller.finished:
            trainer.step(pool.evaluate)
            if time.monotonic() - reported > PROGRESS_INTERVAL:
                yield trainer.progress_update()
                reported = time.monotonic()
    trainer.write()
    yield trainer.progress_update()


@dataclass
class _Member:
    """A worker of the pool."""

    actor: Any
    started: Any  # reference that is ready once the actor has started
    consecutive_failures: int  # of this worker and of those that it replaces


class WorkerPool:
    """The workers that evaluate segments for a trainer.

    `warn` is called when a worker died.
    """

    def __init__(self, task: DistillTask, warn: Callable[[str], None]) -> None:
        self._task, self._warn = task, warn
        self._members = [self._start_worker(0) for _ in range(task.extra_workers)]

    def evaluate(self, distiller: Distiller) -> list[SegmentResult]:
        """Return the results of the iteration's segments, in order.

        The trainer and the started workers evaluate them.
        """
        segments = range(self._task.distill.trajectories_per_step)
        members = self._started_members()
        stride = 1 + len(members)
        shared = ray.put(_shared_to(CPU, distiller.shared())) if members else None
        pending = {
            number: (member, member.actor.evaluate.remote(shared, list(segments[number::stride])))
            for number, member in enumerate(members, 1)
        }
        results = {segment: distiller.measure(segment) for segment in segments[::stride]}
        for number, (member, reference) in pending.items():
            own = segments[number::stride]
            evaluated = self._get(member, reference)
            if evaluated:
                member.consecutive_failures = 0
            results |= zip(own, evaluated or map(distiller.measure, own), strict=True)
        return [_result_to(distiller.images.device, results[segment]) for segment in segments]

    def close(self) -> None:
        """Stop the workers."""
        for member in self._members:
            ray.kill(member.actor)

    def _start_worker(self, consecutive_failures: int) -> _Member:
        task = self._task
        actor: Any = ray.remote(PoolWorker).options(num_cpus=task.threads, num_gpus=task.gpus).remote(task)
        return _Member(actor, actor.ready.remote(), consecutive_failures)

    def _started_members(self) -> list[_Member]:
        ready = [member for member in self._members if ray.wait([member.started], timeout=0)[0]]
        return [member for member in ready if self._get(member, member.started)]

    def _get(self, member: _Member, reference: Any) -> Any:
        """Return a worker's answer; None if it failed.

        A failed worker is replaced, at most `max_restarts` times in a row.
        """
        try:
            return ray.get(reference)
        # A RayTaskError is a fault of the worker's machine: a fault of the segment recurs in the
        # trainer.
        except (*WORKER_FAILURES, ray.exceptions.RayTaskError) as error:
            self._members.remove(member)
            failures = member.consecutive_failures + 1
            restart = failures <= self._task.max_restarts
            self._warn(
                f"a pool worker died ({one_line(error)}); {'it is replaced' if restart else 'the others continue'}"
            )
            if restart:
                self._members.append(self._start_worker(failures))
            return None


class PoolWorker:
    """An actor that evaluates segments for a trainer."""

    def __init__(self, task: DistillTask) -> None:
        torch.set_num_threads(task.threads)
        inputs = TrainerInputs.of(task)
        self._evaluator, self._device = inputs.evaluator(task), torch.device(inputs.device)

    def ready(self) -> bool:
        """Return once the constructor has finished."""
        return True

    def evaluate(self, shared: SharedState, segments: list[int]) -> list[SegmentResult]:
        """Return the results of some segments, on the CPU."""
        on_device = _shared_to(self._device, shared)
        return [_result_to(CPU, self._evaluator.measure(on_device, segment)) for segment in segments]


def _shared_to(device: torch.device, shared: SharedState) -> SharedState:
    images, targets, log_lrs, schedule = shared
    return SharedState(images.to(device), targets.to(device), log_lrs.to(device), schedule)


def _result_to(device: torch.device, result: SegmentResult) -> SegmentResult:
    loss, d_images, d_targets, d_lr, steps = result.matched
    on_device = MatchResult(loss.to(device), d_images.to(device), d_targets.to(device), d_lr.to(device), steps)
    return result._replace(matched=on_device)
