"""Blocks of samples: numbers, rounds of a filter, rows, and merged files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.artifacts.tables import pack_table, read_table
from raydistill.galaxies.trees import GZ2
from raydistill.stages.curate.select.conditions import fit_encoding
from raydistill.stages.sample import report
from raydistill.stages.sample.artifact import NO_CLASS, SCHEMA, partition
from raydistill.stages.sample.config import ClassConditions, Filter, GalaxyConditions, Sample
from raydistill.stages.sample.report import merge_blocks
from raydistill.stages.sample.sources.galaxies import Survey
from raydistill.stages.sample.sources.pools import make_pools
from raydistill.stages.sample.sources.requests import (
    BLOCK_SCHEMA,
    Block,
    PoolProgress,
    Requests,
    count_wanted,
    next_blocks,
    read_conditions,
)
from raydistill.stages.sample.stage import pool_progress
from raydistill.storage import Folder, checked
from tests.unit.stages.sample_tools import CLASSES, NAMES, write_curated


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return Survey(write_curated(Folder(tmp_path_factory.mktemp("curated") / "c")), GZ2, CLASSES)


def requests_for(survey: Survey, wanted: ClassConditions | GalaxyConditions) -> Requests:
    pools = make_pools(wanted, survey, fit_encoding(survey.curated))
    return Requests(pools, NAMES, "0123456789abcdef", "ab" * 32, 2.0, 5)


def finished(requests: Requests, block: Block, numbers: np.ndarray, keep: np.ndarray | None = None) -> pa.Table:
    """Return a block whose pictures are its indices."""
    table = requests.table(block, numbers)
    images = pa.array([str(index).encode() for index in table["index"].to_pylist()], pa.binary())
    columns = {name: table[name] for name in table.column_names} | {"image": images}
    rows = pa.table({name: columns[name] for name in BLOCK_SCHEMA.names}, schema=BLOCK_SCHEMA)
    return rows if keep is None else rows.filter(pa.array(keep))


def test_blocks_without_a_filter_are_known_and_the_last_one_is_smaller() -> None:
    progress = pool_progress(Sample(num_images=9, block_size=2), 2)
    assert [pool.wanted for pool in progress] == [5, 4]
    assert next_blocks(progress) == [Block(0, 0), Block(0, 1), Block(0, 2), Block(1, 0), Block(1, 1)]
    assert progress[0].numbers(2).tolist() == [4]
    progress[0].kept = [2, 2, 1]
    progress[1].kept = [2, 2]
    assert next_blocks(progress) == []


def test_per_class_replaces_the_number_of_images() -> None:
    assert [pool.wanted for pool in pool_progress(Sample(num_images=9, per_class=3), 4)] == [3, 3, 3, 3]


def test_rounds_of_a_filter_end_with_enough_images_or_at_the_limit() -> None:
    """A class of which one in four is recognised, and one that is never recognised."""
    progress = pool_progress(Sample(per_class=10, block_size=4, filter=Filter(max_samples_per_image=6)), 2)
    num_rounds = 0
    while todo := next_blocks(progress):
        num_rounds += 1
        for block in todo:
            progress[block.pool].kept.append(1 if block.pool == 0 else 0)
    assert num_rounds < 8
    assert progress[0].total_kept == 10
    assert (progress[1].total_kept, progress[1].num_sampled, progress[1].limit) == (0, 60, 60)


def test_the_last_samples_of_a_limit_that_is_no_multiple_of_the_block_count() -> None:
    progress = PoolProgress(wanted=5, limit=7, block_size=4, kept=[0, 0])
    assert progress.numbers(1).tolist() == [4, 5, 6]
    assert progress.num_sampled == 7
    assert len(progress.next_blocks()) == 0


def test_samples_beyond_the_number_needed_do_not_count_as_progress() -> None:
    """A filter keeps more of one class than wanted; the other class still lacks some."""
    progress = [PoolProgress(10, 80, 8, kept=[8]), PoolProgress(10, 80, 8, kept=[1])]
    kept = {Block(0, 1): 8, Block(1, 1): 2, Block(1, 2): None}
    assert count_wanted(progress, {}) == 9
    assert count_wanted(progress, kept) == 10 + 3


def test_rows_of_a_block_are_a_function_of_its_numbers(survey: Survey) -> None:
    requests = requests_for(survey, ClassConditions())
    whole = requests.table(Block(1, 0), np.arange(8))
    part = requests.table(Block(1, 1), np.arange(4, 8))
    names = [name for name in whole.column_names if name != "block"]
    assert part.select(names).equals(whole.slice(4).select(names))
    assert whole["index"].to_pylist() == [2 * number + 1 for number in range(8)]
    assert whole["object_id"][0].as_py() == "synthetic-01234567-0000001"
    assert set(whole["class_name"].to_pylist()) == {"disk"}
    assert all(origin.startswith("g1") for origin in whole["origin"].to_pylist())


def test_conditions_survive_the_table(survey: Survey) -> None:
    requests = requests_for(survey, GalaxyConditions(object_ids=("g03", "g12"), answers={"features_or_disk": 1}))
    read = read_conditions(requests.table(Block(0, 0), np.arange(2))["condition"])
    assert read.known_BV.equal(requests.pools[0].conditions.known_BV)
    assert read.values_BV.equal(requests.pools[0].conditions.values_BV)
    assert not read.known_BV.all()


def merged(survey: Survey, folder: Folder, keep_every: int = 1, wanted: int = 7):
    requests = requests_for(survey, ClassConditions())
    limit = wanted * keep_every
    progress = [PoolProgress(wanted, limit, 4) for _ in NAMES]
    for pool, state in enumerate(progress):
        for number in range(state.num_blocks):
            numbers = state.numbers(number)
            rows = finished(requests, Block(pool, number), numbers, (numbers + 1) % keep_every == 0)
            checked.write(folder, f"blocks/{Block(pool, number).name}", pack_table(rows))
            state.kept.append(len(rows))
    return merge_blocks(folder, folder / "blocks", progress, requests)


def test_blocks_are_merged_into_a_file_per_class(survey: Survey, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "ROWS_PER_GROUP", 3)
    counts = merged(survey, Folder(tmp_path / "s"))
    assert {label: (n.sampled, n.kept) for label, n in counts.items()} == {NO_CLASS: (0, 0), 0: (7, 7), 1: (7, 7)}
    for label in (0, 1):
        rows = read_table(Folder(tmp_path / "s"), partition(label))
        assert rows.schema.names == SCHEMA.names
        assert rows["index"].to_pylist() == [2 * number + label for number in range(7)]
    file = pq.ParquetFile(tmp_path / "s" / partition(0))
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [3, 3, 1]


def test_a_filter_counts_the_samples_up_to_the_last_one_that_was_kept(survey: Survey, tmp_path) -> None:
    counts = merged(survey, Folder(tmp_path / "s"), keep_every=3, wanted=5)
    assert [(counts[label].sampled, counts[label].kept, counts[label].share) for label in (0, 1)] == [
        (15, 5, 1 / 3)
    ] * 2


def test_samples_of_several_classes_in_one_pool_are_divided_by_class(survey: Survey, tmp_path) -> None:
    requests = requests_for(survey, GalaxyConditions(object_ids=("g03", "g12", "g13")))
    progress = [PoolProgress(7, 7, 4)]
    for number in range(2):
        rows = finished(requests, Block(0, number), progress[0].numbers(number))
        checked.write(Folder(tmp_path), f"blocks/{Block(0, number).name}", pack_table(rows))
        progress[0].kept.append(len(rows))
    counts = merge_blocks(Folder(tmp_path), Folder(tmp_path) / "blocks", progress, requests)
    assert [(counts[label].sampled, counts[label].kept) for label in (0, 1)] == [(3, 3), (4, 4)]
    assert read_table(Folder(tmp_path), partition(0))["index"].to_pylist() == [0, 3, 6]
