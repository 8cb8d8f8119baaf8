"""Configs have types and defaults, extend other configs and take overrides."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import CatalogSurvey, Halving, Range, load, plain
from raydistill.distillation.options import SGD, Adam
from raydistill.distillation.schedule import Fixed, LossWeighted, SelfAdaptive, StepwiseWindow
from raydistill.errors import ConfigError
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.learning.architectures import MLP, ConvNet, ViT
from raydistill.learning.augment import DSA, Augmentation
from raydistill.simulation.config import SimulatedSurvey
from raydistill.storage import Folder
from tests.unit.config_tools import SIMULATED, Read

REPOSITORY = Path(__file__).parents[2]


def test_missing_keys_have_defaults(read: Read) -> None:
    config = read()
    assert isinstance(config.survey, SimulatedSurvey)
    assert config.network == ConvNet()
    assert config.distill.student_steps == "auto"
    assert config.evaluate.protocols["paper"].training.momentum == 0.9


@pytest.mark.parametrize(
    "key",
    ["experts.training.epochs", "evaluate.full_data.epochs", "evaluate.protocols.paper.training.epochs"],
)
def test_one_key_of_a_recipe_keeps_the_other_defaults(read: Read, key: str) -> None:
    def values(*overrides: str) -> dict[str, Any]:
        tree: Any = plain(read(SIMULATED + "evaluate: {protocols: {paper: {}}}\n", *overrides))
        for name in key.split(".")[:-1]:
            tree = tree[name]
        return dict(tree)

    before, after = values(), values(f"{key}=7")
    assert {name for name in before if before[name] != after[name]} == {"epochs"}
    assert after["augmentation"]["operations"] == ["dihedral"]


def test_aligned_galaxies_are_mirrored_by_default(read: Read) -> None:
    extra = "evaluate: {protocols: {one: {}, other: {training: {augmentation: {operations: []}}}}}\n"
    unaligned, aligned = read(SIMULATED + extra), read(SIMULATED + extra, "curate.align=true")
    for config, operations in ((unaligned, ("dihedral",)), (aligned, ("mirror",))):
        protocols = config.evaluate.protocols
        unset = [config.experts.training, config.distill, config.evaluate.full_data, protocols["one"].training]
        assert {training.augmentation.operations for training in unset} == {operations}
        assert protocols["other"].training.augmentation.operations == ()
    assert read(SIMULATED, "curate.align=true").evaluate.protocols["paper"].training.augmentation.operations == (
        "mirror",
    )


def test_top_level_augmentation_is_the_default_of_every_use(read: Read) -> None:
    config = read(
        SIMULATED
        + "augmentation: {operations: [rotate], max_rotation: 180}\ndistill: {augmentation: {max_rotation: 90}}\n"
    )
    paper = config.evaluate.protocols["paper"].training
    for options in (config.experts.training, paper, config.evaluate.full_data, config.evaluate.dm):
        assert (options.augmentation.operations, options.augmentation.max_rotation) == (("rotate",), 180)
    assert config.evaluate.dm.augmentation.shared
    assert (config.distill.augmentation.operations, config.distill.augmentation.max_rotation) == (("rotate",), 90)


def test_data_sets_have_their_own_crop_and_augmentation(read: Read) -> None:
    config = read("name: x\nsurvey: {kind: cifar10, root: somewhere}\n")
    assert (config.curate.classes, config.curate.crop_fraction, config.curate.min_picture_size) == ("all", 1, 8)
    protocol = config.evaluate.protocols["paper"]
    for options in (config.experts.training, config.distill, protocol.training, config.evaluate.full_data):
        assert options.augmentation == Augmentation(DSA, mode="single")
    cut = read(
        "name: x\nsurvey: {kind: cifar10, root: somewhere}\n",
        "curate.crop_fraction=0.9",
        "augmentation.operations=[crop]",
    )
    assert (cut.curate.crop_fraction, cut.distill.augmentation) == (0.9, Augmentation(("crop",)))


def test_null_removes_a_protocol(read: Read) -> None:
    two = SIMULATED + "evaluate: {protocols: {paper: {}, plain: {}}}\n"
    assert list(read(two, "evaluate.protocols.plain=null").evaluate.protocols) == ["paper"]
    assert list(read(two, "evaluate.protocols.plain=null", "curate.align=true").evaluate.protocols) == ["paper"]
    with pytest.raises(ConfigError, match="protocols must name at least one"):
        read(two, "evaluate.protocols={paper: null, plain: null}")


def test_protocol_name_may_contain_dots(read: Read) -> None:
    dotted = SIMULATED + "evaluate: {protocols: {lr0.5: {}, 1.e: {training: {augmentation: {operations: [flip]}}}}}\n"
    for protocols in (
        read(dotted, override).evaluate.protocols
        for override in ("curate.align=true", "augmentation={operations: [mirror]}")
    ):
        assert [protocol.training.augmentation.operations for protocol in protocols.values()] == [
            ("mirror",),
            ("flip",),
        ]


def test_config_can_be_read_from_a_bucket() -> None:
    folder = Folder("memory://bucket/search")
    folder.write("best.yaml", f"extends: demo\n{SIMULATED}".encode())
    assert load("memory://bucket/search/best.yaml", ["seed=5"]) == replace(load("demo", ["seed=5"]), name="x")
    with pytest.raises(ConfigError, match=r"memory://bucket/search/best\.yml: there is no such config file"):
        load("memory://bucket/search/best.yml")


def test_config_can_extend_a_named_run(read: Read) -> None:
    assert read("extends: demo.yaml\nname: mine\n").network == ConvNet(depth=3, width=32)


def test_nested_values_are_read(read: Read) -> None:
    config = read(SIMULATED + "experts: {training: {augmentation: {operations: [rotate, crop], max_rotation: 180}}}\n")
    augmentation = config.experts.training.augmentation
    assert augmentation.operations == ("rotate", "crop")
    assert augmentation.max_rotation == 180.0


def test_overrides_take_precedence(read: Read) -> None:
    config = read(
        SIMULATED + "distill: {iterations: 5}\n", "distill.iterations=7", "network.kind=mlp", "network.width=9"
    )
    assert config.distill.iterations == 7
    assert config.network == MLP(width=9)


def test_numbers_in_scientific_notation_and_null_are_read(read: Read) -> None:
    assert read(SIMULATED, "distill.student_lr=1e-3").distill.student_lr == 1e-3
    assert read(SIMULATED + "distill: {student_lr: 5e-4}\n").distill.student_lr == 5e-4
    assert read(SIMULATED, "curate.thresholds=null").curate.thresholds is None


def test_kind_selects_the_class(read: Read) -> None:
    schedules = {
        "loss-weighted": LossWeighted(),
        "clocked": StepwiseWindow(),
        "fixed": Fixed(),
        "self-adaptive": SelfAdaptive(),
    }
    for kind, expected in schedules.items():
        assert read(SIMULATED, f"distill.schedule.kind={kind}").distill.schedule == expected
    steps = read(SIMULATED, "distill.image_step={kind: sgd, lr: 100}", "distill.lr_step={kind: adam, lr: 0.1}").distill
    assert (steps.image_step, steps.lr_step) == (SGD(lr=100), Adam(lr=0.1))
    several = read(
        SIMULATED, "evaluate.other_networks=[{kind: mlp, width: 4}, {kind: convnet, depth: 2}]"
    ).evaluate.other_networks
    assert several == (MLP(width=4), ConvNet(depth=2))
    survey = read("name: x\nsurvey: {kind: catalog, catalog: a.csv, images: {kind: folder, root: pictures}}\n").survey
    assert isinstance(survey, CatalogSurvey)
    assert isinstance(survey.images, FolderImages)


def test_missing_kind_is_inferred_from_the_keys(read: Read) -> None:
    networks = read(SIMULATED, "evaluate.other_networks=[{patch: 4}, {depth: 2}]").evaluate.other_networks
    assert networks == (ViT(patch=4), ConvNet(depth=2))
    assert isinstance(read("name: x\nsurvey: {catalog: a, images: {root: b}}\n").survey, CatalogSurvey)


def test_extended_config_is_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(SIMULATED + "seed: 3\ndistill: {iterations: 5, student_steps: 4}\n")
    (tmp_path / "middle.yaml").write_text("extends: base.yaml\nseed: 4\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.yaml").write_text("extends: ../middle.yaml\nname: y\ndistill: {iterations: 6}\n")
    config = load(tmp_path / "deep" / "own.yaml")
    assert (config.name, config.seed, config.distill.iterations, config.distill.student_steps) == ("y", 4, 6, 4)
    own, middle = ((tmp_path / name).as_uri() for name in ("deep/own.yaml", "middle.yaml"))
    (tmp_path / "deep" / "middle.yaml").write_text("extends: [demo, ../base.yaml]\n")
    (tmp_path / "deep" / "own.yaml").write_text("extends: middle.yaml\n")
    assert load(own).distill.student_steps == 4
    assert load("demo", [f"extends={middle}"]).seed == 4


def test_later_base_config_takes_precedence(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(SIMULATED + "distill: {iterations: 5, student_steps: 4}\n")
    (tmp_path / "other.yaml").write_text("distill: {iterations: 7, ema: 0.5}\n")
    (tmp_path / "own.yaml").write_text("extends: [one.yaml, other.yaml]\ndistill: {ema: 0.25}\n")
    distill = load(tmp_path / "own.yaml").distill
    assert (distill.iterations, distill.student_steps, distill.ema) == (7, 4, 0.25)


def test_new_kind_discards_the_values_of_the_old_kind(read: Read) -> None:
    adaptive = SIMULATED + "distill: {schedule: {kind: self-adaptive, significance: 3}, student_steps: 4}\n"
    assert read(adaptive, "distill.schedule={kind: fixed, max_start_epoch: 5}").distill.schedule == Fixed(
        max_start_epoch=5
    )
    assert read(adaptive, "distill.schedule.kind=clocked").distill.schedule == StepwiseWindow()
    assert read(adaptive, "distill.schedule.min_duration=9").distill.schedule == SelfAdaptive(
        significance=3, min_duration=9
    )
    assert read(adaptive, "distill.schedule.kind=clocked").distill.student_steps == 4


def test_key_without_kind_changes_the_default_kind(read: Read) -> None:
    """Adam is the default step, and SGD the first of the kinds that have a rate."""
    overrides = (
        "distill.image_step.lr=0.05",
        "distill.lr_step.lr=0.01",
        "distill.label_step.momentum=0.5",
        "network.depth=2",
    )
    config = read(SIMULATED, *overrides, "distill.schedule.significance=3")
    assert config.distill.image_step == Adam(lr=0.05)
    assert config.distill.lr_step == Adam(lr=0.01)
    assert config.distill.label_step == SGD(lr=5.0, momentum=0.5)
    assert config.distill.schedule == LossWeighted(significance=3)
    assert config.network == ConvNet(depth=2)
    assert read(SIMULATED, "distill.schedule={kind: fixed, max_start_epoch: 2}").distill.schedule == Fixed(
        max_start_epoch=2
    )
    assert read(SIMULATED, "search.stopping.grace=20").search.stopping == Halving(grace=20)
    assert read(SIMULATED, "search.stopping=null").search.stopping is None
    with pytest.raises(ConfigError, match="there is no key 'max_group'; did you mean 'max_groups'"):
        read(SIMULATED, "distill.schedule.max_group=2")


def test_list_replaces_mapping_and_mapping_replaces_list(read: Read) -> None:
    text = SIMULATED + "search: {space: {student_steps: {low: 10, high: 40}, init: [real, noise]}}\n"
    space = read(text, "search.space.student_steps=[10,20]", "search.space.init={low: 1, high: 2}").search.space
    assert space == {"student_steps": [10, 20], "init": Range(low=1, high=2)}
    with pytest.raises(ConfigError, match=r"experts\.training\.augmentation"):
        read(SIMULATED, "experts.training.augmentation=[dihedral]")


def test_environment_variables_are_resolved(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDISTILL_TEST_OUTPUT", "elsewhere")
    assert read(SIMULATED + "output: ${oc.env:RAYDISTILL_TEST_OUTPUT}/runs\n").output == "elsewhere/runs"


def test_plain_is_json_that_loads_to_the_same_config(read: Read, tmp_path: Path) -> None:
    config = read(
        SIMULATED, "network.kind=mlp", "distill.schedule.kind=clocked", "distill.image_step={kind: sgd, lr: 9}"
    )
    text = json.dumps(plain(config))  # JSON is YAML
    (tmp_path / "again.yaml").write_text(text)
    assert load(tmp_path / "again.yaml") == config
    assert plain(config)["distill"]["schedule"] == {
        "kind": "clocked", "every": 100, "min_start_epoch": 0, "first_max_start_epoch": None, "max_start_epoch": 7
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "RAYDISTILL_DATA" not in os.environ:
        monkeypatch.setenv("RAYDISTILL_DATA", "data")
    config = load(path)
    assert config.name
    assert json.loads(json.dumps(plain(config)))["name"] == config.name


def test_configs_are_shipped() -> None:
    assert list((REPOSITORY / "configs").glob("*.yaml"))


def test_repr_is_short_and_a_notebook_shows_the_keys_that_differ() -> None:
    config = load("demo", ["distill.schedule.significance=3", "evaluate.protocols.paper.lr_grid=[0.5]", "name=<b>"])
    assert repr(config).startswith("<Config '<b>': sets survey.num_galaxies, ")
    assert len(repr(config)) <= 300
    shown = config._repr_html_()
    assert "<tr><td>name</td><td>&quot;&lt;b&gt;&quot;</td><td></td></tr>" in shown
    assert "<tr><td>distill.images_per_class</td>" not in shown, "it has its default"
    assert "<tr><td>distill.schedule.significance</td><td>3.0</td><td>" in shown
    assert "<tr><td>evaluate.protocols.paper.lr_grid</td><td>[0.5]</td>" in shown
    assert load("demo", ["distill.schedule={kind: fixed}"])._repr_html_().count("distill.schedule.kind") == 1
