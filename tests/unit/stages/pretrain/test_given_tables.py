"""Read features that others computed, from tables."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raydistill.errors import ArtifactIncompatible, CatalogError, ConfigError
from raydistill.stages.pretrain import given as module
from raydistill.stages.pretrain.config import Embeddings
from raydistill.stages.pretrain.describers import TableDescriber
from raydistill.stages.pretrain.given import read_embeddings
from tests.unit.stages.pretrain.table_tools import IDS, rows, table, vectors

SIZE = 8

LISTS: dict[str, Callable[[np.ndarray], pa.Array]] = {
    "lists": lambda x: pa.array(x.tolist()),
    "lists of float16": lambda x: pa.array(list(x.astype(np.float16))),
    "large lists": lambda x: pa.array(x.tolist(), pa.large_list(pa.float32())),
    "lists of one length": lambda x: pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1]),
    "a slice": lambda x: pa.array([[0.0] * x.shape[1], *x.tolist()]).slice(1),
}


@pytest.fixture(params=[1, 3, 65536])
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read tables in blocks of so many rows."""
    monkeypatch.setattr(module, "ROWS", request.param)


@pytest.mark.usefixtures("rows_at_once")
@pytest.mark.parametrize("suffix", ["feather", "parquet"])
@pytest.mark.parametrize("kind", LISTS)
def test_vectors_are_read_from_a_column_of_lists(kind: str, suffix: str, tmp_path: Path) -> None:
    values = vectors(4)
    read = read_embeddings(table(tmp_path, IDS, suffix, embedding=LISTS[kind](values)))
    assert read["object_id"].to_pylist() == IDS
    assert read["features"].type == pa.list_(pa.float16(), 3)
    np.testing.assert_array_equal(rows(read), values.astype(np.float16))


@pytest.mark.usefixtures("rows_at_once")
def test_numeric_columns_are_chosen_by_a_pattern_in_their_order(tmp_path: Path) -> None:
    values = vectors(4)
    columns = {f"feat_{n}": values[:, n] for n in (2, 0, 1)}
    source = table(tmp_path, IDS, mag=[1.0, 2.0, 3.0, 4.0], **columns)
    read = read_embeddings(Embeddings(table=source.table, id="id", vector="feat_*"))
    np.testing.assert_array_equal(rows(read), values[:, [2, 0, 1]].astype(np.float16))


def test_vectors_are_read_from_csv_and_ids_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("feat_0,objid,feat_1\n1,587722981742084097,2\n3,587722981742084098,4.5\n")
    read = read_embeddings(Embeddings(table=str(path), id="objid", vector="feat_*"))
    assert read["object_id"].to_pylist() == ["587722981742084097", "587722981742084098"]
    np.testing.assert_array_equal(rows(read), [[1, 2], [3, 4.5]])


def test_id_column_is_no_feature_even_if_the_pattern_fits(tmp_path: Path) -> None:
    source = table(tmp_path, [1, 2], i0=[1.0, 2.0], i1=[5.0, 4.0])
    read = read_embeddings(Embeddings(table=source.table, vector="i*"))
    np.testing.assert_array_equal(rows(read), [[1, 5], [2, 4]])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "repeated ids": (
        {"ids": ["a", "a", "b", "b"], "embedding": vectors(4).tolist()},
        "2 ids have several rows (first: a, b); leave one row of each id",
    ),
    "a missing id": ({"ids": ["a", None, "c", "d"], "embedding": vectors(4).tolist()}, "column 'id' has no id in 1 rows"),
    "NaN": (
        {"ids": IDS, "embedding": [[1.0], [float("nan")], [2.0], [float("inf")]]},
        "2 of 4 vectors have a value that is not a finite number (first: b); leave these rows out",
    ),
    "a missing number": (
        {"ids": IDS, "embedding": [[1, 2], [3, 4], [5, None], [6, 7]]},
        "1 of 4 vectors have a value that is not a finite number (first: c)",
    ),
    "unequal lengths": (
        {"ids": IDS, "embedding": [[1.0], [1.0, 2.0], [2.0], [3.0]]},
        "the vectors of 'embedding' have different lengths, or some are missing; give each object a vector of one length",
    ),
    "a missing vector": ({"ids": IDS, "embedding": [[1.0], None, [2.0], [3.0]]}, "or some are missing"),
    "a missing vector of a fixed length": (
        {"ids": IDS, "embedding": pa.array([[1.0], None, [2.0], [3.0]], pa.list_(pa.float32(), 1))},
        "or some are missing",
    ),
    "empty vectors": ({"ids": IDS, "embedding": pa.array([[], [], [], []], pa.list_(pa.float32()))}, "different lengths"),
    "text": ({"ids": IDS, "embedding": list("wxyz")}, "column 'embedding' has no vectors of numbers; give a column of"),
    "lists of text": ({"ids": IDS, "embedding": [["w"], ["x"], ["y"], ["z"]]}, "has no vectors of numbers"),
    "dates": ({"ids": IDS, "embedding": pa.array([1, 2, 3, 4], pa.date32())}, "column 'embedding' does not hold numbers"),
    "one vector for all": ({"ids": IDS, "embedding": [[1.0, 2.0]] * 4}, "all vectors are the same; compute them again"),
}  # fmt: skip


