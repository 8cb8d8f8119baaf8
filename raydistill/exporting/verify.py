"""Evaluate a set again, and compare its balanced accuracy with the published one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from raydistill import shipped
from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import open_manifest
from raydistill.config.reading import load
from raydistill.errors import ConfigError, NotRepeated
from raydistill.exporting.foreign import opened_set
from raydistill.exporting.release import Figure, card_of
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import run
from raydistill.stages.distill.artifact import DistilledSet

log = get_logger(__name__)

# The set alone is evaluated: no baseline, no other network.
ONLY = (
    "evaluate.baselines=[]", "evaluate.full_data_networks=0", "evaluate.other_networks=[]", "evaluate.scores=false",
    "evaluate.groups=null",
)  # fmt: skip


@dataclass(frozen=True)
class Verified:
    """What an evaluation says of a set.

    Attributes
    ----------
    name
        Of the set.
    found
        Its balanced accuracy here.
    published
        That of its card; None without a card, or on other galaxies than the card's.
    """

    name: str
    found: Figure
    published: Figure | None

    def __str__(self) -> str:
        here = f"{self.name}: balanced accuracy {_shown(self.found)}"
        return here if self.published is None else f"{here}, published {_shown(self.published)}"

    def check(self) -> None:
        """Raise NotRepeated if the figures differ by more than their intervals allow.

        Both intervals are for other networks and galaxies, so the difference of independent figures
        has the root of the sum of their squares.
        """
        if self.published is None:
            return
        difference = abs(self.found.mean - self.published.mean)
        allowed = math.hypot(self.found.ci95, self.published.ci95)
        if not difference <= allowed:
            what = f"here it has {_shown(self.found)}, and {_shown(self.published)} was published"
            raise NotRepeated(what, self.name, "compare the versions in manifest.json, and the survey's files")


def verify(place: str, config: str | None = None, overrides: Sequence[str] = ()) -> Verified:
    """Evaluate a set by the protocol of its card, or of a config.

    Parameters
    ----------
    place
        Name of a set that comes with raydistill, folder of a distilled set, or a YAML file that
        describes the tensors of another project (`exporting.foreign`).
    config
        Config of the survey and the protocol. None: those of the card.
    overrides
        Values at dotted keys.

    Raises
    ------
    ConfigError
        The set has no card, and no config is given.
    """
    found = shipped.find_set(place)
    name = place if found is not None else place.rstrip("/").rpartition("/")[2]
    foreign = place.endswith((".yaml", ".yml"))
    distilled = None if foreign else DistilledSet.open(str(found or place))
    card = None if distilled is None else card_of(distilled)
    if config is None:
        if card is None:
            fix = "give the config of its survey: verify SET CONFIG"
            raise ConfigError("it has no card that names its config", place, fix)
        config, overrides = card.config, [*card.overrides, *overrides]
    plan = Plan(load(config, [*overrides, *ONLY]))
    if distilled is None:
        run(plan, "curate")
        distilled = opened_set(place, plan)
    plan = Plan(load(config, [*overrides, *ONLY, f"distilled={distilled.folder.uri}"]))
    report = run(plan, "evaluate")
    of = report.summary["distilled"]["balanced_accuracy"]
    figure = Figure(of["mean"], of["ci95"] or 0.0, of["n"])
    curated = open_manifest(plan.curated.folder, kinds.CURATED, verify=False)
    same = card is not None and curated.content == card.curated
    if card is not None and not same:
        log.warning("verify: these are other galaxies than those of the card, so nothing is compared")
    return Verified(name, figure, card.balanced_accuracy if card is not None and same else None)


def _shown(figure: Figure) -> str:
    return f"{figure.mean:.3f} ± {figure.ci95:.3f} ({figure.n} networks)"
