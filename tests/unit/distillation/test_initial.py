"""Initial images that experts classify correctly; labels of experts or volunteers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from raydistill.distillation import initial
from raydistill.distillation.coreset import Coreset
from raydistill.distillation.initial import LEAST_PROBABILITY, expert_labels, initial_images, initial_labels, margin
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.trajectories import InMemoryTrajectories, final_parameters
from raydistill.learning.networks import Network, build_network
from raydistill.learning.normalise import one_hot
from raydistill.learning.training import predict
from raydistill.seeding import generator
from tests import zoo

K = zoo.CLASSES
IMAGES, LABELS = zoo.stripes(90, seed=1)
VOTES = zoo.normal(2, 90, K).softmax(dim=1)
RECIPE = Recipe(images_per_class=4, init="correct")


NETWORK = build_network(zoo.NETWORKS["instance"], K, zoo.SIZE)


@cache
def trajectories() -> InMemoryTrajectories:
    """Return experts that were trained so briefly that they make errors."""
    return zoo.experts(NETWORK, num_experts=2, num_epochs=3)


def experts() -> tuple[Network, list[Tensor]]:
    return NETWORK, final_parameters(trajectories())


def begin(recipe: Recipe, labels_N: Tensor = LABELS, seed: int = 0) -> Coreset:
    return initial_images(recipe, IMAGES, labels_N, recipe.counts([1] * K), *experts(), trajectories(), generator(seed))


# ---- images ----


def test_margin_of_linear_experts_equals_a_calculation_by_hand() -> None:
    network = Network.of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(1, 3, bias=False)))
    pixels = torch.tensor([1.0, 2.0], dtype=torch.float64).view(2, 1, 1, 1)
    two = [torch.tensor(weights, dtype=torch.float64) for weights in ([3.0, 1.0, 2.0], [0.0, 1.0, -1.0])]
    # image 1 of class 0: 3 - 2 and 0 - 1; image 2 of class 1: 2 - 6 and 2 - 0
    expected = torch.tensor([(1 - 1) / 2, (-4 + 2) / 2], dtype=torch.float64)
    torch.testing.assert_close(margin(network, two, pixels, torch.tensor([0, 1])), expected, rtol=0, atol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_init_correct_uses_images_that_the_experts_classify_correctly(seed: int) -> None:
    network, thetas = experts()
    right = torch.stack([predict(network, theta, IMAGES) == LABELS for theta in thetas])
    assert 0.3 < float(right.float().mean()) < 0.95, "these experts cannot tell one choice from another"
    rows = torch.cat(begin(RECIPE, seed=seed).origins)
    assert right[:, rows].any(dim=0).all()
    assert (margin(network, thetas, IMAGES[rows], LABELS[rows]) > 0).all()
    assert LABELS[rows].tolist() == [k for k in range(K) for _ in range(4)]
    drawn = torch.cat(begin(replace(RECIPE, init="real"), seed=seed).origins)
    assert not right[:, drawn].any(dim=0).all(), "any draw would have done"


def test_class_that_no_expert_recognises_starts_from_its_largest_margins() -> None:
    network, thetas = experts()
    wrong = LABELS.clone()
    wrong[LABELS == 0], wrong[LABELS == 1] = 1, 0  # images labelled 0 look like class 1
    margins = margin(network, thetas, IMAGES, wrong)
    rows = torch.cat(begin(replace(RECIPE, images_per_class=25), wrong).origins)[:25]
    largest = (wrong == 0).nonzero().flatten()
    best = largest[margins[largest].argsort(descending=True)[:25]]
    assert int((margins[largest] > 0).sum()) < 25
    assert set(rows.tolist()) == set(best.tolist())


@pytest.mark.parametrize("init", ["dm", "tgdd"])
def test_distribution_matching_brings_the_means_of_galaxies_nearer(init: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, init=init)  # type: ignore[arg-type]
    distances = []
    for iterations in (1, 40):
        monkeypatch.setattr(initial, "DM_ITERATIONS", iterations)
        chosen = begin(recipe)
        assert torch.equal(chosen.images_SCHW, begin(recipe).images_SCHW)
        means = torch.stack([IMAGES[k == LABELS].mean(dim=0) for k in range(K)])
        chosen_means = chosen.images_SCHW.view(K, 4, *IMAGES.shape[1:]).mean(dim=1)
        distances.append(float((chosen_means - means).norm()))
    assert distances[1] < distances[0]
    assert [len(rows) for rows in chosen.origins] == [30] * 4 * K  # the whole class labels them


def test_snapshots_are_drawn_from_all_experts_and_epochs_alike() -> None:
    stored = {(expert, epoch): trajectories()(expert, epoch) for expert in range(2) for epoch in range(4)}
    counts = dict.fromkeys(stored, 0)
    for seed in range(400):
        drawn = initial.random_snapshot(trajectories(), seed)
        counts[next(key for key, theta_P in stored.items() if torch.equal(theta_P, drawn))] += 1
    assert all(25 < count < 80 for count in counts.values()), counts  # 50 each, with a deviation of 6.6


def test_herding_starts_nearest_to_the_class_mean() -> None:
    first, other = (begin(replace(RECIPE, init="herding", images_per_class=1), seed=seed) for seed in (0, 1))
    assert torch.equal(first.images_SCHW, other.images_SCHW)
    for k, image in enumerate(first.images_SCHW):
        of_class = IMAGES[LABELS.eq(k)]
        distances = (of_class - of_class.mean(dim=0)).flatten(1).norm(dim=1)
        assert torch.equal(image, of_class[distances.argmin()])


# ---- labels ----


def labels_of(chosen: Coreset, **options: object) -> Tensor:
    return initial_labels(replace(RECIPE, **options), chosen, RECIPE.counts([1] * K), *experts(), VOTES)  # type: ignore[arg-type]


def test_vote_labels_are_those_of_the_initial_image() -> None:
    chosen = begin(RECIPE)
    assert torch.equal(labels_of(chosen, labels="votes"), VOTES[torch.cat(chosen.origins)].float())


def test_class_means_have_the_mean_votes_of_their_part() -> None:
    chosen = begin(replace(RECIPE, init="mean"))
    parts = labels_of(chosen, labels="votes").view(K, 4, K)
    assert sorted(torch.cat(chosen.origins).tolist()) == list(range(90))
    assert [len(rows) for rows in chosen.origins[:4]] == [8, 8, 7, 7]
    for part, rows in zip(parts.view(-1, K), chosen.origins, strict=True):
        torch.testing.assert_close(part, VOTES[rows].mean(dim=0).float())
    noise = labels_of(begin(replace(RECIPE, init="noise")), labels="votes")
    for k in range(K):
        torch.testing.assert_close(noise[4 * k : 4 * k + 4], VOTES[k == LABELS].mean(dim=0).float().expand(4, K))


def test_soft_labels_initialised_with_votes_equal_the_votes() -> None:
    chosen = begin(RECIPE)
    logits = labels_of(chosen, labels="soft", label_init="votes")
    assert VOTES.min() > LEAST_PROBABILITY
    torch.testing.assert_close(logits.softmax(dim=1), chosen.mean(VOTES).float())


def test_class_without_votes_can_still_rise() -> None:
    chosen = begin(RECIPE)
    logits = labels_of(chosen, labels="soft", label_init="hard").requires_grad_()
    p = logits.softmax(dim=1)
    hard = one_hot(torch.arange(K).repeat_interleave(4), K)
    torch.testing.assert_close(p, hard, atol=(K - 1) * LEAST_PROBABILITY, rtol=0)
    (gradient,) = torch.autograd.grad((p * zoo.normal(9, *p.shape).float()).sum(), logits)
    assert (gradient != 0).all()


def test_soft_labels_start_from_the_experts_by_default() -> None:
    chosen, recipe = begin(RECIPE), replace(RECIPE, labels="soft")
    expected = expert_labels(chosen.images_SCHW, [4] * K, *experts())
    assert torch.equal(initial_labels(recipe, chosen, [4] * K, *experts()), expected)
    right = torch.arange(K).repeat_interleave(4)
    assert torch.equal(expected.argmax(dim=1), right), "an image that an expert gets right has a label of its own class"
