"""Checks of a config report contradictory values before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from raydistill.config import load
from raydistill.errors import ConfigError
from raydistill.pipeline.checks import check, check_epochs
from tests import zoo

DIHEDRAL = "evaluate.dm.augmentation={operations: [dihedral], shared: true}"
CUSTOM = f"network={{kind: custom, factory: '{__name__}:"


def convolution_only(num_classes: int, image_size: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def noisy(num_classes: int, image_size: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), zoo.Noise(), nn.Linear(channels * image_size**2, num_classes))


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        ([CUSTOM + "convolution_only'}", "evaluate.baselines=[dm]"], "network", "no last linear layer whose input could be its features"),
        ([CUSTOM + "convolution_only'}", "evaluate.baselines=[]", "distill.init=tgdd"], "network",
         "no last linear layer whose input could be its features"),
        ([CUSTOM + "convolution_only'}", "evaluate.baselines=[]", "distill.objective={kind: ridge}"], "network",
         "no last linear layer whose input could be its features"),
        (["distill.objective={kind: ridge}", "distill.labels=votes"], "command line, distill", "ridge needs labels: hard"),
        (["distill.space={kind: components}", "distill.images_per_class=4", "distill.multi_formation=2"],
         "command line, distill", "multi_formation goes with space: pixels"),
        (["distill.space={kind: components, components: 0}"], "command line, distill.space", "components must be"),
        ([CUSTOM + "noisy'}"], "network", "the network draws random numbers"),
        (["evaluate.other_networks=[" + CUSTOM.partition("=")[2] + "noisy'}]"], "evaluate.other_networks.0", "draws random numbers"),
        (["output=a?b"], "output", r"cannot keep its database in '.*/a\?b/demo', because of the '\?'"),
        (["name=a%20b"], "output", "because of the '%20'"),
        (["experts.num_experts=3", "distill.experts=[0, 3]"], "distill.experts", "the experts are numbered 0 to 2"),
        (["experts.num_experts=3", "analyse.expert_groups=4"], "analyse.expert_groups", "4 groups were asked for, and 3 experts"),
        (["distill.experts=[0]", "analyse.expert_groups=2"], "analyse.expert_groups", "2 groups were asked for, and 1 experts"),
        ([CUSTOM.replace("network=", "analyse.networks=[") + "noisy'}]"], "analyse.networks.0", "draws random numbers"),
        (["distill.image_step={kind: sgd, lr: auto}", "distill.space={kind: pyramid}"], "command line, distill", "a step of plain pixels"),
        (["evaluate.protocols={head: {}}"], "command line, evaluate", "must not have the name 'head'"),
        (["distill.images_per_class=9", "distill.multi_formation=3"], "distill.multi_formation", "have no 3 equal tiles"),
        (["distill.images_per_class=3", "distill.multi_formation=2"], "command line, distill", "must be a multiple of 4"),
        (["distill.images_per_class=1", "distill.allocation=frequency"], "command line, distill", "several images_per_class"),
        (["distill.init=samples", "curate.whitening=zca"], "distill.init", "a generator draws no whitened images"),
        (["distill.init=mgd3", "generate.conditions=[votes]"], "distill.init", "need a generator that knows classes"),
        (["search.space={init: [real, samples]}"], "search.space", "its init needs a generator"),
        (["distill.experts=[]"], "command line, distill", "different numbers, at least one"),
        (["distill.experts=[1, 1]"], "command line, distill", "different numbers, at least one"),
        (["analyse.expert_groups=1"], "command line, analyse", "must be 0 or at least 2"),
        (["curate.align=true", DIHEDRAL], "evaluate.dm.augmentation", "rotates them again"),
    ],
)  # fmt: skip
def test_contradictory_values_raise_config_error(overrides: list[str], key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check(load("demo", overrides))
    assert caught.value.where == key
    assert caught.value.exit_code == 2


def test_network_without_features_is_accepted_if_no_baseline_needs_them() -> None:
    check(load("demo", [CUSTOM + "convolution_only'}"]))


# An epoch has hundreds of steps, and several snapshots.
LONG_EPOCHS = ("experts.training.epochs=2", "experts.training.batch_size=1")


@pytest.mark.parametrize("recipe", ["distill.expert_epochs=3", "distill.schedule={kind: fixed, min_start_epoch: 2}"])
def test_the_parts_of_a_long_epoch_count_as_epochs(recipe: str, data_root: Path) -> None:
    check(load("demo", [*LONG_EPOCHS, recipe]))
    check(load("gz2_kaggle5", [*LONG_EPOCHS, recipe, "curate.per_class=null"]))  # of an unknown size
    with pytest.raises(ConfigError, match="experts store 2 only"):
        check(load("demo", [*LONG_EPOCHS, recipe, "experts.snapshot_steps=null"]))
    with pytest.raises(ConfigError, match="experts store 2 only"):
        check(load("demo", [*LONG_EPOCHS, recipe, "curate.per_class=7"]))
    with pytest.raises(ConfigError, match="experts store 2 only"):
        check(load("demo", [*LONG_EPOCHS, recipe, "survey.num_galaxies=63"]))
    with pytest.raises(ConfigError, match="experts store 2 only"):
        check_epochs(load("gz2_kaggle5", [*LONG_EPOCHS, recipe, "curate.per_class=null"]), 2)


def test_an_automatic_target_counts_in_the_epochs_that_are_needed() -> None:
    config = load(
        "demo",
        ["distill.expert_epochs=auto", "distill.schedule={kind: fixed, min_start_epoch: 23, max_start_epoch: 23}"],
    )
    check_epochs(config, 24)  # the steps of an epoch are not known yet
    check_epochs(config, 24, steps=100)
    with pytest.raises(
        ConfigError, match="first start epoch is 23 and its target 2 epochs ahead, but experts store 24"
    ):
        check_epochs(config, 24, steps=34)


@pytest.mark.parametrize("overrides", [["tracking.enabled=false"], ["tracking.uri=http://localhost:5000"]])
def test_output_with_a_question_mark_is_accepted_without_a_database_in_it(overrides: list[str]) -> None:
    check(load("demo", ["output=a?b", *overrides]))
