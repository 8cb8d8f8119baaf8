"""Measure features: their rank, and the accuracy of a linear head on them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from raydistill.learning.contrast import effective_rank
from raydistill.learning.encoders import mean_and_deviation
from raydistill.learning.heads import balanced_weights, ridge_head
from raydistill.learning.metrics import balanced_accuracy, confusion
from raydistill.stages.curate.feeding.feed import Pictures

MAX_PROBED = 2000  # galaxies of each split that a measurement sees
REGULARISATION = 1.0  # of the head that is scored


def choose_probed(pictures: Pictures, seed: int, split: str) -> tuple[Tensor, Tensor]:
    """Return pictures uint8 [N, H, W, 3] of a split, and their labels int64 [N]."""
    return pictures.choose_labelled(MAX_PROBED, seed, f"probe {split}")


def probe(features: Mapping[str, Tensor], labels: Mapping[str, Tensor], num_classes: int) -> dict[str, float]:
    """Return the effective rank, and the balanced accuracy of a ridge head.

    Parameters
    ----------
    features
        float32 [N, F] of the splits "train" and "validation".
    labels
        int64 [N] of the same.
    num_classes
        K; below 2 the accuracy is NaN.
    """
    row = {"effective_rank": effective_rank(features["validation"]), "balanced_accuracy": math.nan}
    if num_classes > 1:
        train_NF = features["train"]
        mean_F, deviation_F = mean_and_deviation(train_NF)
        targets = torch.nn.functional.one_hot(labels["train"], num_classes).to(train_NF)
        head = ridge_head(
            (train_NF - mean_F) / deviation_F, targets - 1 / num_classes, REGULARISATION,
            balanced_weights(labels["train"], num_classes),
        )  # fmt: skip
        predicted = ((features["validation"] - mean_F) / deviation_F @ head).argmax(dim=1)
        row["balanced_accuracy"] = balanced_accuracy(confusion(predicted, labels["validation"], num_classes))
    return row
