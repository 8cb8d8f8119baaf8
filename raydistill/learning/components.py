"""Find the principal components of images."""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill.seeding import generator

SMALLEST_VARIANCE = 1e-9  # relative to the largest; below it is rounding
OVERSAMPLING, ROUNDS = 16, 6  # of the subspace iteration; Halko et al. use 5 to 20 and 1 to 4


def principal_axes(centred_NP: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return at most `count` principal axes [K, P] and variances [K], largest first.

    The rows are centred, and float64. Subspace iteration from random vectors (Halko et al. 2011,
    arXiv:0909.4061, Algorithm 4.4) costs N P K operations a round, where the covariance would cost
    N P^2.
    """
    rows, columns = centred_NP.shape
    guesses = min(count + OVERSAMPLING, rows, columns)
    basis_PQ = torch.randn(columns, guesses, dtype=centred_NP.dtype, generator=generator(0, "principal axes"))
    for _ in range(ROUNDS):
        basis_PQ = torch.linalg.qr(centred_NP.T @ (centred_NP @ basis_PQ)).Q
    projected_NQ = centred_NP @ basis_PQ
    variances_Q, rotation_QQ = torch.linalg.eigh(projected_NQ.T @ projected_NQ / rows)
    axes_QP = (basis_PQ @ rotation_QQ.flip(1)).T
    return _with_fixed_signs(axes_QP[:count]), variances_Q.flip(0)[:count].clamp_min(0)


def axes_above_rounding(centred_NP: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return those of `principal_axes` whose variance is not rounding."""
    axes_KP, variances_K = principal_axes(centred_NP, count)
    rank = int((variances_K > SMALLEST_VARIANCE * variances_K.max()).sum())
    return axes_KP[:rank], variances_K[:rank]


def _with_fixed_signs(axes_KP: Tensor) -> Tensor:
    """Return axes with positive largest entries; libraries differ in their sign."""
    largest_K1 = axes_KP.abs().argmax(dim=1, keepdim=True)
    return axes_KP * axes_KP.gather(1, largest_K1).sign()
