"""Test which pictures are placed into fields, and which frames are read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from raydistill.errors import ArtifactIncompatible
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.detect.config import Detect
from raydistill.stages.detect.scenes.pictures import (
    check_galaxies,
    choose_pictures,
    class_names,
    read_frames,
    split_of,
)
from raydistill.storage import Folder
from tests.unit.stages.detect_tools import write_synthetic
from tests.unit.stages.sample_tools import NAMES, write_curated


@pytest.fixture
def curated(tmp_path: Path) -> CuratedSet:
    return write_curated(Folder(tmp_path / "curated"), per_class=10)


def test_a_fifth_of_the_pictures_is_for_the_test_and_a_fifth_for_validation() -> None:
    counts = Counter(split_of(f"synthetic-{number}") for number in range(2000))
    assert counts["test"] == pytest.approx(400, abs=60)
    assert counts["validation"] == pytest.approx(400, abs=60)
    assert counts["train"] == pytest.approx(1200, abs=80)


def test_pictures_have_their_class_and_origin(curated: CuratedSet, tmp_path: Path) -> None:
    synthetic = write_synthetic(Folder(tmp_path / "synthetic"), curated)
    rows = choose_pictures(synthetic, Detect()).to_pylist()
    assert class_names(synthetic) == NAMES
    assert len(rows) == 18
    assert {row["origin"] for row in rows} == set(curated.table("train", ["object_id"])["object_id"].to_pylist())
    assert all(row["split"] == split_of(row["object_id"]) for row in rows)


def test_galaxies_that_experts_do_not_recognise_are_left_out(curated: CuratedSet, tmp_path: Path) -> None:
    synthetic = write_synthetic(Folder(tmp_path / "synthetic"), curated, recognised=0.4)
    assert len(choose_pictures(synthetic, Detect(min_recognised=0.3))) == 18
    with pytest.raises(ArtifactIncompatible, match="none of the 0 pictures to place is of the train split"):
        choose_pictures(synthetic, Detect(min_recognised=0.5))
    without = write_synthetic(Folder(tmp_path / "without"), curated)
    with pytest.raises(
        ArtifactIncompatible, match=r"no probability of their class, which detect\.min_recognised needs"
    ):
        choose_pictures(without, Detect(min_recognised=0.5))


def test_galaxies_of_the_test_split_are_rejected(curated: CuratedSet, tmp_path: Path) -> None:
    check_galaxies(write_synthetic(Folder(tmp_path / "synthetic"), curated), curated)
    tested = write_synthetic(Folder(tmp_path / "tested"), curated, "test")
    with pytest.raises(ArtifactIncompatible, match="2 galaxies of its pictures are in the test split of the frames"):
        check_galaxies(tested, curated)


def test_frames_are_chosen_by_the_seed_alone(curated: CuratedSet) -> None:
    first, again, other = (read_frames(curated, "train", 7, seed).to_pylist() for seed in (0, 0, 1))
    assert first == again
    assert len(first) == 7
    assert [row["object_id"] for row in first] != [row["object_id"] for row in other]
    assert {(row["object_id"] >= "g10") == (row["label"] == 1) for row in first} == {True}
    assert len(read_frames(curated, "train", 100, 0)) == 18
