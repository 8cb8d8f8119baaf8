"""The board of the experts stage. An actor of its own: it imports next to nothing, so that it is there at once."""

from __future__ import annotations

from collections import deque
from typing import Any

from raydistill.errors import RaydistillError

ATTEMPTS = 2  # per expert: enough for bad luck, and a poisoned one does not hold up the rest


class Board:
    """Who has which expert. Claims of a worker that comes back, or of one beyond the group's size, were lost with it."""

    def __init__(self, missing: list[int]) -> None:
        self._open = deque(missing)
        self._claims: dict[int, int] = {}  # expert -> rank
        self._attempts: dict[int, int] = {}
        self._failures: dict[int, RaydistillError] = {}
        self._epochs: dict[int, int] = {}
        self._figures: dict[str, float] = {}
        self._finals: list[tuple[int, dict[str, float]]] = []
        self._finished = 0
        self._groups = 0

    def join(self, rank: int, world_size: int) -> None:
        """A worker begins, perhaps in place of one that was lost."""
        self._groups += rank == 0
        lost = [expert for expert, holder in self._claims.items() if holder == rank or holder >= world_size]
        for expert in lost:
            del self._claims[expert]
            self._open.appendleft(expert)

    def claim(self, rank: int) -> int | None:
        """The next expert to train; None when there is none left."""
        if not self._open:
            return None
        expert = self._open.popleft()
        self._claims[expert] = rank
        return expert

    def epoch(self, expert: int, epoch: int, figures: dict[str, float]) -> None:
        self._epochs[expert], self._figures = epoch, figures

    def finished(self, expert: int, figures: dict[str, float]) -> None:
        self._claims.pop(expert, None)
        self._finished += 1
        self._finals.append((expert, figures))

    def failed(self, expert: int, why: RaydistillError) -> None:
        """Back to the end of the queue, or given up."""
        self._claims.pop(expert, None)
        self._attempts[expert] = self._attempts.get(expert, 0) + 1
        if self._attempts[expert] < ATTEMPTS:
            self._open.append(expert)
        else:
            self._failures[expert] = why

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
