"""Test networks that predict votes: training, classes and trajectory matching."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raydistill.distillation.engines import Adjoint, Unrolled
from raydistill.distillation.matching import Batch, Matcher
from raydistill.learning.architectures import MLP, AnswerNetwork, ConvNet, ViT
from raydistill.learning.augment import Augmentation
from raydistill.learning.dirichlet import concentrations, mean_fractions, negative_log_likelihood
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import (
    Network,
    build_network,
    embedding,
    initial_parameters,
    logits_and_features,
    without_readout,
)
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.sgd import init_state
from raydistill.learning.training import fit
from raydistill.learning.vote_likelihood import VoteLikelihood

QUESTIONS, SIDE, K = (3, 2), 8, 3
PATHS = (((0,),), ((1,), (3,)), ((1,), (4,)))
NONE = Augmentation()
BASE = ConvNet(depth=2, width=4)


def network(base: ConvNet | MLP | ViT = BASE) -> Network:
    return build_network(AnswerNetwork(base=base, questions=QUESTIONS, paths=PATHS), K, SIDE)


def images(count: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, SIDE, SIDE, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("base", [BASE, MLP(width=4), ViT(patch=4, width=8, depth=1, heads=2)])
def test_parameters_are_those_of_a_network_with_an_output_per_answer(base: ConvNet | MLP | ViT) -> None:
    plain, answers = build_network(base, sum(QUESTIONS), SIDE), network(base)
    assert answers.layout.shapes == plain.layout.shapes
    theta = initial_parameters(answers, 3)
    assert torch.equal(theta, initial_parameters(plain, 3))
    theta, pictures = theta.double(), images(4)
    outputs = plain(theta, pictures)
    torch.testing.assert_close(without_readout(answers)(theta, pictures), outputs)
    fractions = mean_fractions(concentrations(outputs), QUESTIONS)
    torch.testing.assert_close(answers(theta, pictures)[:, 2].exp(), fractions[:, 1] * fractions[:, 4])
    _, features = logits_and_features(answers, theta, pictures)
    shared = theta[: embedding(answers).layout.num_parameters]
    torch.testing.assert_close(embedding(answers)(shared, pictures).flatten(1), features)


def test_network_for_another_number_of_classes_is_rejected() -> None:
    with pytest.raises(ValueError, match="paths for 3 classes, not for 5"):
        build_network(AnswerNetwork(base=BASE, questions=QUESTIONS, paths=PATHS), 5, SIDE)


def test_loss_is_the_likelihood_of_the_votes_times_the_weight_of_a_galaxy() -> None:
    objective = VoteLikelihood(network(), K, QUESTIONS)
    theta, pictures = initial_parameters(objective.network, 1).double(), images(3)
    counts = torch.tensor([[4, 1, 0, 1, 0], [0, 9, 1, 2, 7], [30, 0, 0, 0, 0]], dtype=torch.float64)
    weighted = one_hot(torch.tensor([0, 2, 0]), K).double() * torch.tensor([[2.0], [0.5], [0.0]])
    loss = objective.loss(NONE)(theta, pictures, torch.cat([weighted, counts], dim=1), {})
    each = negative_log_likelihood(objective.concentrations(theta, pictures), counts, QUESTIONS).sum(dim=1)
    torch.testing.assert_close(loss, (2 * each[0] + 0.5 * each[1]) / 3)


def test_training_learns_fractions_and_certainty() -> None:
    """Bright pictures have steady votes of 8 : 2; dark ones scatter around 2 : 8."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(80) % 2
    pictures = labels.view(-1, 1, 1, 1) - 0.5 + 0.1 * torch.randn(80, 3, SIDE, SIDE, generator=g)
    smooth = torch.where(labels == 1, 0.8, 0.2 * (torch.arange(80) % 4 < 2) * 2)
    counts = torch.stack([20 * smooth, 20 - 20 * smooth, *torch.zeros(3, 80)], dim=1).round()
    objective = VoteLikelihood(network(MLP(width=8)), K, QUESTIONS)
    training = Training(epochs=400, batch_size=20, lr=0.1, class_weights=False)
    start, targets = (
        init_state(initial_parameters(objective.network, 0)),
        torch.cat([one_hot(labels, K), counts], dim=1),
    )
    *_, state = fit(objective.network, start, pictures, targets, training, 0, objective=objective)
    alpha = objective.concentrations(state.theta_P, pictures)[:, :3].detach()
    bright, dark = alpha[labels == 1].mean(dim=0), alpha[labels == 0].mean(dim=0)
    assert float(bright[0] / bright.sum()) == pytest.approx(0.8, abs=0.05)
    assert float(dark[0] / dark.sum()) == pytest.approx(0.2, abs=0.08)
    assert bright.sum() > 3 * dark.sum()


def test_trajectories_are_matched_with_an_exact_gradient() -> None:
    """Students learn the classes, through the same outputs for answers."""
    model = network()
    start, target = (initial_parameters(model, seed).double() for seed in (0, 1))
    pictures, labels = images(3), one_hot(torch.arange(3), K).double()
    batches = [Batch(None, {}) for _ in range(3)]
    lr = torch.tensor(0.05, dtype=torch.float64)
    result = [
        Matcher(student_loss(model, NONE), engine).match(start, target, pictures, labels, lr, batches)
        for engine in (Adjoint(), Unrolled())
    ]
    assert result[0].d_images_SCHW.abs().max() > 0
    for adjoint, unrolled in zip(result[0].gradients, result[1].gradients, strict=True):
        torch.testing.assert_close(adjoint, unrolled, rtol=1e-8, atol=1e-12)
