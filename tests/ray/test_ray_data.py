"""Blocks that Ray Data must neither join nor divide.

Ray counts GPUs, whether or not the machine has one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from raydistill.runtime.ray_data import pack, unpack

# Only Ray counts this GPU; no torch uses it.
MEASURE = """
import json, os
import pyarrow as pa
from raydistill.config import Resources
from raydistill.runtime.ray_data import map_blocks
from tests.private_ray import private_ray

def measure(block):
    return pa.table({"rows": [json.dumps(block["n"].to_pylist())], "gpu": [os.environ.get("CUDA_VISIBLE_DEVICES")]})

reports = {}
with private_ray(object_store_mb=100, num_gpus=1):
    blocks = [pa.table({"n": list(range(size))}) for size in (3, 1, 0, 5)]
    for gpus in (0, 0.5):
        resources = Resources(gpus=gpus, workers=2)
        reports[gpus] = pa.concat_tables(map_blocks(blocks, measure, resources)).to_pylist()
print(json.dumps(reports))
"""


@pytest.mark.long
def test_map_blocks_gives_each_task_one_whole_block() -> None:
    """Give each task a whole block.

    Ray Data joins blocks for tasks on GPUs, to reach the number of rows that it wants for them.
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore", "-c", MEASURE]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    reports = json.loads(result.stdout.splitlines()[-1])
    assert set(reports) == {"0", "0.5"}
    for blocks in reports.values():
        assert sorted(report["rows"] for report in blocks) == ["[0, 1, 2, 3, 4]", "[0, 1, 2]", "[0]", "[]"]
    assert {report["gpu"] for report in reports["0.5"]} == {"0"}


def test_a_packed_block_is_one_row_and_comes_back_with_its_schema() -> None:
    schema = pa.schema([("id", pa.string()), ("pixels", pa.large_binary()), ("z", pa.float32())], {"k": "v"})
    block = pa.table({"id": ["a", None], "pixels": [b"1", None], "z": [0.5, None]}, schema=schema)
    for table in (block, block.slice(1), block.slice(0, 0)):
        packed = pack(table)
        assert len(packed) == 1
        assert unpack(packed).equals(table, check_metadata=True)
