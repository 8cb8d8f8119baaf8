"""Write and read tables of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import feather

from raydistill.stages.pretrain.config import Embeddings
from tests import zoo

IDS = ["a", "b", "c", "d"]


def table(path: Path, ids: Any, suffix: str = "feather", **columns: Any) -> Embeddings:
    """Write a table; return the source that names it."""
    write = feather.write_feather if suffix == "feather" else pq.write_table
    write(pa.table({"id": ids, **columns}), path / f"t.{suffix}")
    return Embeddings(table=str(path / f"t.{suffix}"))


def vectors(count: int, size: int = 3) -> np.ndarray:
    return zoo.normal(count, count, size).numpy()


def rows(read: pa.Table) -> np.ndarray:
    return np.array(read["features"].to_pylist(), np.float64)
