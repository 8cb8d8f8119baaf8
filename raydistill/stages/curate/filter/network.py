"""Train a small network to recognise damaged pictures; calibrate rejection limits.

The outcomes of the network are "clean", outcome 0, and one per reason. A picture is rejected for a
reason if its probability exceeds the limit of the reason. The limit is at least one half, so a
picture has one reason at most, and no limit rejects more than the wanted share of clean pictures.

Everything runs on one thread and in single pictures where it decides a rejection. The result then
does not depend on the number of workers or on the size of a batch.

Shape letters: V side of a view in pixels, R reasons, N pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

from raydistill.galaxies.pictures.images import prepare
from raydistill.learning.augment import Augmentation
from raydistill.seeding import fold_in, generator
from raydistill.simulation.defects import REASONS, Reason

VIEW = 48  # px; a hit of a cosmic ray still shows
LEAST = 0.5  # probability
CONFIDENCE = 0.95
LR, WEIGHT_DECAY, BATCH = 2e-3, 1e-4, 32

Tensors = dict[str, Tensor]
DrawPictures = Callable[[int], tuple[np.ndarray, np.ndarray]]  # round -> uint8 [N, V, V, 3], outcomes int64 [N]


class _FilterNetwork(nn.Module):
    """Convolutions for shapes, and a blurred picture for brightness that norms remove."""

    def __init__(self, outcomes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 32), (32, 32)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU(), nn.MaxPool2d(2)]
        self.shapes = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(32 + 32 * 9 + 3 * 36, 64), nn.ReLU(), nn.Linear(64, outcomes))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        shapes = self.shapes(images_BCHW)
        blurred = nn.functional.avg_pool2d(images_BCHW, VIEW // 6)
        return self.head(torch.cat([shapes.amax(dim=(2, 3)), shapes.flatten(1), blurred.flatten(1)], dim=1))


def filter_network(num_reasons: int, seed: int) -> nn.Module:
    """Return a new network for `VIEW` pixels: a logit for "clean", one per reason."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _FilterNetwork(1 + num_reasons)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: the number of threads changes the last bits of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def to_input(pictures_NVV3: np.ndarray) -> Tensor:
    """Return float32 `[N, 3, V, V]` from uint8 `[N, V, V, 3]`; roots show faint light."""
    return (torch.from_numpy(np.ascontiguousarray(pictures_NVV3)).permute(0, 3, 1, 2).float() / 255).sqrt() * 2 - 0.5


def train_filter(num_reasons: int, draw: DrawPictures, steps: int, seed: int) -> Tensors:
    """Return the parameters of a network trained on new pictures in every round.

    Parameters
    ----------
    num_reasons
        R.
    draw
        Returns the pictures of a round and their outcomes: 0 for "clean", r + 1 for reason r.
        A round ends when each picture was used once. Memory holds those of one round.
    steps
        Number of steps of the optimiser.
    seed
        Root of the initial parameters and of the batches.

    Returns
    -------
    dict of str to torch.Tensor
        float32, by the name of the parameter.
    """
    module = filter_network(num_reasons, fold_in(seed, "initial"))
    optimiser = torch.optim.AdamW(module.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    dihedral = Augmentation(("dihedral",))
    done = 0
    with one_thread():
        for number in count():
            pictures_NVV3, outcomes_N = draw(number)
            images_NCHW, targets_N = to_input(pictures_NVV3), torch.from_numpy(outcomes_N)
            g = generator(seed, "round", number)
            for index in torch.randperm(len(targets_N), generator=g).split(BATCH)[: steps - done]:
                optimiser.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * done / steps))
                turned = dihedral.apply(images_NCHW[index], dihedral.sample(g, len(index)))
                loss = nn.functional.cross_entropy(module(turned), targets_N[index])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                done += 1
            if done == steps:
                break
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@torch.no_grad()
def probabilities(parameters: Tensors, pictures_NVV3: Iterable[np.ndarray], num_reasons: int) -> np.ndarray:
    """Return each outcome's probability, float64 `[N, 1 + R]`, picture by picture."""
    module = filter_network(num_reasons, 0)
    module.load_state_dict(parameters)
    with one_thread():
        logits = [module(to_input(picture[None]))[0] for picture in pictures_NVV3]
    if not logits:
        return np.empty((0, 1 + num_reasons))
    return torch.stack(logits).double().softmax(dim=1).numpy()


