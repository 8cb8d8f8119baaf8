"""Configs: typed, with defaults, extended and overridden; whatever is wrong gets one sentence that names it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.config import CatalogSurvey, Halving, Range, load, plain
from raydistill.core.architectures import MLP, ConvNet, ViT
from raydistill.core.augment import DSA, Augmentation
from raydistill.core.recipe import SGD, Adam
from raydistill.core.schedule import Fixed, SelfAdaptive, StepwiseWindow
from raydistill.errors import ConfigError
from raydistill.galaxies.sources import FolderImages
from raydistill.simulation.config import SimulatedSurvey
from raydistill.storage import Folder
from tests.unit.config_tools import SIMULATED, Read

REPOSITORY = Path(__file__).parents[2]


def test_defaults_fill_what_is_not_said(read: Read) -> None:
    config = read()
    assert isinstance(config.survey, SimulatedSurvey)
    assert config.network == ConvNet()
    assert config.distill.student_steps == "auto"
    assert config.evaluate.protocols["paper"].training.momentum == 0.9


@pytest.mark.parametrize(
    "key",
    ["experts.training.epochs", "evaluate.full_data.epochs", "evaluate.protocols.paper.training.epochs"],
)
def test_one_key_of_a_recipe_leaves_the_rest_of_it(read: Read, key: str) -> None:
    def values(*overrides: str) -> dict[str, Any]:
        found: Any = plain(read(SIMULATED + "evaluate: {protocols: {paper: {}}}\n", *overrides))
        for name in key.split(".")[:-1]:
            found = found[name]
        return dict(found)

    before, after = values(), values(f"{key}=7")
    assert {name for name in before if before[name] != after[name]} == {"epochs"}
    assert after["augmentation"]["operations"] == ["dihedral"]


def test_galaxies_that_lie_level_are_mirrored_unless_one_says_otherwise(read: Read) -> None:
    own = "evaluate: {protocols: {one: {}, other: {training: {augmentation: {operations: []}}}}}\n"
    as_they_are, level = read(SIMULATED + own), read(SIMULATED + own, "curate.align=true")
    for config, operations in ((as_they_are, ("dihedral",)), (level, ("mirror",))):
        protocols = config.evaluate.protocols
        left_alone = [config.experts.training, config.distill, config.evaluate.full_data, protocols["one"].training]
        assert {one.augmentation.operations for one in left_alone} == {operations}
        assert protocols["other"].training.augmentation.operations == ()
    assert read(SIMULATED, "curate.align=true").evaluate.protocols["paper"].training.augmentation.operations == (
        "mirror",
    )


def test_one_augmentation_for_all_uses_but_those_that_say_otherwise(read: Read) -> None:
    config = read(
        SIMULATED
        + "augmentation: {operations: [rotate], max_rotation: 180}\ndistill: {augmentation: {max_rotation: 90}}\n"
    )
    paper = config.evaluate.protocols["paper"].training
    for one in (config.experts.training, paper, config.evaluate.full_data, config.evaluate.dm):
        assert (one.augmentation.operations, one.augmentation.max_rotation) == (("rotate",), 180)
    assert config.evaluate.dm.augmentation.shared
    assert (config.distill.augmentation.operations, config.distill.augmentation.max_rotation) == (("rotate",), 90)


def test_an_augmentation_that_would_change_nothing_is_refused(read: Read) -> None:
    whole = yaml.safe_dump(plain(read(SIMULATED)))
    with pytest.raises(ConfigError, match="augmentation: every use has its own augmentation here"):
        read(whole, "augmentation.operations=[flip]")


def test_photographs_are_taken_whole_and_augmented_as_photographs(read: Read) -> None:
    config = read("name: x\nsurvey: {kind: cifar10, root: somewhere}\n")
    assert (config.curate.classes, config.curate.crop_fraction, config.curate.min_picture_size) == ("all", 1, 8)
    protocol = config.evaluate.protocols["paper"]
    for one in (config.experts.training, config.distill, protocol.training, config.evaluate.full_data):
        assert one.augmentation == Augmentation(DSA, mode="single")
    cut = read(
        "name: x\nsurvey: {kind: cifar10, root: somewhere}\n",
        "curate.crop_fraction=0.9",
        "augmentation.operations=[crop]",
    )
    assert (cut.curate.crop_fraction, cut.distill.augmentation) == (0.9, Augmentation(("crop",)))


def test_a_baseline_that_is_named_twice_is_refused(read: Read) -> None:
    """Its networks would count twice, and its interval be too narrow."""
    with pytest.raises(ConfigError, match="baselines must not name one twice"):
        read(SIMULATED, "evaluate.baselines=[random_real,class_mean,random_real]")


@pytest.mark.parametrize("uri", ["https://me:hunter2@mlflow.org", "postgresql://me:hunt@er2@db/mlflow"])
def test_a_password_is_not_taken_for_it_would_be_written_down(read: Read, uri: str) -> None:
    with pytest.raises(ConfigError, match="uri must hold no password; set MLFLOW_TRACKING_USERNAME") as caught:
        read(SIMULATED, f"tracking.uri={uri}")
    assert "hunt" not in str(caught.value)
    assert read(SIMULATED, "tracking.uri=https://mlflow.org:5000/a@b:c").tracking.uri


def test_a_protocol_is_left_out_by_null(read: Read) -> None:
    two = SIMULATED + "evaluate: {protocols: {paper: {}, plain: {}}}\n"
    assert list(read(two, "evaluate.protocols.plain=null").evaluate.protocols) == ["paper"]
    assert list(read(two, "evaluate.protocols.plain=null", "curate.align=true").evaluate.protocols) == ["paper"]
    with pytest.raises(ConfigError, match="protocols must name at least one"):
        read(two, "evaluate.protocols={paper: null, plain: null}")


def test_a_protocol_s_name_may_have_dots(read: Read) -> None:
    dotted = SIMULATED + "evaluate: {protocols: {lr0.5: {}, 1.e: {training: {augmentation: {operations: [flip]}}}}}\n"
    for protocols in (
        read(dotted, f"{way}").evaluate.protocols
        for way in ("curate.align=true", "augmentation={operations: [mirror]}")
    ):
        assert [protocol.training.augmentation.operations for protocol in protocols.values()] == [
            ("mirror",),
            ("flip",),
        ]


def test_a_config_may_lie_in_a_bucket() -> None:
    folder = Folder("memory://bucket/search")
    folder.write("best.yaml", f"extends: demo\n{SIMULATED}".encode())
    assert load("memory://bucket/search/best.yaml", ["seed=5"]) == replace(load("demo", ["seed=5"]), name="x")
    with pytest.raises(ConfigError, match=r"memory://bucket/search/best\.yml: there is no such config file"):
        load("memory://bucket/search/best.yml")


def test_a_config_anywhere_may_extend_a_named_run(read: Read) -> None:
    assert read("extends: demo.yaml\nname: mine\n").network == ConvNet(depth=3, width=32)


def test_values_at_any_depth_are_taken(read: Read) -> None:
    config = read(SIMULATED + "experts: {training: {augmentation: {operations: [rotate, crop], max_rotation: 180}}}\n")
    augmentation = config.experts.training.augmentation
    assert augmentation.operations == ("rotate", "crop")
    assert augmentation.max_rotation == 180.0


def test_overrides_win(read: Read) -> None:
    config = read(
        SIMULATED + "distill: {iterations: 5}\n", "distill.iterations=7", "network.kind=mlp", "network.width=9"
    )
    assert config.distill.iterations == 7
    assert config.network == MLP(width=9)


def test_numbers_as_people_write_them(read: Read) -> None:
    assert read(SIMULATED, "distill.student_lr=1e-3").distill.student_lr == 1e-3
    assert read(SIMULATED + "distill: {student_lr: 5e-4}\n").distill.student_lr == 5e-4
    assert read(SIMULATED, "curate.thresholds=null").curate.thresholds is None


def test_unions_choose_by_kind(read: Read) -> None:
    schedules = {"clocked": StepwiseWindow(), "fixed": Fixed(), "self-adaptive": SelfAdaptive()}
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


def test_a_config_starts_from_the_one_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(SIMULATED + "seed: 3\ndistill: {iterations: 5, student_steps: 4}\n")
    (tmp_path / "middle.yaml").write_text("extends: base.yaml\nseed: 4\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.yaml").write_text("extends: ../middle.yaml\nname: y\ndistill: {iterations: 6}\n")
    config = load(tmp_path / "deep" / "own.yaml")
    assert (config.name, config.seed, config.distill.iterations, config.distill.student_steps) == ("y", 4, 6, 4)


def test_later_ones_win_of_several_that_a_config_extends(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(SIMULATED + "distill: {iterations: 5, student_steps: 4}\n")
    (tmp_path / "other.yaml").write_text("distill: {iterations: 7, ema: 0.5}\n")
    (tmp_path / "own.yaml").write_text("extends: [one.yaml, other.yaml]\ndistill: {ema: 0.25}\n")
    distill = load(tmp_path / "own.yaml").distill
    assert (distill.iterations, distill.student_steps, distill.ema) == (7, 4, 0.25)


def test_another_kind_of_a_thing_keeps_nothing_of_the_first(read: Read) -> None:
    adaptive = SIMULATED + "distill: {schedule: {kind: self-adaptive, significance: 3}, student_steps: 4}\n"
    assert read(adaptive, "distill.schedule={kind: fixed, max_start_epoch: 5}").distill.schedule == Fixed(
        max_start_epoch=5
    )
    assert read(adaptive, "distill.schedule.kind=clocked").distill.schedule == StepwiseWindow()
    assert read(adaptive, "distill.schedule.min_duration=9").distill.schedule == SelfAdaptive(
        significance=3, min_duration=9
    )
    assert read(adaptive, "distill.schedule.kind=clocked").distill.student_steps == 4


def test_a_key_without_its_kind_changes_the_default(read: Read) -> None:
    """Adam is the default step, and SGD the first of the kinds that have a rate."""
    words = (
        "distill.image_step.lr=0.05",
        "distill.lr_step.lr=0.01",
        "distill.label_step.momentum=0.5",
        "network.depth=2",
    )
    config = read(SIMULATED, *words, "distill.schedule.significance=3")
    assert config.distill.image_step == Adam(lr=0.05)
    assert config.distill.lr_step == Adam(lr=0.01)
    assert config.distill.label_step == SGD(lr=5.0, momentum=0.5)
    assert config.distill.schedule == SelfAdaptive(significance=3)
    assert config.network == ConvNet(depth=2)
    assert read(SIMULATED, "distill.schedule={kind: fixed, max_start_epoch: 2}").distill.schedule == Fixed(
        max_start_epoch=2
    )
    assert read(SIMULATED, "search.stopping.grace=20").search.stopping == Halving(grace=20)
    assert read(SIMULATED, "search.stopping=null").search.stopping is None
    with pytest.raises(ConfigError, match="there is no key 'max_start'; did you mean 'max_start_epoch'"):
        read(SIMULATED, "distill.schedule.max_start=2")


def test_a_list_takes_the_place_of_a_mapping_and_the_other_way_round(read: Read) -> None:
    text = SIMULATED + "search: {space: {student_steps: {low: 10, high: 40}, init: [real, noise]}}\n"
    space = read(text, "search.space.student_steps=[10,20]", "search.space.init={low: 1, high: 2}").search.space
    assert space == {"student_steps": [10, 20], "init": Range(low=1, high=2)}
    with pytest.raises(ConfigError, match=r"experts\.training\.augmentation"):
        read(SIMULATED, "experts.training.augmentation=[dihedral]")


def test_yes_and_no_are_no_numbers(read: Read) -> None:
    assert read(SIMULATED, "curate.classes=[7, '1']").curate.classes == (7, "1")
    with pytest.raises(ConfigError, match=r"curate\.classes"):
        read(SIMULATED, "curate.classes=[no, yes]")


def test_a_rate_that_would_not_be_used_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"training\.lr is not used here; give lr_grid: \[0\.1\]"):
        read(SIMULATED, "evaluate.protocols.paper.training.lr=0.1")


@pytest.mark.parametrize("key", ["gpus", "distill_gpus"])
def test_one_and_a_half_gpus_are_refused(read: Read, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} must be at most 1, or a whole number, got 1.5"):
        read(SIMULATED, f"resources.{key}=1.5")


def test_the_environment_is_asked(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
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


CATALOG = "name: x\nsurvey: {kind: catalog, catalog: a.csv, images: {kind: folder, root: r}}\n"
WRONG_KEYS = [
    (SIMULATED, "sed=3", "sed: there is no key 'sed'; did you mean 'seed'?"),
    (SIMULATED, "distill.itertions=3", "distill.itertions: there is no key 'itertions'; did you mean 'iterations'?"),
    (SIMULATED, "resources.gpu=1", "did you mean 'gpus'?"),
    (SIMULATED, "network.depht=2", "network.depht: there is no key 'depht'; did you mean 'depth'?"),
    (SIMULATED, "experts.training.augmentation.max_rotations=3", "did you mean 'max_rotation'?"),
    (SIMULATED, "evaluate.protocols.paper.trainng.lr=3", "evaluate.protocols.paper.trainng: there is no key 'trainng'"),
    (SIMULATED, "evaluate.protocols.Adam.learnd_lr=true", "evaluate.protocols.Adam.learnd_lr: there is no key 'learnd_lr'"),
    (SIMULATED, "evaluate.other_networks=[{kind: convnet, wdth: 3}]",
     "evaluate.other_networks.0.wdth: there is no key 'wdth'; did you mean"),
    (SIMULATED, "distill.image_step={kind: adam, lr: 1, beta: 3}", "distill.image_step.beta: there is no key 'beta'; did you mean"),
    (CATALOG, "survey.images.rot=x", "survey.images.rot: there is no key 'rot'; did you mean 'root'?"),
    ("name: x\nsurvey: {kind: catalog, catalg: a.csv}\n", "", "survey.catalg: there is no key 'catalg'; did you mean 'catalog'?"),
    (SIMULATED, "search.space={ema: {lw: 0.1, high: 0.5}}", "search.space.ema.lw: there is no key 'lw'; did you mean 'low'?"),
    (SIMULATED, "search.stopping={kind: pbt, evry: 3}", "search.stopping.evry: there is no key 'evry'; did you mean 'every'?"),
    (SIMULATED + "network: {kind: mlp, depth: 2}\n", "", "network.depth: there is no key 'depth'"),
    (SIMULATED + "distill: {schedule: {kind: clocked, evry: 2}}\n", "", "schedule.evry: there is no key 'evry'; did you mean 'every'"),
]  # fmt: skip
WRONG_KINDS = [
    (SIMULATED, "network.kind=convent", "network.kind: there is no kind 'convent'; did you mean 'convnet'?"),
    (SIMULATED, "distill.schedule.kind=clockd", "there is no kind 'clockd'; did you mean 'clocked'?"),
    (SIMULATED, "survey.kind=simulate", "survey.kind: there is no kind 'simulate'; did you mean 'simulated'?"),
    (SIMULATED, "evaluate.other_networks=[{kind: convnt}]", "evaluate.other_networks.0.kind: there is no kind 'convnt'; did you mean"),
    (CATALOG, "survey.images.kind=foldr", "survey.images.kind: there is no kind 'foldr'; did you mean 'folder'?"),
    ("name: x\nsurvey: {kind: catalog, catalog: a, images: {kind: zip}}\n", "", "survey.images.kind: there is no kind 'zip'"),
]  # fmt: skip
WRONG_VALUES = [
    (SIMULATED, "distill.iterations=ten", "distill.iterations: input should be a valid integer"),
    (SIMULATED, "distill.student_steps=x", "distill.student_steps: input should be a valid integer, unable to parse string as an integer, "
     "or 'auto', got 'x'"),
    (SIMULATED, "distill.image_step={kind: sgd, lr: x}", "distill.image_step.lr: input should be a valid number, unable to parse string "
     "as a number, or 'auto', got 'x'"),
    (SIMULATED, "distill.iterations=-3", "distill: iterations must be positive, got -3"),
    (SIMULATED, "distill.student_lr=.nan", "distill: student_lr must be positive, got nan"),
    (SIMULATED, "distill.batch_size=0", "distill: batch_size must be at least 1, got 0"),
    (SIMULATED, "distill.schedule.test_every=0", "distill.schedule: test_every must be at least 1, got 0"),
    (SIMULATED, "distill.schedule={kind: fixed, max_start_epoch: -1}", "max_start_epoch must be at least 0, got -1"),
    (SIMULATED, "distill.schedule.fine_tune_factor=1", r"fine_tune_factor must lie in (0, 1), got 1.0"),
    (SIMULATED, "network.norm=batch", "network.norm: input should be 'instance', 'group' or 'none', got 'batch'"),
    (SIMULATED, "network.depth=0", "network: depth must be at least 1, got 0"),
    (SIMULATED, "curate.crop_fraction=2", "curate: crop_fraction must lie in (0, 1], got 2.0"),
    (SIMULATED, "curate.split=[0.5,0.5,0.5]", "curate: split must be three positive fractions that sum to 1"),
    (SIMULATED, "curate.split=[1.2,-0.1,-0.1]", "curate: split must be three positive fractions that sum to 1"),
    (SIMULATED, "curate.per_class=0", "curate.per_class: input should be greater than 0, got 0"),
    (SIMULATED, "experts.num_experts=0", "experts.num_experts: input should be greater than 0, got 0"),
    (SIMULATED, "experts.training.augmentation.operations=[flop]", "operations.0: input should be 'color', 'crop'"),
    (SIMULATED, "evaluate.baselines=[randm_real]", "evaluate.baselines.0: input should be 'random_real', 'class_mean'"),
    (SIMULATED, "evaluate.protocols={}", "evaluate: protocols must name at least one"),
    (SIMULATED, "evaluate={scores: true, full_data_networks: 0}",
     "evaluate: scores compare with networks trained on all the data, but full_data_networks is 0"),
    (SIMULATED, "evaluate={scores: true, protocols: {paper: {training: {augmentation: {operations: []}}}}}",
     "evaluate: scores compare the first protocol with itself without augmentation, but 'paper' has none"),
    (SIMULATED, "evaluate.num_networks=0", "evaluate.num_networks: input should be greater than 0, got 0"),
    (SIMULATED, "network=3", "network: input should be a dictionary"),
    (SIMULATED, "curate.split=[0.8,0,0.2]", "curate: split must be three positive fractions that sum to 1"),
    (SIMULATED, "distill.image_step={kind: sgd, lr: -1}", "distill.image_step: lr must be positive, got -1"),
    (SIMULATED, "distill.image_step={kind: adam, lr: 1, betas: [0.9, 1]}", "distill.image_step: beta 2 must lie in [0, 1), got 1"),
    (SIMULATED, "evaluate.protocols.paper.lr_grid=[0]", "evaluate.protocols.paper.lr_grid.0: input should be greater than 0, got 0"),
    (SIMULATED, "evaluate.protocols.paper.lr_grid=[]", "evaluate.protocols.paper: lr_grid must hold at least one learning rate"),
    (SIMULATED, "survey.images.root=x", "survey.images: there is no key 'images'"),
    ("name: x\n", "", "survey: this key is missing; add it"),
    ("", "", "this key is missing; add it"),
    ("name: x\nsurvey: {kind: catalog, catalog: a.csv, images: {kind: folder}}\n", "", "survey.images.root: this key is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "override", "sentence"), WRONG_KEYS + WRONG_KINDS + WRONG_VALUES)
def test_what_is_wrong_is_named_in_one_sentence(
    read: Read, tmp_path: Path, text: str, override: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text, *([override] if override else []))
    message = str(caught.value)
    assert sentence in message
    assert message.startswith("command line" if override else str(tmp_path / "c.yaml"))
    assert "\n" not in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("distill.iterations", "command line: 'distill.iterations' is not of the form key=value; for example"),
        ("distill.iterations=[1", "command line: the value of 'distill.iterations=[1' is not valid YAML"),
    ],
)
def test_overrides_that_cannot_be_read(read: Read, override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(SIMULATED, override)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1\n", "c.yaml: not valid YAML"),
        ("- 1\n- 2\n", "c.yaml: the config file is not a mapping of keys to values"),
        ("extends: nope.yaml\n", "nope.yaml: there is no such config file"),
        ("extends: c.yaml\n", "c.yaml: the config extends itself"),
        ("extends: [a, b]\n", "a: there is no such config file; named runs are: cifar10_ipc1, demo"),
        ("extends: [1]\n", "c.yaml: 'extends' must name config files, got [1]"),
        ("extends: methods/dtm\n", "methods/dtm: there is no such config file; methods are: att, datm"),
        (SIMULATED + "output: ${outpt}\n", "c.yaml: a value refers to something that is not there"),
        (SIMULATED + "output: ???\n", "c.yaml: a value refers to something that is not there (Missing mandatory value"),
    ],
)
def test_files_that_cannot_be_read(read: Read, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variable_that_is_not_set_is_named(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDISTILL_TEST_NOT_SET", raising=False)
    with pytest.raises(
        ConfigError, match=r"output: the environment variable RAYDISTILL_TEST_NOT_SET is not set; set it"
    ):
        read(SIMULATED + "output: ${oc.env:RAYDISTILL_TEST_NOT_SET}\n")


def test_a_file_or_folder_that_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such config file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_of_the_repository_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "RAYDISTILL_DATA" not in os.environ:
        monkeypatch.setenv("RAYDISTILL_DATA", "data")
    config = load(path)
    assert config.name
    assert json.loads(json.dumps(plain(config)))["name"] == config.name


def test_there_are_configs() -> None:
    assert list((REPOSITORY / "configs").glob("*.yaml"))
