"""Damaged tables are rejected with one sentence, or become tables that classify."""

from __future__ import annotations

import gzip
import io
import lzma
import tempfile
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from astropy.table import Table
from pyarrow import feather

from raydistill.galaxies.campaigns import CAMPAIGNS, COUNT, FRACTION, find_columns
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.classes import BUILTIN_TREES, load_class_tree
from raydistill.galaxies.selection import assign_classes, select
from raydistill.galaxies.trees import GZ2
from tests.property.fuzz import damage, fast_or_long, rejected, repeat

CLASSES = ("edge_on", "round", "spiral")


def random_columns(random: Random, survey: str) -> dict[str, list[object]]:
    """Return a table of labels, of Galaxy Zoo 2's public release, or of a campaign."""
    count = random.randint(1, 30)
    rng = np.random.default_rng(random.getrandbits(32))
    columns: dict[str, list[object]] = {
        "objid": [587722981736120347 + 7 * k for k in range(count)],
        "ra": list(rng.uniform(0, 360, count).round(5).tolist()),
        "dec": list(rng.uniform(-90, 90, count).round(5).tolist()),
    }
    if survey == "labels":
        return {**columns, "label": [random.choice(CLASSES) for _ in range(count)]}
    if survey in CAMPAIGNS:
        kind = random.choice((COUNT, FRACTION))
        for task in find_columns(CAMPAIGNS[survey].tree, CAMPAIGNS[survey].tag, ()):
            names = task.expected[kind]
            votes = rng.integers(0, 20, (len(names), count)) + (np.arange(len(names)) == 0)[:, None]
            columns |= dict(zip(names, (votes if kind == COUNT else votes / votes.sum(axis=0)).tolist(), strict=True))
        return columns
    return {**columns, **{f"{stem}_weighted_fraction": rng.uniform(0, 1, count).tolist() for stem in GZ2.answers}}


def encode(columns: dict[str, list[object]], suffix: str) -> bytes:
    """Return the content of a table file."""
    content, table = io.BytesIO(), pa.table(columns)
    if suffix == ".parquet":
        pq.write_table(table, content)
    elif suffix == ".feather":
        feather.write_feather(table, content)
    elif suffix in ASTROPY:
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        Table(arrays).write(content, format=ASTROPY[suffix])
    else:
        delimiter = "\t" if ".tsv" in suffix else ","
        pacsv.write_csv(table, content, pacsv.WriteOptions(delimiter=delimiter, quoting_style="needed"))
    return pack(content.getvalue(), suffix)


def pack(content: bytes, suffix: str) -> bytes:
    """Return the content, compressed as the suffix says."""
    if suffix.endswith(".gz"):
        return gzip.compress(content)
    if suffix.endswith(".xz"):
        return lzma.compress(content)
    if suffix.endswith(".zip"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("table.csv", content)
        return packed.getvalue()
    return content


ASTROPY = {".fits": "fits", ".xml": "votable"}
SUFFIXES = (".csv", ".csv", ".tsv", ".csv.gz", ".csv.xz", ".csv.zip", ".parquet", ".feather", *ASTROPY)


def check_table(random: Random) -> None:
    survey, suffix = random.choice(("labels", "release", random.choice(list(CAMPAIGNS)))), random.choice(SUFFIXES)
    columns, is_damaged = random_columns(random, survey), random.random() < 0.9
    content = encode(columns, suffix)
    answers = CAMPAIGNS[survey].tree if survey in CAMPAIGNS else GZ2
    builtin = next(tree for tree in BUILTIN_TREES.values() if tree.tree == answers)
    tree = load_class_tree(list(CLASSES) if survey == "labels" else builtin.name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        path.write_bytes(damage(content, random) if is_damaged else content)
        catalog = rejected(lambda: read_catalog(str(path)))
    if not is_damaged:
        assert catalog is not None
        assert catalog["object_id"].to_pylist() == [str(number) for number in columns["objid"]]
    if catalog is not None:
        assert catalog.num_rows > 0
        assigned = rejected(lambda: assign_classes(catalog, tree))
        if assigned is not None:
            assert select(assigned, per_class=3).num_rows <= 3 * len(tree.classes)


@fast_or_long
def test_damaged_table_is_rejected_or_classified(seconds: float) -> None:
    repeat(check_table, seconds)
