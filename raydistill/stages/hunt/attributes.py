"""Score objects by a product of attributes learnt from volunteers' votes alone.

"Early type with a dust lane" is the product of `smooth` and `dust_lane`: no example has both.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from raydistill.errors import ArtifactIncompatible, ConfigError
from raydistill.galaxies.answers import reached
from raydistill.galaxies.catalog import votes_array
from raydistill.galaxies.tree import DecisionTree
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.embedding import open_expert
from raydistill.stages.hunt.science.examples import Floats
from raydistill.stages.hunt.science.regression import ProductScorer, Regression, Standardiser, fit_fractions
from raydistill.stages.hunt.sources import features_of

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
    oracle, tree = plan.config.hunt.oracle, plan.class_tree.tree
    assert oracle is not None
    if not curated.has_votes:
        what = "its galaxies have no votes, which the attributes need"
        raise ArtifactIncompatible(what, curated.folder.uri, f"leave out {WHERE}, or take a survey with votes")
    ids = curated.table("train", ["object_id"])["object_id"].to_pylist()
    kept = np.array([one not in set(held_out) for one in ids], bool)
    votes_NA = votes_array(curated.table("train", ["votes"]), tree)[kept]
    pixels = curated.load("train").images_NHWC.numpy()[kept]
    training_NF = features_of(open_expert(plan, curated), pixels)
    standardiser = Standardiser.of([features_MF])
    learner = plan.config.hunt.learner
    strength = learner.strength if isinstance(learner, Regression) else Regression().strength
    heads = []
    for word in oracle.attributes:
        fractions_N = answer_fractions(votes_NA, tree, tree.resolve(word, WHERE))
        if not 0 < fractions_N.mean() < 1:
            what = f"all training galaxies have the same fraction of '{word}'"
            raise ConfigError(what, WHERE, "name another answer")
        heads.append(fit_fractions(training_NF, fractions_N, standardiser, strength))
    return ProductScorer(tuple(heads)).score(features_MF)


def answer_fractions(votes_NA: npt.NDArray[np.floating], tree: DecisionTree, stem: str) -> Floats:
    """Return the fraction of all volunteers who gave an answer, float64 [N].

    It is the fraction among those who were asked, times the fraction who were asked.
    """
    task, column = tree.task_of[stem], tree.index[stem]
    asked_N = np.array([reached(votes_A, tree)[task.number] for votes_A in votes_NA])
    return np.clip(np.nan_to_num(votes_NA[:, column].astype(np.float64)) * asked_N, 0, 1)
