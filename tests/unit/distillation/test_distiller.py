"""A step descends, resumes bit for bit, and keeps the state if it diverges."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from raydistill.distillation.distiller import Distiller, Record
from raydistill.distillation.divergence import NotFinite, StudentLrOutOfRange
from raydistill.distillation.options import SGD, Adam
from raydistill.distillation.recipe import Recipe, ResolvedRecipe, resolve_recipe
from raydistill.distillation.schedule import Decision, Fixed, LossWeighted, SelfAdaptive, StepwiseWindow
from raydistill.distillation.trajectories import InMemoryTrajectories
from raydistill.errors import DivergenceError
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import Network, build_network
from raydistill.learning.normalise import one_hot
from tests import zoo

IMAGES = zoo.normal(0, zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
LABELS = one_hot(torch.arange(zoo.CLASSES), zoo.CLASSES)
VOTES = LABELS.lerp(zoo.normal(6, zoo.CLASSES, zoo.CLASSES, dtype=torch.float32).softmax(dim=1), 0.4)
QUICK = Recipe(
    student_steps=2, iterations=1000, student_lr=0.05, schedule=StepwiseWindow(every=3), augmentation=Augmentation(("dihedral",))
)  # fmt: skip


@cache
def network_and_experts() -> tuple[Network, InMemoryTrajectories]:
    network = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
    return network, zoo.experts(network, num_experts=2, num_epochs=4)


def distiller(recipe: Recipe | ResolvedRecipe = QUICK, trajectories: Any = None, seed: int = 0) -> Distiller:
    network, experts = network_and_experts()
    labels = VOTES if resolve_recipe(recipe).options.labels == "votes" else LABELS
    return Distiller(recipe, network, trajectories or experts, IMAGES, labels, seed)


def step(run: Distiller) -> Record:
    """Run one iteration of one segment, and return its record."""
    (record,) = run.step()
    return record


def assert_same_state(first: Distiller, other: Distiller) -> None:
    (tensors, strings), (expected, expected_strings) = first.state_dict(), other.state_dict()
    assert strings == expected_strings
    assert tensors.keys() == expected.keys()
    for name in tensors:
        assert torch.equal(tensors[name], expected[name]), name


RECIPES = {
    "Adam": QUICK,
    "SGD": replace(QUICK, image_step=SGD(lr=10.0), lr_step=SGD(lr=0.1)),
    "SGD without momentum": replace(QUICK, image_step=SGD(lr=10.0, momentum=0.0)),
    "soft labels": replace(QUICK, labels="soft"),
    "labels of votes": replace(QUICK, labels="votes"),
    "soft labels by Adam": replace(QUICK, labels="soft", label_step=Adam(lr=0.1)),
    "rate per epoch": replace(QUICK, lr_per_epoch=True, start_epochs="random"),
    "EMA": replace(QUICK, ema=0.9),
    "batches": replace(QUICK, batch_size=2),
    "loss-weighted": replace(QUICK, schedule=LossWeighted()),
    "self-adaptive": replace(
        QUICK, schedule=SelfAdaptive(significance=0.5, min_duration=2, test_every=1, max_duration=6, fine_tune_every=1)
    ),
    "self-adaptive, rate per epoch": replace(
        QUICK, lr_per_epoch=True, schedule=SelfAdaptive(significance=0.5, min_duration=2, test_every=1, max_duration=6)
    ),
    "unrolled": replace(QUICK, engine="unrolled"),
    "constant adjoint": replace(QUICK, engine="constant-adjoint"),
    "nearest step": replace(QUICK, match_at="nearest"),
    "without shallow layers": replace(QUICK, skip_layers=0.5),
    "threshold": replace(QUICK, skip_above=0.99),
    "straight": replace(QUICK, trajectories="straight"),
    "straight, continuous": replace(QUICK, trajectories="straight", start_epochs="continuous", lr_per_epoch=True),
    "three segments": replace(QUICK, trajectories_per_step=3),
    "three segments, rate per epoch": replace(QUICK, trajectories_per_step=3, lr_per_epoch=True, labels="soft"),
    "late window": replace(
        QUICK, schedule=StepwiseWindow(every=2, min_start_epoch=1, first_max_start_epoch=2, max_start_epoch=3)
    ),
}


@pytest.mark.parametrize("stop", [1, 4])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_resumed_run_continues_bit_for_bit(recipe: Recipe, stop: int) -> None:
    whole, first, second = (distiller(recipe) for _ in range(3))
    records = [whole.step() for _ in range(7)]
    early = [first.step() for _ in range(stop)]
    second.load_state_dict(*first.state_dict())
    assert_same_state(second, first)
    late = [second.step() for _ in range(7 - stop)]
    assert repr([*early, *late]) == repr(records)  # repr: NaN equals NaN
    assert_same_state(second, whole)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_state_dict_is_a_copy_that_can_be_loaded_twice(recipe: Recipe) -> None:
    source = distiller(recipe)
    for _ in range(3):
        source.step()
    saved = source.state_dict()
    ends = []
    for _ in range(2):
        resumed = distiller(recipe)
        resumed.load_state_dict(*saved)
        for _ in range(3):
            resumed.step()
        ends.append(resumed)
    assert_same_state(*ends)
    # Further steps of the source do not change the saved state.
    for _ in range(3):
        source.step()
    assert_same_state(source, ends[0])


def test_seed_changes_the_run() -> None:
    first, other = distiller(seed=0), distiller(seed=1)
    first.step(), other.step()
    assert not torch.equal(first.images, other.images)


def test_input_images_are_not_modified() -> None:
    before, labels = IMAGES.clone(), LABELS.clone()
    run = distiller(replace(QUICK, labels="soft"))
    for _ in range(3):
        run.step()
    assert torch.equal(before, IMAGES)
    assert torch.equal(labels, LABELS)


def test_matching_reduces_the_loss() -> None:
    recipe = replace(
        QUICK, student_steps=4, schedule=Fixed(max_start_epoch=0), augmentation=Augmentation(), image_step=Adam(lr=0.1)
    )
    run = distiller(recipe, trajectories=OneExpert())
    losses = [step(run).loss for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    assert min(losses[-5:]) < min(losses[:5])


class OneExpert:
    """Trajectories of the first expert alone."""

    num_experts = 1
    num_epochs = 4

    def __call__(self, expert: int, epoch: int) -> Tensor:
        return network_and_experts()[1](0, epoch)


class Broken(OneExpert):
    """An expert with a NaN after `epoch`."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, expert: int, epoch: int) -> Tensor:
        theta = super().__call__(expert, epoch)
        return theta * math.nan if epoch == self.epoch else theta


