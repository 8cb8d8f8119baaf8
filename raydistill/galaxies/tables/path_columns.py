"""Find the column of a table that holds paths of pictures."""

from __future__ import annotations

import re

from raydistill.galaxies.tables.opening import Table

_NAME = re.compile(r"file|path|loc|image|img|picture|cutout|jpe?g|png|fits|thumb", re.IGNORECASE)
_PATH = re.compile(r"[/\\]|\.[a-z]\w{1,4}(\.\w{2})?$", re.IGNORECASE)  # a folder, or a suffix
_ROWS = 100


def find_path_column(table: Table) -> str | None:
    """Return the first column whose name and first value look like picture paths.

    None if there is none.
    """
    for name in filter(_NAME.search, table.names):
        first = next((value for value in table.head([name], _ROWS)[name].to_pylist() if value), None)
        if isinstance(first, str) and _PATH.search(first.strip()):
            return name
    return None
