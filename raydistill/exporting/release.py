"""Release a distilled set with a card, so that anyone can check its figure.

A released set is a folder that `raydistill.open` opens as a `DistilledSet`: the selected images, the
ids of the galaxies that it has seen, a picture, and `card.json`. It holds no picture of the survey:
the initial images stay behind. Sets that come with raydistill lie in `raydistill/sets`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from raydistill import shipped
from raydistill.artifacts.manifest import check_parent, commit
from raydistill.artifacts.tensors import WHITENING
from raydistill.config.reading import load
from raydistill.errors import ArtifactError, ArtifactIncompatible, ConfigError
from raydistill.exporting.provenance import provenance_of
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import SEEN, SELECTED, DistilledSet
from raydistill.stages.distill.card import CARD, Card, Figure
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.storage import Folder

_FILES = (SELECTED, WHITENING, SEEN, "grid.png", "summary.json")
_GALAXIES = ("real", "correct", "herding")  # initial images that are pictures of the survey
_FROM_GALAXIES = ("dm", "tgdd")  # they are stored after the pictures have changed
_ALIKE = 0.9  # correlation of an image with the picture that it began as
_SECTIONS = ("seed", "survey", "curate", "network", "experts", "distill", "evaluate")  # what a card may change
_OTHERS = re.compile(r"[/\\~]|\$\{|custom|torchscript|timm|onnx|\.(?!\d)")  # a path, a file's suffix, code
_NAME = re.compile(r"survey[.=](?!kind=).*=.*[a-zA-Z]|survey=|\b(labels|table)\s*[:=]")  # the value names a file
_LOCAL = ("output=", "tracking.", "tracking=", "resources.", "resources=")  # overrides that change no figure


def release(config: str, overrides: list[str], to: Folder) -> Card:
    """Write a finished distilled set and its card into a new folder.

    Raises
    ------
    ArtifactError
        The folder holds files, or the set or its evaluation does not exist.
    ArtifactIncompatible
        The set was made for heads on features, which a card cannot describe; or its images still are
        pictures of a survey that is not simulated.
    ConfigError
        The config is none that comes with raydistill, or an override is a path, so nobody else could
        check the set.
    """
    changes = changes_of(overrides)
    check_words(config, changes)
    if to.files():
        raise ArtifactError("the folder for the set is not empty", to.uri, "give a new folder")
    plan = Plan(load(config, overrides))
    distilled, report = DistilledSet.open(plan.evaluated_set.folder), EvaluationReport.open(plan.evaluation.folder)
    check_parent(report.manifest, "distilled", distilled.manifest, report.folder.uri)
    if plan.config.distill.objective.kind == "ridge":
        what, fix = "it was made for heads on features", "release a set made for networks from scratch"
        raise ArtifactIncompatible(what, distilled.folder.uri, fix)
    origin, network = provenance_of(distilled), plan.config.network.name
    if not origin.simulated:
        check_pictures(distilled, CuratedSet.open(plan.curated.folder))
    chosen = report.chosen(network)  # experts may have another network
    figures = {
        name: Figure.of(chosen.get(name, entry)) for name, entry in report.summary.items() if name != "distilled_last"
    }
    card = Card(
        config=config,
        overrides=changes,
        protocol=chosen["distilled"]["protocol"],
        network=network,
        balanced_accuracy=figures.pop("distilled"),
        others=figures,
        cpu_seconds=report.cpu_seconds,
        galaxies=sum(report.runs["confusion"][0].as_py()),
        curated=CuratedSet.open(plan.curated.folder, verify=False).manifest.content,
        survey=origin.survey,
        simulated=origin.simulated,
        licence=origin.licence,
        citation=origin.citation,
    )
    for name in _FILES:
        if name in distilled.manifest.files:
            to.write(name, distilled.folder.read(name))
    to.write(CARD, card.to_json())
    made = distilled.manifest
    identity = hashlib.sha256(f"{made.identity} {made.files[SELECTED].sha256}".encode()).hexdigest()
    commit(
        to, kind=made.kind, identity=identity, config=made.config, parents=made.parents, seed=made.seed,
        uris=dict.fromkeys(made.parents, ""),
    )  # fmt: skip
    return card


def changes_of(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that may change a figure."""
    return [word for word in overrides if not word.startswith(_LOCAL)]


def check_pictures(distilled: DistilledSet, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible if an image is like the galaxy that it began as.

    A class mean is one galaxy if the class has fewer than two for each image; that of a cluster if the
    class has no other.
    """
    init, fix = distilled.manifest.config["distill"]["init"], "distil with distill.init=mean, clusters or noise"
    if init in _FROM_GALAXIES:
        what = f"distill.init={init} begins with pictures of the survey, and does not keep them"
        raise ArtifactIncompatible(what, distilled.folder.uri, fix)
    of_one_K = [
        init in _GALAXIES or (init == "mean" and one.train < 2 * count) or (init == "clusters" and one.train < 2)
        for one, count in zip(curated.summary.classes, distilled.counts, strict=True)
    ]
    of_one_S = np.repeat(of_one_K, distilled.counts)
    began, ended = (images.pixels().flatten(1).numpy() for images in (distilled.initial, distilled.selected))
    pairs = zip(began, ended, of_one_S.repeat(len(began) // len(of_one_S)), strict=True)
    alike = [float(np.corrcoef(one, other)[0, 1]) for one, other, of_one in pairs if of_one]
    count = sum(correlation > _ALIKE for correlation in alike)
    if count:
        what = (
            f"{count} of its {len(began)} images still are pictures of the survey: their correlation with the galaxy that "
            f"they began as is up to {max(alike):.3f}"
        )
        raise ArtifactIncompatible(what, distilled.folder.uri, fix)


def check_words(config: str, overrides: list[str]) -> None:
    """Raise ConfigError unless a shipped config and these values suffice.

    A card may come from anybody, so it names no file, and no code of another package.
    """
    if shipped.find(config) is None or "/" in config.removeprefix("methods/"):
        what, fix = f"'{config}' is no config that comes with raydistill", "`raydistill configs` lists them"
        raise ConfigError(what, "the config of a released set", fix)
    for word in overrides:
        key, _, value = word.partition("=")
        names = [name.strip() for name in value.strip("[]").split(",")]
        part = key == "extends" and all(re.fullmatch(r"(parts|methods)/\w+", name) for name in names)
        if not part and (key.partition(".")[0] not in _SECTIONS or _OTHERS.search(value) or _NAME.search(word)):
            what, fix = f"'{word}' names a file or code", "release a set that needs none, or verify it with a config"
            raise ConfigError(what, "the overrides of a released set", fix)
