"""Read tables at any URI.

Formats are CSV and other text, Parquet, FITS, VOTable, ECSV, CDS, IPAC and Feather.

A catalogue has hundreds of columns and only a few are needed, so every reader takes column names:
`open_table(uri).read(["objid", "ra"])`.
The content of a file decides its format, and its suffix only where the content does not. Any file
may be compressed or packed in a zip. A folder of files of one format is read as one table.
"""

from __future__ import annotations

from raydistill.galaxies.tables.columnar import parquet_dataset
from raydistill.galaxies.tables.ids import index_of_ids, object_ids
from raydistill.galaxies.tables.opening import Table, find_path_column, open_table
