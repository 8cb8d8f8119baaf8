"""Define what the driver and the workers of the generate stage exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raydistill.config import Generate
from raydistill.errors import RaydistillError
from raydistill.stages.generate.feed import Pictures


@dataclass(frozen=True)
class GenerateTask:
    """The arguments of a worker; they are pickled."""

    folder: str
    curated: str
    pictures: Pictures
    validation: Pictures
    generate: Generate
    survey: str
    seed: int
    threads: int
    gpus: float
    checkpoint_seconds: float


@dataclass(frozen=True)
class Update:
    """A message of worker 0 to the driver, or the error of any worker.

    Parameters
    ----------
    step
        Steps of the training so far.
    history, validation
        New rows of the tables of the same names.
    pictures
        New previews.
    saved
        Whether a checkpoint of this step exists.
    error
        The error that ends the training.
    """

    step: int
    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    saved: bool = False
    error: RaydistillError | None = None
