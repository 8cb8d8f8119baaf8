"""Outcome matching: the gradient of the loss on real images through training.

The student trains with momentum.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from raydistill.distillation.distiller import Distiller
from raydistill.distillation.engines import Adjoint, Unrolled
from raydistill.distillation.matching import Batch, Matcher, MatchResult, Outcome
from raydistill.distillation.options import Adam, OutcomeMatching
from raydistill.distillation.outcome import RealImages
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import LossWeighted, SelfAdaptive
from raydistill.distillation.segments import OUTCOME, SegmentEvaluator
from raydistill.learning.augment import Augmentation
from raydistill.learning.losses import student_loss
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import one_hot
from tests import zoo

ENGINES = [Adjoint(), Unrolled()]


class TestQuadraticStudent:
    """The gradient is A (theta - c).

    Steps with momentum are therefore a linear recursion of (theta, v).
    """

    lr, momentum, size = 0.07, 0.6, 6
    problem = zoo.quadratic()
    start, velocity, real = zoo.normal(1, 6), zoo.normal(2, 6), zoo.normal(5, 6)
    image, label = zoo.normal(3, 1, 1, 2, 3), zoo.normal(4, 1, 6)

    def outcome(self) -> Outcome:
        """Return half of the squared distance to `real`."""
        return Outcome(
            lambda theta, images, *_: 0.5 * (theta - images).square().sum(), self.real, self.label, {}
        )  # fmt: skip

    def end(self, image: Tensor, label: Tensor, lr: Tensor, steps: int, velocity: Tensor | None) -> Tensor:
        """Return theta_N by the recursion v = m v + A (theta - c), theta -= a v."""
        optimum = self.problem.optimum(image, label)
        theta, v = self.start, torch.zeros(6, dtype=torch.float64) if velocity is None else velocity
        for _ in range(steps):
            v = self.momentum * v + self.problem.A @ (theta - optimum)
            theta = theta - lr * v
        return theta

    @pytest.mark.parametrize("engine", [*ENGINES, Adjoint(memory_mb=0.0)])
    @pytest.mark.parametrize("has_velocity", [False, True])
    @pytest.mark.parametrize("steps", [1, 2, 9])
    def test_gradients_are_those_of_the_recursion(self, engine: Any, has_velocity: bool, steps: int) -> None:
        velocity = self.velocity if has_velocity else None
        lr = torch.tensor(self.lr, dtype=torch.float64)
        inputs = [tensor.clone().requires_grad_() for tensor in (self.image, self.label, lr)]
        expected = self.outcome().loss(self.end(*inputs, steps, velocity))
        gradients = torch.autograd.grad(expected, inputs)
        matched = Matcher(self.problem.loss, engine).match_outcome(
            self.start, self.outcome(), self.image, self.label, lr, [Batch(None, {})] * steps, self.momentum, velocity
        )
        assert matched.loss == pytest.approx(float(expected.detach()), rel=1e-13)
        for value, reference in zip(matched.gradients, gradients, strict=True):
            assert zoo.relative(value, reference) < 1e-12


def match(engine: Any, momentum: float, dtype: torch.dtype = torch.float64) -> MatchResult:
    """Return the outcome of a small network trained on augmented batches."""
    problem = zoo.problem(zoo.NETWORKS["instance"], dtype, images=5)
    augmentation = zoo.AUGMENTATIONS["DSA, all"]
    loss = student_loss(problem.network, augmentation)
    real, targets = zoo.normal(6, 8, 3, zoo.SIZE, zoo.SIZE, dtype=dtype), zoo.normal(7, 8, zoo.CLASSES, dtype=dtype)
    outcome = Outcome(student_loss(problem.network, Augmentation()), real, targets.softmax(dim=1), {})
    steps = zoo.batches(augmentation, 6, total=5, size=2)
    velocity = zoo.normal(8, len(problem.start_P), dtype=dtype)
    return Matcher(loss, engine).match_outcome(
        problem.start_P, outcome, problem.images_SCHW, problem.targets_SK, problem.lr, steps, momentum, velocity
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_exact_equals_unrolled_in_float64(momentum: float) -> None:
    for value, reference in zip(match(Adjoint(), momentum)[:4], match(Unrolled(), momentum)[:4], strict=True):
        assert zoo.relative(value, reference) < 1e-11


@pytest.mark.parametrize("constant", [False, True])
def test_memory_limit_keeps_the_bits(constant: bool) -> None:
    expected = match(Adjoint(constant=constant), 0.9, torch.float32)
    for memory in (0.0, 0.1, 1e6):
        for value, reference in zip(
            match(Adjoint(constant=constant, memory_mb=memory), 0.9, torch.float32)[:4], expected[:4], strict=True
        ):
            assert torch.equal(value, reference)


def test_momentum_and_velocity_change_the_outcome() -> None:
    assert match(Adjoint(), 0.0).loss != match(Adjoint(), 0.9).loss


NETWORK = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
EXPERTS = zoo.experts(NETWORK, num_experts=2, num_epochs=4)
REAL = RealImages(*(lambda images, labels: (images, one_hot(labels, zoo.CLASSES)))(*zoo.stripes(60)))
LABELS = one_hot(torch.arange(zoo.CLASSES), zoo.CLASSES)
RECIPE = Recipe(
    student_steps=2, student_lr=0.05, iterations=8, schedule=SelfAdaptive(), augmentation=Augmentation(), image_step=Adam(lr=0.05),
    outcome=OutcomeMatching(after=3, student_steps=4, max_warmup=5, student_lr=0.02, batch_size=30),
)  # fmt: skip


def distiller(recipe: Recipe = RECIPE) -> Distiller:
    images = 0.3 * zoo.normal(9, zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
    return Distiller(recipe, NETWORK, EXPERTS, images, LABELS, 0, real=REAL)


def test_outcome_matching_follows_trajectory_matching() -> None:
    run = distiller()
    records = [run.step()[0] for _ in range(8)]
    assert [record.expert == OUTCOME == record.start_epoch for record in records] == [False] * 3 + [True] * 5
    assert run.finished
    assert run.schedule.since_advance == 3  # the schedule of trajectories rests
    assert run.student_lrs.tolist() == pytest.approx([records[-1].student_lr], rel=1e-6)
    assert run.student_lrs.tolist() == pytest.approx([0.02], rel=0.1)
    early = distiller()
    early.step()
    assert early.student_lrs.tolist() == pytest.approx([0.05], rel=0.1)


def test_schedule_does_not_end_a_run_whose_outcome_is_to_be_matched() -> None:
    """With a significance of 1000 no fall is evident."""
    schedule = LossWeighted(patience=10, significance=1000)
    recipe = replace(RECIPE, iterations=13, schedule=schedule, expert_epochs=1)
    alone = distiller(replace(recipe, outcome=None))
    decisions = [alone.step()[0].decision for _ in range(10)]
    assert (decisions[-1], alone.finished) == ("stop", True)
    followed = distiller(replace(recipe, outcome=replace(RECIPE.outcome, after=11)))
    records = [followed.step()[0] for _ in range(13)]
    assert [record.expert == OUTCOME for record in records] == [False] * 11 + [True] * 2
    assert {record.decision for record in records} == {"stay"}


def test_architectures_take_turns_with_learning_rates_of_their_own() -> None:
    networks = (zoo.NETWORKS["mlp"], zoo.NETWORKS["instance"])
    recipe = replace(RECIPE, lr_step=Adam(lr=0.1), outcome=replace(RECIPE.outcome, networks=networks))
    run = distiller(recipe)
    records = [run.step()[0] for _ in range(8)]
    assert [record.start_epoch for record in records[3:]] == [-2, -1, -2, -1, -2]
    rates = [record.student_lr for record in records[3:]]
    assert rates[1] != rates[3]
    assert run.student_lrs.tolist() == pytest.approx([rates[3]], rel=1e-6)  # of the first architecture
    assert len(run.log_lrs) == 3


def test_images_move_by_a_fraction_of_the_step_of_trajectories() -> None:
    small = replace(RECIPE, outcome=replace(RECIPE.outcome, image_step=0.25))
    moved = []
    for recipe in (RECIPE, small):
        run = distiller(recipe)
        for _ in range(3):
            run.step()
        before = run.images.clone()
        run.step()
        moved.append(float((run.images - before).norm()))
    assert moved[1] == pytest.approx(0.25 * moved[0], rel=1e-3)


def test_fine_tuning_does_not_shrink_the_step_of_outcome_matching() -> None:
    moved = []
    for scale in (1.0, 0.1):
        run = distiller()
        run.schedule = run.schedule._replace(image_lr_scale=scale)
        for _ in range(3):
            run.step()
        before = run.images.clone()
        run.step()
        moved.append(float((run.images - before).abs().max()))
    assert moved[1] == pytest.approx(moved[0], rel=0.5)  # Adam's step; its moments differ a little


@pytest.mark.parametrize("stop", [2, 5])
def test_resumed_run_continues_bit_for_bit(stop: int) -> None:
    whole, first, second = distiller(), distiller(), distiller()
    records = [whole.step() for _ in range(8)]
    early = [first.step() for _ in range(stop)]
    second.load_state_dict(*first.state_dict())
    late = [second.step() for _ in range(8 - stop)]
    assert repr([*early, *late]) == repr(records)
    assert torch.equal(whole.images, second.images)


def test_any_process_computes_the_same_bits() -> None:
    run = distiller()
    for _ in range(4):
        run.step()
    other = SegmentEvaluator(RECIPE, NETWORK, EXPERTS, 0, real=REAL)
    for value, reference in zip(other.measure(run.shared(), 1).matched, run.measure(1).matched, strict=True):
        assert value == reference if isinstance(value, int) else torch.equal(value, reference)


def test_images_learn_what_networks_need() -> None:
    """The loss of fresh networks on real images falls."""
    options = OutcomeMatching(student_steps=10, max_warmup=0, momentum=0.5, student_lr=0.05, batch_size=60)
    recipe = Recipe(student_steps=2, student_lr=0.05, iterations=200, augmentation=Augmentation(), outcome=options)
    run = distiller(recipe)
    losses = [run.step()[0].loss for _ in range(60)]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


def test_outcome_after_the_last_iteration_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"outcome.after must be below iterations = 8, got 8"):
        Recipe(student_steps=2, iterations=8, outcome=OutcomeMatching(after=8))


def test_missing_real_images_are_rejected() -> None:
    with pytest.raises(ValueError, match="outcome matching needs real images"):
        Distiller(RECIPE, NETWORK, EXPERTS, zoo.normal(9, 3, 3, zoo.SIZE, zoo.SIZE), LABELS, 0)
