"""The space of a search: what Optuna gets, what a trial makes of it, and where the config's own recipe lies."""

from __future__ import annotations

import optuna
import pytest

from raydistill.config import Config, load
from raydistill.core.recipe import SGD, Adam
from raydistill.core.schedule import Fixed, SelfAdaptive
from raydistill.errors import ConfigError
from raydistill.pipeline.tune.space import check_space, decoded, distributions, longest, own_recipe, recipe_of

SPACE = (
    "search.space={student_steps: {low: 10, high: 40}, student_lr: {low: 0.001, high: 0.1, log: true}, ema: {low: 0, high: 0.5}, "
    "augmentation.operations: [[dihedral], []], image_step: [{kind: sgd, lr: 100.0}, {kind: adam, lr: 0.1}], "
    "schedule: [{kind: fixed, max_start_epoch: 3}, {kind: self-adaptive, significance: 2}]}"
)


@pytest.fixture
def config() -> Config:
    return load("demo", [SPACE])


def test_whole_ends_make_whole_numbers_and_lists_their_places(config: Config) -> None:
    found = distributions(config.search)
    assert found["student_steps"] == optuna.distributions.IntDistribution(10, 40)
    assert found["student_lr"] == optuna.distributions.FloatDistribution(0.001, 0.1, log=True)
    assert found["ema"] == optuna.distributions.FloatDistribution(0, 0.5)
    assert found["schedule"] == optuna.distributions.CategoricalDistribution((0, 1))


def test_what_was_drawn_becomes_a_recipe(config: Config) -> None:
    drawn = {
        "student_steps": 12,
        "student_lr": 0.05,
        "ema": 0.1,
        "augmentation.operations": 1,
        "image_step": 0,
        "schedule": 1,
    }
    values = decoded(config.search, drawn)
    assert values["augmentation.operations"] == []
    recipe = recipe_of(config, values)
    assert (recipe.student_steps, recipe.student_lr, recipe.ema) == (12, 0.05, 0.1)
    assert recipe.augmentation.operations == ()
    assert recipe.image_step == SGD(lr=100.0)
    assert recipe.iterations == config.distill.iterations


def test_of_a_kind_the_rest_stays_and_of_another_kind_nothing() -> None:
    config = load("demo", ["search.space={schedule: [{kind: self-adaptive, significance: 2}, {kind: fixed}]}"])
    first = recipe_of(config, decoded(config.search, {"schedule": 0})).schedule
    assert isinstance(first, SelfAdaptive)
    assert (first.significance, first.min_duration) == (2, 15), "the demo's own"
    assert recipe_of(config, decoded(config.search, {"schedule": 1})).schedule == Fixed()


@pytest.mark.parametrize("key", ["student_lr", "images_per_class", "expert_epochs", "schedule.max_start_epoch"])
def test_a_population_changes_only_what_takes_effect_in_the_midst(key: str) -> None:
    search = f"search={{stopping: {{kind: pbt}}, space: {{image_step.lr: {{low: 0.01, high: 0.1}}, {key}: {{low: 1, high: 2}}}}}}"
    with pytest.raises(ConfigError, match=f"'{key}' cannot change once images are being distilled"):
        check_space(load("demo", [search]))
    check_space(load("demo", [search.replace(f", {key}: {{low: 1, high: 2}}", "")]))


def test_the_own_recipe_is_a_point_where_the_space_holds_it() -> None:
    steps = "image_step: [{kind: sgd, lr: 1.0}, {kind: adam, lr: 0.04}]"
    space = f"search.space={{student_steps: {{low: 5, high: 20}}, {steps}, init: [noise, real]}}"
    config = load("demo", [space])
    assert config.distill.image_step == Adam(lr=0.04)
    assert own_recipe(config) == {"student_steps": 10, "image_step": 1, "init": 1}


@pytest.mark.parametrize(
    "space", ["{student_steps: {low: 11, high: 20}}", "{init: [noise, mean]}", "{student_lr: {low: 1.0, high: 2.0}}"]
)
def test_it_is_none_where_the_space_does_not(space: str) -> None:
    assert own_recipe(load("demo", [f"search.space={space}"])) is None


def test_auto_is_no_number() -> None:
    assert (
        own_recipe(load("demo", ["distill.student_lr=auto", "search.space={student_lr: {low: 0.001, high: 1.0}}"]))
        is None
    )


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ("{}", "there is nothing to search"),
        ("{foo: [1, 2]}", "there is no key 'foo'"),
        ("{student_steps: {low: 0, high: 5}}", "student_steps must be positive"),
        ("{expert_epochs: {low: 1, high: 99}}", "the target lies 99 epochs ahead"),
        ("{student_steps: {low: 5, high: 20.0}}", "student_steps"),
        ("{schedule: [{kind: fixed, max_start_epoch: 1}, {kind: bogus}]}", "there is no kind 'bogus'"),
    ],
)
def test_a_space_without_sense_is_refused(space: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_space(load("demo", [f"search.space={space}"]))


def test_a_list_of_one_is_no_choice() -> None:
    with pytest.raises(ConfigError, match="init must have two values or more"):
        load("demo", ["search.space={init: [real]}"])


def test_the_longest_trial_may_be_longer_than_the_config_s_own() -> None:
    space = "search.space.iterations="
    assert longest(load("demo", ["distill.iterations=300"])) == 300
    assert longest(load("demo", ["distill.iterations=300", space + "{low: 100, high: 1000}"])) == 1000
    assert longest(load("demo", ["distill.iterations=300", space + "[100, 200]"])) == 200
