"""The workers of one distilled set: one leads, others may help it.

leader (a Ray task, `distilling`)  holds the session; hands `Shared` out, measures its own pieces meanwhile, advances by all in their order
helper (an actor)                  measures the pieces that it is given

Who measured a piece does not show in its bits, given equal threads. So a helper is another hand and never a condition. One that has not
started yet, on a cluster that grows, is not waited for; the pieces of a lost one are measured by the leader, and another is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import ray
import torch

from raydistill.core.distiller import Distiller
from raydistill.core.matching import MatchResult
from raydistill.core.segments import SegmentResult, SharedState
from raydistill.pipeline.runtime.cluster import PROGRESS_INTERVAL
from raydistill.pipeline.runtime.failures import WORKER_FAILURES, one_line
from raydistill.pipeline.trainer.trainer import DistillTask, ProgressUpdate, Trainer, TrainerInputs

CPU = torch.device("cpu")


def run_trainer(job: DistillTask) -> Iterator[ProgressUpdate]:
    """The leader's task: news about once a second until the images are finished and written."""
    torch.set_num_threads(job.threads)
    session = Trainer(job)
    told = time.monotonic()
    yield session.news()
    with closing(WorkerPool(job, session.warn)) as team:
        while not session.distiller.finished:
            session.step(team.measure)
            if time.monotonic() - told > PROGRESS_INTERVAL:
                yield session.news()
                told = time.monotonic()
    session.write()
    yield session.news()


@dataclass
class _Hired:
    helper: Any
    started: Any  # its first answer
    in_vain: int  # losses in a row, of it and of those in whose place it came


class WorkerPool:
    """A leader's helpers. say: is told of every one that was lost."""

    def __init__(self, job: DistillTask, say: Callable[[str], None]) -> None:
        self._job, self._say = job, say
        self._hired = [self._hire(0) for _ in range(job.helpers)]

    def measure(self, distiller: Distiller) -> list[SegmentResult]:
        """All pieces of the iteration, in their order."""
        pieces = range(self._job.distill.trajectories_per_step)
        ready = self._ready()
        hands = 1 + len(ready)
        shared = ray.put(_shared_on(CPU, distiller.shared())) if ready else None
        asked = {
            number: (hired, hired.helper.measure.remote(shared, list(pieces[number::hands])))
            for number, hired in enumerate(ready, 1)
        }
        found = {piece: distiller.measure(piece) for piece in pieces[::hands]}
        for number, (hired, answer) in asked.items():
            mine = pieces[number::hands]
            measured = self._answer(hired, answer)
            hired.in_vain = 0 if measured else hired.in_vain
            found |= zip(mine, measured or map(distiller.measure, mine), strict=True)
        return [_measured_on(distiller.images.device, found[piece]) for piece in pieces]

    def close(self) -> None:
        for hired in self._hired:
            ray.kill(hired.helper)

    def _hire(self, in_vain: int) -> _Hired:
        job = self._job
        helper: Any = ray.remote(Helper).options(num_cpus=job.threads, num_gpus=job.gpus).remote(job)
        return _Hired(helper, helper.ready.remote(), in_vain)

    def _ready(self) -> list[_Hired]:
        """Those that have started."""
        answered = [hired for hired in self._hired if ray.wait([hired.started], timeout=0)[0]]
        return [hired for hired in answered if self._answer(hired, hired.started)]

    def _answer(self, hired: _Hired, answer: Any) -> Any:
        """What a helper has to say; None of one that is lost, in whose place another is asked for, a bounded number of times in a row."""
        try:
            return ray.get(answer)
        except (
            *WORKER_FAILURES,
            ray.exceptions.RayTaskError,
        ) as error:  # a fault of its machine's; one of the pieces' the leader meets itself
            self._hired.remove(hired)
            in_vain = hired.in_vain + 1
            again = in_vain <= self._job.max_restarts
            self._say(
                f"a helper was lost ({one_line(error)}), {'another is asked for' if again else 'the others go on'}"
            )
            if again:
                self._hired.append(self._hire(in_vain))
            return None


class Helper:
    """Measures pieces for a leader."""

    def __init__(self, job: DistillTask) -> None:
        torch.set_num_threads(job.threads)
        sources = TrainerInputs.of(job)
        self._measurer, self._device = sources.measurer(job), torch.device(sources.device)

    def ready(self) -> bool:
        """Answers when the constructor has ended."""
        return True

    def measure(self, shared: SharedState, pieces: list[int]) -> list[SegmentResult]:
        here = _shared_on(self._device, shared)
        return [_measured_on(CPU, self._measurer.measure(here, piece)) for piece in pieces]


def _shared_on(device: torch.device, shared: SharedState) -> SharedState:
    images, targets, log_lrs, schedule = shared
    return SharedState(images.to(device), targets.to(device), log_lrs.to(device), schedule)


def _measured_on(device: torch.device, measured: SegmentResult) -> SegmentResult:
    loss, d_images, d_targets, d_lr, steps = measured.matched
    on_device = MatchResult(loss.to(device), d_images.to(device), d_targets.to(device), d_lr.to(device), steps)
    return measured._replace(matched=on_device)
