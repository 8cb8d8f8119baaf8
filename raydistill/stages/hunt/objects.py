"""Open the objects of a scripted hunt and its synthetic sources.

The objects are those with a picture and a truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raydistill.errors import ArtifactIncompatible
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.embedding import open_expert
from raydistill.stages.hunt.config import Hunt, Oracle
from raydistill.stages.hunt.science.examples import Bools
from raydistill.stages.hunt.science.ranking import Rows
from raydistill.stages.hunt.sources import Source, open_sources
from raydistill.stages.hunt.specs import truth_table
from raydistill.stages.hunt.survey import HuntedSurvey
from raydistill.stages.hunt.truth import read_truth

log = get_logger(__name__)


@dataclass(frozen=True)
class Scripted:
    """The objects and sources of a scripted hunt.

    Attributes
    ----------
    survey
        The survey.
    rows
        Rows of its objects with a picture and a truth.
    truth
        Whether each of them is of the wanted kind.
    targets
        Ids of the wanted objects.
    held_out
        Those of which no example may be made, and from which no attribute may learn.
    sources
        The synthetic sources.
    """

    survey: HuntedSurvey
    rows: Rows
    truth: Bools
    targets: frozenset[str]
    held_out: frozenset[str]
    sources: tuple[Source, ...]


def oracle_of(config: Hunt) -> Oracle:
    """Return the oracle of a hunt that has one."""
    assert config.oracle is not None
    return config.oracle


def open_objects(plan: Plan, curated: CuratedSet, survey: HuntedSurvey) -> Scripted:
    """Return the objects and the sources.

    Raises
    ------
    ArtifactIncompatible
        The survey has no more wanted objects than the hunt takes as examples.
    """
    oracle, ids = oracle_of(plan.config.hunt), survey.ids
    truth = read_truth(oracle, truth_table(plan), ids)
    rows = np.flatnonzero(survey.usable_N & truth.known_N)
    if missing := int((survey.usable_N & ~truth.known_N).sum()):
        log.warning("hunt: %d objects of the survey have no row in the truth, and are left out", missing)
    positive = truth.positive_N[rows]
    if positive.sum() <= oracle.num_examples:
        what = (
            f"the survey has {positive.sum()} wanted objects, and hunt.oracle.num_examples takes {oracle.num_examples}"
        )
        raise ArtifactIncompatible(what, survey.pictures.uri, "lower it, or take a larger survey")
    targets = frozenset(ids[row] for row in rows[positive].tolist())
    held_out = targets if oracle.setting == "strict" else frozenset()
    sources = open_sources(plan, curated, open_expert(plan, curated), held_out)
    return Scripted(survey, rows, positive, targets, held_out, tuple(sources))
