"""Small problems with known solutions, small networks and augmentations for tests.

The quadratic student has loss 1/2 (theta - x)' A (theta - x) - y' theta, where x is the only
synthetic image and y its target, both flattened. With H = A and theta* = x + A^-1 y, N steps of
gradient descent end exactly at

    theta_N = theta* + (I - a A)^N (theta_0 - theta*)

so that the matching loss and all its derivatives are matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raydistill.distillation.matching import Batch
from raydistill.distillation.trajectories import InMemoryTrajectories
from raydistill.learning.architectures import MLP, AlexNet, Architecture, ConvNet, ViT
from raydistill.learning.augment import DSA, Augmentation
from raydistill.learning.augmenting import AugmentationParameters
from raydistill.learning.networks import Network, build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.seeding import generator

SIZE, CLASSES = 8, 3  # pixels a side, classes

NETWORKS: dict[str, Architecture] = {
    "instance": ConvNet(depth=1, width=4),
    "two blocks, group": ConvNet(depth=2, width=4, norm="group"),
    "no norm": ConvNet(depth=1, width=4, norm="none"),
    "mlp": MLP(width=6),
    "alexnet": AlexNet(width=2),
    "vit": ViT(patch=4, width=8, depth=1, heads=2),
}

AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(),
    "DSA, all": Augmentation(DSA),
    "DSA, one at a time, shared": Augmentation(DSA, mode="single", shared=True),
    "dihedral": Augmentation(("dihedral",)),
    "any rotation": Augmentation(("rotate", "crop"), max_rotation=180.0),
}


@dataclass(frozen=True)
class Quadratic:
    """The quadratic student of the module's docstring.

    `loss` has the signature of a student's loss.
    """

    A: Tensor

    def loss(self, theta_P: Tensor, image_1CHW: Tensor, target_1K: Tensor, _: AugmentationParameters) -> Tensor:
        away = theta_P - image_1CHW.flatten()
        return 0.5 * away @ self.A @ away - target_1K.flatten() @ theta_P

    def optimum(self, image_1CHW: Tensor, target_1K: Tensor) -> Tensor:
        return image_1CHW.flatten() + torch.linalg.solve(self.A, target_1K.flatten())

    def end(self, start_P: Tensor, optimum_P: Tensor, lr: float, steps: int) -> Tensor:
        return optimum_P + self.shrink(lr, steps) @ (start_P - optimum_P)

    def shrink(self, lr: float, steps: int) -> Tensor:
        """Return (I - a A)^N."""
        return torch.linalg.matrix_power(torch.eye(len(self.A), dtype=self.A.dtype) - lr * self.A, steps)


def quadratic(dimension: int = 6, seed: int = 0) -> Quadratic:
    """Return a quadratic student with eigenvalues of A in about [0.5, 5], float64."""
    root = torch.randn(dimension, dimension, generator=generator(seed, "A"), dtype=torch.float64)
    return Quadratic(root @ root.T / dimension + 0.5 * torch.eye(dimension, dtype=torch.float64))


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "normal"), dtype=dtype)


@dataclass(frozen=True)
class Problem:
    """The inputs of a matcher: theta_0, theta*, images, targets, learning rate."""

    network: Network
    start_P: Tensor
    target_P: Tensor
    images_SCHW: Tensor
    targets_SK: Tensor
    lr: Tensor

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.start_P, self.target_P, self.images_SCHW, self.targets_SK, self.lr


def problem(architecture: Architecture, dtype: torch.dtype = torch.float64, images: int = CLASSES) -> Problem:
    """Return a student, a target near its start, and soft labels.

    All entries of the labels matter.
    """
    network = build_network(architecture, CLASSES, SIZE)
    theta = initial_parameters(network, 1).to(dtype)
    return Problem(
        network,
        theta,
        theta + 0.05 * normal(2, len(theta), dtype=dtype),
        normal(3, images, 3, SIZE, SIZE, dtype=dtype),
        normal(4, images, CLASSES, dtype=dtype).softmax(dim=1),
        torch.tensor(0.1, dtype=dtype),
    )


def batches(augmentation: Augmentation, steps: int, total: int = CLASSES, size: int | None = None) -> list[Batch]:
    """Return the batches of the student steps; `size` below `total` draws indices."""
    g = generator(5, "batches")

    def draw() -> Batch:
        index = None if size is None else torch.randperm(total, generator=g)[:size]
        return Batch(index, augmentation.sample(g, size or total))

    return [draw() for _ in range(steps)]


def relative(value: Tensor, expected: Tensor) -> float:
    """Return the distance relative to the length of the expected vector."""
    return float((value - expected).norm() / expected.norm())


def stripes(num: int, seed: int = 0, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Return images_NCHW and labels_N of three classes.

    Each class has one bright channel under noise.
    """
    g = generator(seed, "stripes")
    labels = torch.arange(num) % CLASSES
    images = torch.randn(num, 3, size, size, generator=g)
    images[torch.arange(num), labels] += 1.5
    return images, labels


def experts(network: Network, num_experts: int = 2, num_epochs: int = 3) -> InMemoryTrajectories:
    """Return the trajectories of a few experts, trained on `stripes`."""
    images, labels = stripes(60)
    training = Training(epochs=num_epochs, batch_size=15, lr=0.05)
    return InMemoryTrajectories.train(network, images, one_hot(labels, CLASSES), training, range(num_experts))


class Noise(nn.Module):
    """A layer other than dropout that draws random numbers."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs)
