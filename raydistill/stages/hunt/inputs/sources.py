"""Synthetic sources of a hunt, and attributes learned from volunteers' votes."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from raydistill.artifacts.tables import decode_images
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, ConfigError
from raydistill.galaxies.answers import reached
from raydistill.galaxies.catalog import votes_array
from raydistill.galaxies.tree import DecisionTree
from raydistill.learning.encoders import to_float16
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate import artifact as curated_sets
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.generate import artifact as generator
from raydistill.stages.hunt.learn.learning import Pixels
from raydistill.stages.hunt.learn.regression import (
    Bools,
    Features,
    Floats,
    Regression,
    fit_fractions,
)
from raydistill.stages.hunt.specs import NEGATIVE, POSITIVE, synthetic_specs
from raydistill.stages.pretrain.describers import Describer, TableDescriber, open_describer
from raydistill.stages.sample.artifact import SyntheticSet
from raydistill.statistics.standardise import Standardiser

# Open a hunt's synthetic sources, and describe them by the experts' features.

PICTURES_AT_ONCE = 512


class Source(NamedTuple):
    """The synthetic examples of one source.

    Attributes
    ----------
    name
        Name of the source.
    features_LF
        float16 [L, F], as those of `predict`.
    pixels_LHWC
        uint8 [L, H, W, 3].
    positive_L
        Whether each shows the target class.
    seen
        Ids of the real galaxies that were used for both sets: those of which the pictures were
        made, those to which an injection was fitted, and those on which a generator was trained.
    """

    name: str
    features_LF: Features
    pixels_LHWC: Pixels
    positive_L: Bools
    seen: frozenset[str]


def open_sources(plan: Plan, curated: CuratedSet, held_out: Collection[str] = ()) -> list[Source]:
    """Return the sources of the config.

    Parameters
    ----------
    plan
        Its config names the sources.
    curated
        The curated set of the experts, whose pictures the synthetic ones must resemble.
    held_out
        Real galaxies that no example may be made of; such examples are left out.

    Raises
    ------
    ArtifactMissing
        A set does not exist.
    ArtifactIncompatible
        Its pictures have another size, crop or alignment, or no picture is left.
    """
    specs, sources = synthetic_specs(plan), []
    describer = open_describer(plan, curated)
    for name in sorted(plan.config.hunt.synthetic):
        parts = []
        for role in (POSITIVE, NEGATIVE):
            spec = specs[f"{name}_{role}"]
            if not spec.exists:
                fix = "run 'raydistill run CONFIG --to hunt'"
                raise ArtifactMissing(f"the {role} examples of the source '{name}' do not exist", spec.folder.uri, fix)
            synthetic = SyntheticSet.open(spec.folder)
            check_pictures(synthetic, curated)
            parts.append((role == POSITIVE, *_pictures_of(synthetic, frozenset(held_out))))
        pixels = np.concatenate([part[1] for part in parts])
        positive = np.repeat([part[0] for part in parts], [len(part[1]) for part in parts])
        seen = frozenset().union(*(part[2] for part in parts))
        sources.append(Source(name, features_of(describer, pixels), pixels, positive, seen))
    return sources


def features_of(describer: Describer, pixels_NHWC: Pixels) -> Features:
    """Return features as `predict` stores them: float16, clipped to its range."""
    parts: list[npt.NDArray[np.float32]] = [
        describer.features(torch.tensor(pixels_NHWC[first : first + PICTURES_AT_ONCE])).numpy()
        for first in range(0, len(pixels_NHWC), PICTURES_AT_ONCE)
    ]
    return to_float16(np.concatenate(parts))


def _pictures_of(synthetic: SyntheticSet, held_out: frozenset[str]) -> tuple[Pixels, frozenset[str]]:
    """Return the pictures, and the ids of the real galaxies that were used for them."""
    rows = synthetic.table(["image", "origin", "start"])
    made_of = [rows[name].to_pylist() for name in ("origin", "start")]
    kept = np.array([not held_out & {ids[row] for ids in made_of} for row in range(len(rows))], bool)
    if not kept.any():
        what = "no example is left, because all were made of galaxies that are held out"
        raise ArtifactIncompatible(what, synthetic.folder.uri, "set hunt.oracle.setting=seen, or sample other galaxies")
    origins = {ids[row] for row in np.flatnonzero(kept) for ids in made_of} - {None}
    pixels: Pixels = decode_images(rows["image"].filter(kept), synthetic.summary.image_size).numpy()
    return pixels, frozenset(origins) | set(synthetic.summary.source.get("examples", ())) | _training_ids(synthetic)


def _training_ids(synthetic: SyntheticSet) -> set[str]:
    """Return the ids of the galaxies on which a set's generator was trained.

    The result is empty for other sources.
    """
    if generator.KIND not in synthetic.manifest.parents:
        return set()
    parent = CuratedSet.open(synthetic.manifest.parents[curated_sets.KIND].uri, verify=False)
    return set(parent.table("train", ["object_id"])["object_id"].to_pylist())


def check_pictures(synthetic: SyntheticSet, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible unless pictures are prepared as the experts' were."""
    theirs, ours = synthetic.summary, curated.summary
    for key in ("image_size", "crop_fraction", "aligned"):
        if getattr(theirs, key) != getattr(ours, key):
            what = f"its pictures have {key} {getattr(theirs, key)}, and those of the survey {getattr(ours, key)}"
            raise ArtifactIncompatible(what, synthetic.folder.uri, "sample a set from this config")


