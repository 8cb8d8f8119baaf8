"""Data with a known ideal denoiser: x0 ~ N(mean, std^2) in every number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydistill.diffusion.processes import EDM, Process, RectifiedFlow, VPrediction, expand

PROCESSES: dict[str, Process] = {process.kind: process for process in (RectifiedFlow(), EDM(), VPrediction())}


@dataclass(frozen=True)
class GaussianData:
    """Numbers with this mean and standard deviation, turned into noise by `process`."""

    process: Process
    mean: float = -0.6
    std: float = 0.3

    def denoise(self, x: Tensor, t_B: Tensor) -> Tensor:
        """Return E[x0 | x_t] = m + alpha s^2 (x_t - alpha m) / (alpha^2 s^2 + sigma^2)."""
        alpha, sigma = expand(self.process.alpha(t_B), x), expand(self.process.sigma(t_B), x)
        return self.mean + alpha * self.std**2 / self._variance(alpha, sigma) * (x - alpha * self.mean)

    def flow(self, noise: Tensor) -> Tensor:
        """Return where the probability flow takes x_1 = sigma(1) noise.

        Along the flow, (x_t - alpha m) / std(x_t) is constant.
        """
        unit = torch.ones((), dtype=noise.dtype)
        alpha, sigma = self.process.alpha(unit), self.process.sigma(unit)
        return self.mean + self.std * (sigma * noise - alpha * self.mean) / self._variance(alpha, sigma).sqrt()

    def _variance(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha.square() * self.std**2 + sigma.square()
