"""The search space: Optuna's distributions and the recipe of a trial.

The config's own recipe is tested as a point of the space.
"""

from __future__ import annotations

import optuna
import pytest

from raydistill.config import Config, load
from raydistill.distillation.options import SGD, Adam
from raydistill.distillation.schedule import Fixed, SelfAdaptive
from raydistill.errors import ConfigError
from raydistill.stages.tune.space import check_space, decode, distributions, max_iterations, own_recipe, recipe_of

SPACE = (
    "search.space={student_steps: {low: 10, high: 40}, student_lr: {low: 0.001, high: 0.1, log: true}, ema: {low: 0, high: 0.5}, "
    "augmentation.operations: [[dihedral], []], image_step: [{kind: sgd, lr: 100.0}, {kind: adam, lr: 0.1}], "
    "schedule: [{kind: fixed, max_start_epoch: 3}, {kind: self-adaptive, significance: 2}]}"
)


@pytest.fixture
def config() -> Config:
    return load("demo", [SPACE])


def test_integer_ranges_draw_integers_and_lists_draw_indices(config: Config) -> None:
    result = distributions(config.search)
    assert result["student_steps"] == optuna.distributions.IntDistribution(10, 40)
    assert result["student_lr"] == optuna.distributions.FloatDistribution(0.001, 0.1, log=True)
    assert result["ema"] == optuna.distributions.FloatDistribution(0, 0.5)
    assert result["schedule"] == optuna.distributions.CategoricalDistribution((0, 1))


def test_drawn_values_become_a_recipe(config: Config) -> None:
    drawn = {
        "student_steps": 12,
        "student_lr": 0.05,
        "ema": 0.1,
        "augmentation.operations": 1,
        "image_step": 0,
        "schedule": 1,
    }
    values = decode(config.search, drawn)
    assert values["augmentation.operations"] == []
    recipe = recipe_of(config, values)
    assert (recipe.student_steps, recipe.student_lr, recipe.ema) == (12, 0.05, 0.1)
    assert recipe.augmentation.operations == ()
    assert recipe.image_step == SGD(lr=100.0)
    assert recipe.iterations == config.distill.iterations


def test_another_kind_replaces_all_fields() -> None:
    config = load("demo", ["search.space={schedule: [{kind: self-adaptive, significance: 2}, {kind: fixed}]}"])
    first = recipe_of(config, decode(config.search, {"schedule": 0})).schedule
    assert isinstance(first, SelfAdaptive)
    assert (first.significance, first.min_duration) == (2, 15), "the demo's own min_duration must stay"
    assert recipe_of(config, decode(config.search, {"schedule": 1})).schedule == Fixed()


@pytest.mark.parametrize("key", ["student_lr", "images_per_class", "expert_epochs", "schedule.max_start_epoch"])
def test_population_rejects_keys_that_cannot_change_during_a_run(key: str) -> None:
    search = f"search={{stopping: {{kind: pbt}}, space: {{image_step.lr: {{low: 0.01, high: 0.1}}, {key}: {{low: 1, high: 2}}}}}}"
    with pytest.raises(ConfigError, match=f"'{key}' cannot change during distillation"):
        check_space(load("demo", [search]))
    check_space(load("demo", [search.replace(f", {key}: {{low: 1, high: 2}}", "")]))


def test_own_recipe_is_a_point_of_a_space_that_contains_it() -> None:
    steps = "image_step: [{kind: sgd, lr: 1.0}, {kind: adam, lr: 0.04}]"
    space = f"search.space={{student_steps: {{low: 5, high: 20}}, {steps}, init: [noise, real]}}"
    config = load("demo", [space])
    assert config.distill.image_step == Adam(lr=0.04)
    assert own_recipe(config) == {"student_steps": 10, "image_step": 1, "init": 1}


@pytest.mark.parametrize(
    "space", ["{student_steps: {low: 11, high: 20}}", "{init: [noise, mean]}", "{student_lr: {low: 1.0, high: 2.0}}"]
)
def test_own_recipe_outside_the_space_is_none(space: str) -> None:
    assert own_recipe(load("demo", [f"search.space={space}"])) is None


def test_own_recipe_with_auto_is_outside_a_range() -> None:
    assert (
        own_recipe(load("demo", ["distill.student_lr=auto", "search.space={student_lr: {low: 0.001, high: 1.0}}"]))
        is None
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{}", "there is nothing to search"),
        ("{foo: [1, 2]}", "there is no key 'foo'"),
        ("{student_steps: {low: 0, high: 5}}", "student_steps must be positive"),
        ("{expert_epochs: {low: 1, high: 99}}", "the target lies 99 epochs ahead"),
        ("{student_steps: {low: 5, high: 20.0}}", "student_steps"),
        ("{schedule: [{kind: fixed, max_start_epoch: 1}, {kind: bogus}]}", "there is no kind 'bogus'"),
    ],
)
def test_invalid_space_is_rejected(space: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_space(load("demo", [f"search.space={space}"]))


def test_list_of_one_value_is_rejected() -> None:
    with pytest.raises(ConfigError, match="init must have two values or more"):
        load("demo", ["search.space={init: [real]}"])


def test_longest_trial_may_exceed_the_iterations_of_the_config() -> None:
    space = "search.space.iterations="
    assert max_iterations(load("demo", ["distill.iterations=300"])) == 300
    assert max_iterations(load("demo", ["distill.iterations=300", space + "{low: 100, high: 1000}"])) == 1000
    assert max_iterations(load("demo", ["distill.iterations=300", space + "[100, 200]"])) == 200
    assert max_iterations(load("demo", ["distill.iterations=300", space + '["100", 60]'])) == 100
