"""The example of distilling tensors without Ray, and trajectories in memory."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from raydistill.distillation.trajectories import InMemoryTrajectories
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from tests import zoo

EXAMPLE = Path(__file__).parents[3] / "examples" / "distill_tensors.py"


def test_distilled_tensors_train_a_better_network_than_random_ones() -> None:
    distilled, random = runpy.run_path(str(EXAMPLE))["main"]()
    assert distilled > random + 0.1


def test_trajectories_in_memory_are_those_of_fit() -> None:
    network = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
    images, labels = zoo.stripes(60)
    training = Training(epochs=3, batch_size=15, lr=0.05)
    experts = InMemoryTrajectories.train(network, images, one_hot(labels, zoo.CLASSES), training, seeds=range(2))
    expected = zoo.experts(network, num_experts=2, num_epochs=3)
    assert (experts.num_experts, experts.num_epochs) == (2, 3)
    for expert in range(2):
        assert all(torch.equal(experts(expert, epoch), expected(expert, epoch)) for epoch in range(4))
        assert experts.progress(expert) == expected.progress(expert)


@pytest.mark.parametrize("paths", [[], [torch.zeros(3, 5), torch.zeros(4, 5)]])
def test_trajectories_of_different_shapes_are_rejected(paths: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="the same shape"):
        InMemoryTrajectories(paths)
