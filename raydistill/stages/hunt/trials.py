"""The Ray task of a scripted hunt: one strategy with one seed.

A task maps {strategy, seed} to a file.

The driver writes the inputs of all trials into one file. A trial depends on them, its strategy and
its seed alone, so any number of workers gives the same bits. A killed hunt resumes with the missing
ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from raydistill.artifacts.tensors import unpack_tensors
from raydistill.learning.normalise import AnyNormalisation
from raydistill.runtime.resources import Processor
from raydistill.seeding import fold_in
from raydistill.stages.hunt.config import Hunt, Oracle
from raydistill.stages.hunt.inputs.sources import Source
from raydistill.stages.hunt.learn.learners import draw_background, synthetic_groups, train_on_sources
from raydistill.stages.hunt.learn.learning import POOL, AnyLearner, fit_learner, uses_pixels
from raydistill.stages.hunt.learn.ranking import Quotas, Rows, Scorer, Trace, choose, hunt
from raydistill.stages.hunt.learn.regression import Bools, Floats, Group, collect, cross_fitted_scores
from raydistill.statistics.standardise import Standardiser
from raydistill.storage import Folder, checked

# Measure a hunt: how well a score finds rare objects, and what the labels yield.
#
# The yield is the number of objects found for the labels spent.
#
# Shape suffixes: N ranked objects, S seeds. Objects with equal scores count in the mean of all their
# orders where that has a closed form, and else in the order of their rows.


class Ranked(NamedTuple):
    """How well a score ranks the objects of a survey.

    Attributes
    ----------
    average_precision
        Area below the curve of purity over completeness.
    recall_at_purity
        Largest completeness of a selection by score whose purity is at least the required one.
    purity_of_top
        Purity of the best percent of all objects.
    found_in_first
        Objects of the target class among the first 100.
    """

    average_precision: float
    recall_at_purity: float
    purity_of_top: float
    found_in_first: float


FIRST = 100  # objects that a person can look at in a few minutes
TOP = 0.01


def rank_metrics(scores_N: Floats, positive_N: Bools, purity: float) -> Ranked:
    """Return how well scores find the positive objects.

    Parameters
    ----------
    scores_N
        Larger is more likely; float [N].
    positive_N
        The truth, bool [N], at least one.
    purity
        Required purity of `recall_at_purity`, in (0, 1].
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    order_N = np.lexsort((np.arange(len(scores_N)), -scores_N))
    top = max(1, math.ceil(TOP * len(scores_N)))
    sorted_N = positive_N[order_N]
    precision, recall, _ = precision_recall_curve(positive_N, scores_N)  # also of no objects: 1 and 0
    return Ranked(
        float(average_precision_score(positive_N, scores_N)),
        float(recall[precision >= purity - 1e-12].max()),
        float(sorted_N[:top].mean()),
        float(sorted_N[:FIRST].sum()),
    )


