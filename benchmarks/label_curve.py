"""Compare a ResNet-18 from scratch with a head on an encoder by labels.

    RAYDISTILL_DATA=FOLDER python benchmarks/label_curve.py CONFIG --encoder FOLDER [key=value ...]
        [--labels 40 100 200 500] [--width 16] [--steps 500] [--seeds 3]

The question of arXiv:2405.10890. Labelled galaxies are random ones of the training split of a
curated set, the same for both; the last row has all of them. The network is a ResNet-18
(`--width` channels in the first stage), trained with turns, mirrors, shifts and scales on batches
with equal classes. Prints balanced accuracy and the mean area under the ROC curve of one class
against the others on test galaxies, with 95 % intervals over the seeds, and paired differences.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from labelling import Galaxies, read_galaxies, shown

from raydistill.learning.architectures import ResNet18
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import WeightedTraining
from raydistill.learning.training import predict_logits
from raydistill.learning.weighted_training import drawing_probabilities, fit_steps
from raydistill.seeding import fold_in
from raydistill.statistics.intervals import mean_interval, paired_difference
from raydistill.text import text_table

AUGMENTATION = Augmentation(("dihedral", "crop", "scale"), mode="all", shared=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--labels", type=int, nargs="+", default=[40, 100, 200, 500])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    options, overrides = parser.parse_known_args()
    galaxies = read_galaxies(options.config, options.encoder, overrides)
    training = WeightedTraining(steps=options.steps, batch_size=32, lr=0.01, average=50, augmentation=AUGMENTATION)
    every = len(galaxies.labels_N)
    found = {}
    for count in (*(number for number in options.labels if number < every), every):
        pairs = []
        for seed in range(options.seeds):
            rows = np.random.default_rng(fold_in(seed, "galaxies")).permutation(every)[:count]
            pairs.append(
                (network_scores(galaxies, rows, ResNet18(width=options.width), training, seed), galaxies.scores(rows))
            )
            print(f"{count} labels, seed {seed}: network and head {pairs[-1]}", file=sys.stderr, flush=True)
        found[count] = np.array(pairs)
    for number, measure in enumerate(("balanced accuracy", "area under the ROC curve")):
        lines = [("labels", "ResNet-18", "head on the encoder", "head minus ResNet-18")]
        for count, scores in found.items():
            network, head = scores[:, 0, number], scores[:, 1, number]
            cells = (shown(mean_interval(network)), shown(mean_interval(head)), shown(paired_difference(head, network)))
            lines.append((str(count), *cells))
        print(text_table(f"{options.config}: {measure}, {options.seeds} seeds", lines))


def network_scores(
    galaxies: Galaxies, rows: np.ndarray, architecture: ResNet18, training: WeightedTraining, seed: int
) -> tuple[float, float]:
    """Return accuracy and area of a network that learned some labelled galaxies."""
    images, labels = galaxies.images_NCHW[rows], torch.tensor(galaxies.labels_N[rows])
    network = build_network(architecture, galaxies.num_classes, images.shape[-1])
    data = images, one_hot(labels, galaxies.num_classes), drawing_probabilities(labels)
    theta_P = initial_parameters(network, fold_in(seed, "initial"))
    *_, state = fit_steps(network, theta_P, *data, training, fold_in(seed, "steps"))
    logits_MK = predict_logits(network, state.average_P, galaxies.test_images_MCHW)
    return galaxies.figures(logits_MK.softmax(dim=1).double().numpy())


if __name__ == "__main__":
    main()