@pytest.mark.parametrize("recipe", [QUICK, replace(QUICK, schedule=SelfAdaptive())], ids=["matched", "next epoch"])
def test_divergence_leaves_the_state_unchanged_and_reports_the_rates(recipe: Recipe) -> None:
    run, twin = (distiller(recipe, Broken(epoch=2)) for _ in range(2))
    survived = 3 if isinstance(recipe.schedule, StepwiseWindow) else 0
    for _ in range(survived):  # the cap is 1: epochs 0 and 1 only; the next epoch's target is the broken one
        run.step(), twin.step()
    assert run.schedule.cap == (2 if survived else 1)
    while run.iteration % run.schedule.cap != run.schedule.cap - 1:  # up to the start epoch that meets the broken one
        run.step(), twin.step()
    with pytest.raises(NotFinite) as caught:
        run.step()
    assert_same_state(run, twin)
    sentence = str(caught.value)
    assert sentence.startswith(f"iteration {run.iteration}: the matching loss or its gradient is not finite")
    assert 0.01 <= caught.value.student_lr < 0.1
    assert (caught.value.image_lr, caught.value.iteration) == (0.03, run.iteration)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("lr", "direction"), [(1.5, "up"), (1e-8, "down")])
def test_student_lr_out_of_range_ends_the_run(lr: float, direction: str) -> None:
    run = distiller(replace(QUICK, student_lr=lr))
    before = run.state_dict()
    with pytest.raises(StudentLrOutOfRange, match=rf"ran {direction} to {lr:.3g}, outside ") as caught:
        run.step()
    assert caught.value.exit_code == 4
    assert torch.equal(run.images, before[0]["images"])
    assert run.iteration == 0


