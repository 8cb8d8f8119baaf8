"""A few images per class without any matching: where distillation starts from, and the baselines it has to beat.

All functions take normalised images [N, C, H, W] and integer labels [N] and return images [classes * ipc, C, H, W] sorted by class.
ValueError where a class has no image at all; a class with fewer images than asked repeats them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def random_real(images_NCHW: Tensor, labels_N: Tensor, num_classes: int, ipc: int, g: torch.Generator) -> Tensor:
    """`ipc` training images of each class, drawn without replacement."""

    def draw(members: Tensor) -> Tensor:
        order = torch.randperm(len(members), generator=g)
        return members[order.repeat(-(-ipc // len(members)))[:ipc]]

    return torch.cat([draw(_members(images_NCHW, labels_N, k)) for k in range(num_classes)])


def class_mean(
    images_NCHW: Tensor, labels_N: Tensor, num_classes: int, ipc: int, g: torch.Generator, jitter: float = 0.1
) -> Tensor:
    """The mean image of each class; with ipc > 1, of `ipc` random parts of the class (k equal images teach no more than one).

    A class with fewer images than `ipc` repeats its parts, told apart by noise of `jitter` standard deviations.
    """

    def means(members: Tensor) -> Tensor:
        order = torch.randperm(len(members), generator=g)
        parts = [members[part].mean(dim=0) for part in order.tensor_split(min(ipc, len(members)))]
        noise = jitter * torch.randn(ipc, *members.shape[1:], generator=g).to(members)
        return torch.stack([parts[i % len(parts)] + (noise[i] if i >= len(parts) else 0) for i in range(ipc)])

    return torch.cat([means(_members(images_NCHW, labels_N, k)) for k in range(num_classes)])


def k_center(images_NCHW: Tensor, labels_N: Tensor, num_classes: int, ipc: int) -> Tensor:
    """Greedy k-centre in pixel space (Sener & Savarese 2018, arXiv:1708.00489), from the image nearest to the class mean."""

    def centres(members: Tensor) -> Tensor:
        flat = members.flatten(1)
        chosen = [int((flat - flat.mean(dim=0)).square().sum(dim=1).argmin())]
        distance = (flat - flat[chosen[0]]).square().sum(dim=1)
        for _ in range(ipc - 1):
            chosen.append(int(distance.argmax()))
            distance = torch.minimum(distance, (flat - flat[chosen[-1]]).square().sum(dim=1))
        return members[chosen]

    return torch.cat([centres(_members(images_NCHW, labels_N, k)) for k in range(num_classes)])


def herding(images_NCHW: Tensor, labels_N: Tensor, num_classes: int, ipc: int) -> Tensor:
    """Herding (Welling 2009) in pixel space: each choice brings the mean of the chosen nearest to the class mean."""

    def herd(members: Tensor) -> Tensor:
        flat = members.flatten(1)
        mean, total, free = flat.mean(dim=0), torch.zeros_like(flat[0]), torch.ones(len(flat), dtype=torch.bool)
        chosen: list[int] = []
        for count in range(1, ipc + 1):
            distance = ((total + flat) / count - mean).square().sum(dim=1)
            distance[~free.to(distance.device)] = torch.inf
            chosen.append(int(distance.argmin()))
            total = total + flat[chosen[-1]]
            free[chosen[-1]] = False
            free |= ~free.any()  # all used: start over
        return members[chosen]

    return torch.cat([herd(_members(images_NCHW, labels_N, k)) for k in range(num_classes)])


def noise(like_NCHW: Tensor, num_classes: int, ipc: int, g: torch.Generator) -> Tensor:
    """Standard normal pixels: the training set's own mean and variance, and nothing else of it."""
    return torch.randn(num_classes * ipc, *like_NCHW.shape[1:], generator=g).to(like_NCHW)


def _members(images_NCHW: Tensor, labels_N: Tensor, label: int) -> Tensor:
    members = images_NCHW[labels_N == label]
    if not len(members):
        raise ValueError(f"class {label} has no training image")
    return members
