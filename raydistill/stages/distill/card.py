"""Describe a released set: how it was made, and how good it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raydistill.artifacts.records import Record

CARD = "card.json"


@dataclass(frozen=True)
class Figure:
    """A balanced accuracy.

    Attributes
    ----------
    mean, std
        Mean and standard deviation over `n` networks; None if all diverged, or for one network.
    ci95
        Half of the 95 % interval for other networks and other galaxies; None for one network.
    diverged
        Networks among them whose training diverged. They are counted with their initial parameters.
    """

    mean: float | None
    std: float | None
    ci95: float | None
    n: int
    diverged: int = 0

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Figure:
        """Return the figure of an entry of `evaluation.json`."""
        of, diverged = entry["balanced_accuracy"], entry.get("diverged", 0)
        if diverged == of["n"]:
            return cls(None, None, None, of["n"], diverged)
        return cls(of["mean"], of["std"], of["ci95"], of["n"], diverged)

    def __str__(self) -> str:
        if self.mean is None:
            return f"none ({self.n} networks diverged)"
        interval = "" if self.ci95 is None else f" ± {self.ci95:.3f}"
        some = f", {self.diverged} of them diverged" if self.diverged else ""
        return f"{self.mean:.3f}{interval} ({self.n} networks{some})"


@dataclass(frozen=True)
class Card(Record):
    """The contents of `card.json`.

    Attributes
    ----------
    config, overrides
        The shipped config that made the set, and the values that were changed.
    protocol, network
        Of the networks that were trained on it. Of several protocols it is the best one on validation
        galaxies.
    balanced_accuracy
        Theirs, on test galaxies.
    others
        That of the baselines, the experts and networks trained on all galaxies, by name. The protocol is
        chosen for each.
    cpu_seconds
        Processor time that made the training sets, by name [s].
    galaxies
        Number of the test galaxies.
    curated
        Content digest of the curated set.
    survey, simulated, licence, citation
        Of the galaxies.
    """

    config: str
    overrides: list[str]
    protocol: str
    network: str
    balanced_accuracy: Figure
    others: dict[str, Figure]
    cpu_seconds: dict[str, float]
    galaxies: int
    curated: str
    survey: str
    simulated: bool
    licence: str
    citation: str
