"""An iteration follows the mean of its segments, whichever process evaluates them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raydistill.distillation.distiller import Distiller
from raydistill.distillation.options import SGD
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import Fixed, SelfAdaptive
from raydistill.distillation.segments import SegmentEvaluator
from raydistill.errors import DivergenceError
from tests.unit.distillation.test_distiller import (
    IMAGES,
    QUICK,
    Broken,
    assert_same_state,
    distiller,
    network_and_experts,
)

THREE = replace(
    QUICK, trajectories_per_step=3, image_step=SGD(lr=10.0, momentum=0.0), schedule=Fixed(max_start_epoch=2)
)


def moved(run: Distiller) -> torch.Tensor:
    return (IMAGES - run.images) / 10


def test_images_follow_the_mean_gradient_of_the_segments() -> None:
    run = distiller(THREE)
    gradients = [run.measure(segment).matched.d_images_SCHW for segment in range(3)]
    run.step()
    torch.testing.assert_close(moved(run), torch.stack(gradients).mean(dim=0), rtol=1e-3, atol=1e-6)
    assert not torch.equal(gradients[0], gradients[1])


def test_each_segment_gives_a_record() -> None:
    many, single = distiller(THREE).step(), distiller(replace(THREE, trajectories_per_step=1)).step()
    assert len(many) == 3
    assert {record.iteration for record in many} == {1}
    # The reported rates are those after the step.
    assert repr(many[0]._replace(student_lr=0)) == repr(single[0]._replace(student_lr=0))


def test_segments_of_all_iterations_cycle_through_the_window() -> None:
    run = distiller(replace(THREE, trajectories_per_step=2))
    assert [record.start_epoch for _ in range(3) for record in run.step()] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("recipe", [THREE, replace(THREE, schedule=SelfAdaptive(), labels="soft", lr_per_epoch=True)])
def test_results_depend_on_the_shared_state_alone(recipe: Recipe) -> None:
    alone, first, second = (
        distiller(recipe),
        distiller(recipe),
        SegmentEvaluator(recipe, *network_and_experts(), seed=0),
    )
    for _ in range(4):
        first.advance([first.measure(0), second.measure(first.shared(), 1), first.measure(2)])
        alone.step()
    assert_same_state(first, alone)


def test_learning_rate_follows_the_segments_that_started_with_it() -> None:
    recipe = replace(THREE, lr_per_epoch=True, lr_step=SGD(lr=0.1, momentum=0.0), schedule=Fixed(max_start_epoch=1))
    run = distiller(recipe)
    results = [run.measure(segment) for segment in range(3)]
    rate = float(run.log_lrs[0].exp())
    first, second = (
        rate * float(results[0].matched.d_lr + results[2].matched.d_lr) / 2,
        rate * float(results[1].matched.d_lr),
    )
    before = [float(log_lr) for log_lr in run.log_lrs]
    size = run._optimisers["lrs"].param_groups[0]["lr"]
    run.advance(results)
    assert [float(log_lr) for log_lr in run.log_lrs][:2] == pytest.approx(
        [before[0] - size * first, before[1] - size * second], abs=1e-6
    )
    assert float(run.log_lrs[2]) == before[2]


def test_segment_above_the_threshold_is_left_out_of_the_mean() -> None:
    probe = distiller(THREE)
    results = [probe.measure(segment) for segment in range(3)]
    losses = sorted(float(segment.matched.loss) for segment in results)
    run = distiller(replace(THREE, skip_above=(losses[1] + losses[2]) / 2))
    records = run.step()
    assert [record.skipped for record in records] == [record.loss == losses[2] for record in records]
    kept = [segment.matched.d_images_SCHW for segment in results if float(segment.matched.loss) < losses[2]]
    torch.testing.assert_close(moved(run), torch.stack(kept).mean(dim=0), rtol=1e-3, atol=1e-6)


def test_one_infinite_segment_leaves_the_state_unchanged() -> None:
    run = distiller(THREE, Broken(epoch=2))  # the second begins at epoch 1
    before = run.state_dict()
    with pytest.raises(DivergenceError):
        run.step()
    for name, tensor in run.state_dict()[0].items():
        assert torch.equal(tensor, before[0][name]), name
