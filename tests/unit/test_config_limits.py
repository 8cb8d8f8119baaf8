"""A config that asks for too much is rejected before it costs anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import Config, load
from raydistill.config.messages import LIMITS, MOST
from raydistill.config.reading import vary
from raydistill.errors import ConfigError
from raydistill.galaxies.classes import load_class_tree
from raydistill.storage.yaml_limits import MAX_TEXT, check_yaml

DEMO = load("demo")
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)
YAML = {
    "aliases that make 10^10 values": (ALIASES, "more than 5000 values, with those that aliases repeat"),
    "aliases that make 1000 levels": (
        "".join(f"k{n}: &k{n} {{v: {f'*k{n - 1}' if n else 1}}}\n" for n in range(1000)),
        "more than 50 levels",
    ),
    "an alias in itself": ("a: &a [*a]\n", r"'\*a' stands within itself"),
    "10^5 levels": ("a: " + "[" * 100_000, "more than 50 levels"),
    "10^5 levels of keys": ("a: " + "{a: " * 100_000, "more than 50 levels"),
    "500,000 values": ("a: [" + "1," * 500_000, "more than 5000 values"),
    "100,000 keys": ("".join(f"k{n}: 1\n" for n in range(100_000)), "more than 5000 values"),
    "a long value": ("a: " + "x" * 1_000_000, "more than 100000 characters in one value"),
    "a long number": ("a: " + "9" * 10_000, "a number of more than 400 digits"),
    "a long text": ("# comment\n" * (MAX_TEXT // 9), "at most 2000000 are read"),
    "references that make 2^40 characters": (
        "l0: xxxxx\n" + "".join(f"l{n + 1}: ${{l{n}}}${{l{n}}}\n" for n in range(40)) + 'curate: {align: "${l40}"}\n',
        r"values refer to others by \$\{…\} 81 times, and at most 20 are resolved",
    ),
}
OVERRIDES: dict[str, tuple[Callable[[], list[str]], str]] = {
    "a key of 10^5 levels": (lambda: [".".join("a" * 100_000) + "=1"], "has 100000 levels, and at most 50 are read"),
    "a key of 10^5 brackets": (lambda: ["a" + "[0]" * 100_000 + "=1"], "has 100001 levels, and at most 50 are read"),
    "a value of 10^5 levels": (lambda: ["experts=" + "{a: " * 100_000], "more than 50 levels"),
    "a list of 500,000 values": (lambda: ["search.space=[" + "1," * 500_000 + "1]"], "more than 5000 values"),
    "10^5 overrides": (lambda: ["distill.iterations=5"] * 10**5, "100000 values are given, and at most 1000 are read"),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", YAML)
def test_config_file_beyond_a_limit_is_rejected(kind: str, tmp_path: Path) -> None:
    text, sentence = YAML[kind]
    path = tmp_path / "c.yaml"
    path.write_text(f"extends: demo\n{text}")
    with pytest.raises(ConfigError, match=sentence) as caught:
        load(path)
    assert len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", OVERRIDES)
def test_override_beyond_a_limit_is_rejected(kind: str) -> None:
    make, sentence = OVERRIDES[kind]
    with pytest.raises(ConfigError, match=sentence) as caught:
        load("demo", make())
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", [ALIASES, "classes: " + "[" * 100_000, "classes: &a [*a]\n"], ids=range(3))
def test_class_tree_beyond_a_limit_is_rejected(text: str, tmp_path: Path) -> None:
    (tmp_path / "tree.yaml").write_text(f"name: x\n{text}")
    with pytest.raises(ConfigError, match=r"values, with those|more than 50 levels|within itself"):
        load_class_tree(str(tmp_path / "tree.yaml"))


def test_usual_yaml_is_within_the_limits() -> None:
    for path in Path(__file__).parents[2].glob("configs/**/*.yaml"):
        check_yaml(path.read_text())
    check_yaml("base: &b {lr: 0.1}\nfirst: {<<: *b}\nsecond: [*b, *b, '*x', \"&y\"]\n")
    check_yaml("[" * 49 + "]" * 49)
    check_yaml("names: [" + ", ".join(f"class {n}" for n in range(22_000)) + "]")


@pytest.mark.parametrize(
    "name",
    ["", " ", "/", "..", ".", ".hidden", "a/b", "a\\b", "../a", "/a", "~a", "a\0", "a\nb", "a\x1b[31m", "x" * 101],
)
def test_name_is_not_a_path(name: str) -> None:
    with pytest.raises(ConfigError, match=r"name: .* is not a name; give 1 to 100 letters") as caught:
        vary(DEMO, {"name": name}, "here")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a", "Galaxy Zoo 2, nine classes", "é" * 50, "a.b-c_d (2)", "x" * 100])
def test_name_may_be_any_words(name: str) -> None:
    assert vary(DEMO, {"name": name}, "here").name == name


@pytest.mark.parametrize(
    "key",
    ["curate.image_size", "network.width", "network.depth", "experts.num_experts", "experts.training.epochs",
     "distill.images_per_class", "resources.worker_threads", "search.trials", "survey.num_galaxies", "seed"],
)  # fmt: skip
def test_whole_number_beyond_its_limit_is_rejected(key: str) -> None:
    most = LIMITS.get(key.rpartition(".")[2], MOST)
    with pytest.raises(ConfigError, match=rf"here, {key}: it is larger than {most}, the most that any run could use"):
        vary(DEMO, {key: most + 1}, "here")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("augment.ratios", [1.0, float("inf")], "it must be a finite number, got inf"),
        ("adapt.lr_grid", [float("inf")], "it must be a finite number, got inf"),
        ("curate.min_confidence", float("nan"), "it must be a finite number, got nan"),
        ("sample.filter.max_samples_per_image", float("inf"), "it must be a finite number, got inf"),
        ("sample.source", {"kind": "recombination", "flux": [0.2, float("inf")]}, "it must be a finite number"),
        ("seed", -1, "it must not be negative, got -1"),
        ("search.seed", -1, "it must not be negative, got -1"),
    ],
)
def test_number_without_a_use_is_rejected(key: str, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        vary(DEMO, {key: value}, "here")


def test_limits_are_those_of_keys() -> None:
    from raydistill.config.messages import classes

    known = {field.name for cls in classes().values() for field in dataclasses.fields(cls)}
    assert set(LIMITS) <= known


@pytest.mark.parametrize("values", [{"network": {"width": 10**6}}, {"network": {"depth": 10**9}}])
def test_limits_hold_for_parts_of_a_kind(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="it is larger than"):
        vary(DEMO, values, "here")
    assert isinstance(vary(DEMO, {"network.width": 256}, "here"), Config)
