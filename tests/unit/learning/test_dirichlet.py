"""Test the likelihood of votes against scipy, its gradient, and resulting classes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from raydistill.learning.dirichlet import (
    ClassReadout,
    class_logits,
    concentrations,
    mean_fractions,
    negative_log_likelihood,
)

QUESTIONS = (3, 2, 4)
PATHS = (((0,),), ((1,), (3,)), ((1,), (4,), (5, 7)))


def votes(seed: int, count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Return concentrations and whole counts, float64 [count, 9]."""
    rng = np.random.default_rng(seed)
    alpha, counts = rng.uniform(0.3, 60, (count, 9)), rng.integers(0, 40, (count, 9)).astype(float)
    return torch.from_numpy(alpha), torch.from_numpy(counts)


def test_likelihood_of_each_question_equals_that_of_scipy() -> None:
    alpha, counts = votes(0)
    result = negative_log_likelihood(alpha, counts, QUESTIONS)
    assert result.shape == (6, 3)
    edges = np.cumsum((0, *QUESTIONS))
    for question, (start, stop) in enumerate(pairwise(edges)):
        for row in range(6):
            votes_of = counts[row, start:stop].numpy().astype(int)
            expected = stats.dirichlet_multinomial.logpmf(votes_of, alpha[row, start:stop].numpy(), votes_of.sum())
            assert float(result[row, question]) == pytest.approx(-expected, rel=1e-10, abs=1e-10)


def test_probabilities_of_all_outcomes_sum_to_one() -> None:
    alpha = torch.tensor([[0.7, 2.5, 9.0]], dtype=torch.float64)
    outcomes = torch.tensor([[i, j, 5 - i - j] for i in range(6) for j in range(6 - i)], dtype=torch.float64)
    total = (-negative_log_likelihood(alpha.expand(len(outcomes), 3), outcomes, (3,))).exp().sum()
    assert float(total) == pytest.approx(1, rel=1e-12)


def test_gradient_agrees_with_finite_differences() -> None:
    alpha, counts = votes(1, count=2)
    alpha.requires_grad_()
    assert torch.autograd.gradcheck(lambda a: negative_log_likelihood(a, counts, QUESTIONS), (alpha,))
    outputs = torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda z: negative_log_likelihood(concentrations(z), counts, QUESTIONS), (outputs,))


def test_question_without_votes_has_no_loss_and_no_gradient() -> None:
    alpha, counts = votes(3)
    counts[:, 3:5] = 0
    alpha.requires_grad_()
    loss = negative_log_likelihood(alpha, counts, QUESTIONS)
    assert loss[:, 1].tolist() == [0.0] * 6
    loss.sum().backward()
    assert alpha.grad is not None
    assert not alpha.grad[:, 3:5].any()
    assert alpha.grad[:, :3].all()


def test_many_concentrated_votes_are_multinomial() -> None:
    """The Dirichlet distribution becomes a point for large concentrations."""
    fractions, counts = np.array([0.2, 0.5, 0.3]), np.array([4, 9, 2])
    alpha = torch.from_numpy(fractions * 1e7)[None]
    result = negative_log_likelihood(alpha, torch.from_numpy(counts.astype(float))[None], (3,))
    assert float(result) == pytest.approx(-stats.multinomial.logpmf(counts, 15, fractions), rel=1e-4)


def test_class_logits_are_the_products_along_the_paths() -> None:
    outputs = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    fractions = mean_fractions(concentrations(outputs), QUESTIONS)
    for question in fractions.split(list(QUESTIONS), 1):
        torch.testing.assert_close(question.sum(dim=1), torch.ones(4, dtype=torch.float64))
    expected = torch.stack(
        [
            fractions[:, 0],
            fractions[:, 1] * fractions[:, 3],
            fractions[:, 1] * fractions[:, 4] * (fractions[:, 5] + fractions[:, 7]),
        ],
        dim=1,
    )
    torch.testing.assert_close(class_logits(fractions, PATHS).exp(), expected)
    torch.testing.assert_close(ClassReadout(QUESTIONS, PATHS)(outputs), expected.log())
    assert torch.autograd.gradgradcheck(ClassReadout(QUESTIONS, PATHS), (outputs.requires_grad_(),))
