"""A fit: a network trained on a set; and the search for its learning rate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from raydistill.config import plain, sources
from raydistill.learning.architectures import Architecture
from raydistill.learning.grids import value_beyond
from raydistill.learning.options import Training
from raydistill.table import revision
from raydistill.text import shown_name

# A fit: one network trained on one set, identified by the digest of its inputs.

FIT_CACHE = "fit_cache"  # folder of a run: results of fits, and images of slow baselines; it may be removed

Split = tuple[Tensor, Tensor]  # normalised images [N, C, H, W], labels [N]
LearningRate = float | None  # None: the training set's own learning rates


@dataclass(frozen=True)
class TrainingSet:
    """Images and targets to train on, and the learning rates of the set, if any."""

    name: str
    draw: int
    images_NCHW: Tensor
    targets_NK: Tensor
    student_lrs: Tensor | None = None

    def __post_init__(self) -> None:
        assert len(self.images_NCHW) == len(self.targets_NK), self.name

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the tensors; the name does not count."""
        sha256 = hashlib.sha256()
        for tensor in (self.images_NCHW, self.targets_NK, self.student_lrs):
            if tensor is not None:
                sha256.update(tensor.cpu().contiguous().numpy().data)
        return sha256.hexdigest()


@dataclass(frozen=True)
class Fit:
    """One network to train. lr replaces the learning rate in `training`."""

    data: TrainingSet
    protocol: str
    training: Training
    lr: LearningRate
    architecture: Architecture
    seed: int

    def digest(self, evaluated_on: str) -> str:
        """Return the key of this fit's cached result. evaluated_on: as in `Evaluator`."""
        inputs = [
            plain(self.training),
            self.lr,
            plain(self.architecture),
            sources(self.architecture),
            self.seed,
        ]
        text = json.dumps([revision("evaluation"), self.data.digest, inputs, evaluated_on])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def title(self) -> str:
        """The training set and its protocol, for the log; `full_data` has no protocol."""
        name = shown_name(self.data.name)
        return f"{name} under {self.protocol}" if self.protocol else name

    def labels(self) -> dict[str, Any]:
        """Return the columns of `runs.parquet` that name the fit, which are not cached."""
        names = {"subject": self.data.name, "protocol": self.protocol, "network": self.architecture.name}
        return {**names, "draw": self.data.draw, "seed": self.seed % 2**31, "lr": self.lr}


# The search for a learning rate: which rates to try next, and which one wins.
#
# Successive halving: one network tries each rate, and `NUM_TRIALS` try the `NUM_FINALISTS` best ones.
# The score is validation accuracy. While the best rate is the largest or the smallest one tried, one
# rate beyond it is tried too, so a training set is not at a disadvantage because of a narrow grid.

NUM_TRIALS = 3  # networks that try a finalist
NUM_FINALISTS = 2

Scores = Mapping[LearningRate, float]  # learning rate -> mean balanced accuracy on validation images


@dataclass(frozen=True)
class LrSearch:
    """Choose the learning rate of fits that differ only in their seed or draw.

    `lrs` holds the rates to choose from; a single rate is used without a search.
    """

    fits: tuple[Fit, ...]
    lrs: tuple[LearningRate, ...]

    @property
    def training(self) -> Training:
        return self.fits[0].training

    @property
    def architecture(self) -> Architecture:
        return self.fits[0].architecture

    @property
    def min_networks(self) -> int:
        """The number of networks to train if no rate beyond the grid is tried."""
        rates = self.next_lrs({})
        finals = sum(len(self.final_trials(lr)) for lr in rates[:NUM_FINALISTS])
        return len(self.fits) + len(rates) + finals

    def first_trial(self, lr: LearningRate) -> Fit:
        """Return the fit that tries a learning rate first."""
        return replace(self.fits[0], lr=lr)

    def final_trials(self, lr: LearningRate) -> list[Fit]:
        """Return the further fits that try a finalist."""
        return [replace(fit, lr=lr) for fit in self.fits[1:NUM_TRIALS]]

    def finalists(self, scores: Scores) -> list[LearningRate]:
        """Return the best rates of the first trials, the best one first."""
        return sorted(sorted(scores, key=_sort_key), key=lambda lr: -scores[lr])[:NUM_FINALISTS]

    def next_lrs(self, scores: Scores) -> list[LearningRate]:
        """Return the rates to try next: the grid, then one beyond a best rate at its end."""
        grid = sorted(set(self.lrs), key=_sort_key)
        if len(grid) < 2:
            return []
        if not scores:
            return grid
        best = self.best_lr(scores)
        beyond = None if best is None else value_beyond([lr for lr in scores if lr is not None], best)
        return [] if beyond is None else [beyond]

    def best_lr(self, scores: Scores) -> LearningRate:
        """Return the best rate on validation images.

        A tie goes to the set's own rate, then to the smallest.
        """
        return max(sorted(scores, key=_sort_key), key=lambda lr: scores[lr])

    def selected_fits(self, scores: Scores) -> list[Fit]:
        """Return all fits at the best rate, or at the only one."""
        lr = self.best_lr(scores) if scores else self.lrs[0]
        return [replace(fit, lr=lr) for fit in self.fits]

    def boundary_warning(self, scores: Scores) -> str:
        """Return the warning for a search whose best rate is at the end of those tried."""
        return (
            f"{self.fits[0].title}: the best learning rate ({self.best_lr(scores):g}) is at the end of those tried; "
            "widen lr_grid of the protocol"
        )


def _sort_key(lr: LearningRate) -> float:
    return 0.0 if lr is None else lr
