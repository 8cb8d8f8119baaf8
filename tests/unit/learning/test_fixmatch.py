"""FixMatch: the loss by hand, the threshold, and what unlabelled images add."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raydistill.errors import DivergenceError
from raydistill.learning.architectures import MLP
from raydistill.learning.augment import Augmentation
from raydistill.learning.fixmatch import fit_fixmatch
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.options import FixMatch
from raydistill.seeding import generator

NONE = Augmentation()
PLAIN = FixMatch(steps=1, batch_size=4, unlabelled=2, threshold=0.5, weak=NONE, strong=NONE, average=0.0, momentum=0.0)
NETWORK = build_network(MLP(width=4), 2, 4)
THETA = initial_parameters(NETWORK, 0)


def images(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def fit(options: FixMatch, seed: int = 0) -> torch.Tensor:
    targets = torch.eye(2)[torch.arange(6) % 2]
    return fit_fixmatch(NETWORK, THETA, images(6, 1), targets, torch.ones(6), images(50, 2), options, seed)


def test_one_step_follows_the_loss_of_the_paper() -> None:
    g = generator(0, "fixmatch")
    labelled = torch.multinomial(torch.ones(6).double(), 4, replacement=True, generator=g)
    drawn = torch.randint(50, (8,), generator=g)
    theta = THETA.clone().requires_grad_()
    probabilities = NETWORK(THETA, images(50, 2)[drawn]).softmax(dim=1).detach()
    confidence, label = probabilities.max(dim=1)
    assert 0 < int((confidence >= 0.67).sum()) < 8, "the threshold must matter"
    supervised = torch.nn.functional.cross_entropy(NETWORK(theta, images(6, 1)[labelled]), labelled % 2)
    each = torch.nn.functional.cross_entropy(NETWORK(theta, images(50, 2)[drawn]), label, reduction="none")
    loss = supervised + 0.7 * (each * (confidence >= 0.67)).mean()
    (gradient,) = torch.autograd.grad(loss, theta)
    expected = THETA - PLAIN.lr * (gradient + PLAIN.weight_decay * THETA)
    torch.testing.assert_close(fit(replace(PLAIN, threshold=0.67, weight=0.7)), expected, rtol=1e-5, atol=1e-7)


def test_threshold_that_nothing_reaches_leaves_supervised_training() -> None:
    options = replace(PLAIN, steps=5, threshold=1.0)
    assert torch.equal(fit(options), fit(replace(options, weight=0.0, threshold=0.5)))
    assert not torch.equal(fit(options), fit(replace(options, threshold=0.5)))


def test_result_depends_on_the_seed_alone() -> None:
    options = FixMatch(steps=3, batch_size=4, unlabelled=2)
    assert torch.equal(fit(options), fit(options))
    assert not torch.equal(fit(options), fit(options, seed=1))


def test_unlabelled_images_improve_a_boundary_between_two_clouds() -> None:
    """Two labelled points, and 400 unlabelled ones in two elongated clouds."""
    rng = torch.Generator().manual_seed(3)
    labels = torch.arange(400) % 2
    points = 0.3 * torch.randn(400, 48, generator=rng)
    points[:, 0] += 2.0 * (2 * labels - 1)
    pool = points.view(400, 3, 4, 4)
    few = torch.stack([pool[labels == 0][0], pool[labels == 1][0]])
    options = FixMatch(
        steps=200, batch_size=8, unlabelled=4, threshold=0.8, weak=NONE, strong=Augmentation(("color",)), average=0.0
    )
    accuracies = []
    for weight in (0.0, 1.0):
        theta = fit_fixmatch(NETWORK, THETA, few, torch.eye(2), torch.ones(2), pool, replace(options, weight=weight), 0)
        accuracies.append((NETWORK(theta, pool).argmax(dim=1) == labels).float().mean())
    assert accuracies[1] >= accuracies[0]
    assert accuracies[1] > 0.95


def test_diverging_training_is_reported() -> None:
    with pytest.raises(DivergenceError, match="lower the learning rate"):
        fit(replace(PLAIN, steps=50, lr=1e20))


@pytest.mark.parametrize(("key", "value"), [("threshold", 0.0), ("threshold", 1.1), ("steps", 0), ("momentum", 1.0)])
def test_wrong_values_are_rejected(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=key):
        replace(PLAIN, **{key: value})
