"""Damage of manifests and of files that are read again is noticed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from raydistill.artifacts.manifest import NAME, commit, kind_of, open_manifest
from raydistill.config import load
from raydistill.errors import ConfigError
from raydistill.storage import Folder, checked
from tests.property.fuzz import damage, fast_or_long, rejected, repeat


def is_rejected(folder: Folder) -> bool:
    """Return whether all readers of a manifest reject it, each with one sentence."""
    readers = (lambda: kind_of(folder), lambda: open_manifest(folder, "survey", verify=False))
    return all(rejected(reader) is None for reader in readers)


def check_manifest(random: Random) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(place)
        folder.write("data.bin", random.randbytes(random.choice((0, 1, 100))))
        commit(folder, kind="survey", identity="i", config={"a": [1, "é", None]}, parents={}, seed=0, uris={})
        sound = folder.read(NAME)
        damaged = damage(sound, random)
        (Path(place) / NAME).write_bytes(damaged)
        assert is_rejected(folder) == (damaged != sound)


def check_stored_file(random: Random) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, data = Folder(place), random.randbytes(random.choice((0, 1, 70, 5000)))
        checked.write(folder, "fit.bin", data)
        sound = folder.read("fit.bin")
        damaged = damage(sound, random)
        (Path(place) / "fit.bin").write_bytes(damaged)
        assert checked.read(folder, "fit.bin") == (data if damaged == sound else None)
        assert checked.is_intact(folder, "fit.bin") == (damaged == sound)


def check_overrides(random: Random) -> None:
    """Nested and long overrides: an error is one sentence, and short."""
    key = ".".join(
        random.choice(("distill", "a", "", "0", "é", "search", "space")) for _ in range(random.randint(1, 90))
    )
    depth, length = random.choice((0, 1, 49, 51, 400)), random.choice((0, 1, 30_000))
    value = "[" * depth + ",".join("1" * length) + "]" * random.choice((depth, depth - 1, 0))
    sentence = ""
    try:
        load("demo", [f"{key}={value}"] * random.choice((1, 1, 2, 1100)))
    except ConfigError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert len(sentence) < 2000, "the sentence repeats the whole value"


@fast_or_long
def test_damaged_manifest_is_noticed(seconds: float) -> None:
    repeat(check_manifest, seconds)


@fast_or_long
def test_damaged_file_counts_as_missing(seconds: float) -> None:
    repeat(check_stored_file, seconds)


@fast_or_long
def test_long_overrides_are_rejected_in_a_short_sentence(seconds: float) -> None:
    repeat(check_overrides, seconds)