def test_infinite_gradient_of_the_learning_rate_is_divergence() -> None:
    """Images and loss are finite here; the step must not write NaN into the rate."""
    run = distiller()
    original = run.segments.matcher.match

    def overflowing(*arguments: Any) -> Any:
        return original(*arguments)._replace(d_lr=torch.tensor(math.inf))

    run.segments.matcher.match = overflowing  # type: ignore[method-assign]
    before = run.state_dict()
    with pytest.raises(DivergenceError):
        run.step()
    assert torch.equal(run.state_dict()[0]["log_lrs"], before[0]["log_lrs"])


def test_image_step_is_the_optimiser_step_on_the_matching_gradient() -> None:
    recipe = replace(QUICK, image_step=SGD(lr=7.0, momentum=0.5), lr_step=SGD(lr=0.1, momentum=0.0))
    run = distiller(recipe)
    seen: list[Any] = []
    original = run.segments.matcher.match
    run.segments.matcher.match = lambda *a: seen.append(original(*a)) or seen[-1]  # type: ignore[method-assign,func-returns-value]
    path, lrs = [run.images.clone()], [run.student_lrs]
    for _ in range(2):
        run.step()
        path.append(run.images.clone())
        lrs.append(run.student_lrs)
    first, second = (matched.d_images_SCHW for matched in seen)
    torch.testing.assert_close(path[1], path[0] - 7 * first)
    torch.testing.assert_close(path[2], path[1] - 7 * (second + 0.5 * first))
    # The parameter is log lr: d/d(log lr) = lr d/d(lr).
    torch.testing.assert_close(lrs[1].log(), lrs[0].log() - 0.1 * lrs[0] * seen[0].d_lr)


@pytest.mark.parametrize("unit_gradients", [True, False])
def test_unit_gradients_give_a_huge_gradient_the_weight_of_any_other(unit_gradients: bool) -> None:
    adam = Adam(lr=0.01, unit_gradients=unit_gradients)
    recipe = replace(QUICK, labels="soft", image_step=adam, lr_step=adam, label_step=adam)
    calm, shaken = distiller(recipe), distiller(recipe)
    for factor in (1e4, 1, 1, 1):
        (segment,) = calm.measure_all()
        loud = {name: factor * value for name, value in segment.matched._asdict().items() if name.startswith("d_")}
        calm.advance([segment])
        shaken.advance([segment._replace(matched=segment.matched._replace(**loud))])
    for name in ("images", "labels"):
        assert torch.allclose(getattr(shaken, name), getattr(calm, name), atol=1e-6) == unit_gradients
    assert torch.allclose(shaken.student_lrs, calm.student_lrs) == unit_gradients


def test_soft_labels_follow_the_chain_rule_of_the_softmax() -> None:
    run = distiller(replace(QUICK, labels="soft", label_step=SGD(lr=1.0, momentum=0.0)))
    seen: list[Any] = []
    original = run.segments.matcher.match
    run.segments.matcher.match = lambda *a: seen.append(original(*a)) or seen[-1]  # type: ignore[method-assign,func-returns-value]
    logits = LABELS.clone().requires_grad_()
    run.step()
    (logits.softmax(dim=1) * seen[0].d_targets_SK).sum().backward()
    torch.testing.assert_close(run.labels, LABELS - logits.grad)
    torch.testing.assert_close(run.targets().sum(dim=1), torch.ones(zoo.CLASSES))


