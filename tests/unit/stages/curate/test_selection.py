"""Classes and splits that curate selects before it reads a pixel."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.config import CatalogSurvey, Exclusion
from raydistill.datasets.base import DataSet
from raydistill.datasets.folder import ImageFolder
from raydistill.datasets.table import ImageTable
from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.galaxies.selection import SPLITS, assign_splits
from raydistill.galaxies.trees import GZ_DECALS
from raydistill.stages.curate.select.selection import Selection, select_galaxies
from tests.unit.stages.survey_tools import SPLIT, catalog, count, recipe, write_picture


def folder(root: Path, counts: dict[str, int]) -> ImageFolder:
    """Write this number of pictures into each folder."""
    for name, total in counts.items():
        for n in range(total):
            write_picture(root / name / f"{n}.png")
    return ImageFolder(root=str(root))


# ---- numbers as labels ----


def test_names_of_numbers_need_a_mapping(tmp_path: Path) -> None:
    survey = catalog(tmp_path, {f"{n:02d}": str(n % 4) for n in range(80)})  # 0: none
    with pytest.raises(ConfigError) as caught:
        select_galaxies(recipe(classes=["elliptical", "s0", "spiral"]), survey)
    assert str(caught.value) == (
        "curate.classes: the labels are numbers (0, 1, 2, 3), and the classes are names; give each class its numbers, "
        "for example curate.classes={elliptical: 1, s0: 2, spiral: 3}"
    )
    selection = select_galaxies(recipe(classes={"elliptical": 1, "s0": 2, "spiral": 3}), survey)
    label = dict(zip(selection.galaxies["object_id"].to_pylist(), selection.galaxies["label"].to_pylist(), strict=True))
    assert label == {f"{n:02d}": n % 4 - 1 for n in range(80) if n % 4}


def test_data_set_of_numbers_needs_a_mapping(tmp_path: Path) -> None:
    table = pa.table({"image": [b"png"] * 80, "label": [n % 4 for n in range(80)]})
    pq.write_table(table, tmp_path / "x.parquet")
    survey = ImageTable(root=str(tmp_path / "x.parquet"))
    with pytest.raises(
        ConfigError, match=r"no class 'elliptical'; its labels are numbers: give curate.classes=\{elliptical: 1, s0: 2"
    ):
        select_galaxies(recipe(classes=["elliptical", "s0", "spiral"]), survey)
    selection = select_galaxies(recipe(classes={"early": [1, 2], "late": 3}), survey)
    assert {name: sum(counts) for name, counts in count(selection).items()} == {"early": 40, "late": 20}


def test_mapping_renames_the_folders_of_a_data_set(tmp_path: Path) -> None:
    survey = folder(tmp_path, {"E": 20, "S0": 20, "Sa": 20})
    selection = select_galaxies(recipe(classes={"early": ["E", "S0"], "late": "Sa"}), survey)
    assert {name: sum(counts) for name, counts in count(selection).items()} == {"early": 40, "late": 20}
    with pytest.raises(ConfigError, match=r"curate.classes: the data set has no class 'SO' for 'early'; did you mean"):
        select_galaxies(recipe(classes={"early": ["E", "SO"], "late": "Sa"}), survey)


# ---- classes that cannot be trained ----


def test_class_in_the_test_split_only_is_rejected(tmp_path: Path) -> None:
    survey = folder(tmp_path, {"train/a": 9, "train/b": 9, "test/a": 5, "test/b": 5, "test/c": 5})
    with pytest.raises(CatalogError) as caught:
        select_galaxies(recipe(), survey)
    assert str(caught.value) == (
        "curate: no training galaxy in: c (5 test); add galaxies of it to the training split, "
        "or leave it out of curate.classes"
    )
    assert count(select_galaxies(recipe(classes=["a", "b"]), survey)).keys() == {"a", "b"}


def in_folders(root: Path, split: str) -> ImageFolder:
    return folder(root, {"train/a": 9, "train/b": 9, f"{split}/a": 3, f"{split}/b": 3, f"{split}/c": 3})


def in_parquet(root: Path, split: str) -> DataSet:
    return labelled_table(root, {"train": [0, 1] * 9, split: [0, 1, 2] * 3}, class_names=("a", "b", "c"))


def in_catalog(root: Path, split: str) -> CatalogSurvey:
    survey = catalog(root, {str(n): "" for n in range(27)})
    rows = [f"{n},{'ab'[n % 2]},train" for n in range(18)] + [f"{n},{'abc'[n % 3]},{split}" for n in range(18, 27)]
    (root / "table.csv").write_text("\n".join(["id,class,split", *rows, ""]))
    return CatalogSurvey(catalog=survey.catalog, images=survey.images, columns={"split": "split"})


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("write", [in_folders, in_parquet, in_catalog])
def test_class_outside_the_training_split_is_rejected(tmp_path: Path, write: Any, split: str) -> None:
    with pytest.raises(CatalogError) as caught:
        select_galaxies(recipe(classes=["a", "b", "c"]), write(tmp_path, split))
    assert str(caught.value) == (
        f"curate: no training galaxy in: c (3 {split}); add galaxies of it to the training split, "
        "or leave it out of curate.classes"
    )


@pytest.mark.parametrize("count_of_rare", [1, 2])
def test_class_of_one_or_two_galaxies_is_trained(tmp_path: Path, count_of_rare: int) -> None:
    rare = [i for i in map(str, range(99)) if assign_splits([i], SPLIT)[0] == "validation"][:count_of_rare]
    survey = catalog(tmp_path, {f"g{n}": "ab"[n % 2] for n in range(80)} | dict.fromkeys(rare, "rare"))
    counted = count(select_galaxies(recipe(classes=["a", "b", "rare"]), survey))
    assert counted["rare"] == [1, 0, count_of_rare - 1]


@pytest.mark.parametrize("layout", [{"spiral": 12}, {"train/spiral": 9, "test/spiral": 9}])
def test_single_class_of_a_data_set_is_rejected(tmp_path: Path, layout: dict[str, int]) -> None:
    with pytest.raises(CatalogError, match=r"there is one class only, 'spiral', and a network learns to tell"):
        select_galaxies(recipe(), folder(tmp_path, layout))


@pytest.mark.parametrize("classes", [["spiral"], {"spiral": "Sa"}])
def test_single_class_of_a_catalog_is_rejected(tmp_path: Path, classes: Any) -> None:
    survey = catalog(tmp_path, {str(n): "Sa" if n % 2 else "E" for n in range(20)})
    with pytest.raises(CatalogError, match=r"curate.classes: there is one class only, 'spiral'"):
        select_galaxies(recipe(classes=classes), survey)


def test_class_without_pictures_is_rejected_before_pixels_are_read(tmp_path: Path) -> None:
    survey = catalog(tmp_path, {str(n): "ab"[n % 2] for n in range(40)})
    for n in range(1, 40, 2):
        (tmp_path / "images" / f"{n}.png").unlink()
    with pytest.raises(
        CatalogError, match=r"no training galaxy in: b \(none of its 20 galaxies has a picture\); check "
    ):
        select_galaxies(recipe(classes=["a", "b"]), survey)


# ---- a column of paths ----


def with_paths(root: Path, table: str, paths: list[str], **images: Any) -> CatalogSurvey:
    """Write a table, and pictures at these paths."""
    for path in paths:
        write_picture(root / "images" / path)
    (root / "t.csv").write_text(table)
    return CatalogSurvey(catalog=str(root / "t.csv"), images=FolderImages(root=str(root / "images"), **images))


def paths_table(count: int, column: str = "file_loc") -> str:
    rows = [f"{n},/nas/images/J{n % 3}/{n:03d}.png,{'ab'[n % 2]}\n" for n in range(count)]
    return f"id,{column},class\n" + "".join(rows)


def test_paths_of_the_table_give_the_pictures_and_the_rejections(tmp_path: Path) -> None:
    there = [f"J{n % 3}/{n:03d}.png" for n in range(60) if n != 7]
    table = paths_table(60) + "60,,a\n61,null,b\n"
    selection = select_galaxies(recipe(classes=["a", "b"]), with_paths(tmp_path, table, there, path_column="FILE_LOC"))
    paths = dict(zip(*(selection.galaxies[name].to_pylist() for name in ("object_id", "path")), strict=True))
    assert paths == {str(n): f"J{n % 3}/{n:03d}.png" for n in range(60) if n != 7}
    assert [(row["object_id"], row["source"], row["reason"], row["detail"]) for row in selection.missing] == [
        ("7", "/nas/images/J1/007.png", "missing", "no such file"),
        ("60", "", "missing", "the table has no path"),
        ("61", "", "missing", "the table has no path"),
    ]


def test_paths_are_ids_in_a_table_without_ids(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = "file_name,class\n" + "".join(f"d/{n}.png,{'ab'[n % 2]}\n" for n in range(40))
    with caplog.at_level(logging.INFO, "raydistill"):
        survey = with_paths(tmp_path, table, [f"d/{n}.png" for n in range(40)], path_column="file_name")
        selection = select_galaxies(recipe(classes=["a", "b"]), survey)
    assert selection.galaxies["object_id"].to_pylist() == selection.galaxies["path"].to_pylist()
    assert "curate: ids are the paths in column 'file_name'\n" in caplog.text


def test_struct_of_hugging_face_gives_paths(tmp_path: Path) -> None:
    image = [{"bytes": None, "path": f"d/{n}.png"} for n in range(40)]
    survey = with_paths(tmp_path, "", [f"d/{n}.png" for n in range(40)], path_column="image")
    pq.write_table(
        pa.table({"id": range(40), "image": image, "label": ["ab"[n % 2] for n in range(40)]}), tmp_path / "t.parquet"
    )
    survey = CatalogSurvey(catalog=str(tmp_path / "t.parquet"), images=survey.images)
    assert len(select_galaxies(recipe(classes=["a", "b"]), survey).galaxies) == 40


def test_column_of_paths_is_suggested_where_pictures_are_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    survey = with_paths(tmp_path, paths_table(400, "cutout"), ["J0/000.png"])
    with pytest.raises(CatalogError, match=r"folders and no files; .* or give survey.images.path_column"):
        select_galaxies(recipe(classes=["a", "b"]), survey)
    write_picture(tmp_path / "images" / "other.jpg")
    hint = "column 'cutout' holds paths: set survey.images.path_column=cutout"
    with pytest.raises(CatalogError, match=rf"galaxy 0 would be .*/images/0.jpg; {hint}"):
        select_galaxies(recipe(classes=["a", "b"]), survey)
    for n in range(19):
        write_picture(tmp_path / "images" / f"{n}.jpg")
    with caplog.at_level(logging.WARNING, "raydistill"):
        select_galaxies(recipe(classes=["a", "b"]), survey)
    assert f"curate: 19 of 400 galaxies have a picture; {hint}\n" in caplog.text


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("id,class\n1,a\n2,b\n", "has no column 'file_loc'; correct survey.images.path_column; known are: id, class"),
        ("id,file_loc,class\n1,,a\n2,,b\n", "by column 'file_loc', galaxy 1 has no path"),
        ("id,file_loc,class\n1,x/1.jpg,a\n2,,b\n", r"by column 'file_loc', galaxy 1 would be \S+/images/x/1.jpg"),
    ],
)
def test_columns_without_usable_paths_give_one_sentence(tmp_path: Path, table: str, sentence: str) -> None:
    survey = with_paths(tmp_path, table, ["0.png"], path_column="file_loc")
    with pytest.raises(CatalogError, match=sentence):
        select_galaxies(recipe(classes=["a", "b"]), survey)


@pytest.mark.parametrize("names", [("Spiral", "spiral"), ("late type", "Late Type")])
def test_classes_with_nearly_the_same_name_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, str]
) -> None:
    first, second = sorted(names)
    survey = folder(tmp_path, {first: 9, second: 9, "other": 9})
    assert len(count(select_galaxies(recipe(), survey))) == 3
    assert f"the classes '{first}', '{second}' have nearly the same name; curate.classes={{{first}: ['" in caplog.text
    caplog.clear()
    merged = count(select_galaxies(recipe(classes={first: [first, second], "other": "other"}), survey))
    assert {name: sum(counts) for name, counts in merged.items()} == {first: 18, "other": 9}
    assert "nearly the same name" not in caplog.text


@pytest.mark.parametrize(
    "classes", ["all", ["sp\u00e4t", "other"], {"spa\u0308t": ["sp\u00e4t", "spa\u0308t"], "other": "other"}]
)
def test_class_folders_in_two_forms_of_an_accent_are_one_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, classes: Any
) -> None:
    survey = folder(tmp_path, {"sp\u00e4t": 9, "spa\u0308t": 9, "other": 9})
    assert {name: sum(counts) for name, counts in count(select_galaxies(recipe(classes=classes), survey)).items()} == {
        "sp\u00e4t": 18,
        "other": 9,
    }
    assert "labels: 9 values have decomposed accents" in caplog.text


def test_other_classes_of_a_data_set_are_listed_with_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    survey = folder(tmp_path, {"a": 9, "A": 7, "b": 9, "c": 5})
    with caplog.at_level(logging.INFO, "raydistill"):
        select_galaxies(recipe(classes=["a", "b"]), survey)
    assert "pictures of other classes are left out: A (7), c (5)" in caplog.text
    assert "left out: 'A' (7) like 'a'; curate.classes={a: [a, A], …} joins them" in caplog.text


@pytest.mark.parametrize("form", ["barre\u0301", "barr\xe9\u200b", "\ufeffbarr\xe9", "bar\xadr\xe9"])
def test_forms_of_one_label_are_joined_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    survey = catalog(tmp_path, {f"g{n}": ("rond", "barr\xe9", form)[n % 3] for n in range(60)})
    for classes in (["rond", "barr\xe9"], ["rond", form], {"rond": "rond", form: ["barr\xe9", form]}):
        caplog.clear()
        counts = count(select_galaxies(recipe(classes=classes), survey))
        assert {name: sum(sizes) for name, sizes in counts.items()} == {"rond": 20, "barr\xe9": 40}
        assert "column 'class': 20 values have decomposed accents, unusual blanks" in caplog.text


def test_labels_that_are_the_text_of_bytes_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    survey = catalog(tmp_path, {f"g{n}": ("b'rond'", "b'sa'")[n % 2] for n in range(60)})
    assert len(select_galaxies(recipe(classes=["rond", "sa"]), survey).galaxies) == 60
    assert "60 values are the text of bytes; 'b'rond'' is read as 'rond'" in caplog.text


def test_left_out_labels_are_shown_with_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["round", "spiral", "Round", "spi ral", "merger", "merger"]
    with caplog.at_level(logging.INFO, "raydistill"):
        select_galaxies(
            recipe(classes=["round", "spiral"]), catalog(tmp_path, {f"g{n}": words[n % 6] for n in range(60)})
        )
    assert "(not: 40 other_label: merger (20), Round (10), spi ral (10))" in caplog.text
    assert "left out: 'Round' (10) like 'round', 'spi ral' (10) like 'spiral'" in caplog.text


# ---- splits ----


def test_small_class_gets_every_split_and_the_log_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rare = [i for i in map(str, range(99)) if assign_splits([i], SPLIT)[0] == "train"][:3]
    survey = catalog(tmp_path, {f"g{n}": "ab"[n % 2] for n in range(80)} | dict.fromkeys(rare, "rare"))
    with caplog.at_level(logging.INFO, "raydistill"):
        selection = select_galaxies(recipe(classes=["a", "b", "rare"]), survey)
    assert count(selection)["rare"] == [1, 1, 1]
    what = "the hash leaves a split without a galaxy of 1 classes; they are divided by rank: rare (1 train, 1 val"
    assert what in caplog.text
    assert "too few test galaxies to evaluate a class: rare (1), a (5), b (9); with fewer than 12" in caplog.text
    others = selection.galaxies.filter(np.asarray(selection.galaxies["label"].to_numpy() < 2))
    ids = others["object_id"].to_pylist()
    assert [SPLITS[i] for i in others["split"].to_pylist()] == assign_splits(ids, SPLIT).tolist()


def test_many_small_classes_give_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "raydistill"):
        select_galaxies(recipe(classes="all"), folder(tmp_path, {f"c{n:03d}": 3 for n in range(200)}))
    lines = [message for message in caplog.messages if "by rank" in message]
    assert len(lines) == 1
    assert "more" in lines[0]
    assert max(map(len, caplog.messages)) < 600


def labelled_table(root: Path, labels: dict[str, list[int]], **options: Any) -> DataSet:
    for split, label in labels.items():
        pq.write_table(
            pa.table({"image": [b"png"] * len(label), "label": label}), root / f"{split}-00000-of-00001.parquet"
        )
    return ImageTable(root=str(root), **options)


def test_hidden_labels_of_the_test_split_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    survey = labelled_table(tmp_path, {"train": [n % 2 for n in range(60)], "test": [-1] * 20})
    with caplog.at_level(logging.INFO, "raydistill"):
        selection = select_galaxies(recipe(), survey)
    assert "official splits: train\n" in caplog.text
    assert "no picture of the official test split has a label; the test split is taken from the training" in caplog.text
    assert all(sum(counts) == 30 and min(counts) > 0 for counts in count(selection).values())


def test_partly_hidden_and_constant_labels_of_a_split_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    survey = labelled_table(
        tmp_path, {"train": [n % 2 for n in range(60)], "validation": [0, 1, -1, 1], "test": [0] * 20}
    )
    with caplog.at_level(logging.INFO, "raydistill"):
        select_galaxies(recipe(), survey)
    assert "official splits: train, validation, test\n" in caplog.text
    assert "1 of 4 pictures of the validation split have no label and are left out" in caplog.text
    assert "all 20 pictures of the test split have the same label; check that it is not a placeholder" in caplog.text


# ---- sets without classes ----


def test_unlabelled_set_holds_every_galaxy_of_a_table_of_ids(tmp_path: Path) -> None:
    survey = catalog(tmp_path, {f"{n:02d}": "" for n in range(20)})
    (tmp_path / "ids.csv").write_text("GalaxyID\n" + "\n".join(f"{n:02d}" for n in range(20)))
    selection = select_galaxies(recipe(classes="unlabelled"), replace(survey, catalog=str(tmp_path / "ids.csv")))
    assert {name: sum(counts) for name, counts in count(selection).items()} == {"unlabelled": 20}
    assert set(selection.galaxies["confidence"].to_pylist()) == {1.0}


def test_unlabelled_set_ignores_labels(tmp_path: Path) -> None:
    labels = {"00": "spiral", "01": "", "02": "7"}
    selection = select_galaxies(recipe(classes="unlabelled"), catalog(tmp_path, labels))
    assert sorted(selection.galaxies["object_id"].to_pylist()) == sorted(labels)
    data_set = folder(tmp_path / "folders", {"a": 9, "b": 9})
    assert {n: sum(counts) for n, counts in count(select_galaxies(recipe(classes="unlabelled"), data_set)).items()} == {
        "unlabelled": 18
    }


def test_unlabelled_set_keeps_votes_and_their_tree(tmp_path: Path) -> None:
    survey = catalog(tmp_path, {f"{n:02d}": "" for n in range(20)})
    questions = {task.key: [answer.column for answer in task.answers] for task in GZ_DECALS.tasks}
    columns = {f"{name}_fraction": 1 / len(question) for question in questions.values() for name in question}
    rows = [",".join([f"{n:02d}", *map(str, columns.values())]) for n in range(20)]
    (tmp_path / "votes.csv").write_text("\n".join([f"id_str,{','.join(columns)}", *rows]))
    decals = replace(survey, catalog=str(tmp_path / "votes.csv"), dialect="gz-decals-5")
    selection = select_galaxies(recipe(classes="unlabelled"), decals)
    assert selection.tree.tree == GZ_DECALS
    assert "votes" in selection.galaxies.column_names


# ---- galaxies that are left out ----

LETTERS = {f"{n:02d}": "ab"[n % 2] for n in range(60)}


def excluding(tmp_path: Path, survey: CatalogSurvey | None = None, truth: str | None = None, **keys: Any) -> Selection:
    excluding = recipe(classes=["a", "b"], exclude=Exclusion(**keys))
    return select_galaxies(excluding, survey or catalog(tmp_path, LETTERS), truth)


def kept(selection: Selection) -> set[str]:
    return set(selection.galaxies["object_id"].to_pylist())


def test_galaxies_that_fulfil_a_condition_on_the_own_table_are_left_out(tmp_path: Path) -> None:
    selection = excluding(tmp_path, where="id < '10'")
    assert kept(selection) == {name for name in LETTERS if int(name) >= 10}
    assert selection.unassigned["excluded"] == 10
    whole = select_galaxies(recipe(classes=["a", "b"]), catalog(tmp_path, LETTERS))
    assert "excluded" not in whole.unassigned


def test_own_table_is_read_by_the_same_ids(tmp_path: Path) -> None:
    survey = catalog(tmp_path, LETTERS)
    rows = "".join(f"{59 - n:02d},{n:02d},{label},{n}\n" for n, label in enumerate(LETTERS.values()))
    Path(survey.catalog).write_text(f"number,GalaxyID,label,z\n{rows}")
    without = {key: value for key, value in survey.columns.items() if key != "id"}
    selection = excluding(tmp_path, replace(survey, columns=without), where="z < 10")
    assert kept(selection) == {name for name in LETTERS if int(name) >= 10}


def test_condition_may_be_on_another_table_and_unknown_numbers_fulfil_none(tmp_path: Path) -> None:
    survey = catalog(tmp_path, LETTERS)
    rows = "".join(f"x{n},{n:02d},{'' if n == 3 else n / 10}\n" for n in range(0, 60, 3))
    (tmp_path / "other.csv").write_text(f"name,galaxy,lane\n{rows}")
    table = str(tmp_path / "other.csv")
    expected = set(LETTERS) - {"00", "06", "09"}
    assert kept(excluding(tmp_path, survey, where="lane < 1", table=table, id="galaxy")) == expected
    with pytest.raises(CatalogError, match=r"none of its 20 ids is of the survey; check curate\.exclude\.id"):
        excluding(tmp_path, survey, where="lane < 1", table=table)


def test_truth_of_a_simulated_survey_is_the_default_table(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("objid,lane\n" + "".join(f"{n:02d},{n % 3}\n" for n in range(60)))
    selection = excluding(tmp_path, truth=str(tmp_path / "truth.csv"), where="lane > 0")
    assert kept(selection) == {name for name in LETTERS if int(name) % 3 == 0}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("id < '00'", "curate.exclude.where: no galaxy of the survey fulfils it; correct the condition"),
        ("clas == 'a'", "has no column 'clas'; did you mean 'class'?"),
        ("id <", "'id <' cannot be computed from the table"),
    ],
)
def test_condition_that_leaves_nothing_out_is_rejected(tmp_path: Path, condition: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        excluding(tmp_path, where=condition)
    assert message in str(caught.value)
