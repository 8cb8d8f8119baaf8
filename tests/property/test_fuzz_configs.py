"""Damaged configs, overrides and class trees are read or rejected in one sentence."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import yaml

from raydistill.config import Config, load
from raydistill.galaxies.classes import load_class_tree
from tests.property.fuzz import damage, fast_or_long, rejected, repeat

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
VALUES = (
    "7", "-1", "0", "1e400", "nan", "null", "", "true", "[", "]", "{", "{}", "[]", "[1, [2]]", "{a: {b: c}}", "a: b",
    "# no", "a # b", "&a", "*a", "!x", "${x}", "${", "???", "'", '"', "---", "\t", "é", "\x00", "{id}.tif", "1:30",
)  # fmt: skip
TREE = "name: two\nclasses:\n  - {name: a, path: [smooth, completely_round]}\n  - {name: b, path: [features_or_disk]}\n"


def _keys(tree: object, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return [prefix] if prefix else []
    top = [prefix] if prefix else []
    return top + [key for name, sub in tree.items() for key in _keys(sub, f"{prefix}.{name}" if prefix else str(name))]


def check_config(random: Random) -> None:
    source = random.choice(CONFIGS)
    content, keys = source.read_bytes(), _keys(yaml.safe_load(source.read_text()))
    overrides = [
        f"{random.choice([*keys, 'no.such', 'survey', 'distill.iterations', 'a[0]', ''])}={random.choice(VALUES)}"
        for _ in range(random.randint(0, 2))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.yaml"
        path.write_bytes(damage(content, random) if random.random() < 0.6 else content)
        config = rejected(lambda: load(path, overrides))
        assert config is None or isinstance(config, Config)
        path.write_bytes(damage(TREE.encode(), random))
        rejected(lambda: load_class_tree(str(path)))


@fast_or_long
def test_damaged_config_is_rejected_or_read(seconds: float) -> None:
    repeat(check_config, seconds)
