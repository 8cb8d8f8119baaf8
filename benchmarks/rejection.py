"""Compare scores that reject galaxies of classes that the source lacks.

    python benchmarks/rejection.py adapt_simulated adapt_simulated_target [key=value ...] [--steps 1500]

Three networks learn the source, and see the target's pictures matched with it. Prints the area
under the ROC curve of each score for the target's unseen classes among its test galaxies: entropy,
the highest probability, energy (arXiv:2010.03759), the distance to the tenth nearest training galaxy
(arXiv:2204.06507) and to the nearest class (arXiv:1807.03888) in features, and of the mean over the
networks. Below: networks that tell the target's pictures from the source's, which need no labels,
and networks that learned the target's own classes, which say what the pictures show.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import normalize

from raydistill import load_config
from raydistill.learning.networks import Network, build_network, initial_parameters, logits_and_features
from raydistill.learning.normalise import one_hot
from raydistill.learning.weighted_training import drawing_probabilities, fit_steps
from raydistill.pipeline.plan import Plan
from raydistill.seeding import fold_in
from raydistill.stages.adapt.opening import UNSEEN, Pictures, open_surveys
from raydistill.statistics.intervals import mean_interval
from raydistill.text import interval, text_table

SEEDS, NEIGHBOUR = 3, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("target")
    parser.add_argument("--steps", type=int, default=1500)
    options, overrides = parser.parse_known_args()
    plan = Plan(load_config(options.config, *overrides, f"adapt.target={options.target}"))
    surveys, matching = open_surveys(plan), plan.config.adapt.matching
    train, matched, test = (
        surveys.source_pictures("train"),
        surveys.target_pictures("train", matching),
        surveys.target_pictures("test", matching),
    )
    unseen = (test.labels == UNSEEN).numpy()
    areas: dict[str, list[float]] = {}
    probabilities = []
    for network, theta_P in trained(plan, train, options.steps):
        known, seen = (outputs(network, theta_P, part.images) for part in (test, train))
        probabilities.append(known[0].softmax(dim=1))
        for name, score_N in scores(known, seen, train.labels).items():
            areas.setdefault(name, []).append(roc_auc_score(unseen, score_N))
    areas["entropy of the mean"] = [roc_auc_score(unseen, entropy(torch.stack(probabilities).mean(dim=0)))]
    both = torch.arange(2).repeat_interleave(torch.tensor([len(train.images), len(matched.images)]))
    domains = Pictures(torch.cat([train.images, matched.images]), both)
    areas["target or source"] = list(of_class(plan, domains, 1, test.images, unseen, options.steps))
    target = surveys.target
    own = [
        Pictures(target.normalisation.apply(of.images_NHWC), of.labels_N)
        for of in (target.load("train"), target.load("test"))
    ]
    wanted = target.class_names.index(surveys.unseen[0])
    areas["networks that know the class"] = list(of_class(plan, own[0], wanted, own[1].images, unseen, options.steps))
    rows = [("score", "area"), *((name, shown(found)) for name, found in areas.items())]
    print(text_table(f"{unseen.sum()} of {len(unseen)} galaxies are of an unseen class", rows))


def shown(found: list[float]) -> str:
    return f"{found[0]:.3f}" if len(found) == 1 else interval(*mean_interval(found))


def trained(plan: Plan, learned: Pictures, steps: int) -> Iterator[tuple[Network, Tensor]]:
    """Yield networks that learned labelled pictures, and their parameters."""
    adapt, num_classes = plan.config.adapt, int(learned.labels.max()) + 1
    training = replace(adapt.training, steps=steps, lr=adapt.lr_grid[0])
    network = build_network(adapt.network, num_classes, learned.images.shape[-1])
    data = learned.images, one_hot(learned.labels, num_classes), drawing_probabilities(learned.labels)
    for seed in range(SEEDS):
        theta_P = initial_parameters(network, fold_in(seed, "initial"))
        *_, state = fit_steps(network, theta_P, *data, training, fold_in(seed, "training"))
        yield network, state.average_P


def of_class(
    plan: Plan, learned: Pictures, label: int, images: Tensor, unseen: np.ndarray, steps: int
) -> Iterator[float]:
    """Yield the area of the probability of a class by networks that know it."""
    for network, theta_P in trained(plan, learned, steps):
        probability_N = outputs(network, theta_P, images)[0].softmax(dim=1)[:, label]
        yield float(roc_auc_score(unseen, probability_N))


@torch.inference_mode()
def outputs(network: Network, theta_P: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits [N, K] and features [N, F], float64."""
    parts = [logits_and_features(network, theta_P, part) for part in images.split(256)]
    logits, features = (torch.cat(one).double() for one in zip(*parts, strict=True))
    return logits, features


def entropy(probability_NK: Tensor) -> Tensor:
    return -torch.xlogy(probability_NK, probability_NK).sum(dim=1)


def scores(known: tuple[Tensor, Tensor], seen: tuple[Tensor, Tensor], labels_M: Tensor) -> dict[str, Tensor]:
    """Return scores of target galaxies; `seen` are the training galaxies."""
    (logits_NK, features_NF), features_MF = known, seen[1]
    means_KF = torch.stack([features_MF[labels_M == label].mean(dim=0) for label in labels_M.unique()])
    centred_MF = features_MF - means_KF[labels_M]
    covariance_FF = centred_MF.T @ centred_MF / len(centred_MF)
    inverse_FF = torch.linalg.pinv(covariance_FF, hermitian=True)
    offsets_NKF = features_NF[:, None] - means_KF
    similarity_NM = normalize(features_NF) @ normalize(features_MF).T
    return {
        "entropy": entropy(logits_NK.softmax(dim=1)),
        "highest probability": -logits_NK.softmax(dim=1).max(dim=1).values,
        "energy": -logits_NK.logsumexp(dim=1),
        "nearest galaxies": -similarity_NM.topk(NEIGHBOUR, dim=1).values[:, -1],
        "nearest class": ((offsets_NKF @ inverse_FF) * offsets_NKF).sum(dim=2).min(dim=1).values,
    }


if __name__ == "__main__":
    main()
