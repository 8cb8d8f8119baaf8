"""Read the Parquet files of artifacts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.storage import Folder


def read_table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    """Return a Parquet file, or only the named columns of it. Errors are those of `Folder.read`.

    Reading uses no threads. `pyarrow.parquet.read_table` leaves threads that still free memory, and
    a process that exits meanwhile is aborted (exit code 134; apache/arrow#49942 and #50482).
    """
    with folder.open(name) if columns else pa.BufferReader(folder.read(name)) as source:
        return pq.ParquetFile(source, pre_buffer=False).read(columns, use_threads=False)
