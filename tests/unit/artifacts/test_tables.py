"""Reading Parquet files of artifacts, without threads that outlive it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.artifacts.tables import read_table
from raydistill.errors import ArtifactMissing
from raydistill.storage import Folder

READS = """
import os, sys
from raydistill.storage import Folder
from raydistill.artifacts.tables import read_table
before = set(os.listdir("/proc/self/task"))
assert read_table(Folder(sys.argv[1]), "some.parquet").num_rows == 2000
assert read_table(Folder(sys.argv[1]), "some.parquet", ["c0", "c1"]).num_columns == 2
print(len(set(os.listdir("/proc/self/task")) - before))
"""


def test_some_or_all_columns_are_read_and_a_missing_file_is_an_error(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    pq.write_table(table, tmp_path / "some.parquet")
    assert read_table(Folder(tmp_path), "some.parquet").equals(table)
    assert read_table(Folder(tmp_path), "some.parquet", ["b"]).equals(table.select(["b"]))
    with pytest.raises(ArtifactMissing, match=r"other\.parquet"):
        read_table(Folder(tmp_path), "other.parquet")


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_no_thread_outlives_the_read(tmp_path: Path) -> None:
    """`pyarrow.parquet.read_table` starts three here."""
    columns = {f"c{column}": list(range(2000)) for column in range(8)}
    pq.write_table(pa.table(columns), tmp_path / "some.parquet", row_group_size=100)
    done = subprocess.run([sys.executable, "-c", READS, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