def discovery_curve(found_in_order: Bools, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the objects found after each number of labels spent.

    Parameters
    ----------
    found_in_order
        Whether the first, second, … labelled object was of the target class.
    labels
        Numbers of labels, each from 0 to the length of `found_in_order`.
    """
    counts = np.concatenate([[0], np.cumsum(found_in_order)])
    return np.asarray(counts[labels], np.int64)


INPUTS = "inputs.safetensors"
BEST_ONLY = Quotas(high_score=1, uncertain=0, diverse=0, random=0)  # for scores that do not learn


@dataclass(frozen=True)
class Inputs:
    """Features [M, F], pictures (or None), truth, and synthetic sources of a hunt."""

    features_MF: npt.NDArray[np.float16]
    pixels_MHWC: npt.NDArray[np.uint8] | None
    truth_M: Bools
    attributes_M: Floats | None
    examples: Rows | None
    sources: tuple[Source, ...]

    @cached_property
    def standardiser(self) -> Standardiser:
        """Return the scale of the features."""
        return Standardiser.of([self.features_MF])

    @cached_property
    def standardised(self) -> Floats:
        """Return the features in units of that scale, float64 [M, F]."""
        return self.standardiser.apply(self.features_MF)

    def tensors(self) -> dict[str, Tensor]:
        """Return the inputs as tensors, to be written."""
        tensors: dict[str, Any] = {"features": self.features_MF, "truth": self.truth_M}
        tensors |= {} if self.pixels_MHWC is None else {"pixels": self.pixels_MHWC}
        tensors |= {} if self.attributes_M is None else {"attributes": self.attributes_M}
        tensors |= {} if self.examples is None else {"examples": self.examples}
        for source in self.sources:
            tensors |= {f"{source.name}/features": source.features_LF, f"{source.name}/positive": source.positive_L}
            tensors |= {f"{source.name}/pixels": source.pixels_LHWC}
        return {name: torch.tensor(values) for name, values in tensors.items()}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Inputs:
        """Return the inputs in tensors."""
        arrays = {name: values.numpy() for name, values in tensors.items()}
        names = sorted({name.rpartition("/")[0] for name in arrays} - {""})
        sources = [
            Source(name, arrays[f"{name}/features"], arrays[f"{name}/pixels"], arrays[f"{name}/positive"], frozenset())
            for name in names
        ]
        return cls(
            arrays["features"], arrays.get("pixels"), arrays["truth"], arrays.get("attributes"), arrays.get("examples"),
            tuple(sources),
        )  # fmt: skip


@dataclass(frozen=True)
class TrialRunner:
    """Run trials. A worker receives it by pickle, and reads the inputs once.

    Attributes
    ----------
    folder
        URI of the folder of inputs and finished trials.
    config
        The hunt.
    normalisation
        Of the pictures.
    processor
        Torch threads of a worker.
    """

    folder: str
    config: Hunt
    normalisation: AnyNormalisation
    processor: Processor

    def __call__(self, block: pa.Table) -> int:
        """Run the trial of a row {strategy, seed}, and write its file."""
        self.processor.enter()
        (row,) = block.to_pylist()
        inputs = _inputs(self.folder)
        result = self.run(inputs, row["strategy"], row["seed"])
        checked.write(Folder(self.folder), trial_name(row["strategy"], row["seed"]), json.dumps(result).encode())
        return 1

    def run(self, inputs: Inputs, strategy: str, seed: int) -> dict[str, Any]:
        """Return what was labelled and found, and the metrics at the start and at the end."""
        oracle = self.config.scripted
        root = fold_in(self.config.seed, "trial", seed)
        start = draw_examples(inputs, oracle.num_examples, root)
        scorer = self._scorer(inputs, strategy, oracle, start, root)
        learns = strategy not in ("upper_bound", "attributes")
        quotas = self.config.quotas if learns else BEST_ONLY
        trace = hunt(
            scorer, inputs.standardised, inputs.truth_M, start, quotas, oracle.rounds, self.config.per_round, root
        )
        shown_M = np.zeros(len(inputs.truth_M), bool)
        shown_M[start] = shown_M[trace.rows] = True
        following = choose(
            trace.last_N, inputs.standardised, shown_M, quotas, self.config.per_round, fold_in(root, oracle.rounds)
        )
        return {
            "start_rows": start.tolist(),
            "next": [
                [candidate.row, None if np.isnan(candidate.score) else candidate.score, candidate.reason.value]
                for candidate in following
            ],
            "rows": trace.rows.tolist(),
            "found": trace.found.tolist(),
            "reasons": list(trace.reasons),
            **_metrics(trace, inputs.truth_M, start, oracle.purity),
        }

    def _scorer(self, inputs: Inputs, strategy: str, oracle: Oracle, start: Rows, root: int) -> Scorer | None:
        if strategy == "random":
            return None
        if strategy == "attributes":
            assert inputs.attributes_M is not None
            attributes_M = inputs.attributes_M
            return lambda rows, labels, number: attributes_M
        sources = [source for source in inputs.sources if strategy in (source.name, "upper_bound")]
        if sources and self.config.source_network is not None:
            inputs, sources = self._describe(inputs, sources, start, root)
        if strategy == "upper_bound":
            strength = getattr(self.config.learner, "strength", 10.0)
            upper_bound_M = cross_fitted_scores(
                inputs.features_MF, inputs.truth_M, inputs.standardiser, strength, oracle.folds, root
            )
            return lambda rows, labels, number: upper_bound_M
        learners: dict[str, AnyLearner] = {"network": oracle.network, "fixmatch": oracle.fixmatch}
        return self._learning(inputs, learners.get(strategy, self.config.learner), sources, root)

    def _describe(
        self, inputs: Inputs, sources: Sequence[Source], start: Rows, root: int
    ) -> tuple[Inputs, list[Source]]:
        """Return inputs and sources with features of the network trained on the sources."""
        pixels, seed = inputs.pixels_MHWC, fold_in(root, "source")
        assert pixels is not None
        unlabelled = np.setdiff1d(np.arange(len(pixels)), start)
        background = pixels[draw_background(unlabelled, self.config.source_background, seed)]
        network, described = train_on_sources(self.config, sources, background, self.normalisation, seed)
        return replace(inputs, features_MF=network.join(inputs.features_MF, pixels)), described

    def _learning(self, inputs: Inputs, learner: AnyLearner, sources: Sequence[Source], root: int) -> Scorer:
        """Return a scorer that learns from labels, background and synthetic examples."""
        pixels = uses_pixels(learner)
        values: npt.NDArray[Any] = inputs.features_MF
        pool = np.empty((0, 1, 1, 3), np.uint8)
        if pixels:
            assert inputs.pixels_MHWC is not None
            values = inputs.pixels_MHWC
            pool = values[draw_background(np.arange(len(values)), POOL, fold_in(root, "pool"))]
        background = draw_background(np.arange(len(values)), self.config.background, root)
        synthetic = synthetic_groups(sources, pixels, self.config.synthetic_weight)

        def score(rows: Rows, labels: Bools, number: int) -> Floats | None:
            presumed = np.setdiff1d(background, rows)
            groups = [Group(values[rows], labels), Group(values[presumed], np.zeros(len(presumed), bool)), *synthetic]
            fitted = fit_learner(
                collect(groups), learner, inputs.standardiser, self.normalisation, pool, fold_in(root, number)
            )
            return None if fitted is None else fitted.score(values)

        return score


def draw_examples(inputs: Inputs, count: int, seed: int) -> Rows:
    """Return the rows known at the start: given, or `count` of each kind."""
    if inputs.examples is not None:
        return inputs.examples
    rng = np.random.default_rng(fold_in(seed, "examples"))
    kinds = [np.flatnonzero(inputs.truth_M == kind) for kind in (True, False)]
    return np.sort(np.concatenate([rng.permutation(rows)[:count] for rows in kinds]))


def _metrics(trace: Trace, truth_M: Bools, start: Rows, purity: float) -> dict[str, list[float] | None]:
    """Return the metrics over all objects without the examples.

    At the end the labelled objects have their label as their score: this is the catalogue that a
    user then has.
    """
    judged = np.ones(len(truth_M), bool)
    judged[start] = False
    if not truth_M[judged].any():
        return {"start": None, "end": None}
    ends: dict[str, list[float] | None] = {}
    for moment, scores_M in (("start", trace.first_N), ("end", trace.last_N)):
        if scores_M is None:
            ends[moment] = None
            continue
        scores_M = scores_M.copy()
        if moment == "end":
            scores_M[trace.rows] = np.where(trace.found, 2.0, -1.0)  # scores lie in [0, 1]
        ends[moment] = list(rank_metrics(scores_M[judged], truth_M[judged], purity))
    return ends


RANKED_METRICS = Ranked._fields


@lru_cache(maxsize=1)
def _inputs(folder: str) -> Inputs:
    return Inputs.of(unpack_tensors(checked.require(Folder(folder), INPUTS))[0])


def trial_name(strategy: str, seed: int) -> str:
    """Return the name of the file of a finished trial."""
    return f"trial-{strategy}-{seed:04d}.json"
