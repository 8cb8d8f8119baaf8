"""Retrain a network of an evaluation to keep its parameters, which are not cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from raydistill.stages.evaluate.artifact import DIVERGED
from raydistill.stages.evaluate.evaluator import Evaluator
from raydistill.stages.evaluate.lr_search import LrSearch


@dataclass(frozen=True)
class TrainedClassifier:
    """A network trained on the distilled set.

    Parameters
    ----------
    theta_P
        float32, its parameters.
    validation
        Its balanced accuracy on validation images, in [0, 1].
    """

    theta_P: Tensor
    validation: float


def train_classifier(
    evaluator: Evaluator, searches: Sequence[LrSearch], rows: Sequence[dict[str, Any]]
) -> list[TrainedClassifier]:
    """Return the distilled set's first network of the first protocol; [] if diverged.

    It is not the best of the networks, so that its test accuracy is as unbiased as theirs.

    Parameters
    ----------
    evaluator
        The evaluator that has trained the networks.
    searches
        Its searches.
    rows
        Its results, in the order of the searches.
    """
    fit = next(search.fits[0] for search in searches if search.fits[0].data.name == "distilled")
    row = next(row for row in rows if row["subject"] == "distilled")
    if row["validation"] == DIVERGED:
        return []
    return [TrainedClassifier(evaluator.parameters(replace(fit, lr=row["lr"])), row["validation"])]
