"""Distil tensors of your own with raydistill's library: no Ray, no files.

Run it with `python examples/distill_tensors.py`; it takes less than 30 seconds on two cores. It
distils noisy images of three classes into one image per class. Then it trains a fresh network on
the distilled images, and another one on randomly chosen images, and prints the accuracy of both on
test images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raydistill import distillation as dd

CLASSES, SIZE = 3, 8  # classes, pixels per side
NETWORK = dd.build_network(dd.MLP(width=16), CLASSES, SIZE)


def make_images(num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return (images_NCHW, labels_N): noise with a brighter channel for each class."""
    labels = torch.arange(num) % CLASSES
    images = torch.randn(num, 3, SIZE, SIZE, generator=dd.generator(seed, "images"))
    images[torch.arange(num), labels] += 0.3
    return images, labels


def accuracy(images: Tensor, labels: Tensor, test: tuple[Tensor, Tensor]) -> float:
    """Return the test accuracy of a fresh network that is trained on these images."""
    training = dd.Training(epochs=60, batch_size=len(images), lr=0.02, momentum=0.9)
    theta = dd.train(
        NETWORK, dd.initial_parameters(NETWORK, 99), images, dd.one_hot(labels, CLASSES), training, seed=99
    )
    return dd.evaluate(NETWORK, theta, *test, CLASSES).accuracy


def main() -> tuple[float, float]:
    """Distil, and return the accuracies on the distilled and on the random images."""
    images, labels = make_images(300, seed=0)
    targets = dd.one_hot(labels, CLASSES)
    expert_training = dd.Training(epochs=4, batch_size=30, lr=0.02, momentum=0.9)
    experts = dd.InMemoryTrajectories.train(NETWORK, images, targets, expert_training, seeds=range(3))

    random_images = dd.random_real(images, labels, [1] * CLASSES, dd.generator(0, "start")).images_SCHW
    random_labels = torch.arange(CLASSES)
    recipe = dd.Recipe(
        iterations=100, student_steps=5, schedule=dd.Fixed(max_start_epoch=1), augmentation=dd.Augmentation()
    )
    distiller = dd.Distiller(recipe, NETWORK, experts, random_images, dd.hard_labels([1] * CLASSES), seed=0)
    while not distiller.finished:
        distiller.step()

    test = make_images(600, seed=1)
    return accuracy(distiller.images, random_labels, test), accuracy(random_images, random_labels, test)


if __name__ == "__main__":
    distilled, random = main()
    print(f"accuracy of a network trained on 3 distilled images: {distilled:.2f}; on 3 random images: {random:.2f}")
