"""Apply a trained filter: reject the rows whose pictures show a defect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydistill.galaxies.pictures.images import prepare
from raydistill.simulation.defects import REASONS, Reason
from raydistill.stages.curate.picture_filter import VIEW, Limit, Tensors, probabilities

FOLDS = 2  # each picture is scored by the network that was trained on pictures of the other fold
FILTER_VIEW = "view"  # of a row: the picture that the filter sees


def filter_view(original: np.ndarray, crop_fraction: float) -> np.ndarray:
    """Return the curated part of a picture as the filter sees it, uint8 `[V, V, 3]`.

    It is not aligned.
    """
    return prepare(original, crop_fraction, VIEW)


@dataclass(frozen=True)
class TrainedFold:
    """The network for the pictures of one fold, and its limits by reason."""

    parameters: Tensors
    limits: dict[Reason, Limit]


@dataclass(frozen=True)
class TrainedFilter:
    """Networks and limits of all folds; rank r belongs to fold r modulo `FOLDS`."""

    folds: tuple[TrainedFold, ...]
    reasons: tuple[Reason, ...]

    def reject(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of a block, with the reason in place of a defective picture."""
        found: dict[int, tuple[Reason, str]] = {}
        for number, fold in enumerate(self.folds):
            own = [row for row in rows if FILTER_VIEW in row and row["rank"] % FOLDS == number]
            views = np.stack([row[FILTER_VIEW] for row in own]) if own else np.empty((0, VIEW, VIEW, 3), np.uint8)
            for row, outcomes in zip(own, probabilities(fold.parameters, views, len(REASONS)), strict=True):
                for reason, probability, limit in self._exceeding(fold, outcomes):
                    found[id(row)] = reason, f"probability {probability:.3f}, limit {limit:.3f}"
        return [_rejected(row, *found[id(row)]) if id(row) in found else row for row in rows]

    def _exceeding(self, fold: TrainedFold, outcomes: np.ndarray) -> Iterator[tuple[Reason, float, float]]:
        """Yield the reason whose limit is exceeded, at most one.

        Limits are at least one half, so no two are exceeded.
        """
        for reason in self.reasons:
            probability, limit = float(outcomes[1 + REASONS.index(reason)]), fold.limits[reason].probability
            if probability > limit:
                yield reason, probability, limit


def _rejected(row: dict[str, Any], reason: Reason, detail: str) -> dict[str, Any]:
    return {"rank": row["rank"], "path": row["path"], "reason": reason, "detail": detail}
