"""Test the numbers of votes beside a curated set."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.stages.curate.writer import VOTE_TOTALS, write_vote_totals
from raydistill.storage import Folder


def galaxies(totals: list[float | None]) -> pa.Table:
    ids = [f"g{len(totals) - number}" for number in range(len(totals))]
    votes = pa.array([[1.0]] * len(totals), pa.list_(pa.float32()))
    return pa.table({"object_id": ids, "total_votes": pa.array(totals, pa.float64()), "votes": votes})


def test_known_totals_are_stored_sorted_by_id(tmp_path: Path) -> None:
    write_vote_totals(Folder(tmp_path), galaxies([120.0, None, 7.0]))
    rows = pq.read_table(tmp_path / VOTE_TOTALS).to_pylist()
    assert rows == [{"object_id": "g1", "total_votes": 7.0}, {"object_id": "g3", "total_votes": 120.0}]


def test_nothing_is_stored_without_totals_or_votes(tmp_path: Path) -> None:
    write_vote_totals(Folder(tmp_path), galaxies([None, None]))
    write_vote_totals(Folder(tmp_path), galaxies([1.0]).drop_columns(["votes"]))
    assert not list(tmp_path.iterdir())
