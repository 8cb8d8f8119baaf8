"""Overrides hold the shell's text: comments are not YAML, text keys take any text."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.config import plain
from raydistill.config.overrides import NULLS, parse_overrides, parse_value, takes_text
from raydistill.errors import ConfigError
from tests.unit.config_tools import Read

FOLDER = "name: x\nsurvey: {catalog: t.csv, images: {kind: folder, root: pictures}}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("1e-3", 1e-3),
        ("true", True),
        ("null", None),
        ("", None),
        ("[0.7, 0.2, 0.1]", [0.7, 0.2, 0.1]),
        ("{test: null}", {"test": None}),
        ("'7'", "7"),
        ('"a # b"', "a # b"),
        ("demo", "demo"),
        ("a # b", "a # b"),
        ("#3", "#3"),
        ("7 # seven", "7 # seven"),
        ("/data/run #3/x", "/data/run #3/x"),
        ("key: value # more", "key: value # more"),
        ("*.jpg", "*.jpg"),
        ("&a b", "&a b"),
        ("---", "---"),
        ("%Y", "%Y"),
        ("@home", "@home"),
        ("`ls`", "`ls`"),
        ('"a" b', '"a" b'),
        ("C:\\data", "C:\\data"),
        (" two blanks ", " two blanks "),
        ("${oc.env:HOME}/x", "${oc.env:HOME}/x"),
        ("?", "?"),
    ],
)
def test_value_is_yaml_or_the_text_itself(text: str, value: Any) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["[1", "{a: 1", "[1, 2] # two", "{id}.tif", "[a #1, b]"])
def test_damaged_list_is_an_error_unless_the_key_takes_text(text: str) -> None:
    assert parse_value(text, is_text=True) == text
    with pytest.raises(yaml.YAMLError):
        parse_value(text)


@pytest.mark.parametrize("text", ["{id}", "2024", "1e5", "on", "12:30", "0x1F", "[a]", "0012", "1_000"])
def test_key_of_text_takes_numbers_and_brackets_as_text(text: str) -> None:
    assert parse_value(text, is_text=True) == text
    assert parse_value(text) != text


@pytest.mark.parametrize(
    ("key", "is_text"),
    [
        ("name", True),
        ("output", True),
        ("survey.catalog", True),
        ("survey.root", True),
        ("survey.images.pattern", True),
        ("survey.images.mapping", True),
        ("survey.columns.id", True),
        ("survey.fractions", True),
        ("tracking.uri", True),
        ("survey.columns", False),
        ("survey.splits", False),
        ("curate.classes", False),
        ("curate.split", False),
        ("distill.iterations", False),
        ("distill.student_steps", False),
        ("curate.balance", False),
        ("no.such.key", False),
        ("extends", False),
    ],
)
def test_types_of_the_config_say_which_keys_take_text(key: str, is_text: bool) -> None:
    assert takes_text(key) == is_text


@settings(max_examples=300)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\"'$\\"), min_size=1))
def test_any_path_reaches_a_key_of_text_unchanged(text: str) -> None:
    parsed = parse_overrides([f"survey.images.root={text}"], "command line").survey.images.root
    assert parsed == (None if text.strip(" \t\n\r") in NULLS else text)


def test_overrides_with_hashes_and_braces_reach_the_config(read: Read) -> None:
    config = read(
        FOLDER,
        "survey.images.pattern={id}.tif",
        "survey.catalog=runs #3/votes.csv",
        "name=2024",
        "output=run #7: second",
    )
    survey: Any = plain(config.survey)
    assert survey["images"]["pattern"] == "{id}.tif"
    assert survey["catalog"] == "runs #3/votes.csv"
    assert (config.name, config.output) == ("2024", "run #7: second")


def test_comment_behind_a_number_is_an_error(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"distill.iterations: .*got '7 # seven'"):
        read(FOLDER, "distill.iterations=7 # seven")


@pytest.mark.parametrize("words", [["=" + "[1," * 9000], ["a=[1]", "a.b=" + "x" * 9000], ["a=[1] # " + "x" * 9000]])
def test_a_long_override_is_cut_in_the_sentence(words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_overrides(words, "command line")
    assert len(str(caught.value)) < 2000
