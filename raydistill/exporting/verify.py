"""Evaluate a set again, and compare its balanced accuracy with the published one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raydistill import shipped
from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import check_parent, open_manifest
from raydistill.config.reading import load
from raydistill.errors import ConfigError, NotRepeated
from raydistill.exporting.foreign import opened_set, read_description
from raydistill.exporting.release import changes_of, check_words
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import run
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.card import Card, Figure
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.statistics.intervals import welch_half_width

log = get_logger(__name__)

# The set alone is evaluated: no baseline, no other network.
ONLY = (
    "evaluate.baselines=[]", "evaluate.full_data_networks=0", "evaluate.other_networks=[]", "evaluate.scores=false",
    "evaluate.groups=null",
)  # fmt: skip
OUTPUT = "output=runs/verify"  # not that of other runs, whose trained networks would be taken


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
        here = f"{self.name}: balanced accuracy {self.found}"
        return here if self.published is None else f"{here}, published {self.published}"

    @property
    def repeated(self) -> bool:
        """Return whether the figures agree as two sets of networks do, at 95 %.

        The galaxies are the same, so the interval is that of the networks alone: Welch's t of the
        difference. One processor gives equal networks; others differ in the last bits.
        """
        one, other = self.found, self.published
        if other is None or other.mean is None:
            return True
        if one.mean is None:
            return False
        difference = abs(one.mean - other.mean)
        if one.std is None or other.std is None:
            return difference < 0.5e-3  # a single network: equal as shown
        return difference <= welch_half_width([one.std**2, other.std**2], [one.n, other.n])

    def check(self) -> None:
        """Raise NotRepeated unless the figures agree."""
        if not self.repeated:
            what = f"here it has {self.found}, and {self.published} was published"
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
        Values at dotted keys. Without an output it is `runs/verify`.

    Raises
    ------
    ConfigError
        The set has no card, and no config is given; or the card names a file or code.
    """
    foreign = place.endswith((".yaml", ".yml"))
    if foreign:
        read_description(Path(place))  # its errors need no survey
    distilled = None if foreign else DistilledSet.open(shipped.set_folder(place))
    card = None if distilled is None else distilled.card
    judged_by = card if config is None and not changes_of(overrides) else None
    of_card: list[str] = []
    if config is None:
        config, of_card = _of_card(card, place)
    words = [OUTPUT, *of_card, *ONLY, *overrides]
    plan = Plan(load(config, words))
    if distilled is None:
        run(plan, "curate")
        distilled = opened_set(place, plan)
    plan = Plan(load(config, [*words, f"distilled={distilled.folder.uri}"]))
    report = run(plan, "evaluate")
    check_parent(report.manifest, "distilled", distilled.manifest, report.folder.uri)
    same = card is not None and open_manifest(plan.curated.folder, kinds.CURATED, verify=False).content == card.curated
    if card is not None and (judged_by is None or not same):
        why = (
            "the protocol is not that of the card"
            if judged_by is None
            else "these are other galaxies than those of the card"
        )
        log.warning("verify: %s, so nothing is compared with the card", why)
    name = place.rstrip("/").rpartition("/")[2]
    found = _figure(report, judged_by, plan.config.network.name)
    return Verified(name, found, judged_by.balanced_accuracy if judged_by and same else None)


def _figure(report: EvaluationReport, card: Card | None, network: str) -> Figure:
    """Return the figure by the card's protocol, or the best one on validation images."""
    if card is None:
        return Figure.of(report.chosen(network).get("distilled", report.summary["distilled"]))  # a head has no network
    for pair in report.summary["distilled"]["all"]:
        if (pair["protocol"], pair["network"]) == (card.protocol, card.network):
            return Figure.of(pair)
    what = f"its config has no protocol '{card.protocol}' for the network '{card.network}' (any more)"
    raise ConfigError(what, card.config, "install the release that made the set, or verify it with a config")


def is_at_hand(name: str) -> bool:
    """Return whether a released set's survey is simulated, or is there."""
    try:
        config, words = _of_card(DistilledSet.open(shipped.set_folder(name)).card, name)
        survey = load(config, words).survey
    except ConfigError:  # a variable of the environment is not set
        return False
    return survey.kind == "simulated" or os.path.exists(str(getattr(survey, "catalog", "")))


def _of_card(card: Card | None, place: str) -> tuple[str, list[str]]:
    if card is None:
        fix = "give the config of its survey: verify SET CONFIG"
        raise ConfigError("it has no card that names its config", place, fix)
    check_words(card.config, card.overrides)
    return card.config, card.overrides
