"""Folders with links and odd names are read once, or rejected with one sentence."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.datasets.arrays import ArraySet
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.escaping import is_utf8
from raydistill.galaxies.folders import is_hidden
from raydistill.galaxies.pictures.files import list_files
from raydistill.galaxies.pictures.paths import find_paths
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.galaxies.tables import open_table
from tests.property.fuzz import damage, fast_or_long, rejected, repeat

STEMS = [
    b"a", b"1", b"train", b"test", b"val", b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80", "é".encode(), "e\u0301".encode(), b"-x",
    b"a\nb", b"\x1b[31m", b"'\"", b" ", b"#1 50%", b"{id}", b"C:", b"x" * 245, b".h", b"._a", b"__MACOSX", b"s3:", b"a.zip",
]  # fmt: skip
SUFFIXES = [b"", b".png", b".JPG", b".csv", b".npy", b".parquet", b".tar.gz"]
TARGETS = [b".", b"..", b"../..", b"nowhere", b"/dev/null", b"/etc/passwd"]


def fill(root: bytes, random: Random) -> list[bytes]:
    """Make a tree of files, folders, links and pipes; return its folders."""
    folders = [root]
    for _ in range(random.randint(1, 25)):
        path = os.path.join(random.choice(folders), random.choice(STEMS) + random.choice(SUFFIXES))
        if os.path.lexists(path):
            continue
        others = [path for folder in folders for path in (folder, *(entry.path for entry in os.scandir(folder)))]
        match random.randrange(8):
            case 0 | 1:
                os.mkdir(path)
                folders.append(path)
            case 2:
                target = random.choice(others)
                relative = random.choice([target, os.path.relpath(target, os.path.dirname(path))])
                os.symlink(random.choice([relative, relative, random.choice(TARGETS)]), path)
            case 3:
                os.mkfifo(path)
            case 4 if os.path.isfile(target := random.choice(others)):
                os.link(target, path, follow_symlinks=False)
            case _:
                Path(os.fsdecode(path)).write_bytes(b"id,class\n1,a\n")
    return folders


def own_files(root: str) -> set[str]:
    """Return the visible files of a folder without links, if their names are text."""
    names = {os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names}
    return {
        name
        for name in names
        if is_utf8(name)
        and not is_hidden(name)
        and os.path.isfile(f"{root}/{name}")
        and not os.path.islink(f"{root}/{name}")
    }


def check_listing(root: str) -> None:
    files = rejected(lambda: list_files(root, recursive=True, once=True))
    if files is None:
        return
    visible = [name for name in files if not is_hidden(name)]
    assert own_files(root) <= set(visible), "a file is lost"
    real = [os.path.relpath(os.path.realpath(f"{root}/{name}"), os.path.realpath(root)) for name in visible]
    read = [name for name in real if name in visible]  # of a file outside, each link is a file
    assert len(read) == len(set(read)), "a file is read twice"
    assert all(map(is_utf8, files))


def read_set(root: str) -> None:
    rows = ImageFolder(root=root).index().rows.to_pylist()
    assert len({row["object_id"] for row in rows}) == len(rows)
    assert all(os.path.isfile(f"{root}/{row['path']}") for row in rows)


def check_folder(random: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = os.fsdecode(random.choice(fill(os.fsencode(folder) + b"/", random)))
        values = [os.fsdecode(random.choice(STEMS) + random.choice(SUFFIXES)) for _ in range(3)]
        values = [value for value in values if is_utf8(value)]
        readers: list[Callable[[], Any]] = [
            lambda: check_listing(root),
            lambda: read_set(root),
            lambda: FolderImages(root, pattern="{id}.*").paths(["a", "1", "é", "a/1"]),
            lambda: find_paths(root, [*values, f"{folder}/a/1.png"], "path", "t.csv"),
            lambda: open_table(root).read(["id"]),
            lambda: ArraySet(root=root).index(),
            lambda: ImageTable(root=root).index(),
        ]
        for reader in readers:
            rejected(reader)


@fast_or_long
def test_folder_of_links_and_odd_names_is_read_once_or_rejected(seconds: float) -> None:
    repeat(check_folder, seconds)


def write_metadata(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({key: [str(row.get(key)) for row in rows] for key in rows[0]}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def check_metadata(random: Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for part in random.choice([[""], ["train"], ["train", "test"]]):
            at = Path(folder, part)
            at.mkdir(exist_ok=True)
            for n in range(6):
                (at / f"{n}.png").write_bytes(b"png")
            labels: list[Any] = ["a", "b", "", None, 3, 2.5, [1], {"x": 1}, True, "\x1b", "é"]
            names = [f"{random.randrange(8)}.png", "../0.png", "/etc/passwd", "sub\\1.png", None, 7]
            rows = [{"file_name": f"{n}.png", random.choice(["label", "kind"]): "ab"[n % 2]} for n in range(5)]
            rows = [{"file_name": row["file_name"], "label": row.get("label", row.get("kind"))} for row in rows]
            if random.random() < 0.5:
                rows.append({"file_name": random.choice(names), "label": random.choice(labels)})
            file = at / random.choice(["metadata.csv", "metadata.jsonl", "metadata.parquet"])
            write_metadata(file, rows)
            if random.random() < 0.5:
                file.write_bytes(damage(file.read_bytes(), random))
        rejected(lambda: read_set(folder))


@fast_or_long
def test_metadata_give_labels_or_are_rejected(seconds: float) -> None:
    repeat(check_metadata, seconds)
