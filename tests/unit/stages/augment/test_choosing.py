"""A seed chooses its settings with no more labels than it has to train with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raydistill.config import Resources
from raydistill.learning.architectures import ConvNet
from raydistill.learning.grids import value_beyond
from raydistill.learning.normalise import Normalisation
from raydistill.runtime.resources import Processor
from raydistill.stages.augment.artifact import RUNS_SCHEMA
from raydistill.stages.augment.config import Augment, AugmentTraining
from raydistill.stages.augment.fits import Fit
from raydistill.stages.augment.inputs import Pool
from raydistill.stages.augment.report import run_rows
from raydistill.stages.augment.stage import Chooser, Search
from raydistill.stages.augment.worker import Common, FitRunner, TrainedFit
from raydistill.storage import Folder

LABELS = torch.tensor([0] * 40 + [1] * 12 + [2] * 3)
COMMON = Common(ConvNet(depth=1, width=4), Normalisation((0.1,) * 3, (0.2,) * 3), 3, 8, (12,), 5, Processor(1, 0), 4.7)


@dataclass(kw_only=True)
class Planted(FitRunner):
    """Give each fit the predictions of a function, without training it."""

    predict: Callable[[Fit], np.ndarray]

    def train(self, fits: Sequence[Fit], description: str) -> list[TrainedFit]:
        return [TrainedFit(np.empty(0), self.predict(fit)[None], np.zeros(1), 1, False) for fit in fits]

    def test(self, fits: Sequence[Fit], test: Pool) -> dict[Fit, np.ndarray]:
        return {fit: test.labels_N.numpy().astype(np.int16)[None] for fit in fits}


def planted(options: Augment, predict: Callable[[Fit], np.ndarray], folder: Any = "unused") -> Planted:
    return Planted(
        folder=Folder(str(folder)), resources=Resources(), options=options, training=AugmentTraining(), common=COMMON,
        real=None, votes=None, validation=None, labels_V=LABELS, sources={}, predict=predict,
    )  # fmt: skip


def perfect(fit: Fit) -> np.ndarray:
    return LABELS.numpy()


def used(fit: Fit) -> np.ndarray:
    """Return whether each validation galaxy has a part in the score of a fit."""
    runner = planted(Augment(), perfect)
    scores = []
    for row in range(len(LABELS)):
        predicted = LABELS.numpy().copy()
        predicted[row] = (predicted[row] + 1) % 3
        scores.append(runner.validation_accuracy(fit, predicted))
    return np.array(scores) < 1


@pytest.mark.parametrize(("shots", "counts"), [(1, [1, 1, 1]), (5, [5, 5, 3]), (30, [30, 12, 3]), (None, [40, 12, 3])])
def test_score_uses_at_most_as_many_labels_of_a_class_as_the_fit_has(shots: int | None, counts: list[int]) -> None:
    for method in ("flips", "distilled_only"):
        part = used(Fit(method, shots=shots))
        assert np.bincount(LABELS[part], minlength=3).tolist() == counts


def test_each_seed_draws_its_own_validation_galaxies() -> None:
    assert (used(Fit("flips", shots=5)) != used(Fit("flips", shots=5, seed=1))).any()
    assert (used(Fit("flips", shots=5)) == used(Fit("mixup", shots=5))).all()


@pytest.mark.parametrize(("shots", "chosen"), [(2, 0.03), (None, 0.01)])
def test_choice_follows_the_few_labels_and_not_the_other_ones(shots: int | None, chosen: float) -> None:
    """A rate of .03 is right about two labels a class, and nowhere else."""

    def predict(fit: Fit) -> np.ndarray:
        few, wrong = used(Fit("flips", shots=2, seed=fit.seed)), (LABELS.numpy() + 1) % 3
        return np.where(few == (fit.lr == 0.03), LABELS.numpy(), wrong)

    options = Augment(lr_grid=(0.01, 0.03))
    searches = [Search("flips", "", shots, seed) for seed in range(3)]
    choices = Chooser(planted(options, predict), options).choose(searches)
    assert [fit.seed for fit in choices.values()] == [0, 1, 2]
    assert {fit.lr for fit in choices.values()} == {chosen}


def right_about(count: int) -> np.ndarray:
    return np.where(np.arange(len(LABELS)) < count, LABELS.numpy(), (LABELS.numpy() + 1) % 3)


@pytest.mark.parametrize(
    ("quality", "tried", "chosen"),
    [
        (lambda ratio: 20 - abs(ratio - 2), {0.5, 1, 2, 4}, 2),
        (lambda ratio: 20 - abs(ratio - 8), {0.5, 1, 2, 4, 8, 16}, 8),
        (lambda ratio: ratio, {0.5, 1, 2, 4, 8, 16, 32}, 32),
        (lambda ratio: 20 - 10 * ratio, {0.5, 1, 2, 4, 0.25, 0.12, 0.058}, 0.058),
        (lambda ratio: 7, {0.5, 1, 2, 4}, 1),  # a tie goes to the ratio nearest to 1
    ],
)
def test_ratios_are_tried_beyond_the_end_where_the_best_one_is(
    quality: Callable[[float], float], tried: set[float], chosen: float, caplog: pytest.LogCaptureFixture
) -> None:
    options = Augment(lr_grid=(0.01,), ratios=(0.5, 1, 2, 4))
    search = Search("real_distilled", "distilled", None, 0)
    chooser = Chooser(planted(options, lambda fit: right_about(round(2 * quality(fit.ratio or 0)))), options)
    logging.getLogger("raydistill").propagate = True
    with caplog.at_level(logging.WARNING):
        fit = chooser.choose([search])[search]
    assert {fit.ratio for fit in chooser.tried} == tried
    assert fit.ratio == chosen
    at_the_end = chosen in (max(tried), min(tried))
    assert ("the best ratio is at the end of those tried for 1 of 1 searches" in caplog.text) == at_the_end


def test_rows_have_the_accuracy_on_few_and_on_all_validation_galaxies() -> None:
    """Only the labels of the seed are classified correctly."""
    fit = Fit("flips", shots=2)
    runner = planted(Augment(), lambda fit: np.where(used(fit), LABELS.numpy(), (LABELS.numpy() + 1) % 3))
    rows = run_rows(runner, {fit: runner.train([fit], "")[0]}, Pool(torch.zeros(5), torch.tensor([0, 1, 2, 2, 1])))
    (row,) = pa.Table.from_pylist(rows, RUNS_SCHEMA).to_pylist()
    assert row["validation"] == 1
    assert row["validation_all"] == pytest.approx((2 / 40 + 2 / 12 + 2 / 3) / 3, rel=1e-12)
    assert row["predicted"] == [0, 1, 2, 2, 1]
    assert row["balanced_accuracy"] == 1


def test_a_single_ratio_is_not_searched() -> None:
    assert value_beyond([2.0], 2.0) is None
    assert value_beyond([1.0, 2.0, 4.0], 2.0) is None
    assert value_beyond([1.0, 2.0, 4.0], 4.0) == 8
    assert value_beyond([4.0, 1.0, 2.0], 1.0) == 0.5


def test_classifier_without_labelled_galaxies_is_trained_once_for_all_numbers() -> None:
    runner = planted(Augment(), perfect)
    keys = {runner.key(Fit("synthetic_only", "a", shots)) for shots in (10, 30, None)}
    assert len(keys) == 1
    assert len({runner.key(Fit("real_synthetic", "a", shots)) for shots in (10, 30, None)}) == 3
