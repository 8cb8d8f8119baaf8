"""The cost model: hand-counted operations, decisions at both sides of a threshold."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raydistill.config import ExpertTraining, plain
from raydistill.distillation.cost_model import (
    LONG_SECONDS,
    Hardware,
    WorkEstimate,
    estimate_distillation,
    estimate_training,
    forward_flops,
    resolve_auto,
    useful_threads,
)
from raydistill.distillation.recipe import Recipe
from raydistill.learning.architectures import MLP, ConvNet
from raydistill.learning.arithmetic import EAGER, Arithmetic, fill_auto
from raydistill.learning.networks import Network, build_network
from raydistill.learning.options import Training
from raydistill.learning.sharpness import SharpnessAware

LAPTOP = Hardware("cpu", compiler=True, bfloat16=True)
LONG, SHORT = WorkEstimate(1e15, 1000), WorkEstimate(1e9, 10)


def test_operations_of_a_convolution_match_those_counted_by_hand() -> None:
    # 3x3 convolutions of 8 channels on 16 and 8 px, then a linear map of 8 * 4 * 4 to 5 classes; 2
    # operations each.
    by_hand = 2 * (16 * 16 * 9 * 3 * 8 + 8 * 8 * 9 * 8 * 8 + 8 * 4 * 4 * 5)
    assert forward_flops(build_network(ConvNet(depth=2, width=8), 5, 16), 3, 16) == by_hand


def test_training_costs_three_passes_per_image_of_whole_batches() -> None:
    network = build_network(MLP(width=4), 2, 8)
    forward = forward_flops(network, 3, 8)
    training = Training(epochs=7, batch_size=4)
    assert estimate_training(training, network, torch.Size((10, 3, 8, 8))) == WorkEstimate(7 * 2 * 4 * 3 * forward, 14)
    assert estimate_training(training, network, torch.Size((3, 3, 8, 8)), networks=5) == WorkEstimate(
        5 * 7 * 3 * 3 * forward, 35
    )
    twice = estimate_training(replace(training, flat=SharpnessAware()), network, torch.Size((10, 3, 8, 8)))
    assert twice == WorkEstimate(2 * 7 * 2 * 4 * 3 * forward, 28)


def test_distilling_costs_twelve_passes_per_image_and_step() -> None:
    network = build_network(MLP(width=4), 2, 8)
    forward = forward_flops(network, 3, 8)
    recipe = Recipe(iterations=10, student_steps=5)
    assert estimate_distillation(recipe.resolved(), network, torch.Size((6, 3, 8, 8))) == WorkEstimate(
        12 * 50 * 6 * forward, 100
    )
    assert (
        estimate_distillation(replace(recipe, batch_size=2).resolved(), network, torch.Size((6, 3, 8, 8))).flops
        == 12 * 50 * 2 * forward
    )
    averaged = replace(recipe, average_over="dihedral").resolved()
    assert estimate_distillation(averaged, network, torch.Size((6, 3, 8, 8))).flops == 8 * 12 * 50 * 6 * forward


@pytest.mark.parametrize(
    ("work", "hardware", "compiled", "precision"),
    [
        (LONG, LAPTOP, True, "bfloat16"),
        (SHORT, LAPTOP, False, "float32"),
        (LONG, replace(LAPTOP, compiler=False), False, "bfloat16"),
        (LONG, replace(LAPTOP, bfloat16=False), True, "float32"),
        (LONG, Hardware("gpu", True, True), False, "float32"),  # 100 s there
        (WorkEstimate(3e15, 1000), Hardware("gpu", True, True), True, "bfloat16"),
        (WorkEstimate(0, 10**6), Hardware("gpu", True, True), True, "float32"),  # a million calls of nothing
    ],
)
def test_auto_depends_on_work_and_hardware(
    work: WorkEstimate, hardware: Hardware, compiled: bool, precision: str
) -> None:
    for requested in (Training(compile="auto", precision="auto"), Recipe(compile="auto", precision="auto")):
        assert resolve_auto(requested, work, hardware) == (compiled, precision)


def test_explicit_values_are_not_changed() -> None:
    for requested in (Training(compile=True, precision="bfloat16"), Training(compile=False, precision="float32")):
        for work in (LONG, SHORT):
            assert resolve_auto(requested, work, LAPTOP) == (requested.compile, requested.precision)
            assert requested.resolved() == requested
    assert str(resolve_auto(Training(), LONG, LAPTOP)) == "float32, compiled"


def test_without_an_estimate_auto_is_eager_float32() -> None:
    assert fill_auto(Training(compile="auto", precision="auto").resolved()) == EAGER
    assert Recipe(student_steps=5, compile="auto", precision="auto").resolved().arithmetic == EAGER


def test_resolved_training_keeps_all_other_fields() -> None:
    training = ExpertTraining(epochs=3, average=0.5)
    resolved = training.resolved(Arithmetic(True, "bfloat16"))
    assert plain(resolved) == {**plain(training), "compile": True, "precision": "bfloat16"}
    assert list(plain(resolved)) == list(plain(training)), "keys of cached results depend on this order"


def test_unrolled_engine_is_never_compiled() -> None:
    assert resolve_auto(Recipe(engine="unrolled"), LONG, LAPTOP).compile is False


def test_seconds_are_those_of_the_operations_or_of_the_calls() -> None:
    assert WorkEstimate(5e10 * LONG_SECONDS, 1).seconds(LAPTOP) == LONG_SECONDS
    assert WorkEstimate(1.0, 1000).seconds(LAPTOP) == 1.0


def test_hardware_of_this_host_is_detected() -> None:
    here = Hardware.of_workers(0)
    assert here.kind == "cpu"
    assert here.compiler in (True, False)
    assert Hardware.of_workers(0.5).kind == "gpu"


@pytest.mark.parametrize(
    ("name", "fast"), [("amx_bf16", True), ("bf16", True), ("avx512_bf16", False), ("avx2", False)]
)
def test_bfloat16_needs_instructions_that_make_it_fast(monkeypatch: pytest.MonkeyPatch, name: str, fast: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True})
    assert Hardware.of_workers(0).bfloat16 is fast


class _WithAConstant(torch.nn.Module):
    """A network with a constant tensor that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.ramp = torch.linspace(0, 1, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear((images * self.ramp).mean(dim=(2, 3)))
        return logits


def test_operations_of_a_network_with_a_constant_are_counted() -> None:
    assert forward_flops(Network.of(_WithAConstant), 3, 8) == 2 * 3 * 2


@pytest.mark.parametrize(("width", "images", "threads"), [(32, 9, 1), (64, 9, 2), (128, 5, 4)])
def test_useful_threads_depend_on_the_operations_of_a_step(width: int, images: int, threads: int) -> None:
    network = build_network(ConvNet(depth=3, width=width), 5, 32)
    for steps in (10, 50):
        work = estimate_distillation(Recipe(student_steps=steps).resolved(), network, torch.Size((images, 3, 32, 32)))
        assert useful_threads(work) == threads
