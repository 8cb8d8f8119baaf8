"""Open the survey of a hunt, and the truth of a scripted labeller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from raydistill.errors import ArtifactIncompatible, CatalogError, ConfigError
from raydistill.galaxies.tables.expressions import match_rows
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.config import Part
from raydistill.stages.hunt.config import Oracle
from raydistill.stages.hunt.inputs.sources import Source, open_sources
from raydistill.stages.hunt.learn.ranking import Rows
from raydistill.stages.hunt.learn.regression import Bools, Features
from raydistill.stages.hunt.specs import truth_table
from raydistill.stages.predict.artifact import PredictionSet, open_predictions
from raydistill.surveys.levels import assume_levels
from raydistill.surveys.opening import open_survey
from raydistill.surveys.survey import SurveyPictures

# Open the survey of a hunt: its objects, their features, and their pictures.


@dataclass(frozen=True)
class HuntedSurvey:
    """The survey of a hunt.

    Attributes
    ----------
    pictures
        Its objects and how their pictures are read.
    predictions
        The features of its objects, in the same order.
    usable_N
        Whether the picture of each object could be used.
    """

    pictures: SurveyPictures
    predictions: PredictionSet
    usable_N: Bools

    @property
    def ids(self) -> list[str]:
        """Return the object ids, in the order of the survey."""
        return list(self.pictures.objects["object_id"].to_pylist())

    @property
    def paths(self) -> list[str | None]:
        """Return the path of each object's picture, if it is a file of its own."""
        return self.pictures.paths()

    def blocks(self) -> Iterator[tuple[Rows, Features]]:
        """Yield rows and features of usable objects, per block of the predictions."""
        for rows, _, features in self.predictions.feature_blocks():
            yield rows, features

    def filenames(self, rows: list[int]) -> list[str]:
        """Return each object's name in a CSV of labels: `names_for_labels`."""
        return names_for_labels(self.ids, self.paths, rows)


def names_for_labels(ids: Sequence[str], paths: Sequence[str | None], rows: Sequence[int]) -> list[str]:
    """Return names of objects for a CSV of labels: that of the picture, or the id.

    It is the id where another picture has the same name, or where the name is another object's id.
    """
    bases = [path.rpartition("/")[2] if path else "" for path in paths]
    pictures, known = Counter(bases), set(ids)
    return [
        base if (base := bases[row]) and pictures[base] == 1 and (base not in known or base == ids[row]) else ids[row]
        for row in rows
    ]


def open_hunted(plan: Plan, curated: CuratedSet) -> HuntedSurvey:
    """Return the survey of the config's hunt.

    Raises
    ------
    ArtifactMissing
        Its predictions do not exist.
    ArtifactIncompatible
        The predictions have no features.
    """
    searched = plan.config.searched(plan.config.hunt.survey)
    pictures = open_survey(plan, searched)
    predictions = open_predictions(plan, pictures, searched)
    if not predictions.summary.num_features:
        fix = "set predict.features=true and run 'raydistill predict' again"
        raise ArtifactIncompatible("these predictions have no features", predictions.folder.uri, fix)
    reasons = [block["reason"] for block in predictions.blocks(["reason"])]
    usable_N = np.concatenate([pc.is_null(reason).to_numpy() for reason in reasons])
    pictures, _ = assume_levels(pictures, curated.summary.levels)
    return HuntedSurvey(pictures, predictions, usable_N)


# Open the objects of a scripted hunt and its synthetic sources.
#
# The objects are those with a picture and a truth.

log = get_logger(__name__)


@dataclass(frozen=True)
class Scripted:
    """The objects and sources of a scripted hunt.

    Attributes
    ----------
    survey
        The survey.
    rows
        Rows of its objects with a picture and a truth, of the part that is searched.
    truth
        Whether each of them is of the target class.
    targets
        Ids of the objects of the target class among them.
    held_out
        Objects of which no example may be made, and from which no attribute may learn.
    sources
        The synthetic sources.
    """

    survey: HuntedSurvey
    rows: Rows
    truth: Bools
    targets: frozenset[str]
    held_out: frozenset[str]
    sources: tuple[Source, ...]


def open_objects(plan: Plan, curated: CuratedSet, survey: HuntedSurvey) -> Scripted:
    """Return the objects and the sources.

    Raises
    ------
    ArtifactIncompatible
        The survey, or the part, has no more objects of the target class than the hunt takes as examples.
    """
    oracle, ids = plan.config.hunt.scripted, survey.ids
    truth = read_truth(oracle, truth_table(plan), ids)
    rows = np.flatnonzero(survey.usable_N & truth.known_N)
    if missing := int((survey.usable_N & ~truth.known_N).sum()):
        log.warning("hunt: %d objects of the survey have no row in the truth, and are left out", missing)
    every_target = frozenset(ids[row] for row in rows[truth.positive_N[rows]].tolist())
    rows = rows[in_part([ids[row] for row in rows.tolist()], oracle.part)]
    positive = truth.positive_N[rows]
    taken = 0 if oracle.examples is not None else oracle.num_examples
    if positive.sum() <= taken:
        where = "the survey" if oracle.part is None else "this part of the survey (hunt.oracle.part)"
        what = f"{where} has {positive.sum()} objects of the target class, and hunt.oracle.num_examples takes {taken}"
        raise ArtifactIncompatible(what, survey.pictures.uri, "lower it, or take a larger survey")
    targets = frozenset(ids[row] for row in rows[positive].tolist())
    held_out = every_target if oracle.setting == "strict" else frozenset()
    sources = open_sources(plan, curated, held_out)
    return Scripted(survey, rows, positive, targets, held_out, tuple(sources))


def in_part(ids: Sequence[str], part: Part | None) -> Bools:
    """Return whether each object is of a part, bool [N]; its id alone decides."""
    return np.array([part is None or fold_in(0, "part", name) % part.parts == part.index for name in ids], bool)


# Read the truth of a scripted labeller: which objects of a survey are of the target class.


class Truth(NamedTuple):
    """Whether each object of the survey is in the truth, and is a target."""

    known_N: Bools
    positive_N: Bools


def read_truth(oracle: Oracle, uri: str, ids: list[str]) -> Truth:
    """Return the truth of the objects of a survey.

    Raises
    ------
    CatalogError
        The table cannot be read, has no such column of ids, or no row of any object of the survey.
    ConfigError
        The condition is wrong, or no object fulfils it.
    """
    keys, fulfils_N = match_rows(uri, oracle.positive, oracle.id, "hunt.oracle.positive", "hunt.oracle.id")
    wanted = dict(zip(keys, fulfils_N, strict=True))
    known_N = np.array([object_id in wanted for object_id in ids], bool)
    positive_N = np.array([wanted.get(object_id, False) for object_id in ids], bool)
    if not known_N.any():
        raise CatalogError(f"none of its {len(keys)} ids is of the survey", uri, "check hunt.oracle.id")
    if not positive_N.any() or positive_N[known_N].all():
        which = "no" if not positive_N.any() else "every"
        raise ConfigError(f"{which} object of the survey fulfils it", "hunt.oracle.positive", "correct the condition")
    return Truth(known_N, positive_N)