@pytest.mark.parametrize(("kind", "labels"), [("hard", LABELS), ("votes", VOTES)])
def test_hard_labels_and_vote_labels_do_not_change(kind: Any, labels: Tensor) -> None:
    run = distiller(replace(QUICK, labels=kind))
    for _ in range(3):
        run.step()
    assert torch.equal(run.targets(), labels)


def test_average_is_the_exponential_moving_average() -> None:
    run = distiller(replace(QUICK, ema=0.8))
    expected = run.images.clone()
    for _ in range(6):
        run.step()
        expected = 0.8 * expected + 0.2 * run.images
    torch.testing.assert_close(run.published_images, expected)
    assert not torch.equal(run.published_images, run.images)


def test_images_themselves_are_published_without_an_average() -> None:
    run = distiller()
    run.step()
    assert torch.equal(run.published_images, run.images)
    assert torch.equal(run.average, run.images)


def test_new_start_epoch_inherits_the_previous_learning_rate() -> None:
    run = distiller(replace(QUICK, lr_per_epoch=True, lr_step=SGD(lr=0.5, momentum=0.0)))
    records = [step(run) for _ in range(3)]  # the clock advances after the third
    assert records[-1].decision == Decision.ADVANCE.value
    rates = run.student_lrs
    assert rates.shape == (2,)
    assert rates[0] == rates[1] != pytest.approx(0.05, rel=1e-6)


def test_step_of_the_learning_rates_grows_with_the_window() -> None:
    run = distiller(replace(QUICK, lr_per_epoch=True))
    for _ in range(6):
        run.step()
    assert run.schedule.cap == 3
    assert run._optimisers["lrs"].param_groups[0]["lr"] == pytest.approx(3 * QUICK.lr_step.lr)


def test_only_the_learning_rate_of_the_start_epoch_changes() -> None:
    run = distiller(replace(QUICK, lr_per_epoch=True, schedule=Fixed(max_start_epoch=2)))
    run.step()  # start epoch 0
    assert run.student_lrs[0] != run.student_lrs[1]
    assert run.student_lrs[1] == run.student_lrs[2]


def test_untrained_learning_rates_are_not_published() -> None:
    run = distiller(replace(QUICK, lr_per_epoch=True, schedule=Fixed(min_start_epoch=1, max_start_epoch=2)))
    run.step()
    assert run.student_lrs.shape == (2,)
    alone = distiller(replace(QUICK, schedule=Fixed(min_start_epoch=1, max_start_epoch=2)))
    assert alone.student_lrs.shape == (1,)


def test_fine_tuning_shrinks_the_image_step_and_stops_the_run() -> None:
    schedule = SelfAdaptive(
        max_duration=2, test_every=1, min_duration=2, fine_tune_every=1, fine_tune_factor=0.5, fine_tune_floor=0.2,
        significance=99,
    )  # fmt: skip
    run = distiller(replace(QUICK, schedule=schedule))
    decisions = []
    while not run.finished:
        decisions.append(step(run).decision)
    assert decisions == ["stay", "fine-tune", "stay", "stay", "stop"]
    assert run._optimisers["images"].param_groups[0]["lr"] == pytest.approx(0.03 / 8)


# With a significance of 1000 no fall is evident.
AUTOMATIC_STEPS = replace(QUICK, student_steps="auto", schedule=LossWeighted(patience=10, significance=1000))


@pytest.mark.parametrize("per_epoch", [False, True])
def test_students_become_longer_once_before_the_run_stops(per_epoch: bool) -> None:
    recipe = replace(AUTOMATIC_STEPS, lr_step=SGD(lr=1e-12), lr_per_epoch=per_epoch)
    run = distiller(recipe.resolved(48))
    before, records = run.student_lrs, []
    while not run.finished:
        records.append(step(run))
    assert [record.decision for record in records] == ["stay"] * 9 + ["lengthen"] + ["stay"] * 9 + ["stop"]
    assert [record.student_steps for record in records] == [12] * 10 + [24] * 10
    assert torch.allclose(run.student_lrs, before / 2)


