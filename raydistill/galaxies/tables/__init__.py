"""Read tables at any URI: CSV and other text, Parquet, FITS, VOTable, ECSV, CDS, IPAC and Feather.

A catalogue has hundreds of columns and only a few are needed, so every reader takes column names.
The content of a file decides its format, and its suffix only where the content does not. Any file
may be compressed or packed in a zip. A folder of files of one format is read as one table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from raydistill.galaxies.tables.columnar import parquet_dataset
from raydistill.galaxies.tables.ids import object_ids
from raydistill.galaxies.tables.opening import Table, open_table

__all__ = ["Table", "column_names", "object_ids", "open_table", "parquet_dataset", "read_columns"]


def column_names(uri: str) -> list[str]:
    """Return the names of the table's columns, in order.

    Raises
    ------
    CatalogError
        If there is no table at `uri`, if it cannot be read, or if it is empty.
    """
    return open_table(uri).names


def read_columns(uri: str, columns: Sequence[str], text: Collection[str] = ()) -> pa.Table:
    """Return some columns of a table, in its row order.

    Parameters
    ----------
    uri : str
        A file or a folder of files.
    columns : sequence of str
        Names of the columns. Repeated names are read once.
    text : collection of str
        Columns that a CSV reader must not parse as numbers, such as ids.

    Raises
    ------
    CatalogError
        If the table is missing or cannot be read.
    """
    return open_table(uri, columns).read(columns, text)
