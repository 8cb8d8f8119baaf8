"""The result of a trial: its status, its validations, and what it adds to its last report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raydistill.config import Resources
from raydistill.errors import ConfigError, DivergenceError
from raydistill.pipeline.trainer.validation import Validation

METRIC = "balanced_accuracy"
RUNNING, FINISHED, STOPPED = "running", "finished", "stopped early"
DIVERGED, NO_RECIPE, FAILED = "diverged", "no recipe", "failed"
UNSUCCESSFUL = (DIVERGED, NO_RECIPE, FAILED)


def cpus_per_trial(resources: Resources) -> int:
    """Return the CPUs of a trial, which are also its threads."""
    return resources.distill_cpus or 1


def final_result(validation: Validation) -> dict[str, Any]:
    """Return what a finished trial adds to its last report.

    Its last iteration is not called `iteration`: the scheduler would stop the trial or exploit it there, and the
    files it has just written would be lost.
    """
    return {METRIC: validation.balanced_accuracy, "last_iteration": validation.iteration, "ended": FINISHED}


def failed_result(error: DivergenceError | ConfigError) -> dict[str, Any]:
    """Return what a trial adds that diverged or has an invalid recipe; its accuracy is 0 for the sampler."""
    status = DIVERGED if isinstance(error, DivergenceError) else NO_RECIPE
    return {METRIC: 0.0, "ended": status, "said": str(error)}


@dataclass
class Trial:
    """What a trial has reported.

    Parameters
    ----------
    said
        The error of an unsuccessful trial.
    validations
        (iteration, balanced accuracy). For a member of a population those of its current images, even if another
        member distilled them.
    schedule
        For a member of a population: (iteration, the values from there on).
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
