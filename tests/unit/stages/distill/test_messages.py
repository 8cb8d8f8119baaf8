"""Warnings and errors of a distillation name the config keys to change."""

from __future__ import annotations

import pickle

import pytest

from raydistill.distillation.diagnostics import (
    Finding,
    LearningRateFell,
    LossAboveOne,
    MostSkipped,
    MostStationary,
    Undertrained,
)
from raydistill.distillation.divergence import NotFinite, StudentLrOutOfRange
from raydistill.distillation.options import SGD
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.segments import StationaryExperts
from raydistill.errors import DivergenceError
from raydistill.learning.options import Training
from raydistill.stages.distill.trainer import describe_finding, translate_divergence, translate_stationary
from raydistill.stages.experts.stage import describe_undertrained

RECIPE = Recipe(student_steps=20, skip_above=1.1)
FIGURES = {"loss": float("nan"), "gradient": 1.0}


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (LossAboveOne(100, 1.2, 0.01), "stays above 1 (median 1.20)"),
        (LossAboveOne(100, 1.2, 0.01), "lower distill.student_lr (now 0.01) or distill.student_steps (now 20)"),
        (LearningRateFell(100, 0.0098, 0.00133), "fell from 0.0098 to 0.00133"),
        (LearningRateFell(100, 0.0098, 0.00133), "distill.student_lr=0.0013, or, if it falls from there too, train smoother"),
        (MostSkipped(100, 0.66, 0.01), "in the last 50 iterations 66% of the segments were skipped"),
        (MostSkipped(100, 0.66, 0.01), "distill.skip_above = 1.1: little is learned; lower distill.student_lr"),
        (MostStationary(100, 0.66), "in the last 50 iterations 66% of the segments had nothing to match"),
    ],
)  # fmt: skip
def test_findings_name_the_iteration_and_the_keys(finding: Finding, text: str) -> None:
    message = describe_finding(finding, RECIPE.resolved())
    assert message.startswith("iteration 100: ")
    assert text in message


def test_undertrained_experts_are_described_with_their_keys() -> None:
    message = describe_undertrained(Undertrained(0.045, 9, 12), Training(epochs=12, lr=0.01))
    assert "rose by 0.045 from epoch 9 to 12" in message
    assert "experts.training.lr (now 0.01) or experts.training.epochs (now 12)" in message


@pytest.mark.parametrize(
    ("error", "image_step", "fix"),
    [
        (NotFinite(FIGURES, 0.02, 0.03, 7), RECIPE.image_step, "lower distill.student_lr (now 0.02) or distill.image_step.lr (now 0.03)"),
        (NotFinite(FIGURES, 0.02, 10.0, 7), SGD(lr=10.0),
         "lower distill.student_lr (now 0.02) or distill.image_step.lr (now 10), or use distill.image_step={kind: adam, lr: 0.03}"),
        (NotFinite(FIGURES, 1e30, None, 7), SGD(lr="auto"), "lower distill.student_lr (now 1e+30)"),
        (StudentLrOutOfRange(1.5, 7), RECIPE.image_step,
         "lower distill.lr_step.lr (now 0.005), or start from another distill.student_lr"),
    ],
)  # fmt: skip
def test_divergence_names_the_stage_and_the_keys(error: DivergenceError, image_step: SGD, fix: str) -> None:
    translated = translate_divergence(error, Recipe(student_steps=20, image_step=image_step).resolved())
    assert translated.where == "distill, iteration 7"
    assert translated.what == error.what
    assert translated.fix == fix
    assert type(translated) is DivergenceError


def test_stationary_experts_are_reported_with_the_schedule() -> None:
    message = str(translate_stationary(StationaryExperts((2, 2))))
    assert message.startswith("distill: the experts do not move at start epochs 2 and 2")
    assert message.endswith("match earlier epochs (distill.schedule), or give the rates that are auto")


@pytest.mark.parametrize(
    "error", [NotFinite(FIGURES, 0.02, None, 7), StudentLrOutOfRange(1.5, 7), StationaryExperts((0, 2))]
)
def test_errors_survive_pickling(error: Exception) -> None:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
