"""Residuals of disjoint galaxies recur, and those of permuted labels do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from raydistill import distillation as dd
from raydistill.stages.analyse.science.stability import ClassRecurrence, recurrence_of_classes, similarity_of_classes

CLASSES, SIZE, PARTS = 3, 8, 5
NETWORK = dd.build_network(dd.MLP(width=16), CLASSES, SIZE)
LABELS = torch.arange(CLASSES)


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noise with a bright row for each class."""
    labels = torch.arange(count) % CLASSES
    images = torch.randn(count, 3, SIZE, SIZE, generator=dd.generator(seed, "pictures"))
    images[torch.arange(count), :, 2 * labels] += 1.0
    return images, labels


def residual(images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """Distil one image a class from the mean of all, and return what was added.

    The initial images hold nothing of the classes, so that the residuals must.
    """
    training = dd.Training(epochs=4, batch_size=20, lr=0.02, momentum=0.9)
    experts = dd.InMemoryTrajectories.train(
        NETWORK, images, dd.one_hot(labels, CLASSES), training, seeds=range(3 * seed, 3 * seed + 3)
    )
    initial = images.mean(dim=0).repeat(CLASSES, 1, 1, 1)
    recipe = dd.Recipe(
        iterations=80, student_steps=5, schedule=dd.Fixed(max_start_epoch=1), augmentation=dd.Augmentation()
    )
    distiller = dd.Distiller(recipe, NETWORK, experts, initial, dd.hard_labels([1] * CLASSES), seed=seed)
    while not distiller.finished:
        distiller.step()
    return (distiller.images - initial).permute(0, 2, 3, 1)


def recurrence(*, permute: bool) -> list[ClassRecurrence]:
    images, labels = pictures(240 * PARTS, seed=0)
    residuals = []
    for part in range(PARTS):
        own = labels[part::PARTS]
        if permute:
            own = own[torch.randperm(len(own), generator=dd.generator(part, "control"))]
        residuals.append(residual(images[part::PARTS], own, part).double().numpy())
    return recurrence_of_classes(similarity_of_classes(residuals, LABELS.numpy()))


@pytest.mark.long  # twenty seconds
@pytest.mark.slow
def test_residuals_recur_with_labels_and_not_with_permuted_ones() -> None:
    true, control = recurrence(permute=False), recurrence(permute=True)
    assert all(of_class.p_value < 0.05 / CLASSES for of_class in true), true
    assert all(of_class.p_value > 0.05 / CLASSES for of_class in control), control
    assert min(of_class.excess.value for of_class in true) > max(of_class.excess.value for of_class in control) + 0.2
