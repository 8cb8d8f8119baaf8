"""How much of an epoch's displacement is signal: its cosine with that of the same epoch under another order of the data.

    RAYDISTILL_DATA=FOLDER python benchmarks/displacement.py gz2_kaggle5 network.width=32 [--ahead 1 2 4] [--orders 3] [--output runs]

Distilled images can only be taught what the data, and not their order, decide. An expert is trained as the config says; from its state
after some of the epochs it goes on for M epochs, once with each of several orders (and draws of the augmentation). Prints the mean cosine
between two of their displacements, of the experts' parameters (`experts.training.average`) and of SGD's own, and how well the expert
classifies validation images there. A moving average that is under way carries some of its displacement into every order alike.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import combinations, islice

import torch
from running import made

from raydistill.artifacts.curated import CuratedSet
from raydistill.config import load
from raydistill.core.networks import build_network, initial_parameters
from raydistill.core.normalise import one_hot
from raydistill.core.training import FitState, evaluate, fit, init_state

EXPERT = 0  # its seed; the orders to go on with have those after it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--ahead", type=int, nargs="+", default=[1, 2, 4], metavar="M")
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--output", default="runs")
    given = parser.parse_intermixed_args()
    words = [f"output={given.output}", *given.overrides]
    config = load(given.config, words)
    training = replace(config.experts.training, precision="float32", compile=True)
    torch.set_num_threads(config.resources.worker_threads)
    curated = CuratedSet.open(made("curate", [given.config, *words]))
    network = build_network(config.network, curated.num_classes, curated.summary.image_size)
    split = {name: curated.load(name) for name in ("train", "validation")}
    images = {name: curated.normalisation.apply(those.images_NHWC) for name, those in split.items()}
    targets_NK = one_hot(split["train"].labels_N, curated.num_classes)

    def states(begin: FitState, seed: int, last_epoch: int) -> list[FitState]:
        run = fit(network, begin, images["train"], targets_NK, training, seed)
        return list(islice(run, last_epoch - begin.epoch))

    first = init_state(initial_parameters(network, EXPERT))
    farthest = max(given.ahead)
    expert = [first, *states(first, EXPERT, training.epochs)]
    print(f"{training.steps_per_epoch(len(targets_NK))} steps an epoch")
    columns = [f"M = {ahead}, {whose}" for ahead in given.ahead for whose in ("experts", "SGD")]
    print(f"| epoch | {' | '.join(columns)} | validation |\n|{'---|' * (len(columns) + 2)}", flush=True)
    for begin in expert[: training.epochs - farthest + 1 : 2]:
        ways = [states(begin, EXPERT + 1 + order, begin.epoch + farthest) for order in range(given.orders)]
        cosines = []
        for ahead in given.ahead:
            ends = [way[ahead - 1] for way in ways]
            cosines.append(_mean_cosine([end.average_P - begin.average_P for end in ends]))
            cosines.append(_mean_cosine([end.theta_P - begin.theta_P for end in ends]))
        found = evaluate(
            network, begin.average_P, images["validation"], split["validation"].labels_N, curated.num_classes
        )
        figures = " | ".join(f"{cosine:.2f}" for cosine in cosines)
        print(f"| {begin.epoch} | {figures} | {found.balanced_accuracy:.2f} |", flush=True)


def _mean_cosine(displacements: list[torch.Tensor]) -> float:
    """Over all pairs."""
    pairs = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in combinations(displacements, 2)]
    return sum(pairs) / len(pairs)


if __name__ == "__main__":
    main()
