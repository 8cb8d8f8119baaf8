"""Reading the Parquet files of artifacts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.storage import Folder


def read_table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file of an artifact, with errors as of `Folder.read`; or some of its columns, of which nothing else is fetched.

    All of it is done when this returns. `pyarrow.parquet.read_table` leaves threads behind that still let go of what they
    read; a process that ends meanwhile is aborted, its work done (exit code 134; apache/arrow#49942 and #50482).
    """
    with folder.open(name) if columns else pa.BufferReader(folder.read(name)) as source:
        return pq.ParquetFile(source, pre_buffer=False).read(columns, use_threads=False)
