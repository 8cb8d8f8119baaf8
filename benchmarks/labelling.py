"""Compare ways to choose galaxies to label (`hunt.classes`).

    RAYDISTILL_DATA=FOLDER python benchmarks/labelling.py CONFIG --encoder FOLDER [key=value ...]

The training galaxies of a curated set are the survey, their classes answer, and heads are tested on
its test galaxies. Five seeds start from nothing. Ways: the default, half uncertain and half random
galaxies; the quotas of a hunt for one class; random. Prints balanced accuracy, and the mean area under the ROC
curve of one class against the others, for labels spent, with 95 % intervals over the seeds, and the
difference to `random`; and both for all labels.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import torch
from running import run_stage, shown
from sklearn.metrics import roc_auc_score

from raydistill import load_config
from raydistill.learning.encoders import features_of
from raydistill.learning.metrics import balanced_accuracy, confusion_of
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.hunt.learn.classes import ClassHead, ClassShortlists
from raydistill.stages.hunt.learn.ranking import FOR_CLASSES, RANDOM_ONLY, Quotas
from raydistill.stages.hunt.learn.regression import Regression
from raydistill.stages.pretrain.artifact import EncoderArtifact
from raydistill.statistics.intervals import mean_interval, paired_difference
from raydistill.statistics.standardise import Standardiser
from raydistill.text import text_table

WAYS = {"default": FOR_CLASSES, "as hunts": Quotas(), "random": RANDOM_ONLY}
PER_ROUND, ROUNDS, SEEDS = 20, 10, 5
STRENGTH = Regression().strength


class Galaxies(NamedTuple):
    """Pictures, features [N, F] and classes [N] of survey and test galaxies."""

    features_NF: np.ndarray
    labels_N: np.ndarray
    test_MF: np.ndarray
    test_M: np.ndarray
    standardiser: Standardiser
    num_classes: int
    images_NCHW: torch.Tensor
    test_images_MCHW: torch.Tensor

    def scores(self, rows: np.ndarray) -> tuple[float, float]:
        """Return accuracy and area of the head of some labelled galaxies."""
        known = self.features_NF[rows], self.labels_N[rows]
        if len(np.unique(known[1])) < 2:
            return 1 / self.num_classes, 0.5
        head = ClassHead.fit(*known, self.num_classes, self.standardiser, STRENGTH)
        return self.figures(head.probabilities(self.test_MF))

    def figures(self, probability_MK: np.ndarray) -> tuple[float, float]:
        """Return accuracy and area of the probabilities of the test galaxies."""
        areas = [roc_auc_score(self.test_M == k, probability_MK[:, k]) for k in np.unique(self.test_M)]
        return balanced_accuracy(confusion_of(probability_MK, self.test_M)), float(np.mean(areas))

    def hunt(self, quotas: Quotas, seed: int) -> np.ndarray:
        """Return the scores [R, 2] after each round of a hunt."""
        rows, scores, all_rows = np.empty(0, np.int64), [], np.arange(len(self.labels_N))
        standard_NF = self.standardiser.apply(self.features_NF)
        for _ in range(ROUNDS):
            learned = quotas is not RANDOM_ONLY and len(np.unique(self.labels_N[rows])) >= 2
            shortlists = ClassShortlists(
                quotas, PER_ROUND, fold_in(seed, len(rows)), self.num_classes if learned else 0
            )
            free, probabilities = np.setdiff1d(all_rows, rows), None
            if learned:
                known = self.features_NF[rows], self.labels_N[rows]
                head = ClassHead.fit(*known, self.num_classes, self.standardiser, STRENGTH)
                probabilities = head.probabilities(self.features_NF[free])
            if quotas is RANDOM_ONLY:
                chosen = np.random.default_rng(fold_in(seed, len(rows))).permutation(free)[:PER_ROUND]
            else:
                shortlists.add(free, probabilities, standard_NF[free])
                chosen = np.array([candidate.row for candidate in shortlists.candidates()])
            rows = np.concatenate([rows, chosen])
            scores.append(self.scores(rows))
        return np.array(scores)


def read_galaxies(config_name: str, encoder: str, overrides: list[str]) -> Galaxies:
    """Return the galaxies of a config in the features of an encoder."""
    config = load_config(config_name, *overrides)
    curated = CuratedSet.open(str(run_stage("curate", [config_name, *overrides])))
    (train, labels), (test, test_labels) = (curated.to_torch(split).tensors for split in ("train", "test"))
    describe = EncoderArtifact.open(encoder).encoder(train, curated.normalisation, (config.pretrain.network,))
    train_NF, test_MF = (features_of(describe, images).double().numpy() for images in (train, test))
    classes = (labels.numpy(), test_labels.numpy())
    return Galaxies(
        train_NF, classes[0], test_MF, classes[1], Standardiser.of([train_NF]), curated.num_classes, train, test
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--encoder", required=True)
    options, overrides = parser.parse_known_args()
    galaxies = read_galaxies(options.config, options.encoder, overrides)
    results = {way: np.stack([galaxies.hunt(quotas, seed) for seed in range(SEEDS)]) for way, quotas in WAYS.items()}
    every = galaxies.scores(np.arange(len(galaxies.labels_N)))
    for number, measure in enumerate(("balanced accuracy", "area under the ROC curve")):
        head = ["labels", *(word for way in WAYS for word in ([way] if way == "random" else [way, "minus random"]))]
        rows = []
        for n in (0, 1, 2, 4, 9):
            cells = [str((n + 1) * PER_ROUND)]
            for way, scores in results.items():
                cells.append(shown(mean_interval(scores[:, n, number])))
                if way != "random":
                    cells.append(shown(paired_difference(scores[:, n, number], results["random"][:, n, number])))
            rows.append(tuple(cells))
        title = f"{options.config}: {measure}; with all {len(galaxies.labels_N)} labels {every[number]:.3f}"
        print(text_table(title, [tuple(head), *rows]))


if __name__ == "__main__":
    main()
