"""Release a distilled set with its card, so that anyone can use it and check its figure.

A released set is a folder that `raydistill.open` opens as a `DistilledSet`: the selected images, the
ids of the galaxies that it has seen, a picture, and `card.json`. It holds no picture of the survey:
the initial images stay behind. Sets that come with raydistill lie in `raydistill/sets`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from raydistill.artifacts.manifest import Parent, commit
from raydistill.artifacts.records import read_json
from raydistill.artifacts.tensors import WHITENING
from raydistill.config.reading import load
from raydistill.errors import ArtifactError, ArtifactIncompatible
from raydistill.exporting.provenance import provenance_of
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import SEEN, SELECTED, DistilledSet
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.storage import Folder

CARD = "card.json"
_FILES = (SELECTED, WHITENING, SEEN, "grid.png", "summary.json")


@dataclass(frozen=True)
class Figure:
    """A balanced accuracy: its mean over `n` networks, and half of its 95 % interval.

    The interval is for other networks and other galaxies.
    """

    mean: float
    ci95: float
    n: int


@dataclass(frozen=True)
class Card:
    """What is said of a released set, and the command that checks it.

    Attributes
    ----------
    config, overrides
        The shipped config that made it, and the values that were changed.
    protocol, network
        Of the networks that were trained on it.
    balanced_accuracy
        Theirs, on test galaxies.
    baselines
        That of other sets of its size, by name.
    galaxies
        Number of the test galaxies.
    curated
        Content digest of the curated set.
    survey, licence, citation
        Of the galaxies.
    """

    config: str
    overrides: list[str]
    protocol: str
    network: str
    balanced_accuracy: Figure
    baselines: dict[str, Figure]
    galaxies: int
    curated: str
    survey: str
    licence: str
    citation: str


def release(config: str, overrides: list[str], to: Folder) -> Card:
    """Write a config's finished distilled set, and the card of its evaluation, into a new folder.

    Raises
    ------
    ArtifactError
        The folder holds files, or the set or its evaluation does not exist.
    ArtifactIncompatible
        The set was made for encoders at paths of this machine.
    """
    if to.files():
        raise ArtifactError("the folder for the set is not empty", to.uri, "give a new folder")
    plan = Plan(load(config, overrides))
    distilled, report = DistilledSet.open(plan.distilled.folder), EvaluationReport.open(plan.evaluation.folder)
    if plan.config.distill.encoders:
        what = "it was made for encoders at paths of this machine, so nobody else can check it"
        raise ArtifactIncompatible(what, distilled.folder.uri, "release a set made for networks from scratch")
    curated = CuratedSet.open(plan.curated.folder, verify=False)
    protocol, _ = plan.config.evaluate.first_protocol
    figures = {name: _figure(entry) for name, entry in report.summary.items() if name != "distilled_last"}
    origin = provenance_of(distilled)
    card = Card(
        config=config,
        overrides=[word for word in overrides if not word.startswith(("output=", "tracking.", "resources."))],
        protocol=protocol,
        network=plan.config.network.name,
        balanced_accuracy=figures.pop("distilled"),
        baselines=figures,
        galaxies=sum(report.runs["confusion"][0].as_py()),
        curated=curated.manifest.content,
        survey=origin.survey,
        licence=origin.licence,
        citation=origin.citation,
    )
    for name in _FILES:
        if name in distilled.manifest.files:
            to.write(name, distilled.folder.read(name))
    to.write(CARD, json.dumps(asdict(card), indent=1).encode())
    made = distilled.manifest
    parents = {role: Parent(parent.identity, parent.content, "") for role, parent in made.parents.items()}
    commit(
        to, kind=made.kind, identity=made.identity, config=made.config, parents=parents, seed=made.seed,
        uris=dict.fromkeys(parents, ""),
    )  # fmt: skip
    return card


def card_of(distilled: DistilledSet) -> Card | None:
    """Return the card of a released set; None for any other set."""
    return read_json(distilled.folder, CARD, Card) if CARD in distilled.manifest.files else None


def _figure(entry: dict[str, Any]) -> Figure:
    of = entry["balanced_accuracy"]
    return Figure(round(of["mean"], 4), round(of["ci95"] or 0.0, 4), of["n"])
