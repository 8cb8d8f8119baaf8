"""Official splits that a column of the table names."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.config import CatalogSurvey, plain
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.galaxies.selection import SPLITS, assign_splits
from raydistill.galaxies.trees import GZ2
from raydistill.stages.curate.config import TrainingPart
from raydistill.stages.curate.select.selection import Selection, select_galaxies
from tests.unit.stages.survey_tools import SPLIT, catalog, count, recipe


def with_splits(root: Path, splits: list[str], column: str = "set") -> CatalogSurvey:
    """Write a table of galaxies "0", "1", … of the classes a and b with these splits."""
    survey = catalog(root, {str(n): "ab"[n % 2] for n in range(len(splits))})
    rows = [f"{n},{'ab'[n % 2]},{split}\n" for n, split in enumerate(splits)]
    (root / "table.csv").write_text(f"id,class,{column}\n" + "".join(rows))
    return replace(survey, columns={"split": column})


def split_by_id(selection: Selection) -> dict[str, str]:
    ids, splits = (selection.galaxies[name].to_pylist() for name in ("object_id", "split"))
    return {i: SPLITS[split] for i, split in zip(ids, splits, strict=True)}


@pytest.mark.parametrize(
    "names",
    [
        ("train", "validation", "test"),
        ("Training", "VAL", "Testing"),
        (" train ", "valid", "TEST"),
        ("train", "dev", "eval"),
        ("gz2_train", "gz2_val", "gz2_test"),
        ("training_set", "validation_set", "test_set"),
    ],
)
def test_column_of_names_gives_the_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture, names: Any) -> None:
    order = [0, 0, 0, 0, 1, 1, 2, 2] * 8
    with caplog.at_level(logging.INFO, "raydistill"):
        selection = select_galaxies(recipe(classes=["a", "b"]), with_splits(tmp_path, [names[k] for k in order]))
    assert split_by_id(selection) == {str(n): SPLITS[k] for n, k in enumerate(order)}
    assert "curate: official splits of column 'set': 32 train, 16 validation, 16 test\n" in caplog.text
    assert "hash" not in caplog.text


def test_limits_per_class_apply_to_the_training_split_of_a_column(tmp_path: Path) -> None:
    survey = with_splits(tmp_path, ["train"] * 40 + ["val"] * 20 + ["test"] * 20)
    assert count(select_galaxies(recipe(classes=["a", "b"], per_class=6), survey)) == {
        "a": [6, 10, 10],
        "b": [6, 10, 10],
    }
    survey = with_splits(tmp_path, ["train"] * 10 + ["train", "test"] * 20 + ["val"] * 30)
    balanced = count(select_galaxies(recipe(classes=["a", "b"], balance=True), survey))
    assert balanced == {"a": [5, 15, 0], "b": [5, 15, 20]}


@pytest.mark.parametrize(("present", "absent"), [("test", "validation"), ("val", "test")])
def test_split_that_a_column_lacks_is_taken_from_its_training_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, present: str, absent: str
) -> None:
    with caplog.at_level(logging.INFO, "raydistill"):
        selection = select_galaxies(recipe(classes=["a", "b"]), with_splits(tmp_path, ["train"] * 100 + [present] * 20))
    known = {"val": "validation"}.get(present, present)
    assert f"curate: official splits of column 'set': 100 train, 20 {known}\n" in caplog.text
    assert f"no galaxy has the official split {absent}; the hash of the ids takes it from the training" in caplog.text
    splits = split_by_id(selection)
    assert {splits[str(n)] for n in range(100, 120)} == {known}
    ids = [str(n) for n in range(100)]
    fractions = (0.75, 0.25, 0.0) if absent == "validation" else (0.75, 0.0, 0.25)
    assert [splits[i] for i in ids] == assign_splits(ids, fractions).tolist()


def test_only_test_galaxies_may_be_marked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    marks = ["test"] * 20 + ["", "nan", "--", "None"] * 25
    with caplog.at_level(logging.INFO, "raydistill"):
        splits = split_by_id(select_galaxies(recipe(classes=["a", "b"]), with_splits(tmp_path, marks)))
    assert [splits[str(n)] for n in range(20)] == ["test"] * 20
    assert {splits[str(n)] for n in range(20, 120)} == {"train", "validation"}
    assert "100 galaxies have no split in column 'set'; they are divided as those of the training split" in caplog.text


@pytest.mark.parametrize(
    ("marks", "sentence"),
    [
        (["0", "1", "2"], "table.csv: column 'set' has values that name no split: 0, 1, 2; write train, validation"),
        (["train", "test", "fold1"], "column 'set' has values that name no split: fold1; write train"),
        (["True", "False"], "column 'set' has values that name no split: False, True"),
        ([str(n) for n in range(9)], r"name no split: 0, 1, 2, 3, 4, 5 and 3 more; write"),
        (["val", "test"], "table.csv: column 'set' leaves no training galaxy; name some of them train"),
    ],
)
def test_values_that_name_no_split_give_one_sentence(tmp_path: Path, marks: list[str], sentence: str) -> None:
    survey = with_splits(tmp_path, [marks[n % len(marks)] for n in range(60)])
    with pytest.raises(CatalogError, match=sentence):
        select_galaxies(recipe(classes=["a", "b"]), survey)


def test_column_that_is_absent_gives_one_sentence(tmp_path: Path) -> None:
    survey = replace(with_splits(tmp_path, ["train"] * 40), columns={"split": "sett"})
    with pytest.raises(CatalogError, match=r"no column 'sett'; correct survey.columns.split; did you mean 'set'"):
        select_galaxies(recipe(classes=["a", "b"]), survey)


def test_empty_official_splits_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    survey = with_splits(tmp_path, ["train"] * 60 + ["test"] * 20)
    for n in range(60, 80):
        (tmp_path / "images" / f"{n}.png").unlink()
    with caplog.at_level(logging.INFO, "raydistill"):
        splits = split_by_id(select_galaxies(recipe(classes=["a", "b"]), survey))
    assert "none of the 20 galaxies of the official test split is selected (20 have a class)" in caplog.text
    assert "no galaxy has the official split validation or test; the hash of the ids takes it" in caplog.text
    assert splits == dict(zip(map(str, range(60)), assign_splits(map(str, range(60)), SPLIT).tolist(), strict=True))


def test_class_without_a_training_galaxy_in_a_column_is_rejected(tmp_path: Path) -> None:
    survey = with_splits(tmp_path, ["train", "test"] * 30)
    with pytest.raises(CatalogError, match=r"no training galaxy in: b \(30 test\)"):
        select_galaxies(recipe(classes=["a", "b"]), survey)


@pytest.mark.parametrize("column", ["split", "Split"])
def test_column_that_is_called_split_is_not_used_by_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    survey = replace(with_splits(tmp_path, ["train"] * 80, column), columns={})
    with caplog.at_level(logging.INFO, "raydistill"):
        splits = split_by_id(select_galaxies(recipe(classes=["a", "b"]), survey))
    assert splits == dict(zip(map(str, range(80)), assign_splits(map(str, range(80)), SPLIT).tolist(), strict=True))
    assert f"column '{column}' is not used; survey.columns.split={column} takes official splits from it" in caplog.text


def test_table_of_votes_has_official_splits(tmp_path: Path) -> None:
    survey = with_splits(tmp_path, ["train"] * 60 + ["test"] * 20)
    answers = GZ2.answers
    rows = [
        ",".join([str(n), "test" if n >= 60 else "train", *("1" if a == answers[n % 2] else "0" for a in answers)])
        for n in range(80)
    ]
    (tmp_path / "table.csv").write_text(
        ",".join(["dr7objid", "SET", *(f"{answer}_weighted_fraction" for answer in answers)]) + "\n" + "\n".join(rows)
    )
    (tmp_path / "two.yaml").write_text(
        "name: two\nclasses: [{name: round, path: [smooth]}, {name: disk, path: [features_or_disk]}]\n"
    )
    selection = select_galaxies(recipe(classes=str(tmp_path / "two.yaml")), survey)
    assert {n for n, split in split_by_id(selection).items() if split == "test"} == {str(n) for n in range(60, 80)}


def test_splits_in_a_dictionary_of_parquet(tmp_path: Path) -> None:
    survey = with_splits(tmp_path, ["train"] * 60)
    splits = pa.array(["Train", "Test", None] * 20).dictionary_encode()
    table = pa.table({"id": range(60), "class": ["ab"[n // 3 % 2] for n in range(60)], "set": splits})
    pq.write_table(table, tmp_path / "t.parquet")
    selection = select_galaxies(recipe(classes=["a", "b"]), replace(survey, catalog=str(tmp_path / "t.parquet")))
    assert {n for n, split in split_by_id(selection).items() if split == "test"} == {str(n) for n in range(1, 60, 3)}
    pq.write_table(table.set_column(2, "set", pa.array([["train"]] * 60)), tmp_path / "t.parquet")
    with pytest.raises(CatalogError, match=r"'set' has the type list<\w+: string>, which is not text; name another"):
        select_galaxies(recipe(classes=["a", "b"]), replace(survey, catalog=str(tmp_path / "t.parquet")))


def test_columns_of_splits_and_paths_are_part_of_the_identity() -> None:
    survey = CatalogSurvey(catalog="t.csv", images=FolderImages(root="images"))
    with_paths = replace(survey, images=FolderImages(root="images", path_column="file_loc"))
    parts = [plain(config) for config in (survey, with_paths, replace(survey, columns={"split": "set"}))]
    assert parts[0]["images"]["path_column"] is None
    assert parts[1]["images"]["path_column"] == "file_loc"
    assert parts[2]["columns"] == {"split": "set"}


def members(selection: Selection, split: str) -> dict[str, int]:
    """Return the label of each galaxy of a split."""
    rows = selection.galaxies.to_pylist()
    return {row["object_id"]: row["label"] for row in rows if SPLITS[row["split"]] == split}


def test_parts_are_disjoint_and_have_a_share_of_each_class(tmp_path: Path) -> None:
    survey = catalog(tmp_path, {str(n): "ab"[n % 5 == 0] for n in range(120)})
    whole = select_galaxies(recipe(classes=["a", "b"]), survey)
    parts = [select_galaxies(recipe(classes=["a", "b"], part=TrainingPart(n, 3)), survey) for n in range(3)]
    assert sum(len(members(part, "train")) for part in parts) == len(members(whole, "train"))
    assert {k: v for part in parts for k, v in members(part, "train").items()} == members(whole, "train")
    counts = [count(part) for part in parts]
    for name in "ab":
        sizes = [of[name][0] for of in counts]
        assert max(sizes) - min(sizes) <= 1
    for split in ("validation", "test"):
        assert all(members(part, split) == members(whole, split) for part in parts)


def test_permuted_part_has_the_same_galaxies_and_counts_with_other_labels(tmp_path: Path) -> None:
    survey = catalog(tmp_path, {str(n): "ab"[n % 2] for n in range(120)})
    true, permuted = (
        select_galaxies(recipe(classes=["a", "b"], part=TrainingPart(1, 2, permute)), survey)
        for permute in (False, True)
    )
    before, after = members(true, "train"), members(permuted, "train")
    assert before.keys() == after.keys()
    assert sorted(before.values()) == sorted(after.values())
    changed = sum(before[key] != after[key] for key in before) / len(before)
    assert 0.25 < changed < 0.75
    assert members(true, "test") == members(permuted, "test")


def test_more_parts_than_galaxies_of_a_class_are_rejected(tmp_path: Path) -> None:
    survey = catalog(tmp_path, {str(n): "ab"[n % 20 == 0] for n in range(100)})
    with pytest.raises(CatalogError, match=r"b has \d training galaxies, fewer than curate.part.parts=9"):
        select_galaxies(recipe(classes=["a", "b"], part=TrainingPart(0, 9)), survey)


def test_another_split_seed_divides_in_another_way(tmp_path: Path) -> None:
    survey = catalog(tmp_path, {str(n): "ab"[n % 2] for n in range(200)})
    first, second = (
        members(select_galaxies(recipe(classes=["a", "b"], split_seed=seed), survey), "test") for seed in (0, 1)
    )
    assert len(first.keys() & second.keys()) < 0.6 * len(first)
    expected = assign_splits([f"1:{n}" for n in range(200)], SPLIT)
    assert second.keys() == {str(n) for n in range(200) if expected[n] == "test"}