def needed_pictures(rate: float) -> int:
    """Return the least number of clean pictures whose quantile can stay below `rate`."""
    return math.ceil(1 / rate - 1 - 1e-9)


def calibrate(probabilities_N: np.ndarray, rate: float) -> float:
    """Return the limit that rejects at most this share of clean pictures.

    Parameters
    ----------
    probabilities_N
        Probability of the reason for clean pictures on which the network was not trained.
    rate
        Wanted share, in (0, 1).

    Raises
    ------
    ValueError
        For fewer than `needed_pictures(rate)` pictures.

    Notes
    -----
    The limit is the k-th smallest of n probabilities, k = ceil((n + 1)(1 - rate)), or `LEAST`. A
    further picture of the same kind then exceeds it with a probability of at most `rate` (split
    conformal prediction, Vovk et al. 2005).
    """
    n = len(probabilities_N)
    k = math.ceil((n + 1) * (1 - rate) - 1e-9)
    if k > n:
        raise ValueError(f"{n} pictures cannot calibrate a rate of {rate:g}; {needed_pictures(rate)} can")
    return max(LEAST, float(np.sort(probabilities_N)[k - 1]))


def binomial_interval(count: int, total: int) -> tuple[float, float, float]:
    """Return a share and its 95 % interval (Clopper & Pearson 1934).

    A total of 0 gives a share of NaN and the interval from 0 to 1.
    """
    if not total:
        return float("nan"), 0.0, 1.0
    tail = (1 - CONFIDENCE) / 2
    low = float(special.betaincinv(count, total - count + 1, tail)) if count else 0.0
    high = float(special.betaincinv(count + 1, total - count, 1 - tail)) if count < total else 1.0
    return count / total, low, high


# Apply a trained filter: reject the rows whose pictures show a defect.

FOLDS = 2  # each picture is scored by the network that was trained on pictures of the other fold
FILTER_VIEW = "view"  # of a row: the picture that the filter sees


def filter_view(original: np.ndarray, crop_fraction: float, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Return the curated part of a picture as the filter sees it, uint8 `[V, V, 3]`.

    It is not aligned.
    """
    return prepare(original, crop_fraction, VIEW, centre=centre)


@dataclass(frozen=True)
class TrainedFold:
    """The network for the pictures of one fold, and its limits by reason."""

    parameters: Tensors
    limits: dict[Reason, float]


@dataclass(frozen=True)
class TrainedFilter:
    """Networks and limits of all folds; rank r belongs to fold r modulo `FOLDS`."""

    folds: tuple[TrainedFold, ...]
    reasons: tuple[Reason, ...]

    def reject(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of a block, with the reason in place of a defective picture."""
        reasons: dict[int, tuple[Reason, str]] = {}
        for number, fold in enumerate(self.folds):
            of_fold = [row for row in rows if FILTER_VIEW in row and row["rank"] % FOLDS == number]
            views = [row[FILTER_VIEW] for row in of_fold]
            for row, outcomes in zip(of_fold, probabilities(fold.parameters, views, len(REASONS)), strict=True):
                for reason in self.reasons:  # limits are at least one half, so no two are exceeded
                    probability, limit = float(outcomes[1 + REASONS.index(reason)]), fold.limits[reason]
                    if probability > limit:
                        reasons[id(row)] = reason, f"probability {probability:.3f}, limit {limit:.3f}"
        return [_rejected(row, *reasons[id(row)]) if id(row) in reasons else row for row in rows]


def _rejected(row: dict[str, Any], reason: Reason, detail: str) -> dict[str, Any]:
    return {"rank": row["rank"], "path": row["path"], "reason": reason, "detail": detail}
