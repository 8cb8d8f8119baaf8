"""Where the experts have been, as a matching iteration asks for it: epoch by epoch, or straightened.

*Convexified* (Zhong et al. 2024, arXiv:2406.19827): the path of SGD bends and shakes; in its place stands the straight line between its
two ends, travelled as fast as the expert went,

    theta(t) = (1 - beta_t) theta_0 + beta_t theta_T,    beta_t = (theta_t - theta_0) . (theta_T - theta_0) / |theta_T - theta_0|^2,

so that theta(t) is the point of the line nearest to theta_t, clipped to the line and never going back. Between epochs beta is
interpolated, so any real t can be asked for (the paper's continuous sampling), and the two ends with beta are all there is to store.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Trajectories(Protocol):
    """`trajectories(expert, epoch)` is theta_P after that epoch (0: initial); `progress(expert)` is beta_0 ... beta_T."""

    @property
    def num_experts(self) -> int: ...

    @property
    def num_epochs(self) -> int: ...

    def __call__(self, expert: int, epoch: int) -> Tensor: ...

    def progress(self, expert: int) -> list[float]: ...


class Path(Protocol):
    """theta_P of an expert at any epoch that a matching iteration starts from or aims at."""

    def __call__(self, expert: int, epoch: float) -> Tensor: ...


def progress(path_TP: np.ndarray) -> list[float]:
    """beta_0 ... beta_T of a trajectory [T + 1, P]: from 0 to 1, never falling. float64 sums, so any machine finds the same."""
    line = path_TP[-1].astype(np.float64) - path_TP[0]
    length = float(line @ line)
    if length == 0:
        return [0.0] * (len(path_TP) - 1) + [1.0]
    travelled = [float((row.astype(np.float64) - path_TP[0]) @ line) / length for row in path_TP]
    beta = np.clip(np.maximum.accumulate(travelled), 0, 1)
    beta[-1] = 1.0
    return beta.tolist()


class Straight:
    """The convexified trajectories; `straight(expert, t)` for any real t in [0, epochs]."""

    def __init__(self, trajectories: Trajectories) -> None:
        self._trajectories = trajectories
        self._beta: dict[int, list[float]] = {}

    def __call__(self, expert: int, epoch: float) -> Tensor:
        start = self._trajectories(expert, 0)
        return torch.lerp(start, self._trajectories(expert, self._trajectories.num_epochs), self.beta(expert, epoch))

    def beta(self, expert: int, epoch: float) -> float:
        """How far along its line this expert is."""
        if expert not in self._beta:
            self._beta[expert] = self._trajectories.progress(expert)
        beta, before = self._beta[expert], math.floor(epoch)
        after = min(before + 1, len(beta) - 1)
        return beta[before] + (epoch - before) * (beta[after] - beta[before])
