"""The coordinator of the experts stage: an actor that hands experts to workers.

It imports next to nothing, so that it starts at once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from raydistill.errors import ClusterError, RaydistillError

MAX_ATTEMPTS = 2  # per expert whose training raises an exception


class Coordinator:
    """Assign experts to the ranks of a worker group, and count failures.

    Parameters
    ----------
    missing
        The experts to train.
    max_restarts
        How often in a row the group may die without a finished epoch in between. The same limit
        holds for the deaths of workers that train one expert. A group that makes progress may die
        any number of times.
    """

    def __init__(self, missing: list[int], max_restarts: int) -> None:
        self._open = list(missing)
        self._max_restarts = max_restarts
        self._consecutive_failures = 0  # of the group, since the last epoch
        self._deaths: dict[int, int] = {}  # expert -> deaths of its worker since its last epoch
        self._assigned: dict[int, int] = {}  # expert -> rank
        self._failed_on: dict[int, list[int]] = {}  # expert -> the rank of each failed attempt
        self._world_size = 1
        self._done_ranks: set[int] = set()  # ranks that acquire no more experts
        self._failures: dict[int, RaydistillError] = {}
        self._epochs: dict[int, int] = {}  # expert -> its last epoch, until it is finished
        self._figures: dict[str, float] = {}
        self._finals: list[tuple[int, dict[str, float]]] = []
        self._finished = 0
        self._groups = 0
        self._start_error: RaydistillError | None = None

    def register(self, rank: int, world_size: int) -> None:
        """Register a worker; release the experts of dead workers.

        These had the same rank, or a rank beyond the size of the group.
        """
        self._groups += rank == 0
        self._world_size = world_size
        self._done_ranks = {other for other in self._done_ranks if other < world_size and other != rank}
        orphans = [expert for expert, holder in self._assigned.items() if holder == rank or holder >= world_size]
        for expert in orphans:
            del self._assigned[expert]
            if self._deaths.get(expert, 0) <= self._max_restarts:
                self._open.append(expert)
            else:
                self._failures[expert] = _death_error(f"the worker of expert {expert} died", self._max_restarts)

    def group_died(self, ranks: Collection[int]) -> bool:
        """Record that ranks died, ending their group; return whether another may start."""
        self._consecutive_failures += 1
        for expert in [expert for expert, holder in self._assigned.items() if holder in ranks]:
            self._deaths[expert] = self._deaths.get(expert, 0) + 1
            if (
                self._deaths[expert] > self._max_restarts
                and (self._epochs or self._finished)
                and len(ranks) < self._world_size
            ):
                self._consecutive_failures = 0  # this expert is the cause, and is given up
        return self._consecutive_failures <= self._max_restarts

    def acquire(self, rank: int) -> int | None:
        """Return the next expert to train; None if there is none for this rank.

        An expert that failed on a rank goes to other ranks, if there are any: the rank may be at
        fault. Otherwise a GPU that fails at once would fail every expert while the others train
        one.
        """
        candidates = [expert for expert in self._open if rank not in self._failed_on.get(expert, ())]
        others = self._world_size - 1 - len(self._done_ranks - {rank})
        if not candidates and others <= 0:
            candidates = list(self._open)
        if not candidates:
            self._done_ranks.add(rank)
            return None
        expert = candidates[0]
        self._open.remove(expert)
        self._assigned[expert] = rank
        return expert

    def epoch(self, expert: int, epoch: int, figures: dict[str, float]) -> None:
        """Record a finished epoch, which resets the counts of failures."""
        self._epochs[expert], self._figures = epoch, figures
        self._deaths[expert] = self._consecutive_failures = 0

    def finished(self, expert: int, figures: dict[str, float]) -> None:
        """Record a finished expert with its last figures."""
        self._assigned.pop(expert, None)
        self._epochs.pop(expert, None)
        self._finished += 1
        self._finals.append((expert, figures))

    def failed(self, expert: int, error: RaydistillError) -> None:
        """Move a failed expert to the end of the queue; give it up after `MAX_ATTEMPTS`."""
        failed_on = self._failed_on.setdefault(expert, [])
        failed_on.append(self._assigned.pop(expert, 0))
        if len(failed_on) < MAX_ATTEMPTS:
            self._open.append(expert)
        else:
            self._failures[expert] = error

    def cannot_start(self, rank: int, error: RaydistillError) -> None:
        """Record that a worker cannot start; the others train its experts."""
        self._done_ranks.add(rank)
        self._start_error = error

    def group_error(self) -> RaydistillError | None:
        """Return why workers cannot start, or that their group died too often; else None."""
        if self._consecutive_failures > self._max_restarts:
            experts = f" with experts {sorted(self._assigned)}" if self._assigned else ""
            return _death_error(f"the group of workers died{experts}", self._max_restarts)
        return self._start_error

    def failures(self) -> dict[int, RaydistillError]:
        """Return expert -> error of the experts that were given up."""
        return self._failures

    def progress(self) -> dict[str, Any]:
        """Return epochs of unfinished experts, and newly finished experts."""
        finals, self._finals = self._finals, []
        return {
            "epochs": sum(self._epochs.values()),
            "finished": self._finished,
            "figures": self._figures,
            "finals": finals,
            "groups": self._groups,
        }


def _death_error(event: str, restarts: int) -> ClusterError:
    what = f"{event}, and {restarts} restarts in a row finished no epoch"
    fix = (
        "see the workers' logs in Ray's session (did they run out of memory?), then run the same command again; "
        "finished experts are kept"
    )
    return ClusterError(what, "experts", fix)
