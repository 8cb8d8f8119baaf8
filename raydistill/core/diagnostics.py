"""What a run's losses, rates and accuracies say about its hyper-parameters, in words.

The matching loss is |theta_N - theta*|^2 / |theta_0 - theta*|^2: 1 is a student that ends as far from its target as it began. Above 1 it
walks away, most often because its steps are too long. A learning rate that falls all the time says the same of the images' direction:
the shorter the steps, the better. NaN, and a rate beyond all bounds, are left to `core.divergence` and end the run.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import mean, median

from raydistill.core.distiller import Record
from raydistill.core.recipe import Recipe
from raydistill.core.training import Training

WINDOW = 50  # iterations of which the median is judged
PATIENCE = 100  # iterations before the first judgement: images that begin as noise need some to be worth anything
FALLEN = 5.0  # times smaller than it began
STILL_LEARNING = 0.03  # of balanced accuracy, in the last quarter of an expert's epochs


def check_undertrained(accuracies_by_expert: Sequence[Sequence[float]], training: Training) -> str | None:
    """What the experts' balanced accuracies on validation images after every epoch (the initial network first) say about their training:
    a sentence where they were far from done, for they are the ceiling of what is distilled. A decay of the rate lifts accuracies by
    itself, so what comes before it is judged."""
    end = max(1, min(training.epochs, math.floor(training.lr_decay_at * training.epochs)))
    since = end - max(1, end // 4)
    rise = mean(accuracies[end] - accuracies[since] for accuracies in accuracies_by_expert)
    if rise < STILL_LEARNING:
        return None
    return (
        f"the experts were still learning (balanced accuracy on validation images rose by {rise:.3f} from epoch {since} to {end}), and a "
        f"distilled set hardly teaches more than they know: raise experts.training.lr (now {training.lr:g}) or experts.training.epochs "
        f"(now {training.epochs})"
    )


class MatchingDiagnostics:
    """Reads the records of one run; each sentence is said once."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._last: deque[list[Record]] = deque(maxlen=WINDOW)  # the pieces of each iteration
        self._said: set[str] = set()
        self._first_lr: float | None = None

    def read(self, pieces: list[Record]) -> str | None:
        """What is to be said after one more iteration."""
        self._last.append(pieces)
        if self._first_lr is None:
            self._first_lr = pieces[-1].student_lr
        for name, sentence in self._sentences(pieces[-1]).items():
            if name not in self._said:
                self._said.add(name)
                return sentence
        return None

    def _sentences(self, record: Record) -> dict[str, str]:
        found: dict[str, str] = {}
        if record.iteration < PATIENCE or len(self._last) < WINDOW:
            return found
        where = f"iteration {record.iteration}"
        pieces = [piece for iteration in self._last for piece in iteration]
        losses = [piece.loss for piece in pieces if not math.isnan(piece.loss)]
        still = sum(piece.student_steps == 0 for piece in pieces) / len(pieces)
        skipped = sum(piece.skipped for piece in pieces) / len(pieces) - still
        if losses and (loss := median(losses)) > 1:
            found["loss"] = (
                f"{where}: the matching loss stays above 1 (median {loss:.2f}): the student ends farther from its target than it began; "
                f"lower distill.student_lr (now {record.student_lr:.3g}) or distill.student_steps (now {self._recipe.student_steps})"
            )
        if skipped > 0.5:
            found["skipped"] = (
                f"{where}: in the last {WINDOW} iterations {skipped:.0%} of the pieces were skipped, their loss being above "
                f"distill.skip_above = {self._recipe.skip_above:g}: little is learned; lower distill.student_lr "
                f"(now {record.student_lr:.3g}) or raise it"
            )
        if still > 0.5:
            found["still"] = (
                f"{where}: in the last {WINDOW} iterations {still:.0%} of the pieces had nothing to match, for the experts stood still "
                "from start to target: little is learned; match earlier epochs (distill.schedule) or larger pieces (distill.expert_epochs)"
            )
        assert self._first_lr is not None
        if record.student_lr * FALLEN < self._first_lr:
            found["rate"] = (
                f"{where}: the student's learning rate fell from {self._first_lr:.3g} to {record.student_lr:.3g}: its steps do not lead "
                f"where the experts went; begin with distill.student_lr={record.student_lr:.2g}, or, if it falls from there too, train "
                "smoother experts (a lower experts.training.lr)"
            )
        return found
