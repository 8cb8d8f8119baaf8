"""Predictions on disk: blocks, records of finished ones, reading of an opened set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.artifacts.display import open_artifact
from raydistill.artifacts.manifest import commit
from raydistill.config import load
from raydistill.learning.calibration import Calibration
from raydistill.pipeline.plan import Plan
from raydistill.stages.predict import stage
from raydistill.stages.predict.artifact import KIND, SUMMARY, CalibrationSummary, PredictionSet, PredictionSummary
from raydistill.stages.predict.blocks import SCHEMA, block_name, read_record, recalibrate, write_block
from raydistill.storage import Folder

NAMES = ("round", "spiral")


def rows(first: int, count: int, *, rejected: tuple[int, ...] = (), features: bool = True) -> pa.Table:
    table: list[dict[str, Any]] = []
    for n in range(first, first + count):
        if n in rejected:
            table.append({"object_id": f"g{n}", "reason": "corrupt", "detail": f"picture {n}"})
            continue
        p = n / 10
        values = {"probability": [p, 1 - p], "spread": [0.1, 0.1], "predicted_class": NAMES[p < 0.5]}
        values["logits"] = np.log(np.clip([p, 1 - p], 1e-30, None))
        table.append({"object_id": f"g{n}", **values, "features": [np.float16(n), np.float16(0)] if features else None})
    return pa.Table.from_pylist(table, SCHEMA)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "predictions")


def committed(folder: Folder, *blocks: pa.Table, num_features: int = 2) -> PredictionSet:
    for index, block in enumerate(blocks):
        write_block(folder, index, block)
    calibration = CalibrationSummary(Calibration.none(2), "uniform", 10, (0.5, 0.5), 0, {})
    summary = PredictionSummary(
        "survey", NAMES, sum(map(len, blocks)), {"round": 0, "spiral": 0}, {}, 3, num_features, 16, 0.5, False,
        calibration,
    )  # fmt: skip
    folder.write(SUMMARY, summary.to_json())
    commit(folder, kind=KIND, identity="0" * 64, config={}, parents={}, seed=0, uris={})
    return PredictionSet.open(folder)


def test_record_counts_classes_and_reasons(folder: Folder) -> None:
    record = write_block(folder, 3, rows(0, 8, rejected=(2, 5)))
    assert (record.num_rows, record.predicted) == (8, {"round": 2, "spiral": 4})
    assert (record.rejected, record.first_rejected) == ({"corrupt": 2}, ("g2", "picture 2"))
    assert read_record(folder, 3, 8) == record


@pytest.mark.parametrize("rejected", [(), (0, 3, 6)])
def test_prior_of_many_pictures_is_estimated_from_some(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, rejected: tuple[int, ...]
) -> None:
    """Every third picture is taken: none of the last block, or rejected ones alone."""
    monkeypatch.setattr(stage, "MAX_EM_PICTURES", 3)
    records = {0: write_block(folder, 0, rows(0, 8, rejected=rejected)), 1: write_block(folder, 1, rows(8, 1))}
    plan = Plan(load("demo", ["predict.prior=estimated"]))
    summary = CalibrationSummary(Calibration.none(2), "uniform", 10, (0.5, 0.5), 0, {})
    estimated = stage._estimate_prior(plan, folder, records, summary, tuple(NAMES)).estimated_prior
    assert sum(estimated) == pytest.approx(1)
    assert (estimated == (0.5, 0.5)) is bool(rejected)


def test_record_of_an_unusable_block_is_none(folder: Folder) -> None:
    assert read_record(folder, 0, 4) is None
    write_block(folder, 0, rows(0, 4))
    assert read_record(folder, 0, 5) is None
    content = bytearray(folder.read(block_name(0)))
    content[len(content) // 2] ^= 1
    folder.write(block_name(0), bytes(content))
    assert read_record(folder, 0, 4) is None


def test_equal_rows_give_equal_bytes(folder: Folder) -> None:
    chunked = pa.concat_tables([rows(0, 3), rows(3, 2)])
    write_block(folder, 0, chunked)
    write_block(folder, 1, rows(0, 5))
    assert folder.read(block_name(0)) == folder.read(block_name(1))


def test_set_returns_rows_in_order_of_the_survey(folder: Folder) -> None:
    opened = committed(folder, rows(0, 4), rows(4, 3, rejected=(5,)))
    frame = opened.to_pandas()
    assert frame.object_id.tolist() == [f"g{n}" for n in range(7)]
    assert frame.reason.dropna().to_dict() == {5: "corrupt"}
    ids, probabilities = opened.probabilities()
    assert ids == ["g0", "g1", "g2", "g3", "g4", "g6"]
    np.testing.assert_allclose(probabilities[:, 0], [0, 0.1, 0.2, 0.3, 0.4, 0.6], rtol=1e-6)
    assert opened.features()[1][:, 0].tolist() == [0, 1, 2, 3, 4, 6]
    assert opened.features()[1].dtype == np.float16
    assert opened.to_pandas(["object_id"]).columns.tolist() == ["object_id"]


def test_set_without_features_or_usable_pictures_has_empty_arrays(folder: Folder) -> None:
    opened = committed(folder, rows(0, 2, features=False), rows(2, 2, rejected=(2, 3)), num_features=0)
    assert opened.features()[1].shape == (2, 0)
    assert opened.probabilities()[1].shape == (2, 2)


def test_any_opener_knows_predictions(folder: Folder) -> None:
    committed(folder, rows(0, 2))
    opened = open_artifact(folder)
    assert isinstance(opened, PredictionSet)
    assert opened.class_names == list(NAMES)


def test_probabilities_of_another_prior_follow_bayes(folder: Folder) -> None:
    opened = committed(folder, rows(0, 10))
    ids, probability = opened.probabilities({"round": 1, "spiral": 3})
    p = np.arange(10) / 10
    assert ids == [f"g{n}" for n in range(10)]
    np.testing.assert_allclose(probability[:, 0], p * 0.25 / (p * 0.25 + (1 - p) * 0.75), atol=1e-6)


@pytest.mark.parametrize("prior", [{"round": 1}, {"round": 0, "spiral": 0}, {"round": 2, "spiral": -1}])
def test_prior_that_is_none_is_rejected(folder: Folder, prior: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a frequency of at least 0 for each class"):
        committed(folder, rows(0, 10)).probabilities(prior)


def test_recalibrated_block_keeps_all_but_its_probabilities(folder: Folder) -> None:
    before = rows(0, 10, rejected=(3,))
    record = write_block(folder, 0, before)
    changed = recalibrate(folder, 0, record, Calibration((0.5, 0.5), (1.0, 0.0)), list(NAMES))
    assert changed == read_record(folder, 0, 10)
    assert changed.rejected == record.rejected
    assert changed.predicted == {"round": 9}
    after = pq.read_table(str(Path(folder.uri, block_name(0))))
    for name in ("object_id", "logits", "spread", "features", "reason", "detail"):
        assert after[name].to_pylist() == before[name].to_pylist()
    assert [row for row in after["probability"].to_pylist() if row is not None] == [[1.0, 0.0]] * 9
