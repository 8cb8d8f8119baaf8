r"""Measure the cosine of an epoch's displacement between two orders of the data.

This cosine measures the signal in the displacement.

    RAYDISTILL_DATA=FOLDER python benchmarks/displacement.py gz2_kaggle5 network.width=32 \
        [--ahead 1 2 4] [--orders 3] [--output runs]

Distilled images can learn only the part of a displacement that does not depend on the order of the
data. An expert is trained as in the config. From every second epoch training continues for M
epochs, once per order and draw of the augmentation. The table has, per epoch:

- the mean cosine of two displacements of the experts' parameters (`experts.training.average`);
- the mean cosine of two displacements of SGD's parameters;
- the expert's balanced accuracy on validation images.

A moving average carries part of its past displacement into every order, which raises the first
cosine.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import combinations, islice

import torch
from running import run_stage

from raydistill.config import load
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.sgd import FitState, init_state
from raydistill.learning.training import evaluate, fit
from raydistill.stages.curate.artifact import CuratedSet

EXPERT = 0  # its seed; the orders have the seeds after it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--ahead", type=int, nargs="+", default=[1, 2, 4], metavar="M")
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--output", default="runs")
    args = parser.parse_intermixed_args()
    overrides = [f"output={args.output}", *args.overrides]
    config = load(args.config, overrides)
    training = replace(config.experts.training, precision="float32", compile=True)
    torch.set_num_threads(config.resources.worker_threads)
    curated = CuratedSet.open(str(run_stage("curate", [args.config, *overrides])))
    network = build_network(config.network, curated.num_classes, curated.summary.image_size)
    split = {name: curated.load(name) for name in ("train", "validation")}
    images = {name: curated.normalisation.apply(part.images_NHWC) for name, part in split.items()}
    targets_NK = one_hot(split["train"].labels_N, curated.num_classes)

    def states(begin: FitState, seed: int, last_epoch: int) -> list[FitState]:
        run = fit(network, begin, images["train"], targets_NK, training, seed)
        return list(islice(run, last_epoch - begin.done))

    first = init_state(initial_parameters(network, EXPERT))
    farthest = max(args.ahead)
    expert = [first, *states(first, EXPERT, training.epochs)]
    print(f"{training.steps_per_epoch(len(targets_NK))} steps per epoch")
    columns = [f"M = {ahead}, {parameters}" for ahead in args.ahead for parameters in ("experts", "SGD")]
    print(f"| epoch | {' | '.join(columns)} | validation |\n|{'---|' * (len(columns) + 2)}", flush=True)
    for begin in expert[: training.epochs - farthest + 1 : 2]:
        continued = [states(begin, EXPERT + 1 + order, begin.done + farthest) for order in range(args.orders)]
        cosines = []
        for ahead in args.ahead:
            ends = [run[ahead - 1] for run in continued]
            cosines.append(_mean_cosine([end.average_P - begin.average_P for end in ends]))
            cosines.append(_mean_cosine([end.theta_P - begin.theta_P for end in ends]))
        validation = evaluate(
            network, begin.average_P, images["validation"], split["validation"].labels_N, curated.num_classes
        )
        figures = " | ".join(f"{cosine:.2f}" for cosine in cosines)
        print(f"| {begin.done} | {figures} | {validation.balanced_accuracy:.2f} |", flush=True)


def _mean_cosine(displacements: list[torch.Tensor]) -> float:
    """Return the mean cosine over all pairs of displacements."""
    pairs = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in combinations(displacements, 2)]
    return sum(pairs) / len(pairs)


if __name__ == "__main__":
    main()
