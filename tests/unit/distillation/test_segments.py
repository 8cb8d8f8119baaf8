"""The segments and batches of an iteration, and stationary experts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.distillation.distiller import Distiller
from raydistill.distillation.options import SGD
from raydistill.distillation.schedule import Fixed, LossWeighted, ScheduleState, SelfAdaptive, StepwiseWindow
from raydistill.distillation.segments import StationaryExperts
from raydistill.distillation.trajectories import progress
from raydistill.seeding import generator
from tests import zoo
from tests.unit.distillation.test_distiller import (
    IMAGES,
    QUICK,
    OneExpert,
    assert_same_state,
    distiller,
    network_and_experts,
    step,
)


class Overshoots:
    """An expert on a line, at these fractions of it after each epoch.

    By default it passes the end of the line and returns.
    """

    num_experts = 1

    def __init__(self, *travelled: float, only_first: int | None = None) -> None:
        self._travelled = travelled or (0, 0.6, 1.1, 1)
        self.num_epochs = len(self._travelled) - 1
        self._start_P = network_and_experts()[1](0, 0)
        self._displacement_P = network_and_experts()[1](0, 4) - self._start_P
        if only_first is not None:
            self._displacement_P = torch.cat(
                [self._displacement_P[:only_first], torch.zeros_like(self._displacement_P[only_first:])]
            )

    def __call__(self, expert: int, epoch: int) -> Tensor:
        return self._start_P + self._travelled[epoch] * self._displacement_P

    def progress(self, expert: int) -> list[float]:
        return progress(np.stack([self(expert, epoch).numpy() for epoch in range(self.num_epochs + 1)]))


STRAIGHT = replace(QUICK, trajectories="straight", schedule=Fixed(max_start_epoch=2), image_step=SGD(lr=10.0))
ONE_STEP = replace(QUICK, student_steps=1)


def test_cycled_start_epochs_cycle_through_the_window() -> None:
    run = distiller(replace(QUICK, schedule=Fixed(max_start_epoch=2)))
    assert [step(run).start_epoch for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_random_start_epochs_and_experts_cover_the_window() -> None:
    run = distiller(replace(QUICK, schedule=Fixed(max_start_epoch=2), start_epochs="random", student_steps=1))
    records = [step(run) for _ in range(40)]
    assert {r.start_epoch for r in records} == {0, 1, 2}
    assert {r.expert for r in records} == {0, 1}


def test_window_stays_within_the_experts_epochs() -> None:
    recipe = replace(QUICK, schedule=Fixed(max_start_epoch=50), expert_epochs=2, student_steps=1)
    run = distiller(recipe)
    assert max(step(run).start_epoch for _ in range(12)) == 4 - 2


def test_target_is_expert_epochs_after_the_start() -> None:
    asked: list[int] = []

    class Watched(OneExpert):
        def __call__(self, expert: int, epoch: int) -> Tensor:
            asked.append(epoch)
            return super().__call__(expert, epoch)

    distiller(replace(QUICK, expert_epochs=3), Watched()).step()
    assert sorted(asked) == [0, 3]


def test_too_few_expert_epochs_are_rejected() -> None:
    with pytest.raises(ValueError, match="expert_epochs = 5, but the experts have only 4 epochs"):
        distiller(replace(QUICK, expert_epochs=5))


@pytest.mark.parametrize("start_epochs", ["cycle", "random"])
def test_late_window_is_cycled_from_its_first_to_its_last_epoch(start_epochs: Any) -> None:
    """DATM cycles from the first epoch to a maximum that grows at regular intervals."""
    schedule = StepwiseWindow(every=10, min_start_epoch=1, first_max_start_epoch=2, max_start_epoch=3)
    run = distiller(replace(QUICK, student_steps=1, start_epochs=start_epochs, schedule=schedule))
    starts = [step(run).start_epoch for _ in range(40)]
    assert set(starts[:10]) == {1, 2}
    assert set(starts[10:]) == {1, 2, 3}


def test_window_after_the_experts_end_is_rejected() -> None:
    with pytest.raises(
        ValueError,
        match="min_start_epoch = 4, but with 4 epochs of the experts and expert_epochs = 1 the last possible start is 3",
    ):
        distiller(replace(QUICK, schedule=Fixed(min_start_epoch=4, max_start_epoch=5)))


def test_every_image_is_used_before_any_is_used_again() -> None:
    run = distiller(replace(QUICK, batch_size=1))
    batches = [
        int(batch.index_B) for batch in run.segments.batches(generator(3), IMAGES, 6) if batch.index_B is not None
    ]
    assert len(batches) == 6
    assert set(batches[:3]) == set(batches[3:]) == {0, 1, 2}


def test_loss_weighted_draws_follow_the_probabilities() -> None:
    run = distiller(replace(QUICK, student_steps=1, schedule=LossWeighted(explore=0.02, power=1.0)))
    schedule = run.schedule._replace(group_losses=(0.5, 1.5, 0.8, 1.5))
    shared = [run.shared()._replace(schedule=schedule._replace(iteration=number)) for number in range(300)]
    starts = [run.segments.measure(number, 0).start_epoch for number in shared]
    assert starts.count(0) / 300 == pytest.approx(0.98 * 25 / 41 + 0.005, abs=0.08)
    assert starts.count(2) / 300 == pytest.approx(0.98 * 16 / 41 + 0.005, abs=0.08)
    step(run)
    assert [loss is not None for loss in run.schedule.group_losses].count(True) == 1


def test_continuous_starts_cover_the_window_between_its_epochs() -> None:
    recipe = replace(
        QUICK, student_steps=1, trajectories="straight", start_epochs="continuous", schedule=Fixed(min_start_epoch=1, max_start_epoch=2)
    )  # fmt: skip
    run = distiller(recipe)
    starts = [step(run).start_epoch for _ in range(40)]
    assert 1 <= min(starts) < 1.2
    assert 1.8 < max(starts) <= 2


@pytest.mark.parametrize(
    ("schedule", "turns"),
    [
        pytest.param(Fixed(min_start_epoch=3, max_start_epoch=4), 2, id="a late window"),
        pytest.param(Fixed(max_start_epoch=100), 6, id="beyond the experts"),
        pytest.param(StepwiseWindow(min_start_epoch=2, first_max_start_epoch=3), 2, id="clocked"),
        pytest.param(SelfAdaptive(), 1, id="self-adaptive"),
    ],
)
def test_step_of_a_learning_rate_is_proportional_to_the_window(schedule: Any, turns: int) -> None:
    """With a window of n epochs, each start epoch occurs once in n iterations."""
    network, _ = network_and_experts()
    recipe = replace(ONE_STEP, lr_per_epoch=True, schedule=schedule)
    run = Distiller(recipe, network, zoo.experts(network, 1, 6), IMAGES, torch.eye(zoo.CLASSES), seed=0)
    assert run._optimisers["lrs"].param_groups[0]["lr"] == pytest.approx(turns * recipe.lr_step.lr)
    assert len(run.segments.window(run.schedule)) == len(run.student_lrs) == turns
    assert len({step(run).start_epoch for _ in range(turns)}) == turns


def test_expert_that_overshoots_is_stationary_at_its_end() -> None:
    assert Overshoots().progress(0) == pytest.approx([0, 0.6, 1, 1])
    run = distiller(STRAIGHT, Overshoots())
    assert [run.segments.measure(run.shared()._replace(schedule=ScheduleState(3, i)), 0).is_stationary for i in range(3)] == [
        False, False, True,
    ]  # fmt: skip


def test_segment_of_a_stationary_expert_is_skipped() -> None:
    run = distiller(STRAIGHT, Overshoots())
    for _ in range(2):
        assert not step(run).skipped
    before = run.state_dict()[0]
    record = step(run)
    assert (record.start_epoch, record.skipped, record.student_steps, record.gradient_norm) == (2, True, 0, 0)
    assert math.isnan(record.loss)
    assert run.iteration == 3
    for name, tensor in run.state_dict()[0].items():
        assert torch.equal(tensor, before[name]), name
    assert not step(run).skipped
    assert not torch.equal(run.images, before["images"])


def test_images_follow_the_mean_of_the_other_segments() -> None:
    recipe = replace(STRAIGHT, trajectories_per_step=3, image_step=SGD(lr=10.0, momentum=0.0))
    run = distiller(recipe, Overshoots())
    results = run.measure_all()
    assert [segment.is_stationary for segment in results] == [False, False, True]
    assert [record.skipped for record in run.advance(results)] == [False, False, True]
    mean = (results[0].matched.d_images_SCHW + results[1].matched.d_images_SCHW) / 2
    torch.testing.assert_close((IMAGES - run.images) / 10, mean, rtol=1e-3, atol=1e-6)


def test_run_with_skipped_segments_resumes_bit_for_bit() -> None:
    whole, resumed = distiller(STRAIGHT, Overshoots()), distiller(STRAIGHT, Overshoots())
    for _ in range(3):
        whole.step()
    resumed.load_state_dict(*whole.state_dict())
    for _ in range(3):
        whole.step(), resumed.step()
    assert_same_state(whole, resumed)


def test_schedule_gets_no_loss_if_the_next_epoch_is_stationary() -> None:
    run = distiller(replace(STRAIGHT, schedule=SelfAdaptive()), Overshoots())

    def seen(cap: int) -> float | None:
        return run.segments.measure(run.shared()._replace(schedule=ScheduleState(cap)), 0).next_epoch_loss

    assert (seen(1) or 0) > 0
    assert seen(2) is None


def test_expert_that_moves_only_in_skipped_layers_is_stationary() -> None:
    network, _ = network_and_experts()
    first = network.layout.parameters_of_first_layers(0.5)
    assert 0 < first < network.layout.num_parameters
    still = Overshoots(0, 0.3, 0.6, 1, only_first=first)
    recipe = replace(QUICK, schedule=Fixed(max_start_epoch=0))
    assert not step(distiller(recipe, still)).skipped
    assert step(distiller(replace(recipe, skip_layers=0.5), still)).skipped


@pytest.mark.parametrize("change", [{"student_lr": "auto"}, {"image_step": SGD(lr="auto")}], ids=["student", "images"])
def test_learning_rate_is_chosen_from_moving_experts_only(change: dict[str, Any]) -> None:
    """A stationary end of the window, here epoch 2, is left out."""
    run, alone = (
        distiller(replace(STRAIGHT, schedule=Fixed(max_start_epoch=last), **change), Overshoots()) for last in (2, 0)
    )
    for distilling in (run, alone):
        distilling.begin(IMAGES[None])
    assert run.image_lr == alone.image_lr > 0
    assert run.log_lrs[0] == alone.log_lrs[0]
    nowhere = distiller(replace(STRAIGHT, schedule=Fixed(min_start_epoch=2), **change), Overshoots())
    with pytest.raises(StationaryExperts, match="the experts do not move at start epochs 2 and 2"):
        nowhere.begin(IMAGES[None])
