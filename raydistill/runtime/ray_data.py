"""Settings shared by users of Ray Data: whole blocks, retries, logging, warnings.

Ray Data wants a number of rows per batch for tasks on GPUs, and joins or divides blocks to reach
it. So a block whose rows belong together travels as one row, its Arrow stream, and `ONE_BLOCK` rows
are a batch.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.util.annotations import RayDeprecationWarning

from raydistill.config import Resources
from raydistill.log import get_logger, progress
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.resources import choose_num_workers, data_options
from raydistill.storage import Folder, checked, disk_errors

log = get_logger(__name__)

MAX_RETRIES = 3  # of a block whose worker died, as for Ray's own tasks; Ray Data would retry without limit
ONE_BLOCK = 1  # batch_size of packed blocks
# Warnings of Ray that the stages accept: start of the message -> reason.
ACCEPTED_DEPRECATIONS = {
    "`ray_remote_args` is deprecated": "max_retries, max_restarts and max_task_retries have no named replacement in Ray "
    "2.60 to 2.63, and nothing else limits how often the task of a dead worker starts again"
}


def quiet_context(*, preserve_order: bool) -> ray.data.DataContext:
    """Return the driver's context without Ray Data's own progress bars and log lines."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it logs every execution, and the missing progress bars
    context.execution_options.preserve_order = preserve_order
    return context


def pack(block: pa.Table) -> pa.Table:
    """Return a table as the only row of another one, {stream}."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as stream:
        stream.write_table(block)
    return pa.table({"stream": pa.array([sink.getvalue().to_pybytes()], pa.large_binary())})


def unpack(packed: pa.Table) -> pa.Table:
    """Return the table of `pack`, without a copy."""
    return pa.ipc.open_stream(packed["stream"][0].as_buffer()).read_all()


def _measure_packed(packed: pa.Table, measure: Callable[[pa.Table], pa.Table]) -> pa.Table:
    return measure(unpack(packed))


def map_blocks(
    blocks: Sequence[pa.Table], measure: Callable[[pa.Table], pa.Table], resources: Resources
) -> Iterator[pa.Table]:
    """Yield the report of each block when its task is finished, in any order.

    Parameters
    ----------
    blocks
        Tables that are never divided.
    measure
        What a task does with one block: it writes a file, and returns a small report.
    resources
        CPUs and GPUs of a task, and the number of tasks at once.
    """
    if not blocks:
        return
    context = quiet_context(preserve_order=False)
    block_bytes, context.target_max_block_size = context.target_max_block_size, None  # nor are reports
    on_block: Any = _measure_packed
    try:
        with accepted_deprecations():
            rows = ray.data.from_arrow([pack(block) for block in blocks]).map_batches(
                on_block,
                fn_args=(measure,),
                batch_format="pyarrow",
                batch_size=ONE_BLOCK,
                compute=ray.data.TaskPoolStrategy(size=choose_num_workers(resources, len(blocks))),
                max_retries=MAX_RETRIES,
                **data_options(resources),
            )
        reports: Any = rows.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=0)
        yield from reports
    finally:
        context.target_max_block_size = block_bytes


def finish_blocks(
    folder: Folder,
    blocks: Iterable[tuple[str, int, pa.Table]],
    work: Callable[[pa.Table], int],
    resources: Resources,
    *,
    stage: str,
    doing: str,
    unit: str = "pictures",
    is_finished: Callable[[Folder, str], object] = checked.is_intact,
) -> None:
    """Do the work of all blocks whose files are missing or damaged.

    Parameters
    ----------
    folder
        Folder of the files.
    blocks
        File, size and table of each block. The size counts as progress.
    work
        What a task does with a table: it writes the file of the block, and returns its size.
    resources
        CPUs and GPUs of a task, and the number of tasks at once.
    stage, doing, unit
        Words for errors and the progress bar.
    is_finished
        Returns whether a file of the folder is complete.
    """
    total, todo = 0, []
    for file, size, table in blocks:
        total += size
        if not is_finished(folder, file):
            todo.append((size, table))
    pending = sum(size for size, _ in todo)
    if pending < total:
        log.info("%s: %d of %d %s are finished", stage, total - pending, total, unit)
    with (
        disk_errors(folder.uri),
        progress(total, doing, unit, start=total - pending) as shown,
        translate_errors(stage),
    ):
        for report in map_blocks([table for _, table in todo], partial(_sized, work), resources):
            for size in report["size"].to_pylist():
                shown.advance(size)


def _sized(work: Callable[[pa.Table], int], table: pa.Table) -> pa.Table:
    return pa.table({"size": [work(table)]})


@contextmanager
def accepted_deprecations() -> Iterator[None]:
    """Silence the warnings of `ACCEPTED_DEPRECATIONS` alone."""
    with warnings.catch_warnings():
        for message in ACCEPTED_DEPRECATIONS:
            warnings.filterwarnings("ignore", re.escape(message), RayDeprecationWarning)
        yield
