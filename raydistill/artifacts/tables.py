"""Reading the Parquet files of artifacts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.storage import Folder


def read_table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file of an artifact, or some of its columns. Errors as of `Folder.read`.

    All of it is done when this returns. `pyarrow.parquet.read_table` leaves threads behind that still let go of what they
    read; a process that ends meanwhile is aborted, its work done (exit code 134; apache/arrow#49942 and #50482).
    """
    return pq.ParquetFile(pa.BufferReader(folder.read(name)), pre_buffer=False).read(columns, use_threads=False)