# Score objects by a product of attributes learned from volunteers' votes alone.
#
# "Early type with a dust lane" is the product of `smooth` and `dust_lane`: no example has both.

WHERE = "hunt.oracle.attributes"


def attribute_scores(
    plan: Plan, curated: CuratedSet, features_MF: npt.NDArray[np.float16], held_out: Collection[str]
) -> Floats:
    """Return the product of the attributes for the objects of a survey, float64 [M].

    Parameters
    ----------
    plan
        Its config names the attributes.
    curated
        Training galaxies with votes.
    features_MF
        Of the objects.
    held_out
        Training galaxies that no attribute may learn from.

    Raises
    ------
    ArtifactIncompatible
        The curated set has no votes.
    ConfigError
        An answer is unknown, or all galaxies have the same fraction of it.
    """
    tree = plan.class_tree.tree
    if not curated.has_votes:
        what = "its galaxies have no votes, which the attributes need"
        raise ArtifactIncompatible(what, curated.folder.uri, f"leave out {WHERE}, or take a survey with votes")
    ids = curated.table("train", ["object_id"])["object_id"].to_pylist()
    kept = np.array([object_id not in set(held_out) for object_id in ids], bool)
    describer = open_describer(plan, curated)
    if isinstance(describer, TableDescriber):
        kept &= describer.known(pa.array(ids))
    votes_NA = votes_array(curated.table("train", ["votes"]), tree)[kept]
    if isinstance(describer, TableDescriber):
        training_NF = describer.lookup(pa.array(ids).filter(pa.array(kept))).numpy().astype(np.float16)
    else:
        training_NF = features_of(describer, curated.load("train").images_NHWC.numpy()[kept])
    standardiser = Standardiser.of([features_MF])
    learner = plan.config.hunt.learner
    strength = learner.strength if isinstance(learner, Regression) else Regression().strength
    heads = []
    for word in plan.config.hunt.scripted.attributes:
        fractions_N = answer_fractions(votes_NA, tree, tree.resolve(word, WHERE))
        if not 0 < fractions_N.mean() < 1:
            what = f"all training galaxies have the same fraction of '{word}'"
            raise ConfigError(what, WHERE, "name another answer")
        heads.append(fit_fractions(training_NF, fractions_N, standardiser, strength))
    return np.prod([head.score(features_MF) for head in heads], axis=0)  # no example has all attributes


def answer_fractions(votes_NA: npt.NDArray[np.floating], tree: DecisionTree, stem: str) -> Floats:
    """Return the fraction of all volunteers who gave an answer, float64 [N].

    It is the fraction among those who were asked, times the fraction who were asked.
    """
    task, column = tree.task_of[stem], tree.index[stem]
    asked_N = np.array([reached(votes_A, tree)[task.number] for votes_A in votes_NA])
    return np.clip(np.nan_to_num(votes_NA[:, column].astype(np.float64)) * asked_N, 0, 1)
