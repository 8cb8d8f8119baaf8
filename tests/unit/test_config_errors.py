"""A wrong config gives one sentence that names the key, the problem and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raydistill.config import load, plain
from raydistill.errors import ConfigError
from tests.unit.config_tools import SIMULATED, Read

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
    (SIMULATED, "hunt.synthetic={lens: {negative: FOLDER, positive: {num_image: 3}}}",
     "hunt.synthetic.lens.positive.num_image: there is no key 'num_image'; did you mean 'num_images'"),
    (SIMULATED, "distill.iterations=-3", "distill: iterations must be positive, got -3"),
    (SIMULATED, "distill.student_lr=.nan", "distill: student_lr must be positive, got nan"),
    (SIMULATED, "distill.batch_size=0", "distill: batch_size must be at least 1, got 0"),
    (SIMULATED, "distill.schedule={kind: self-adaptive, test_every: 0}", "distill.schedule: test_every must be at least 1, got 0"),
    (SIMULATED, "distill.schedule={kind: fixed, max_start_epoch: -1}", "max_start_epoch must be at least 0, got -1"),
    (SIMULATED, "distill.schedule={kind: self-adaptive, fine_tune_factor: 1}", r"fine_tune_factor must lie in (0, 1), got 1.0"),
    (SIMULATED, "network.norm=batch", "network.norm: input should be 'instance', 'group' or 'none', got 'batch'"),
    (SIMULATED, "network.depth=0", "network: depth must be at least 1, got 0"),
    (SIMULATED, "curate.crop_fraction=2", "curate: crop_fraction must lie in (0, 1], got 2.0"),
    (SIMULATED, "curate.split=[0.5,0.5,0.5]", "curate: split must be three positive fractions that sum to 1"),
    (SIMULATED, "curate.split=[1.2,-0.1,-0.1]", "curate: split must be three positive fractions that sum to 1"),
    (SIMULATED, "curate.per_class=0", "curate.per_class: input should be greater than 0, got 0"),
    (SIMULATED, "experts.num_experts=0", "experts.num_experts: input should be greater than 0, got 0"),
    (SIMULATED, "experts.training.augmentation.operations=[flop]", "operations.0: input should be 'color', 'crop'"),
    (SIMULATED, "evaluate.baselines=[randm_real]", "evaluate.baselines.0: input should be 'random_real', 'random_soft'"),
    (SIMULATED, "evaluate.protocols={}", "evaluate: protocols must name at least one"),
    (SIMULATED, "evaluate.protocols.paper=null", "evaluate: protocols must name at least one"),
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
def test_error_names_the_key_in_one_sentence(
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
        ("output=caf\udce9", r"command line, output: 'caf\xe9' is not UTF-8 text; correct it, or rename the file"),
        ("distill.iterations=[1", "command line: the value of 'distill.iterations=[1' is not valid YAML"),
    ],
)
def test_invalid_override_is_rejected(read: Read, override: str, sentence: str) -> None:
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
        ("extends: [a, b]\n", "a: there is no such config file; shipped configs are: adapt_efigi_kaggle"),
        ('extends: "a\\0b"\n', "c.yaml: 'extends' must name config files, got a"),
        ("extends: [1]\n", "c.yaml: 'extends' must name config files, got [1]"),
        ("extends: methods/dtm\n", "methods/dtm: there is no such config file; methods are: att, datm"),
        (SIMULATED + "output: ${outpt}\n", "c.yaml: a value refers to something that is not there"),
        (
            SIMULATED + 'output: "a\\ud800b"\n',
            r"c.yaml, output: 'a\ud800b' is not UTF-8 text; correct it, or rename the file",
        ),
        (SIMULATED + "output: ???\n", "c.yaml: a value refers to something that is not there (Missing mandatory value"),
    ],
)
def test_invalid_file_is_rejected(read: Read, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unset_environment_variable_is_named(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDISTILL_TEST_NOT_SET", raising=False)
    with pytest.raises(
        ConfigError, match=r"output: the environment variable RAYDISTILL_TEST_NOT_SET is not set; set it"
    ):
        read(SIMULATED + "output: ${oc.env:RAYDISTILL_TEST_NOT_SET}\n")


def test_missing_file_and_folder_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"caf\\xe9.yaml: the path has bytes that are not UTF-8; rename the file"):
        load(tmp_path / "caf\udce9.yaml")
    with pytest.raises(ConfigError, match="there is no such config file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("value", ["mirror", "[mirror]", "5"])
def test_augmentation_that_is_no_mapping_is_rejected(read: Read, value: str) -> None:
    with pytest.raises(ConfigError, match="augmentation: it is no mapping, got"):
        read(SIMULATED, f"augmentation={value}")


def test_augmentation_without_effect_is_rejected(read: Read) -> None:
    whole = yaml.safe_dump(plain(read(SIMULATED)))
    with pytest.raises(ConfigError, match="augmentation: every use has its own augmentation here"):
        read(whole, "augmentation.operations=[flip]")


def test_duplicate_baseline_is_rejected(read: Read) -> None:
    """Its networks would count twice, and its interval would be too narrow."""
    with pytest.raises(ConfigError, match="baselines must not name one twice"):
        read(SIMULATED, "evaluate.baselines=[random_real,class_mean,random_real]")


@pytest.mark.parametrize("uri", ["https://me:hunter2@mlflow.org", "postgresql://me:hunt@er2@db/mlflow"])
def test_password_in_tracking_uri_is_rejected(read: Read, uri: str) -> None:
    with pytest.raises(ConfigError, match="uri must hold no password; set MLFLOW_TRACKING_USERNAME") as caught:
        read(SIMULATED, f"tracking.uri={uri}")
    assert "hunt" not in str(caught.value)
    assert read(SIMULATED, "tracking.uri=https://mlflow.org:5000/a@b:c").tracking.uri


def test_booleans_are_labels_but_no_class_tree(read: Read) -> None:
    """YAML reads yes and no as booleans; a table may hold them as labels."""
    assert read(SIMULATED, "curate.classes=[7, '1']").curate.classes == (7, "1")
    assert read(SIMULATED, "curate.classes=[yes, no]").curate.classes == ("yes", "no")
    with pytest.raises(ConfigError, match=r"curate\.classes"):
        read(SIMULATED, "curate.classes=yes")


def test_unused_learning_rate_is_rejected(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"training\.lr is not used here; give lr_grid: \[0\.1\]"):
        read(SIMULATED, "evaluate.protocols.paper.training.lr=0.1")


@pytest.mark.parametrize("key", ["gpus", "distill_gpus"])
def test_fraction_above_one_gpu_is_rejected(read: Read, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} must be at most 1, or a whole number, got 1.5"):
        read(SIMULATED, f"resources.{key}=1.5")


def test_key_below_the_list_of_another_override_is_rejected(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"'distill\.init=real' does not fit the overrides before it"):
        read(SIMULATED, "distill=[1]", "distill.init=real")
    with pytest.raises(ConfigError, match=r"'survey\.images\.root=a' does not fit the overrides before it"):
        read(SIMULATED, "survey=[1, [2]]", "survey.images.root=a")
