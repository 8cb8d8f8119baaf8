"""Damaged files of labels, names and classes are rejected or read right."""

from __future__ import annotations

import csv
import io
import tempfile
import unicodedata
from pathlib import Path
from random import Random

import yaml

from raydistill.config import Curate
from raydistill.galaxies.catalog import read_catalog, read_filename_mapping
from raydistill.galaxies.classes import load_class_tree
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.galaxies.selection import assign_classes
from raydistill.stages.hunt.inputs.labels import match_files, read_labels
from tests.property.fuzz import damage, fast_or_long, rejected, repeat

IDS = ("587722981742084097", "1.10", "1.1", "1E10", "007", "7", "NGC 1", "caf\xe9", "b'J1'", "a.b.png", "=1+1", "None")
NAMES = ("barr\xe9", "rond", "Sa", "SA", "bar spiral", "3", "true", "b'x'")
VOCABULARIES = (("normal", "anomaly"), ("no", "yes"), ("1", "5"), ("1",), ("0", "1"), ("TRUE", "FALSE"), ("-1", "1"))


def respell(word: str, random: Random, blanks: tuple[str, ...] = (" ", "\xa0", "  ")) -> str:
    """Return a word as a file system, an editor or a person may write it."""
    word = unicodedata.normalize(random.choice(("NFC", "NFD")), word)
    word = word.replace(" ", random.choice(blanks))
    return random.choice((word, word, f" {word}", f"{word}\u200b", f"\ufeff{word}", f"{word}\xa0"))


def to_csv(header: list[str], rows: list[list[str]], random: Random) -> bytes:
    """Return a CSV with any line ends, quotes and byte-order mark."""
    text = io.StringIO()
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    csv.writer(text, quoting=quoting, lineterminator=random.choice(("\n", "\r\n"))).writerows([header, *rows])
    return (random.choice((b"", b"\xef\xbb\xbf")) + text.getvalue().encode()).rstrip(random.choice((b"", b"\r\n")))


def check_hunt_labels(random: Random) -> None:
    words, ids = random.choice(VOCABULARIES), random.sample(IDS, random.randint(1, len(IDS)))
    labels = {name: random.choice(words) for name in ids if not name.startswith("=")}
    header, extra = ["filename", "label"], random.choice(([], ["note"], ["label.1"]))
    rows = [
        [respell(name, random, (" ",)), random.choice((label, label.upper()))] + [""] * len(extra)
        for name, label in labels.items()
    ]
    content, is_damaged = to_csv(header + extra, rows, random), random.random() < 0.7
    file = rejected(lambda: read_labels(damage(content, random) if is_damaged else content, "labels.csv"))
    decisions = None if file is None else rejected(file.decisions)
    if not is_damaged:
        is_known = words in VOCABULARIES[:3] and set(labels.values()) != {"1"}
        assert (decisions is not None) == (is_known or not labels)
    if decisions is not None:
        result = rejected(lambda: match_files(decisions, IDS, [None] * len(IDS), "labels.csv"))
        assert is_damaged or [IDS[row] for row in result or ()] == list(labels)
        assert file is not None
        assert file.with_rows([]) == file.text


def check_mapping(random: Random) -> None:
    assets = {object_id: [f"p{random.randrange(9)}" for _ in range(random.choice((1, 1, 2)))] for object_id in IDS[:9]}
    pairs = [[name, random.choice(("original", "extra")), asset] for name, names in assets.items() for asset in names]
    random.shuffle(pairs)
    content, is_damaged = to_csv(["objid", "sample", "asset_id"], pairs, random), random.random() < 0.7
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.csv"
        path.write_bytes(damage(content, random) if is_damaged else content)
        mapping = rejected(lambda: read_filename_mapping(str(path)))
        for number in range(9):
            (Path(folder) / f"p{number}.jpg").touch()
        images = FolderImages(folder, mapping=str(path))
        paths = rejected(lambda: images.paths(list(IDS)))
        first = rejected(lambda: images.paths(list(IDS), "first"))
    if not is_damaged:
        assert mapping is not None and {key: set(values) for key, values in mapping.items()} == {  # noqa: PT018
            name: set(names) for name, names in assets.items()
        }
        assert (paths is None) == any(len(set(names)) > 1 for names in assets.values())
        assert first == [f"{folder}/{mapping[object_id][0]}.jpg" if object_id in mapping else None for object_id in IDS]


def check_classes(random: Random) -> None:
    names = random.sample(NAMES[:5], random.randint(2, 5))
    labels = {f"g{n}": random.choice(NAMES) for n in range(30)} | {f"c{n}": name for n, name in enumerate(names)}
    rows = [[object_id, respell(label, random)] for object_id, label in labels.items()]
    config = [respell(name, random) for name in names]
    written, is_damaged = (
        yaml.safe_dump({"name": "x", "classes": config}, allow_unicode=True).encode(),
        random.random() < 0.5,
    )
    content = to_csv(["id", "class"], rows, random)
    with tempfile.TemporaryDirectory() as folder:
        table, tree = Path(folder) / "t.csv", Path(folder) / "tree.yaml"
        table.write_bytes(damage(content, random) if is_damaged else content)
        tree.write_bytes(damage(written, random))
        rejected(lambda: load_class_tree(str(tree)))
        catalog = rejected(lambda: read_catalog(str(table)))
    value = random.choice((config, {name: [name, respell(name, random)] for name in config}))
    classes = load_class_tree(Curate(classes=value).classes)  # type: ignore[arg-type]
    assert classes.names == tuple(names)
    assigned = None if catalog is None else rejected(lambda: assign_classes(catalog, classes))
    if not is_damaged:
        assert assigned is not None
        result = dict(zip(assigned["object_id"].to_pylist(), assigned["label"].to_pylist(), strict=True))
        assert result == {name: names.index(label) for name, label in labels.items() if label in names}


@fast_or_long
def test_damaged_labels_of_a_hunt_are_rejected_or_decide(seconds: float) -> None:
    repeat(check_hunt_labels, seconds)


@fast_or_long
def test_damaged_mapping_is_rejected_or_names_the_pictures(seconds: float) -> None:
    repeat(check_mapping, seconds)


@fast_or_long
def test_damaged_classes_are_rejected_or_assigned(seconds: float) -> None:
    repeat(check_classes, seconds)
