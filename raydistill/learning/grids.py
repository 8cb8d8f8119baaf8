"""Widen a grid of candidates whose best one is at its end."""

from __future__ import annotations

from collections.abc import Collection

MAX_ROUNDS = 4  # of trials: first the grid, then one more value in each round


def value_beyond(tried: Collection[float], best: float) -> float | None:
    """Return a value beyond the best one, if this is at the end of those tried.

    The step is that of the last two values: beyond 2 and 4 comes 8. A single value has none.
    """
    values = sorted(tried)
    if len(values) > 1:
        for end, inner in ((values[0], values[1]), (values[-1], values[-2])):
            if best == end:
                return float(f"{end * end / inner:.2g}")
    return None
