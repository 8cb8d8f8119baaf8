r"""Draw start epochs by their matching losses, and stop when these no longer fall.

The schedule has no window. The T epochs form G groups of successive epochs. m_g is the moving
average of the matching losses of segments that began in group g. Group g, with T_g epochs, is drawn
with the probability

    p_g = (1 - explore) w_g / sum_h w_h + explore T_g / T,    w_g = T_g (m_g max(1 - m_g, 0))^power

and all epochs of it alike. A group without a segment has the largest w_g / T_g of the others, and
so is soon drawn. While every w_g is 0, all epochs are drawn alike.

A loss of 1 means that the student ends as far from its target as it began, so 1 - m_g is the part
of the way that the images teach, and m_g the part that is left. An epoch is drawn often if both are
large. Late epochs, in which experts move in directions of their own, are left out without being
named, and come back if their losses fall. So are early ones that the images match already.

The run stops when there is no evidence that losses still fall. The losses l_i of the last
`patience` iterations i are fitted by a common slope b in time and a level a_g for each group,

    l_i = a_g(i) + b i + noise,    t = b / s_b

with s_b the standard error of b. It stops if t > -significance. Segments of one group are sparse in
time and nearly independent, so t has about Student's distribution where losses do not change. The
levels take care of draws that move from one group to another.

If N is automatic, students become longer before the run stops. The test then begins anew, and the
run stops when the losses of the longer students do not fall.

All losses are those of the iterations themselves, so the schedule costs no evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raydistill.distillation.schedule.base import Decision, Matched, RecentLoss, ScheduleBase, ScheduleState
from raydistill.learning.checks import at_least, at_least_0_below_1, positive, strictly_between_0_and_1

LARGEST_LOSS = 2.0  # larger ones say as little, and would take long to forget
TEST_EVERY = 10  # iterations between two tests


@dataclass(frozen=True)
class LossWeighted(ScheduleBase):
    """Draw start epochs by their own losses; the window is all epochs.

    The module states the equations.

    Parameters
    ----------
    decay
        Of the moving averages, in [0, 1).
    explore
        Share of segments that begin at any epoch alike, above 0 and below 1.
    power
        Above 0. Smaller ones draw the epochs that can be learned at all more alike.
    max_groups
        G is this or T, whichever is smaller. With fewer groups, fewer iterations give each a loss.
    patience
        Stop, or lengthen the students, if losses did not fall significantly in so many iterations.
        None: never.
    significance
        The run continues while the slope is at least so many standard errors below 0.
    """

    kind: Literal["loss-weighted"] = "loss-weighted"
    decay: float = 0.7
    explore: float = 0.03
    power: float = 0.5
    max_groups: int = 24
    patience: int | None = 200
    significance: float = 2.0

    def __post_init__(self) -> None:
        at_least_0_below_1(decay=self.decay)
        strictly_between_0_and_1(explore=self.explore)
        at_least(1, max_groups=self.max_groups)
        at_least(TEST_EVERY, patience=self.patience)
        positive(self, "power", "significance")

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int, matched: Sequence[Matched] = ()
    ) -> tuple[ScheduleState, Decision]:
        """Return the state after one more iteration, with the losses of its segments."""
        epochs = last_epoch + 1
        averages = list(state.group_losses) or [None] * min(self.max_groups, epochs)
        state, recent = state.after_iteration(), list(state.recent)
        for segment in matched:
            group = int(segment.start_epoch) * len(averages) // epochs
            loss = 1.0 if math.isnan(segment.loss) else min(segment.loss, LARGEST_LOSS)
            before = averages[group]
            averages[group] = loss if before is None else self.decay * before + (1 - self.decay) * loss
            recent.append(RecentLoss(state.iteration, group, loss))
        since = state.iteration - (self.patience or 0)
        recent = [loss for loss in recent if loss.iteration > since]
        state = state._replace(group_losses=tuple(averages), recent=tuple(recent))
        return state, Decision.STOP if self._has_converged(state) else Decision.STAY

    def _has_converged(self, state: ScheduleState) -> bool:
        if self.patience is None or state.iteration % TEST_EVERY or not state.recent:
            return False
        since = state.iteration - state.recent[0].iteration + 1
        return since >= self.patience and trend(state.recent) > -self.significance

    def with_longer_students(self, state: ScheduleState) -> ScheduleState | None:
        """Return the state after students became longer, which they do once; None: stop."""
        return None if state.lengthened else state._replace(lengthened=True, recent=())

    def probabilities(self, state: ScheduleState, window: range) -> list[float] | None:
        """Return the probability of each start epoch in the window; None: all alike."""
        known = {g: (m * max(1 - m, 0.0)) ** self.power for g, m in enumerate(state.group_losses) if m is not None}
        if not known:
            return None
        of_group = [known.get(group, max(known.values())) for group in range(len(state.group_losses))]
        weights = [of_group[epoch * len(of_group) // len(window)] for epoch in range(len(window))]
        total = math.fsum(weights)
        if total == 0:
            return None
        return [(1 - self.explore) * weight / total + self.explore / len(weights) for weight in weights]

    def first_epochs(self, window: range) -> tuple[int, int]:
        """Return the first and the middle epoch: experts hardly move in the last ones."""
        return window[0], window[len(window) // 2]


def trend(losses: Sequence[RecentLoss]) -> float:
    """Return t = b / s_b of the common slope; the module states the fit.

    It is -inf if there are too few losses for a standard error, or if they fall without noise; inf
    if they rise without noise; 0 if they do not change.
    """
    if len(losses) < 3:
        return -math.inf
    iteration_N, group_N, loss_N = (np.array(values) for values in zip(*losses, strict=True))
    size_G = np.bincount(group_N)
    time_N, loss_N = (
        values_N - (np.bincount(group_N, values_N) / np.maximum(size_G, 1))[group_N]
        for values_N in (iteration_N, loss_N)
    )
    freedom = len(losses) - np.count_nonzero(size_G) - 1
    if freedom < 1 or not time_N.any():
        return -math.inf
    slope = float(time_N @ loss_N / (time_N @ time_N))
    residual_N = loss_N - slope * time_N
    error = math.sqrt(float(residual_N @ residual_N / freedom / (time_N @ time_N)))
    return slope / error if error else math.copysign(math.inf, slope) if slope else 0.0
