"""What `auto` becomes: arithmetic counted by hand, and choices on both sides of the threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raydistill.core.architectures import MLP, ConvNet
from raydistill.core.cost_model import (
    LONG_SECONDS,
    Hardware,
    WorkEstimate,
    describe,
    estimate_distillation,
    estimate_training,
    forward_flops,
    resolve_auto,
    useful_threads,
)
from raydistill.core.networks import Network, build_network
from raydistill.core.recipe import Recipe
from raydistill.core.training import SharpnessAware, Training

LAPTOP = Hardware("cpu", compiler=True, bfloat16=True)
LONG, SHORT = WorkEstimate(1e15, 1000), WorkEstimate(1e9, 10)


def test_a_convolutions_operations_are_those_counted_by_hand() -> None:
    # 3x3 convolutions of 8 channels on 16 and 8 px, then a linear map of 8 * 4 * 4 to 5 classes; 2 operations each.
    by_hand = 2 * (16 * 16 * 9 * 3 * 8 + 8 * 8 * 9 * 8 * 8 + 8 * 4 * 4 * 5)
    assert forward_flops(build_network(ConvNet(depth=2, width=8), 5, 16), 3, 16) == by_hand


def test_work_of_a_training_counts_whole_batches_of_three_passes() -> None:
    network = build_network(MLP(width=4), 2, 8)
    forward = forward_flops(network, 3, 8)
    training = Training(epochs=7, batch_size=4)
    assert estimate_training(training, network, torch.Size((10, 3, 8, 8))) == WorkEstimate(7 * 2 * 4 * 3 * forward, 14)
    assert estimate_training(training, network, torch.Size((3, 3, 8, 8)), networks=5) == WorkEstimate(
        5 * 7 * 3 * 3 * forward, 35
    )
    twice = estimate_training(replace(training, flat=SharpnessAware()), network, torch.Size((10, 3, 8, 8)))
    assert twice == WorkEstimate(2 * 7 * 2 * 4 * 3 * forward, 28)


def test_work_of_a_recipe_is_twelve_passes_an_image_and_step() -> None:
    network = build_network(MLP(width=4), 2, 8)
    forward = forward_flops(network, 3, 8)
    recipe = Recipe(iterations=10, student_steps=5)
    assert estimate_distillation(recipe, network, torch.Size((6, 3, 8, 8))) == WorkEstimate(12 * 50 * 6 * forward, 100)
    assert (
        estimate_distillation(replace(recipe, batch_size=2), network, torch.Size((6, 3, 8, 8))).flops
        == 12 * 50 * 2 * forward
    )


@pytest.mark.parametrize(
    ("work", "machine", "compiled", "precision"),
    [
        (LONG, LAPTOP, True, "bfloat16"),
        (SHORT, LAPTOP, False, "float32"),
        (LONG, replace(LAPTOP, compiler=False), False, "bfloat16"),
        (LONG, replace(LAPTOP, bfloat16=False), True, "float32"),
        (LONG, Hardware("gpu", True, True), False, "float32"),  # 100 s there
        (WorkEstimate(0, 10**6), Hardware("gpu", True, True), True, "bfloat16"),  # a million calls of nothing
    ],
)
def test_auto_is_settled_by_the_work_and_the_machine(
    work: WorkEstimate, machine: Hardware, compiled: bool, precision: str
) -> None:
    training = resolve_auto(Training(compile="auto", precision="auto"), work, machine)
    assert (training.compile, training.precision) == (compiled, precision)
    recipe = resolve_auto(Recipe(compile="auto", precision="auto"), work, machine)
    assert (recipe.compile, recipe.precision) == (compiled, precision)


def test_what_a_person_chose_stays() -> None:
    for chosen in (Training(compile=True, precision="bfloat16"), Training(compile=False, precision="float32")):
        for work in (LONG, SHORT):
            assert resolve_auto(chosen, work, LAPTOP) == chosen
    assert describe(resolve_auto(Training(), LONG, LAPTOP)) == "float32, compiled"


def test_the_unrolled_engine_is_never_compiled() -> None:
    assert resolve_auto(Recipe(engine="unrolled"), LONG, LAPTOP).compile is False


def test_seconds_are_the_arithmetic_or_the_calls() -> None:
    assert WorkEstimate(5e10 * LONG_SECONDS, 1).seconds(LAPTOP) == LONG_SECONDS
    assert WorkEstimate(1.0, 1000).seconds(LAPTOP) == 1.0


def test_this_machine_is_described() -> None:
    here = Hardware.of_workers(0)
    assert here.kind == "cpu"
    assert here.compiler in (True, False)
    assert Hardware.of_workers(0.5).kind == "gpu"


class _WithAConstant(torch.nn.Module):
    """A network that has a tensor which is no parameter, as networks without state have them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.ramp = torch.linspace(0, 1, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear((images * self.ramp).mean(dim=(2, 3)))
        return logits


def test_a_network_with_a_constant_can_be_counted() -> None:
    assert forward_flops(Network.of(_WithAConstant), 3, 8) == 2 * 3 * 2


@pytest.mark.parametrize(("width", "images", "threads"), [(32, 9, 1), (64, 9, 2), (128, 5, 4)])
def test_threads_go_by_the_arithmetic_of_a_step(width: int, images: int, threads: int) -> None:
    network = build_network(ConvNet(depth=3, width=width), 5, 32)
    for steps in (10, 50):
        assert (
            useful_threads(estimate_distillation(Recipe(student_steps=steps), network, torch.Size((images, 3, 32, 32))))
            == threads
        )
