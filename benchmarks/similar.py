"""Measure the search for similar galaxies: build of the vectors, queries, memory.

    python benchmarks/similar.py [--galaxies 1000000] [--features 128] [--queries 20]

Features are random numbers in the files of predictions. The first query reads the vectors from the
disk, or from the operating system's cache; the median is that of the others.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from raydistill.stages.predict.artifact import PredictionSet
from raydistill.stages.predict.blocks import SCHEMA, block_name, to_lists, write_block
from raydistill.stages.similar.vectors import Vectors
from raydistill.storage import Folder
from raydistill.text import text_table

BLOCK = 8192


def write_predictions(folder: Folder, galaxies: int, features: int) -> PredictionSet:
    """Write blocks of predictions with random features."""
    rng, names = np.random.default_rng(0), []
    for first in range(0, galaxies, BLOCK):
        count = min(BLOCK, galaxies - first)
        columns: dict[str, Any] = {name: pa.nulls(count, SCHEMA.field(name).type) for name in SCHEMA.names}
        columns["object_id"] = [f"galaxy-{first + n}" for n in range(count)]
        columns["features"] = to_lists(rng.normal(size=(count, features)).astype(np.float16))
        write_block(folder, first // BLOCK, pa.table(columns, SCHEMA))
        names.append(block_name(first // BLOCK))
    manifest: Any = SimpleNamespace(files=dict.fromkeys(names))
    summary: Any = SimpleNamespace(num_features=features)
    return PredictionSet(folder, manifest, summary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--galaxies", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--queries", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        predictions = write_predictions(Folder(f"{root}/predictions"), options.galaxies, options.features)
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        Vectors.open(Folder(f"{root}/vectors"), predictions)
        built, spent = time.perf_counter() - started, []
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        started = time.perf_counter()
        vectors = Vectors.open(Folder(f"{root}/vectors"), predictions)
        for n in range(options.queries):
            vectors.nearest(vectors.rows([f"galaxy-{n}"], "id"))
            spent.append(time.perf_counter() - started)
            started = time.perf_counter()
    rows = [("build", f"{built:.1f} s"), ("memory of it", f"{memory / 1024:.0f} MB"),
            ("open and first query", f"{spent[0]:.2f} s"), ("query, median", f"{statistics.median(spent[1:]):.3f} s")]  # fmt: skip
    print(text_table(f"{options.galaxies} galaxies, {options.features} features", [("", ""), *rows]))


if __name__ == "__main__":
    main()
