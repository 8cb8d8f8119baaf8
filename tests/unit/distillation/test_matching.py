"""The matching loss and its gradients.

They are compared with closed forms, finite differences and each other.
"""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from raydistill.distillation.engines import Adjoint, Unrolled, engine_options
from raydistill.distillation.engines.adjoint import plan_memory
from raydistill.distillation.engines.base import Problem, StudentSteps, Target, endpoint, matching_loss
from raydistill.distillation.matching import Batch, Matcher
from raydistill.learning.augment import DSA, Augmentation
from raydistill.learning.losses import cross_entropy, student_loss
from tests import zoo

ENGINES = [Adjoint(), Unrolled()]
STEPS = [1, 4]


def test_loss_is_zero_at_the_target_and_one_at_the_start() -> None:
    start, target = zoo.normal(0, 9), zoo.normal(1, 9)
    assert matching_loss(target, start, target) == 0
    assert matching_loss(start, start, target) == 1
    assert matching_loss((start + target) / 2, start, target) == pytest.approx(0.25, rel=1e-14)
    assert matching_loss(2 * start - target, start, target) > 1


def test_an_expert_that_did_not_move_is_rejected() -> None:
    theta = zoo.normal(0, 4)
    with pytest.raises(ValueError, match="the expert did not move"):
        matching_loss(theta + 1, theta, theta.clone())


def test_cross_entropy_is_that_of_torch_for_hard_and_soft_targets() -> None:
    logits, soft = 5 * zoo.normal(0, 7, 4), zoo.normal(1, 7, 4).softmax(dim=1)
    hard = torch.arange(7) % 4
    torch.testing.assert_close(cross_entropy(logits, soft), torch.nn.functional.cross_entropy(logits, soft))
    one_hot = torch.nn.functional.one_hot(hard, 4).double()
    torch.testing.assert_close(cross_entropy(logits, one_hot), torch.nn.functional.cross_entropy(logits, hard))


