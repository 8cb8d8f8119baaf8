"""The methods of the literature are presets: options that apply over any config."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from raydistill import distillation
from raydistill.config import plain
from raydistill.distillation.distiller import Distiller
from raydistill.distillation.recipe import Recipe
from raydistill.distillation.schedule import Fixed, SelfAdaptive, StepwiseWindow
from raydistill.learning.networks import build_network
from raydistill.learning.sharpness import SharpnessAware
from raydistill.tracking.formatting import search_tags
from tests import zoo
from tests.unit.config_tools import SIMULATED, Read

REPOSITORY = Path(__file__).parents[2]

METHODS = {
    "mtt": {"start_epochs": "random", "schedule": Fixed(max_start_epoch=1), "labels": "hard", "engine": "exact"},
    "stm": {"start_epochs": "cycle", "lr_per_epoch": True, "schedule": SelfAdaptive(min_duration=30)},
    "ftd": {"ema": 0.9995, "schedule": Fixed(max_start_epoch=1)},
    "datm": {
        "labels": "soft",
        "init": "correct",
        "skip_above": 1.1,
        "ema": 0.995,
        "schedule": Fixed(max_start_epoch=3),
    },
    "att": {"match_at": "nearest", "student_steps": 80, "expert_epochs": 4},
    "pad": {"skip_layers": 0.5, "labels": "soft", "init": "correct", "skip_above": 1.0},
    "mct": {"trajectories": "straight", "start_epochs": "continuous"},
    "tesla": {"engine": "constant-adjoint", "labels": "hard", "schedule": Fixed(max_start_epoch=4)},
}


def test_the_command_line_puts_a_method_over_a_config(read: Read) -> None:
    text = SIMULATED + "distill: {images_per_class: 3, student_steps: 4}\n"
    distill = read(text, "extends=methods/datm", "distill.student_steps=7").distill
    assert (distill.images_per_class, distill.student_steps, distill.labels, distill.skip_above) == (3, 7, "soft", 1.1)
    assert distill.schedule == Fixed(max_start_epoch=3)


def test_every_method_of_the_literature_is_there() -> None:
    assert set(METHODS) == {path.stem for path in (REPOSITORY / "configs" / "methods").glob("*.yaml")}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_a_combination_of_options(read: Read, method: str) -> None:
    config = read(SIMULATED, f"extends=methods/{method}")
    assert {name: getattr(config.distill, name) for name in METHODS[method]} == METHODS[method]
    assert (config.experts.training.flat == SharpnessAware()) == (method in {"ftd", "datm", "pad"})
    assert config.experts.keep == ("ends" if method == "mct" else "all")


@pytest.mark.parametrize("method", METHODS)
def test_a_preset_is_the_recipe_of_the_library(read: Read, method: str) -> None:
    given = read(SIMULATED, f"extends=methods/{method}").distill
    recipe = getattr(distillation, method)(images_per_class=given.images_per_class)
    same = {field.name: getattr(given, field.name) for field in fields(Recipe)}
    assert {name: getattr(recipe, name) for name in same} == same


@pytest.mark.parametrize("method", METHODS)
def test_mlflow_names_the_method_of_a_recipe(read: Read, method: str) -> None:
    assert search_tags(plain(read(SIMULATED, f"extends=methods/{method}")))["method"] == method
    assert search_tags(plain(read(SIMULATED, "extends=parts/heads")))["method"] == "heads"


@pytest.mark.parametrize("method", METHODS)
def test_a_method_replaces_the_window_of_the_config_that_it_extends(read: Read, method: str) -> None:
    schedule = read(SIMULATED, f"extends=methods/{method}").distill.schedule
    for base in ("parts/ten_a_class", "demo"):
        assert read(SIMULATED, f"extends=[{base},methods/{method}]").distill.schedule == schedule


@pytest.mark.parametrize("method", METHODS)
def test_a_method_distils(read: Read, method: str) -> None:
    """Two iterations of each, with fewer student steps, on small trained networks."""
    recipe = read(SIMULATED, f"extends=methods/{method}", "distill.student_steps=3", "distill.image_step.lr=1").distill
    if isinstance(recipe.schedule, StepwiseWindow):
        recipe = replace(recipe, schedule=replace(recipe.schedule, first_max_start_epoch=1))
    network = build_network(zoo.NETWORKS["instance"], zoo.CLASSES, zoo.SIZE)
    images = zoo.normal(0, zoo.CLASSES, 3, zoo.SIZE, zoo.SIZE, dtype=torch.float32)
    run = Distiller(recipe, network, zoo.experts(network, num_epochs=5), images, torch.eye(zoo.CLASSES), seed=0)
    records = [*run.step(), *run.step()]
    assert all(0 < record.loss < math.inf for record in records)
    assert torch.equal(run.images, images) == all(record.skipped for record in records)
