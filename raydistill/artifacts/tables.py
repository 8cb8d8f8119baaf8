"""Read and write the Parquet files of artifacts, and read the pictures in them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raydistill.errors import ArtifactCorrupt, describe_arrow_error
from raydistill.storage import Folder

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """A split in memory, in the order of object ids.

    Attributes
    ----------
    images_NHWC
        uint8 [N, H, W, 3].
    labels_N
        int64 [N], indices into the class names.
    object_ids
        N object ids.
    confidence_N
        float64 [N], in [0, 1].
    """

    images_NHWC: Tensor
    labels_N: Tensor
    object_ids: list[str]
    confidence_N: np.ndarray


def read_table(folder: Folder, name: str, columns: list[str] | None = None) -> pa.Table:
    """Return a Parquet file or some of its columns.

    Errors are those of `Folder.read`; ArtifactCorrupt for another file. Reading uses no threads.
    `pyarrow.parquet.read_table` leaves threads that still free memory, and a process that exits
    meanwhile is aborted (exit code 134; apache/arrow#49942 and #50482).
    """
    with folder.open(name) if columns else pa.BufferReader(folder.read(name)) as source:
        try:
            return pq.ParquetFile(source, pre_buffer=False).read(columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            what = f"'{name}' is damaged or no Parquet file ({describe_arrow_error(error)})"
            raise ArtifactCorrupt(what, folder.uri, "make it again") from error


def write_table(folder: Folder, name: str, table: pa.Table) -> None:
    """Write a table as a Parquet file of one row group."""
    with folder.writing(name) as path:
        pq.write_table(table, path, compression="zstd")


def pack_table(table: pa.Table) -> bytes:
    """Return the bytes of the file that `write_table` writes."""
    packed = pa.BufferOutputStream()
    pq.write_table(table, packed, compression="zstd")
    return packed.getvalue().to_pybytes()


def unpack_table(data: bytes) -> pa.Table:
    """Return the table of `pack_table`, read without threads as by `read_table`."""
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)


def write_rows(folder: Folder, name: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows, by column, as a Parquet file of one row group."""
    write_table(folder, name, pa.Table.from_pylist(list(rows), schema))


def decode_images(column: pa.ChunkedArray, size: int) -> Tensor:
    """Return a column of PNG files [N] as uint8 [N, size, size, 3].

    The files are RGB of `size` by `size` pixels.
    """
    import torch  # imported late, because reports have tables and no images

    images = np.empty((len(column), size, size, 3), np.uint8)
    for row, png in enumerate(column):
        images[row] = np.asarray(Image.open(io.BytesIO(png.as_py()), formats=["PNG"]))
    return torch.from_numpy(images)