class TestQuadraticStudent:
    """H is constant, so everything has a closed form (see `tests/zoo.py`)."""

    lr = 0.07
    problem = zoo.quadratic()
    start, target = zoo.normal(1, 6), zoo.normal(2, 6)
    image, label = zoo.normal(3, 1, 1, 2, 3), zoo.normal(4, 1, 6)

    def batches(self, steps: int) -> list[Batch]:
        return [Batch(None, {}) for _ in range(steps)]

    def ends(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.start, self.target, self.image, self.label, torch.tensor(self.lr, dtype=torch.float64)

    @pytest.mark.parametrize("steps", [1, 2, 7, 30])
    def test_unroll_ends_where_the_matrix_power_says(self, steps: int) -> None:
        lr = torch.tensor(self.lr, dtype=torch.float64)
        inputs = StudentSteps(self.image, self.label, self.batches(steps))
        problem = Problem(self.start, Target(self.start, self.target), inputs, lr)
        engine = Adjoint().build(self.problem.loss)
        end_P, taken = endpoint(engine, problem)
        expected = self.problem.end(self.start, self.problem.optimum(self.image, self.label), self.lr, steps)
        assert taken == steps
        assert engine.plan_memory(self.start, inputs, 0.0) == (1, 0)  # the parameters of every step are kept
        # A step rounds a few times in 2^-53; the contraction forgets older steps.
        assert zoo.relative(end_P, expected) < 1e-15

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("steps", [1, 2, 7, 30])
    def test_gradients_are_the_matrix_products(self, engine: Any, steps: int) -> None:
        A, eye = self.problem.A, torch.eye(6, dtype=torch.float64)
        optimum = self.problem.optimum(self.image, self.label)
        end, power = self.problem.end(self.start, optimum, self.lr, steps), self.problem.shrink(self.lr, steps)
        distance = (self.start - self.target).square().sum()
        d_end = 2 * (end - self.target) / distance
        d_optimum = (eye - power).T @ d_end
        d_lr = d_end @ (-steps * A @ self.problem.shrink(self.lr, steps - 1) @ (self.start - optimum))
        matched = Matcher(self.problem.loss, engine).match(*self.ends(), self.batches(steps))
        assert matched.loss == pytest.approx(float((end - self.target).square().sum() / distance), rel=1e-14)
        assert zoo.relative(matched.d_images_SCHW.flatten(), d_optimum) < 1e-13
        assert zoo.relative(matched.d_targets_SK.flatten(), torch.linalg.solve(A, d_optimum)) < 1e-13
        assert matched.d_lr == pytest.approx(float(d_lr), rel=1e-12)

    @pytest.mark.parametrize("steps", [1, 2, 7, 30])
    def test_the_constant_adjoint_leaves_out_the_hessian(self, steps: int) -> None:
        """dL/dx = N a A lambda_N, dL/dy = N a lambda_N, dL/da = -sum_i g_i . lambda_N."""
        A = self.problem.A
        optimum = self.problem.optimum(self.image, self.label)
        end = self.problem.end(self.start, optimum, self.lr, steps)
        last = 2 * (end - self.target) / (self.start - self.target).square().sum()
        path = [self.problem.end(self.start, optimum, self.lr, i) for i in range(steps)]
        matched = Matcher(self.problem.loss, Adjoint(constant=True)).match(*self.ends(), self.batches(steps))
        assert zoo.relative(matched.d_images_SCHW.flatten(), steps * self.lr * A @ last) < 1e-13
        assert zoo.relative(matched.d_targets_SK.flatten(), steps * self.lr * last) < 1e-13
        assert matched.d_lr == pytest.approx(-sum(float(A @ (theta - optimum) @ last) for theta in path), rel=1e-12)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_nearest_matches_where_the_student_passes_its_target(self, engine: Any) -> None:
        optimum = self.problem.optimum(self.image, self.label)
        passed = self.problem.end(self.start, optimum, self.lr, 3) + 1e-3
        start, _, *rest = self.ends()
        nearest = Matcher(self.problem.loss, engine, nearest=True)
        matched = nearest.match(start, passed, *rest, self.batches(9))
        assert matched.steps == 3
        assert nearest.loss(start, passed, *rest, self.batches(9)) == matched.loss
        three = Matcher(self.problem.loss, engine).match(start, passed, *rest, self.batches(3))
        for value, expected in zip(matched, three, strict=True):
            assert value == expected if isinstance(value, int) else torch.equal(value, expected)

    def test_a_student_that_moves_away_is_matched_after_its_first_step(self) -> None:
        start, _, *rest = self.ends()
        behind = 2 * start - self.problem.optimum(self.image, self.label)
        assert Matcher(self.problem.loss, nearest=True).match(start, behind, *rest, self.batches(5)).steps == 1

    @pytest.mark.parametrize("engine", ENGINES)
    def test_skipped_parameters_move_but_are_not_compared(self, engine: Any) -> None:
        steps, skip = 7, 4
        A, power = self.problem.A, self.problem.shrink(self.lr, 7)
        end = self.problem.end(self.start, self.problem.optimum(self.image, self.label), self.lr, steps)
        mask = (torch.arange(6) >= skip).double()
        distance = ((self.start - self.target) * mask).square().sum()
        d_optimum = (torch.eye(6, dtype=torch.float64) - power).T @ (2 * (end - self.target) * mask / distance)
        matched = Matcher(self.problem.loss, engine, skip=skip).match(*self.ends(), self.batches(steps))
        assert matched.loss == pytest.approx(float(((end - self.target) * mask).square().sum() / distance), rel=1e-14)
        assert zoo.relative(matched.d_images_SCHW.flatten(), d_optimum) < 1e-13
        assert zoo.relative(matched.d_targets_SK.flatten(), torch.linalg.solve(A, d_optimum)) < 1e-13

    def test_the_loss_alone_is_the_matched_loss(self) -> None:
        matcher = Matcher(self.problem.loss)
        loss = matcher.loss(*self.ends(), self.batches(9))
        assert loss == matcher.match(*self.ends(), self.batches(9)).loss
        assert not loss.requires_grad


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("augmentation", zoo.AUGMENTATIONS.values(), ids=zoo.AUGMENTATIONS)
@pytest.mark.parametrize("architecture", zoo.NETWORKS.values(), ids=zoo.NETWORKS)
def test_exact_equals_unrolled_in_float64(architecture: Any, augmentation: Augmentation, steps: int) -> None:
    problem = zoo.problem(architecture)
    loss, steps_ = student_loss(problem.network, augmentation), zoo.batches(augmentation, steps)
    assert_same(Matcher(loss), Matcher(loss, Unrolled()), problem, steps_, 1e-12)


@pytest.mark.parametrize("augmentation", zoo.AUGMENTATIONS.values(), ids=zoo.AUGMENTATIONS)
@pytest.mark.parametrize("architecture", zoo.NETWORKS.values(), ids=zoo.NETWORKS)
def test_exact_equals_unrolled_per_step_in_float32(architecture: Any, augmentation: Augmentation) -> None:
    # Per step only: over many steps ReLU kinks amplify float32 rounding, in either engine.
    problem = zoo.problem(architecture, torch.float32)
    loss, steps = student_loss(problem.network, augmentation), zoo.batches(augmentation, 1)
    assert_same(Matcher(loss), Matcher(loss, Unrolled()), problem, steps, 1e-5)


def assert_same(first: Matcher, other: Matcher, problem: zoo.Problem, steps: list[Batch], tolerance: float) -> None:
    values, expected = (matcher.match(*problem.arguments, steps) for matcher in (first, other))
    assert values.steps == expected.steps
    for name, value, reference in zip(values._fields, values[:-1], expected[:-1], strict=False):
        assert zoo.relative(value, reference) < tolerance, name
        assert value.dtype == reference.dtype
        assert value.shape == reference.shape


@pytest.mark.parametrize("skip", [0, 40])
@pytest.mark.parametrize("nearest", [False, True])
def test_exact_equals_unrolled_with_every_option_of_the_loss(skip: int, nearest: bool) -> None:
    problem = zoo.problem(zoo.NETWORKS["instance"])
    augmentation = zoo.AUGMENTATIONS["dihedral"]
    loss, steps = student_loss(problem.network, augmentation), zoo.batches(augmentation, 5)
    assert_same(
        Matcher(loss, Adjoint(), skip=skip, nearest=nearest),
        Matcher(loss, Unrolled(), skip=skip, nearest=nearest),
        problem,
        steps,
        1e-12,
    )


@pytest.mark.parametrize("size", [1, 2, 5])
def test_exact_equals_unrolled_with_batches_of_some_images(size: int) -> None:
    problem = zoo.problem(zoo.NETWORKS["instance"], images=5)
    augmentation = zoo.AUGMENTATIONS["DSA, all"]
    steps = zoo.batches(augmentation, 4, total=5, size=size)
    loss = student_loss(problem.network, augmentation)
    assert_same(Matcher(loss), Matcher(loss, Unrolled()), problem, steps, 1e-12)
    seen = torch.cat([batch.index_B for batch in steps if batch.index_B is not None]).unique()
    moved = Matcher(loss).match(*problem.arguments, steps).d_images_SCHW.flatten(1).norm(dim=1).nonzero().flatten()
    assert torch.equal(moved, seen)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_memory_limit_keeps_the_bits(constant: bool, nearest: bool) -> None:
    problem = zoo.problem(zoo.NETWORKS["instance"], torch.float32, images=5)
    augmentation = zoo.AUGMENTATIONS["DSA, all"]
    loss, steps = student_loss(problem.network, augmentation), zoo.batches(augmentation, 7, total=5, size=2)
    expected = Matcher(loss, Adjoint(constant=constant), nearest=nearest).match(*problem.arguments, steps)
    vector = problem.start_P.nbytes / 1e6
    for memory in (0.0, 3 * vector, 7 * vector, 7 * vector + 0.1, 1e6):
        engine = Adjoint(constant=constant, memory_mb=memory)
        matched = Matcher(loss, engine, nearest=nearest).match(*problem.arguments, steps)
        for value, reference in zip(matched, expected, strict=True):
            assert value == reference if isinstance(value, int) else torch.equal(value, reference)


def test_engine_names_select_the_strategies() -> None:
    assert engine_options("exact", compile=True, memory_mb=3) == Adjoint(compile=True, memory_mb=3)
    assert engine_options("constant-adjoint") == Adjoint(constant=True)
    assert engine_options("unrolled") == Unrolled()


def test_spare_memory_holds_as_many_graphs_as_fit() -> None:
    problem = zoo.problem(zoo.NETWORKS["instance"], torch.float32)
    engine = Adjoint(memory_mb=1e6).build(student_loss(problem.network, Augmentation()))
    steps = StudentSteps(problem.images_SCHW, problem.targets_SK, zoo.batches(Augmentation(), 4))
    assert engine.plan_memory(problem.start_P, steps, 0.0) == (1, 4)
    graph = engine.measure_graph(problem.start_P, steps)
    widest = max(t.numel() for t in problem.network.layout.split(problem.start_P).values())
    assert graph > widest * 4  # at the least the parameters are kept
    assert plan_memory(4 * 100 + 2.5 * graph, 4, 100, graph) == (1, 2)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("vectors", [0, 1, 5, 14, 49, 50, 60])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_kept_parameters_fit_into_the_memory_where_they_can(steps: int, vectors: int, momentum: float) -> None:
    every, num_graphs = plan_memory(100.0 * vectors, steps, 100, 1000, momentum)
    assert num_graphs == min(steps, max(0, vectors - steps) // 10)
    # Every c-th is kept; recomputing one stretch needs the c - 1 between two of them, and with momentum the velocities.
    kept = {c: (len(range(0, steps, c)) + c - 1) * (2 if momentum and c > 1 else 1) for c in range(1, steps + 1)}
    if kept[every] > vectors:
        assert kept[every] == min(kept.values())
    else:
        assert all(kept[c] > vectors for c in range(1, every))


def test_without_momentum_no_velocity_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient is also its step's velocity: keeping velocities keeps all gradients."""
    problem = zoo.problem(zoo.NETWORKS["mlp"])
    engine = Adjoint(memory_mb=0).build(student_loss(problem.network, Augmentation()))
    inputs = StudentSteps(problem.images_SCHW, problem.targets_SK, zoo.batches(Augmentation(), 16))
    made, alive = [], []
    gradient, loss_and_gradient = engine._gradient, Target.loss_and_gradient

    def recorded(*arguments: Any) -> torch.Tensor:
        result = gradient(*arguments)
        made.append(weakref.ref(result))
        return result

    def counted(target: Target, end_P: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alive.append(sum(ref() is not None for ref in made))
        return loss_and_gradient(target, end_P)

    monkeypatch.setattr(engine, "_gradient", recorded)
    monkeypatch.setattr(Target, "loss_and_gradient", counted)
    engine.match(Problem(problem.start_P, Target(problem.start_P, problem.target_P), inputs, problem.lr))
    assert len(made) >= 16
    assert alive == [0]


def test_an_image_drawn_twice_into_a_batch_gets_both_gradients() -> None:
    problem = zoo.problem(zoo.NETWORKS["mlp"])
    loss, steps = student_loss(problem.network, Augmentation()), [Batch(torch.tensor([0, 1, 0]), {})] * 3
    assert_same(Matcher(loss), Matcher(loss, Unrolled()), problem, steps, 1e-12)


class Matching(torch.autograd.Function):
    """Make the loss an autograd node, for `gradcheck`.

    Its backward is the engine's gradient.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, logits: Tensor, log_lr: Tensor, engine: Any, problem: zoo.Problem) -> Tensor:
        augmentation = Augmentation(DSA)
        targets, lr = logits.softmax(dim=1), log_lr.exp()
        matched = Matcher(student_loss(problem.network, augmentation), engine).match(
            problem.start_P, problem.target_P, images, targets, lr, zoo.batches(augmentation, 3)
        )
        d_logits = targets * (matched.d_targets_SK - (targets * matched.d_targets_SK).sum(dim=1, keepdim=True))
        ctx.save_for_backward(matched.d_images_SCHW, d_logits, matched.d_lr * lr)
        return matched.loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return *(upstream * gradient for gradient in ctx.saved_tensors), None, None


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_agree_with_finite_differences(engine: Any) -> None:
    problem = zoo.problem(zoo.NETWORKS["instance"])
    images, logits = problem.images_SCHW.requires_grad_(), zoo.normal(8, zoo.CLASSES, zoo.CLASSES).requires_grad_()
    log_lr = problem.lr.log().requires_grad_()
    for which in range(3):  # one at a time: fast mode compares one random projection per input
        inputs = [t if i == which else t.detach() for i, t in enumerate((images, logits, log_lr))]
        assert torch.autograd.gradcheck(
            lambda *given: Matching.apply(*given, engine, problem), inputs, fast_mode=which == 0, atol=1e-7
        )


def test_inputs_are_left_as_they_were() -> None:
    problem = zoo.problem(zoo.NETWORKS["mlp"])
    before = [tensor.clone() for tensor in problem.arguments]
    for engine in ENGINES:
        Matcher(student_loss(problem.network, Augmentation()), engine).match(
            *problem.arguments, zoo.batches(Augmentation(), 2)
        )
    for tensor, copy in zip(problem.arguments, before, strict=True):
        assert torch.equal(tensor, copy)
        assert not tensor.requires_grad


def test_bfloat16_points_the_same_way() -> None:
    problem = zoo.problem(zoo.NETWORKS["instance"], torch.float32)
    steps = zoo.batches(Augmentation(), 3)
    full, half = (
        Matcher(student_loss(problem.network, Augmentation(), p)).match(*problem.arguments, steps).d_images_SCHW
        for p in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(full.flatten(), half.flatten(), dim=0) > 0.98
    assert not torch.equal(full, half)


def test_an_unrolled_graph_is_not_compiled() -> None:
    with pytest.raises(ValueError, match=r"torch\.compile cannot"):
        engine_options("unrolled", compile=True)


@pytest.mark.long
@pytest.mark.slow
def test_the_compiled_step_equals_the_eager_one() -> None:
    problem = zoo.problem(zoo.NETWORKS["instance"], torch.float32)
    augmentation = Augmentation(("dihedral", "color"))
    loss, steps = student_loss(problem.network, augmentation), zoo.batches(augmentation, 1)
    assert_same(Matcher(loss, Adjoint(compile=True)), Matcher(loss), problem, steps, 1e-5)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "instance"])
def test_the_compiled_steps_equal_the_eager_ones_in_float64(network: str) -> None:
    problem = zoo.problem(zoo.NETWORKS[network])
    augmentation = Augmentation(("dihedral", "color"))
    loss, steps = student_loss(problem.network, augmentation), zoo.batches(augmentation, 3)
    assert_same(Matcher(loss, Adjoint(compile=True, memory_mb=0)), Matcher(loss), problem, steps, 1e-12)
