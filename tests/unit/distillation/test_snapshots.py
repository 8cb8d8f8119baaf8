"""Snapshots cover a training at equal distances, and are bounded in number."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raydistill.distillation.snapshots import EXPERT_STEPS, plan_snapshots
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.sgd import init_state
from raydistill.learning.training import fit
from tests import zoo


def test_a_short_epoch_has_one_snapshot() -> None:
    result = plan_snapshots(24, 58, "auto", 200)
    assert (result.parts, result.stored) == (1, tuple(range(25)))
    assert result.steps == [58 * epoch for epoch in range(25)]
    assert plan_snapshots(300, 2000, None, 200).stored == tuple(range(301))  # as the papers have it


def test_a_long_epoch_is_divided_into_equal_parts() -> None:
    result = plan_snapshots(2, 200, "auto", 200)
    assert result.parts == 3
    assert result.steps == [0, 66, 133, 200, 266, 333, 400]
    assert plan_snapshots(2, 200, 100, 200).steps == [0, 100, 200, 300, 400]


@given(st.integers(1, 60), st.integers(1, 5000), st.integers(1, 500), st.integers(2, 300))
def test_snapshots_are_bounded_begin_densely_and_end_with_the_training(
    epochs: int, steps_per_epoch: int, most: int, limit: int
) -> None:
    result = plan_snapshots(epochs, steps_per_epoch, most, limit)
    steps = result.steps
    assert result.stored[0] == 0
    assert steps[-1] == epochs * steps_per_epoch
    assert steps == sorted(set(steps))
    if result.parts > 1:
        assert len(steps) - 1 <= limit
    distances = [later - earlier for earlier, later in pairwise(steps)]
    dense = distances[: len(distances) if len(result.stored) == epochs * result.parts + 1 else limit // 2]
    assert max(dense) <= most
    assert max(dense) - min(dense) <= 1


@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_parts_of_an_epoch_see_what_the_epoch_sees(sampling: str) -> None:
    """With step size 0 and indices as images, the loss of a part shows its images."""
    network = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
    images = zoo.normal(1, 60, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
    targets = one_hot(torch.arange(60) % zoo.CLASSES, zoo.CLASSES)
    training = Training(epochs=2, batch_size=5, sampling=sampling, lr=1e-30)
    start = init_state(initial_parameters(network, 0))
    states = list(fit(network, start, images, targets, training, seed=0, parts=4))
    assert [state.done for state in states] == list(range(1, 9))
    losses = [state.loss for state in states]
    assert len(set(losses)) == 8
    if sampling == "shuffle":  # every image once in an epoch, so both epochs have the same mean
        whole = next(fit(network, start, images, targets, training, seed=0)).loss
        for epoch in (losses[:4], losses[4:]):
            assert math.fsum(epoch) / 4 == pytest.approx(whole, rel=1e-5)


def test_a_training_in_parts_resumes_bit_for_bit() -> None:
    network = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
    images = zoo.normal(1, 70, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
    targets = one_hot(torch.arange(70) % zoo.CLASSES, zoo.CLASSES)
    training = Training(
        epochs=2, batch_size=5, momentum=0.9, average=1.0, sampling="balanced", augmentation=zoo.AUGMENTATIONS["dihedral"]
    )  # fmt: skip
    whole = list(fit(network, init_state(initial_parameters(network, 0)), images, targets, training, seed=1, parts=3))
    for stop in range(len(whole)):
        resumed = list(fit(network, whole[stop], images, targets, training, seed=1, parts=3))
        assert len(resumed) == len(whole) - stop - 1
        for state, other in zip(resumed, whole[stop + 1 :], strict=True):
            assert torch.equal(state.average_P, other.average_P)


def test_the_number_of_steps_between_snapshots_is_that_of_auto_students() -> None:
    assert plan_snapshots(4, 10 * EXPERT_STEPS, "auto", 200).steps_between == EXPERT_STEPS
