"""Choose when an expert's parameters are stored: every epoch, or more often.

A student follows an expert from one snapshot to a later one, by default in at most 50 steps. An
epoch of a large survey has thousands of steps, which no student can follow. So an epoch with more
than `EXPERT_STEPS` steps is divided into equal parts, and a snapshot is stored after each.

Many epochs of many parts would fill the disk. If there are more snapshots than a limit, the first
half of the limit is stored densely. The rest is stored at growing distances: the early parts of a
trajectory are those that few images can match.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

# From start to target with `expert_epochs: auto`; the recipes that were tuned by hand have 56 to 96.
EXPERT_STEPS = 75


@dataclass(frozen=True)
class Snapshots:
    """The stored snapshots of an expert.

    Attributes
    ----------
    parts
        Equal parts of an epoch.
    stored
        Numbers of the parts after which the parameters are stored, ascending; 0 is the initial
        network, and the last is the end of the training.
    steps_per_epoch
        SGD steps of an epoch.
    """

    parts: int
    stored: tuple[int, ...]
    steps_per_epoch: int

    @property
    def steps(self) -> list[int]:
        """Return the SGD steps before each stored snapshot."""
        return [
            part // self.parts * self.steps_per_epoch + part % self.parts * self.steps_per_epoch // self.parts
            for part in self.stored
        ]

    @property
    def num_epochs(self) -> int:
        """Return the number of snapshots after the initial network, counted as epochs."""
        return len(self.stored) - 1

    @property
    def steps_between(self) -> int:
        """Return the SGD steps between the first two snapshots."""
        return self.steps[1]


def plan_snapshots(
    epochs: int, steps_per_epoch: int, snapshot_steps: int | Literal["auto"] | None, limit: int
) -> Snapshots:
    """Return the snapshots of a training.

    Parameters
    ----------
    epochs, steps_per_epoch
        Of the training.
    snapshot_steps
        The largest number of steps between two snapshots. "auto": `EXPERT_STEPS`. None: an epoch.
    limit
        The largest number of snapshots after the initial network, at least 2, where epochs are
        divided. Otherwise every epoch is stored.
    """
    most = EXPERT_STEPS if snapshot_steps == "auto" else snapshot_steps or steps_per_epoch
    parts = math.ceil(steps_per_epoch / most)
    total = epochs * parts
    if parts == 1 or total <= limit:
        return Snapshots(parts, tuple(range(total + 1)), steps_per_epoch)
    dense = limit // 2
    later = np.geomspace(dense, total, limit - dense + 1).round().astype(int).tolist()
    return Snapshots(parts, tuple(sorted({*range(dense + 1), *later})), steps_per_epoch)
