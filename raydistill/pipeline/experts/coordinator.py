"""The board of the experts stage. An actor of its own: it imports next to nothing, so that it is there at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from raydistill.errors import ClusterError, RaydistillError

MAX_ATTEMPTS = 2  # per expert: enough for bad luck, and a poisoned one does not hold up the rest


class Coordinator:
    """Who has which expert. Claims of a worker that comes back, or of one beyond the group's size, were lost with it.

    max_restarts: of the group in a row, without an epoch in between, and of a worker with the same expert likewise. On a cluster whose
    machines come and go a group may be lost any number of times, as long as it comes on.
    """

    def __init__(self, missing: list[int], max_restarts: int) -> None:
        self._open = list(missing)
        self._max_restarts = max_restarts
        self._in_vain = 0  # losses of the group since the last epoch
        self._losses: dict[int, int] = {}  # expert -> how often it was lost since its last epoch
        self._claims: dict[int, int] = {}  # expert -> rank
        self._failed_on: dict[int, list[int]] = {}  # expert -> the rank of each attempt
        self._size = 1  # of the group
        self._left: set[int] = set()  # ranks that claim no more
        self._failures: dict[int, RaydistillError] = {}
        self._epochs: dict[int, int] = {}
        self._figures: dict[str, float] = {}
        self._finals: list[tuple[int, dict[str, float]]] = []
        self._finished = 0
        self._groups = 0
        self._trouble: RaydistillError | None = None

    def join(self, rank: int, world_size: int) -> None:
        """A worker begins, perhaps in place of one that was lost, or of one of a group that was smaller."""
        self._groups += rank == 0
        self._size = world_size
        self._left = {other for other in self._left if other < world_size and other != rank}
        left = [expert for expert, holder in self._claims.items() if holder == rank or holder >= world_size]
        for expert in left:
            del self._claims[expert]
            if self._losses.get(expert, 0) <= self._max_restarts:
                self._open.append(expert)
            else:
                self._failures[expert] = _lost(f"expert {expert} was lost with its worker", self._max_restarts)

    def lost(self, ranks: Collection[int]) -> bool:
        """These were lost, and with them the group and what it had claimed; whether there is use in another one."""
        self._in_vain += 1
        for expert in [expert for expert, holder in self._claims.items() if holder in ranks]:
            self._losses[expert] = self._losses.get(expert, 0) + 1
            if self._losses[expert] > self._max_restarts and self._epochs and len(ranks) < self._size:
                self._in_vain = 0  # it alone is to blame, and found out
        return self._in_vain <= self._max_restarts

    def claim(self, rank: int) -> int | None:
        """The next expert to train; None when there is none left.

        One that failed on a rank is left to the others, if there are any, for the fault may be that rank's: a GPU that fails at once
        would else fail every expert while the others train one.
        """
        mine = [expert for expert in self._open if rank not in self._failed_on.get(expert, ())]
        others = self._size - 1 - len(self._left - {rank})
        if not mine and others <= 0:
            mine = list(self._open)
        if not mine:
            self._left.add(rank)
            return None
        expert = mine[0]
        self._open.remove(expert)
        self._claims[expert] = rank
        return expert

    def epoch(self, expert: int, epoch: int, figures: dict[str, float]) -> None:
        self._epochs[expert], self._figures = epoch, figures
        self._losses[expert] = self._in_vain = 0

    def finished(self, expert: int, figures: dict[str, float]) -> None:
        self._claims.pop(expert, None)
        self._finished += 1
        self._finals.append((expert, figures))

    def failed(self, expert: int, why: RaydistillError) -> None:
        """Back to the end of the queue, or given up."""
        failed_on = self._failed_on.setdefault(expert, [])
        failed_on.append(self._claims.pop(expert, 0))
        if len(failed_on) < MAX_ATTEMPTS:
            self._open.append(expert)
        else:
            self._failures[expert] = why

    def cannot_begin(self, rank: int, why: RaydistillError) -> None:
        """Of a worker that leaves its experts to the others, if there are any."""
        self._left.add(rank)
        self._trouble = why

    def trouble(self) -> RaydistillError | None:
        """Why workers could not begin, or begun in vain too often."""
        if self._in_vain > self._max_restarts:
            claimed = f" with experts {sorted(self._claims)}" if self._claims else ""
            return _lost(f"the group of workers was lost{claimed}", self._max_restarts)
        return self._trouble

    def failures(self) -> dict[int, RaydistillError]:
        return self._failures

    def news(self) -> dict[str, Any]:
        """Progress since the start, and the experts that finished since the last call."""
        finals, self._finals = self._finals, []
        return {
            "epochs": sum(self._epochs.values()),
            "finished": self._finished,
            "figures": self._figures,
            "finals": finals,
            "groups": self._groups,
        }


def _lost(who: str, restarts: int) -> ClusterError:
    what = f"{who}, and {restarts} restarts in a row did not bring it one epoch further"
    fix = "see the workers' logs in Ray's session (was the memory enough?), run the same command again; what is finished is kept"
    return ClusterError(what, "experts", fix)
