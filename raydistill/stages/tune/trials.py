"""The result of a trial: its status, its validations and its last report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raydistill.config import Resources
from raydistill.errors import ConfigError, DivergenceError
from raydistill.stages.distill.validation import Validation

METRIC = "balanced_accuracy"
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped early"
DIVERGED, NO_RECIPE, FAILED = "diverged", "no recipe", "failed"
UNSUCCESSFUL = (DIVERGED, NO_RECIPE, FAILED)


def cpus_per_trial(resources: Resources) -> int:
    """Return the CPUs of a trial, which are also its threads."""
    return resources.distill_cpus or 1


def final_result(validation: Validation) -> dict[str, Any]:
    """Return the metrics that a finished trial adds to its last report.

    The last iteration is not called `iteration`: there the scheduler would stop the trial or
    exploit it, and its files would be lost.
    """
    return {METRIC: validation.balanced_accuracy, "last_iteration": validation.iteration, "ended": FINISHED}


def failed_result(error: DivergenceError | ConfigError) -> dict[str, Any]:
    """Return metrics and error of a trial that diverged or has an invalid recipe."""
    status = DIVERGED if isinstance(error, DivergenceError) else NO_RECIPE
    return {METRIC: 0.0, "ended": status, "said": str(error)}


@dataclass
class Trial:
    """The reports of a trial.

    Parameters
    ----------
    name
        Tune's id of the trial.
    values
        The drawn values, by key of `distill`.
    folder
        URI of its distilled set; empty if it has none.
    status
        One of the constants of this module.
    said
        The error of an unsuccessful trial.
    validations
        (iteration, balanced accuracy). A member of a population has those of its current images,
        even if another member distilled them.
    schedule
        (iteration, the values from there on), for a member of a population.
    """

    name: str
    values: dict[str, Any]
    folder: str
    status: str = RUNNING
    said: str = ""
    validations: list[tuple[int, float]] = field(default_factory=list)
    schedule: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    @property
    def best(self) -> tuple[float, int]:
        """Balanced accuracy and iteration of the best images; in a tie the first."""
        return max(
            ((value, iteration) for iteration, value in self.validations),
            key=lambda pair: (pair[0], -pair[1]),
            default=(0.0, 0),
        )
