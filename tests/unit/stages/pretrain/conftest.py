"""The describer of a table serves two files of tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raydistill.stages.pretrain.artifact import TABLE
from raydistill.stages.pretrain.describers import TableDescriber
from raydistill.stages.pretrain.given import read_embeddings
from raydistill.storage import Folder
from tests.unit.stages.pretrain.table_tools import IDS, rows, table, vectors


@pytest.fixture
def described(tmp_path: Path) -> tuple[TableDescriber, np.ndarray]:
    """Return the describer of a table with four ids, and the table's features."""
    read = read_embeddings(table(tmp_path, IDS, embedding=vectors(4).tolist()))
    with Folder(tmp_path / "encoder").writing(TABLE) as path, pa.ipc.new_file(str(path), read.schema) as writer:
        writer.write_table(read)
    return TableDescriber(str(tmp_path / "encoder")), rows(read)
