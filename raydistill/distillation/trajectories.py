"""Read expert trajectories epoch by epoch, or convexified.

Convexified trajectories (Zhong et al. 2024, arXiv:2406.19827) replace the curved, noisy path of SGD
by the straight line between its two ends. The speed along the line is the expert's:

    theta(t) = (1 - beta_t) theta_0 + beta_t theta_T
    beta_t = (theta_t - theta_0) . (theta_T - theta_0) / |theta_T - theta_0|^2

theta(t) is the point of the line nearest to theta_t, clipped to the line; beta never decreases.
Between epochs beta is interpolated, so t may be any real number (the paper's continuous sampling).
Only the two ends and beta need to be stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from raydistill.learning.networks import Network, initial_parameters
from raydistill.learning.options import Training
from raydistill.learning.sgd import init_state
from raydistill.learning.training import fit


class Trajectories(Protocol):
    """Expert parameters by epoch.

    `trajectories(expert, epoch)` returns theta_P after that epoch (0: initial), and
    `progress(expert)` returns beta_0 ... beta_T.
    """

    @property
    def num_experts(self) -> int: ...

    @property
    def num_epochs(self) -> int: ...

    def __call__(self, expert: int, epoch: int) -> Tensor: ...

    def progress(self, expert: int) -> list[float]: ...


def final_parameters(trajectories: Trajectories) -> list[Tensor]:
    """Return the parameters of each expert after its last epoch: float32 [P] each."""
    return [trajectories(expert, trajectories.num_epochs) for expert in range(trajectories.num_experts)]


def progress(path_TP: np.ndarray) -> list[float]:
    """Return beta_0 ... beta_T of a trajectory [T + 1, P], non-decreasing from 0 to 1.

    Sums are taken in float64, so every machine computes the same values.
    """
    line = path_TP[-1].astype(np.float64) - path_TP[0]
    length = float(line @ line)
    if length == 0:
        return [0.0] * (len(path_TP) - 1) + [1.0]
    travelled = [float((row.astype(np.float64) - path_TP[0]) @ line) / length for row in path_TP]
    beta = np.clip(np.maximum.accumulate(travelled), 0, 1)
    beta[-1] = 1.0
    return beta.tolist()


class InMemoryTrajectories:
    """Expert trajectories in memory.

    Parameters
    ----------
    paths_TP
        One float32 tensor [epochs + 1, P] per expert: its parameters after every epoch, the initial
        ones first.

    Raises
    ------
    ValueError
        If there is no expert, or if the shapes differ.
    """

    def __init__(self, paths_TP: Sequence[Tensor]) -> None:
        if not paths_TP or any(path.shape != paths_TP[0].shape for path in paths_TP):
            raise ValueError("trajectories need at least one expert, and the same shape [epochs + 1, P] for all")
        self._paths = list(paths_TP)

    @classmethod
    def train(
        cls, network: Network, images_NCHW: Tensor, targets_NK: Tensor, training: Training, seeds: Iterable[int]
    ) -> Self:
        """Train one expert per seed, and keep its parameters after every epoch.

        Parameters
        ----------
        network, images_NCHW, targets_NK, training
            Those of `training.fit`.
        seeds
            The seed of each expert: of its initial parameters, batch orders and augmentations.
        """

        def path(seed: int) -> Tensor:
            state = init_state(initial_parameters(network, seed).to(images_NCHW))
            states = fit(network, state, images_NCHW, targets_NK, training, seed)
            return torch.stack([state.average_P, *(later.average_P for later in states)])

        return cls([path(seed) for seed in seeds])

    @property
    def num_experts(self) -> int:
        return len(self._paths)

    @property
    def num_epochs(self) -> int:
        return len(self._paths[0]) - 1

    def __call__(self, expert: int, epoch: int) -> Tensor:
        return self._paths[expert][epoch]

    def progress(self, expert: int) -> list[float]:
        """Return beta_0 ... beta_T of an expert."""
        return progress(self._paths[expert].cpu().numpy())


class SomeTrajectories:
    """Some of the experts, numbered from 0 in the order of `experts`."""

    def __init__(self, trajectories: Trajectories, experts: Sequence[int]) -> None:
        self._trajectories, self._experts = trajectories, tuple(experts)

    @property
    def num_experts(self) -> int:
        return len(self._experts)

    @property
    def num_epochs(self) -> int:
        return self._trajectories.num_epochs

    def __call__(self, expert: int, epoch: int) -> Tensor:
        return self._trajectories(self._experts[expert], epoch)

    def progress(self, expert: int) -> list[float]:
        """Return beta_0 ... beta_T of an expert."""
        return self._trajectories.progress(self._experts[expert])


class Straight:
    """Convexified trajectories: `straight(expert, t)` for any real t in [0, epochs]."""

    def __init__(self, trajectories: Trajectories) -> None:
        self._trajectories = trajectories
        self._beta: dict[int, list[float]] = {}

    def __call__(self, expert: int, epoch: float) -> Tensor:
        start = self._trajectories(expert, 0)
        return torch.lerp(start, self._trajectories(expert, self._trajectories.num_epochs), self.beta(expert, epoch))

    def beta(self, expert: int, epoch: float) -> float:
        """Return the position of an expert on its line, in [0, 1]."""
        if expert not in self._beta:
            self._beta[expert] = self._trajectories.progress(expert)
        beta, before = self._beta[expert], math.floor(epoch)
        after = min(before + 1, len(beta) - 1)
        return beta[before] + (epoch - before) * (beta[after] - beta[before])
