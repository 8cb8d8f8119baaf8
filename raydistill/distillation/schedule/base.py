"""Define a schedule: its state, its decisions, and what a run calls."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

ALL_EPOCHS = 2**31  # a cap above every number of epochs


class Decision(Enum):
    """What the distiller does after an iteration, beside taking the new state.

    STAY
        Nothing.
    ADVANCE
        The window grew: with `lr_per_epoch`, the new epoch takes the rate of the one before. Return
        it with every larger `cap`.
    LENGTHEN
        Students take `ResolvedRecipe.longer_student_steps` from now on.
    FINE_TUNE
        The images' step is multiplied by `state.image_lr_scale` from now on.
    STOP
        The run ends, unless students can become longer.
    """

    STAY = "stay"
    ADVANCE = "advance"
    LENGTHEN = "lengthen"
    FINE_TUNE = "fine-tune"
    STOP = "stop"


class RecentLoss(NamedTuple):
    """The matching loss of a segment that began in a group of start epochs."""

    iteration: int
    group: int
    loss: float


class ScheduleState(NamedTuple):
    """The state of a schedule; plain numbers, stored as JSON.

    Parameters
    ----------
    cap
        The images are trained on start epochs min_start_epoch ... cap - 1.
    iteration, since_advance
        Iterations in total, and since the last advance.
    image_lr_scale
        Factor of the image step.
    fine_tuning
        Iterations since fine-tuning started, -1 before.
    losses
        Next-epoch losses since the last advance.
    group_losses
        Moving average of the matching losses by group of successive start epochs; None where no
        segment began. Empty if the schedule does not need them.
    recent
        The losses of the last iterations, if the schedule tests them.
    lengthened
        Whether students take `ResolvedRecipe.longer_student_steps`.
    """

    cap: int
    iteration: int = 0
    since_advance: int = 0
    image_lr_scale: float = 1.0
    fine_tuning: int = -1
    losses: tuple[float, ...] = ()
    group_losses: tuple[float | None, ...] = ()
    recent: tuple[RecentLoss, ...] = ()
    lengthened: bool = False

    def after_iteration(self) -> ScheduleState:
        """Return the state with one more iteration counted."""
        return self._replace(iteration=self.iteration + 1, since_advance=self.since_advance + 1)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ScheduleState:
        """Return the state of `_asdict()` after its way through JSON, which has no tuples."""
        return cls(**values)._replace(
            losses=tuple(values["losses"]),
            group_losses=tuple(values["group_losses"]),
            recent=tuple(RecentLoss(*entry) for entry in values["recent"]),
        )


class Matched(NamedTuple):
    """The matching loss of a segment; NaN where the expert does not move."""

    start_epoch: float
    loss: float


class ScheduleBase:
    """A schedule: which start epochs the images are trained on, and how they change.

    A schedule of one's own is a frozen dataclass that derives from this class, and overrides what it
    changes. All values that change are in the `ScheduleState`, so a resumed run continues as it was.
    Numbers of one's own fit into its `losses`. `Recipe.start_epochs` says how a start epoch is drawn
    from the window; `probabilities` replaces that. A ValueError of `__post_init__` rejects values.

    Attributes
    ----------
    min_start_epoch
        First start epoch of the window; the last one is `state.cap - 1`.
    """

    min_start_epoch: int = 0

    def init(self) -> ScheduleState:
        """Return the state before the first iteration; `cap` is that of the first window."""
        return ScheduleState(cap=ALL_EPOCHS)

    def step(
        self, state: ScheduleState, next_epoch_loss: float | None, last_epoch: int, matched: Sequence[Matched] = ()
    ) -> tuple[ScheduleState, Decision]:
        """Return the state after one more iteration, and what follows from it.

        Parameters
        ----------
        state
            The state before. `state.after_iteration()` counts the iteration.
        next_epoch_loss
            The matching loss at start epoch `state.cap`, if `needs_next_epoch_loss`.
        last_epoch
            The last start epoch from which the experts have a target.
        matched
            The matching loss of each segment of the iteration.
        """
        return state.after_iteration(), Decision.STAY

    def needs_next_epoch_loss(self, state: ScheduleState, last_epoch: int) -> bool:
        """Return whether `step` needs the loss at start epoch `state.cap`."""
        return False

    def with_longer_students(self, state: ScheduleState) -> ScheduleState | None:
        """Return the state after students became longer; None: the run stops instead."""
        return None

    def probabilities(self, state: ScheduleState, window: range) -> list[float] | None:
        """Return the probability of each start epoch in the window; None: all alike."""
        return None

    def first_epochs(self, window: range) -> tuple[int, int]:
        """Return two start epochs that are typical of the first iterations."""
        return window[0], window[-1]


def check_step(schedule: object, stepped: Any) -> tuple[ScheduleState, Decision]:
    """Return what `schedule.step` returned; TypeError if it is something else."""
    match stepped:
        case (ScheduleState(cap=int(cap)), Decision()) if cap > 0:
            return stepped[0], stepped[1]
    what = "must return a ScheduleState, whose cap is a whole number above 0, and a Decision"
    raise TypeError(f"{type(schedule).__name__}.step {what}; got {stepped!r}")
