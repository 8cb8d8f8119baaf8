"""Compute Stable Diffusion's noise schedule, in which sqrt(beta) is linear.

    beta_n = (sqrt(BETA_START) + n / (N - 1) (sqrt(BETA_END) - sqrt(BETA_START)))^2,
    alpha_n^2 = (1 - beta_0) ... (1 - beta_n),    sigma_n^2 = 1 - alpha_n^2,

for n = 0 ... N - 1. Time t in [0, 1] is step n = t (N - 1), and alpha is linear between two steps.

References
----------
Rombach et al. 2022, arXiv:2112.10752; the constants are those of the released checkpoints.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NUM_STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012


@cache
def alphas(zero_terminal_snr: bool = False) -> Tensor:
    """Return alpha_n as float64 [N], falling.

    Parameters
    ----------
    zero_terminal_snr
        Shift and scale them so that the first stays and the last becomes 0 (Lin et al. 2024,
        arXiv:2305.08891, Algorithm 1). Otherwise the last is 0.068.
    """
    import torch

    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, NUM_STEPS, dtype=torch.float64).square()
    table_N = (1 - betas).cumprod(0).sqrt()
    if not zero_terminal_snr:
        return table_N
    return (table_N - table_N[-1]) * (table_N[0] / (table_N[0] - table_N[-1]))


def alpha_at(times: Tensor, zero_terminal_snr: bool = False) -> Tensor:
    """Return alpha, as float64, at times in [0, 1] of any shape."""
    table_N = alphas(zero_terminal_snr).to(times.device)
    steps = times.double() * (NUM_STEPS - 1)
    below = steps.long().clamp(0, NUM_STEPS - 2)
    return table_N[below].lerp(table_N[below + 1], steps - below)


def time_of(alpha: Tensor, zero_terminal_snr: bool = False) -> Tensor:
    """Return the float64 times at which alpha has these values, clipped to its range."""
    import torch

    table_N = alphas(zero_terminal_snr).to(alpha.device)
    values = alpha.double().clamp(table_N[-1], table_N[0])
    below = (torch.searchsorted(-table_N, -values, right=True) - 1).clamp(0, NUM_STEPS - 2)
    fraction = (table_N[below] - values) / (table_N[below] - table_N[below + 1])
    return (below + fraction) / (NUM_STEPS - 1)
