"""Classes in YAML and on the command line: names, numbers, truth values, mappings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.config import load, plain
from raydistill.errors import ConfigError
from raydistill.galaxies.labels import LabelledClass
from raydistill.pipeline.plan import Plan
from tests.unit.config_tools import SIMULATED, Read

MANGA = (LabelledClass("elliptical", ("1",)), LabelledClass("s0", ("2",)), LabelledClass("spiral", ("3", "4")))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[yes, no]", ("yes", "no")),
        ("[on, off]", ("yes", "no")),
        ("['on', off]", ("on", "no")),
        ("[-5.0, 3.0]", ("-5.0", "3.0")),
        ("[1, 2]", (1, 2)),
        ("[a, 2, 3.5]", ("a", 2, "3.5")),
        ("{elliptical: 1, s0: 2, spiral: [3, 4]}", MANGA),
        ("{yes: 1, no: 0}", (LabelledClass("yes", ("1",)), LabelledClass("no", ("0",)))),
        ("{barred: yes, unbarred: no}", (LabelledClass("barred", ("yes",)), LabelledClass("unbarred", ("no",)))),
        ("{early: [-5.0, E], 7: x}", (LabelledClass("early", ("-5.0", "E")), LabelledClass("7", ("x",)))),
        ("[elliptical: 1, s0: 2, spiral: [3, 4]]", MANGA),
    ],
)
def test_classes_are_read_from_yaml_and_the_command_line(read: Read, given: str, expected: Any) -> None:
    in_file = read(SIMULATED + f"curate: {{classes: {given}}}\n")
    on_command_line = read(SIMULATED, f"curate.classes={given}")
    assert in_file.curate.classes == on_command_line.curate.classes == expected


def test_mapping_replaces_the_classes_of_a_base(read: Read) -> None:
    text = SIMULATED + "curate: {classes: {elliptical: 1, s0: 2, spiral: 3}}\n"
    config = read(text, "curate.classes={late: 3, early: [1, 2]}")
    assert config.curate.classes == (LabelledClass("late", ("3",)), LabelledClass("early", ("1", "2")))
    assert read(text, "curate.classes=gz2-5").curate.classes == "gz2-5"
    assert read(text, "curate.classes=[a, b]").curate.classes == ("a", "b")


def test_written_config_has_the_same_classes(read: Read, tmp_path: Path) -> None:
    config = read(SIMULATED, "curate.classes={elliptical: 1, s0: 2, spiral: [3, 4]}")
    (tmp_path / "written.yaml").write_text(yaml.safe_dump(plain(config)))
    assert load(tmp_path / "written.yaml") == config


def test_order_of_a_mapping_is_part_of_the_identity(read: Read) -> None:
    first, second, again = (
        Plan(read(SIMULATED, f"curate.classes={given}")).curated.identity
        for given in ("{a: 1, b: 2}", "{b: 2, a: 1}", "{a: [1], b: '2'}")
    )
    assert first != second
    assert first == again


def test_classes_without_a_mapping_keep_their_identity(read: Read) -> None:
    for classes in ('"gz2-9"', '["a", "b"]', "[1, 2]", '["a", 2]'):
        config = Plan(read(SIMULATED, f"curate.classes={classes}")).curated.config
        assert config["curate"]["classes"] == json.loads(classes)


@pytest.mark.parametrize("given", ["{a: {b: 1}}", "{a: []}", "{a: null}", "[null, a]", "[[a], b]", "{a: [[1]]}"])
def test_class_without_a_label_is_rejected(read: Read, given: str) -> None:
    with pytest.raises(ConfigError, match=r"command line, curate.classes: a class .*; fix the value"):
        read(SIMULATED, f"curate.classes={given}")


@pytest.mark.parametrize("given", ["7", "yes", "null"])
def test_classes_that_are_neither_a_name_nor_a_list_are_rejected(read: Read, given: str) -> None:
    with pytest.raises(ConfigError, match=r"command line, curate\.classes"):
        read(SIMULATED, f"curate.classes={given}")