def test_a_table_without_rows_is_rejected(tmp_path: Path) -> None:
    source = table(tmp_path, pa.array([], pa.string()), embedding=pa.array([], pa.list_(pa.float32())))
    with pytest.raises(CatalogError, match="the table has no rows"):
        read_embeddings(source)


@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("rows_at_once")
def test_bad_vectors_are_rejected_with_one_sentence(case: str, tmp_path: Path) -> None:
    columns, sentence = BAD[case]
    source = table(tmp_path, columns["ids"], embedding=columns["embedding"])
    with pytest.raises(CatalogError, match=re.escape(sentence)) as caught:
        read_embeddings(source)
    assert caught.value.where == source.table


@pytest.mark.parametrize(
    ("key", "chosen", "sentence"),
    [
        ("id", {"id": "objid"}, "pretrain.source.id: the table has no column 'objid'"),
        ("vector", {"vector": "embeding"}, "pretrain.source.vector: the table has no column 'embeding'; did you mean 'embed"),
        ("vector", {"vector": "z_*"}, "pretrain.source.vector: the table has no column 'z_*'"),
        ("vector", {"id": "embedding"}, "pretrain.source.vector: the table has no column 'embedding'"),
    ],
)  # fmt: skip
def test_missing_columns_are_named(key: str, chosen: dict[str, str], sentence: str, tmp_path: Path) -> None:
    source = table(tmp_path, IDS, embedding=vectors(4).tolist())
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        read_embeddings(Embeddings(table=source.table, **chosen))


@pytest.mark.usefixtures("rows_at_once")
def test_constant_columns_and_clipped_values_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "raydistill")
    values = [[1.0, 7.0, 1e6], [2.0, 7.0, -1e6], [3.0, 7.0, 65504.0], [4.0, 7.0, 0.1]]
    read = read_embeddings(table(tmp_path, IDS, embedding=values))
    assert caplog.messages == [
        "pretrain: 1 of 3 features are constant, and tell nothing apart",
        "pretrain: 2 values lie beyond ±65504, and are cut there",
    ]
    np.testing.assert_array_equal(rows(read)[:, 2], [65504, -65504, 65504, np.float16(0.1)])


# ---- a describer of a table ----


@pytest.mark.parametrize("chunks", [[["d", "a", "a"]], [["d"], [], ["a", "a"]]])
def test_features_are_in_the_order_of_the_ids(
    described: tuple[TableDescriber, np.ndarray], chunks: list[list[str]]
) -> None:
    describer, values = described
    found = describer.lookup(pa.chunked_array(chunks, pa.string()))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found, values[[3, 0, 0]])


def test_unknown_ids_are_found(described: tuple[TableDescriber, np.ndarray]) -> None:
    describer, _ = described
    assert describer.known(pa.array(["c", "x", None, "a"])).tolist() == [True, False, False, True]


def test_table_describes_no_picture(described: tuple[TableDescriber, np.ndarray]) -> None:
    describer, _ = described
    with pytest.raises(ArtifactIncompatible, match="describes the objects that it lists, and no synthetic picture"):
        describer.features(np.zeros((1, SIZE, SIZE, 3), np.uint8))
