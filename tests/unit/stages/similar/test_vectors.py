"""Test the search for similar galaxies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill import load_config
from raydistill.errors import ArtifactIncompatible, ConfigError
from raydistill.stages.predict.artifact import PredictionSet
from raydistill.stages.similar import vectors as module
from raydistill.stages.similar.config import Similar
from raydistill.stages.similar.vectors import VECTORS, Vectors
from raydistill.storage import Folder
from tests.unit.stages.similar.made import predictions_of_features


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 6)).astype(np.float16)


@pytest.fixture
def predictions(tmp_path: Path, values: np.ndarray) -> PredictionSet:
    return predictions_of_features(Folder(str(tmp_path / "predictions")), values, rejected=(7,))


@pytest.fixture
def opened(tmp_path: Path, predictions: PredictionSet) -> Vectors:
    return Vectors.open(Folder(str(tmp_path / "vectors")), predictions)


def test_vectors_are_standardised_and_of_unit_length(opened: Vectors, values: np.ndarray) -> None:
    used = np.delete(values, 7, axis=0).astype(np.float64)
    expected = (used - used.mean(axis=0)) / used.std(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(opened.vectors_NF, expected, atol=1e-6)
    assert opened.ids.to_pylist() == [f"g{n}" for n in range(50) if n != 7]


@given(st.integers(1, 4), st.integers(0, 3), st.floats(0, 2), st.integers(1, 60))
def test_nearest_are_those_of_a_full_sort(more: int, less: int, weight: float, count: int) -> None:
    rng = np.random.default_rng(more * 10 + less)
    unit = rng.normal(size=(40, 5))
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    searched = Vectors(pa.array([str(n) for n in range(40)]), unit)
    chosen = rng.permutation(40)[: more + less].tolist()
    rows, similarities = searched.nearest(chosen[:more], chosen[more:], weight, count)
    query = unit[chosen[:more]].astype(np.float64).mean(axis=0)
    query -= weight * (unit[chosen[more:]].astype(np.float64).mean(axis=0) if less else 0)
    expected = unit @ (query / np.linalg.norm(query))
    others = [n for n in np.argsort(-expected, kind="stable") if n not in chosen]
    assert len(rows) == min(count, len(others))
    np.testing.assert_allclose(similarities, expected[others[:count]], atol=1e-5)


def test_of_equal_galaxies_the_first_come_first() -> None:
    searched = Vectors(pa.array(list("abcdef")), np.tile(np.float32([1, 0]), (6, 1)))
    assert searched.nearest([2], count=3)[0].tolist() == [0, 1, 3]


def test_galaxies_that_are_given_are_not_found(opened: Vectors) -> None:
    rows, _ = opened.nearest([3, 4], [5], count=100)
    assert sorted(rows.tolist()) == [n for n in range(49) if n not in (3, 4, 5)]


def test_survey_of_given_galaxies_alone_gives_nothing() -> None:
    searched = Vectors(pa.array(["a"]), np.float32([[1, 0]]))
    assert [len(part) for part in searched.nearest([0])] == [0, 0]


def test_blocks_of_the_product_do_not_matter(opened: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened.similarities([1])
    monkeypatch.setattr(module, "ROWS", 8)
    np.testing.assert_allclose(opened.similarities([1]), whole, atol=1e-6)


def test_unknown_and_rejected_galaxies_are_named(opened: Vectors) -> None:
    for name in ("nope", "g7"):
        with pytest.raises(ConfigError, match=f"no galaxy '{name}' whose picture could be used"):
            opened.rows(["g1", name], "similar.more")
    assert opened.rows(["g8", "g6"], "similar.more") == [7, 6]


def test_damaged_vectors_are_written_again(tmp_path: Path, predictions: PredictionSet) -> None:
    folder = Folder(str(tmp_path / "vectors"))
    before = np.array(Vectors.open(folder, predictions).vectors_NF)
    path = tmp_path / "vectors" / VECTORS
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    np.testing.assert_array_equal(Vectors.open(folder, predictions).vectors_NF, before)


def test_constant_feature_tells_nothing_apart(tmp_path: Path, values: np.ndarray) -> None:
    with_constant = np.concatenate([values, np.full((50, 1), 3, np.float16)], axis=1)
    searched = Vectors.open(
        Folder(str(tmp_path / "v")), predictions_of_features(Folder(str(tmp_path / "p")), with_constant)
    )
    assert (searched.vectors_NF[:, -1] == 0).all()
    assert np.isfinite(searched.vectors_NF).all()


@pytest.mark.parametrize(
    ("features", "sentence"),
    [(np.empty((5, 0), np.float16), "have no features"), (np.ones((5, 3), np.float16), "have the same features")],
)
def test_features_that_tell_nothing_are_rejected(tmp_path: Path, features: np.ndarray, sentence: str) -> None:
    predictions = predictions_of_features(Folder(str(tmp_path / "p")), features)
    with pytest.raises(ArtifactIncompatible, match=sentence):
        Vectors.open(Folder(str(tmp_path / "v")), predictions)


def test_ids_are_text_with_commas_whatever_they_look_like() -> None:
    for word in ("283828_4000", "000123", "12:30", "1e5", "true", "587722"):
        read = load_config("demo", f"similar.more={word}").similar
        assert read.ids("more") == (word,)
    assert Similar(more=" a, b ,").ids("more") == ("a", "b")
    assert Similar().ids("less") == ()
    with pytest.raises(ValueError, match="must not name a galaxy twice"):
        Similar(more="a,b", less="b")
    with pytest.raises(ValueError, match="less_weight must lie in"):
        Similar(less_weight=-1)


def test_objects_with_features_that_are_not_finite_are_left_out(tmp_path: Path, values: np.ndarray) -> None:
    broken = values.copy()
    broken[3, 2], broken[25:45, 0] = np.nan, np.inf
    searched = Vectors.open(Folder(str(tmp_path / "v")), predictions_of_features(Folder(str(tmp_path / "p")), broken))
    assert len(searched.ids) == 29
    assert np.isfinite(searched.vectors_NF).all()
    with pytest.raises(ConfigError, match="no galaxy 'g3'"):
        searched.rows(["g3"], "similar.more")
    with pytest.raises(ArtifactIncompatible, match="no object has features that are finite numbers"):
        Vectors.open(Folder(str(tmp_path / "w")), predictions_of_features(Folder(str(tmp_path / "q")), values * np.nan))