def test_students_of_a_given_number_of_steps_do_not_become_longer() -> None:
    run = distiller(replace(AUTOMATIC_STEPS, student_steps=2))
    assert [step(run).decision for _ in range(10)] == ["stay"] * 9 + ["stop"]


@pytest.mark.parametrize("stop", [9, 10, 13])
def test_run_with_longer_students_resumes_bit_for_bit(stop: int) -> None:
    whole, first, second = (distiller(AUTOMATIC_STEPS.resolved(48)) for _ in range(3))
    for _ in range(15):
        whole.step()
    for _ in range(stop):
        first.step()
    second.load_state_dict(*first.state_dict())
    for _ in range(15 - stop):
        second.step()
    assert_same_state(second, whole)


def test_run_ends_after_its_iterations() -> None:
    run = distiller(replace(QUICK, iterations=2))
    run.step()
    assert not run.finished
    run.step()
    assert run.finished


def test_record_describes_the_iteration() -> None:
    record = step(distiller())
    assert isinstance(record, Record)
    assert (record.iteration, record.start_epoch, record.cap, record.decision) == (1, 0, 1, "stay")
    assert record.loss > 0
    assert math.isnan(record.next_epoch_loss)
    wider = step(distiller(replace(QUICK, schedule=Fixed(max_start_epoch=40))))
    assert wider.cap == 4  # the experts have 4 epochs, so 3 is the last start epoch
    watched = step(distiller(replace(QUICK, schedule=SelfAdaptive())))
    assert watched.next_epoch_loss > 0


def test_next_epoch_loss_does_not_change_the_step() -> None:
    first, other = (
        distiller(replace(QUICK, schedule=SelfAdaptive())),
        distiller(replace(QUICK, schedule=StepwiseWindow())),
    )
    first.step(), other.step()
    assert torch.equal(first.images, other.images)


def test_divergence_with_sgd_reports_its_rate() -> None:
    run = distiller(replace(QUICK, image_step=SGD(lr=10.0)), Broken(epoch=1))
    with pytest.raises(NotFinite) as caught:
        run.step()
    assert caught.value.image_lr == 10.0


def test_iteration_above_the_threshold_changes_only_the_counter() -> None:
    """DATM's threshold."""
    free, held = distiller(), distiller(replace(QUICK, skip_above=1e-6))
    before = held.state_dict()[0]
    record = step(held)
    assert record.skipped
    assert record.loss > 1e-6
    assert record.iteration == held.iteration == 1
    for name, tensor in held.state_dict()[0].items():
        if name in before:
            assert torch.equal(tensor, before[name]), name
    assert not step(free).skipped
    assert not torch.equal(free.images, held.images)


def test_infinite_loss_is_above_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    run = distiller(replace(QUICK, skip_above=1.1))
    original = run.segments.matcher.match
    monkeypatch.setattr(run.segments.matcher, "match", lambda *of: original(*of)._replace(loss=torch.tensor(math.inf)))
    before = run.images.clone()
    assert step(run).skipped
    assert torch.equal(run.images, before)


def test_infinite_next_epoch_loss_is_ignored_with_a_threshold() -> None:
    """Without a threshold, it ends the run."""
    for limit in (1.1, None):
        run = distiller(replace(QUICK, skip_above=limit, schedule=SelfAdaptive(max_start_epoch=2)))
        (segment,) = run.measure_all()
        assert segment.next_epoch_loss is not None
        segment = segment._replace(next_epoch_loss=math.inf)
        if limit is None:
            with pytest.raises(DivergenceError):
                run.advance([segment])
        else:
            assert run.advance([segment])[0].next_epoch_loss == math.inf


def test_nearest_reports_the_step_that_was_matched() -> None:
    run = distiller(replace(QUICK, student_steps=12, student_lr=0.5, match_at="nearest"))
    steps = {step(run).student_steps for _ in range(3)}
    assert all(1 <= step < 12 for step in steps)
    assert step(distiller(replace(QUICK, student_steps=5))).student_steps == 5
