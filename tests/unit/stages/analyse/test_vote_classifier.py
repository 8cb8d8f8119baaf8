"""Predict vote fractions of pictures with known answers.

The answers are known functions of the pixels.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from raydistill.learning.architectures import ConvNet
from raydistill.learning.networks import build_network
from raydistill.stages.analyse.science.vote_classifier import VoteTraining, fit_votes, vote_loss
from tests.zoo import normal

QUESTIONS = ((0, 1), (2, 3, 4))


def galaxies(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return pictures and votes.

    The first question follows the brightness, the second the contrast.
    """
    g = torch.Generator().manual_seed(seed)
    bright, contrast = torch.rand(count, generator=g), torch.rand(count, generator=g)
    stripes = torch.tensor([1.0, -1.0]).repeat(4)[None, None, None, :]
    noise = 0.1 * normal(seed, count, 3, 8, 8, dtype=torch.float32)
    images = bright[:, None, None, None] * 2 - 1 + contrast[:, None, None, None] * stripes + noise
    votes = torch.stack([bright, 1 - bright, contrast, (1 - contrast) / 2, (1 - contrast) / 2], dim=1)
    return images, votes


def test_loss_is_the_cross_entropy_of_the_known_questions() -> None:
    logits = normal(0, 3, 5)
    votes = torch.tensor([[0.2, 0.8, 0.5, 0.25, 0.25], [1.0, 0.0, *[math.nan] * 3], [math.nan] * 5]).double()
    by_hand = [
        -(votes[0, :2] * logits[0, :2].log_softmax(0)).sum(),
        -(votes[0, 2:] * logits[0, 2:].log_softmax(0)).sum(),
        -logits[1, :2].log_softmax(0)[0],
    ]
    assert vote_loss(logits, votes, QUESTIONS).item() == pytest.approx(sum(by_hand).item() / 3)
    assert vote_loss(logits, votes[2:].expand(3, -1), QUESTIONS).isnan()


def test_fractions_are_predicted_and_sum_to_one() -> None:
    images, votes = galaxies(400, seed=0)
    votes[::3, 2:] = math.nan  # volunteers of a third of the galaxies did not reach the second question
    network = build_network(ConvNet(depth=1, width=8, norm="none"), 5, 8)
    model = fit_votes(network, images, votes, QUESTIONS, VoteTraining(steps=300, batch_size=32, lr=0.01), seed=0)
    fresh, truth = galaxies(200, seed=1)
    predicted = model.predict(fresh)
    for columns in map(list, QUESTIONS):
        torch.testing.assert_close(predicted[:, columns].sum(dim=1), torch.ones(200))
    for answer in (0, 2):
        assert torch.corrcoef(torch.stack([predicted[:, answer], truth[:, answer]]))[0, 1] > 0.95


def test_seed_decides_the_classifier() -> None:
    images, votes = galaxies(40, seed=0)
    network = build_network(ConvNet(depth=1, width=4, norm="none"), 5, 8)
    training = VoteTraining(steps=3, batch_size=8)
    first, again, other = (fit_votes(network, images, votes, QUESTIONS, training, seed) for seed in (0, 0, 1))
    assert torch.equal(first.theta_P, again.theta_P)
    assert not torch.equal(first.theta_P, other.theta_P)
