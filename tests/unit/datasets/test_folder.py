"""Tests of folders of pictures: folder names give splits and classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.datasets.folder import ImageFolder
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.images import RejectedImage


def fill(root: Path, names: list[str], pictures: np.ndarray) -> None:
    for name, pixels in zip(names, pictures, strict=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)


SPLIT = [f"{part}/{label}/{n}.png" for part in ("test", "train") for label in ("cat", "dog") for n in range(3)]


def test_folders_give_splits_labels_and_pixels(tmp_path: Path, pictures: np.ndarray) -> None:
    fill(tmp_path, SPLIT, pictures)
    (tmp_path / "README.txt").write_text("not a picture")
    (tmp_path / "train" / ".hidden.png").write_text("not one either")
    data = ImageFolder(root=str(tmp_path))
    names, rows = data.index()
    assert names == ["cat", "dog"]
    assert rows["object_id"].to_pylist() == rows["path"].to_pylist() == SPLIT
    assert rows["part"].to_pylist() == ["test"] * 6 + ["train"] * 6
    assert rows["label"].to_pylist() == ["cat"] * 3 + ["dog"] * 3 + ["cat"] * 3 + ["dog"] * 3
    read = [data.decode(f"{tmp_path}/{path}") for path in rows["path"].to_pylist()]
    np.testing.assert_array_equal(read, pictures[:12])


def test_folders_of_classes_alone_have_no_official_split(tmp_path: Path, pictures: np.ndarray) -> None:
    fill(tmp_path, ["10/a.png", "9/deeper/b.png", "9/c.png"], pictures)
    names, rows = ImageFolder(root=str(tmp_path)).index()
    assert names == ["9", "10"], "numerals sort by value"
    assert rows["part"].to_pylist() == [None] * 3
    assert rows["label"].to_pylist() == ["10", "9", "9"]


def test_splits_option_renames_and_excludes_splits(tmp_path: Path, pictures: np.ndarray) -> None:
    fill(tmp_path, ["Train/cat/0.png", "Val/cat/1.png", "unlabelled/images/2.png"], pictures)
    names, rows = ImageFolder(root=str(tmp_path), splits={"unlabelled": None, "Val": "test"}).index()
    assert names == ["cat"], "an excluded split adds no class"
    assert rows["part"].to_pylist() == ["train", "test"]


def layout_of(root: Path, names: list[str], pictures: np.ndarray, **options: Any) -> dict[str, tuple[str, str]]:
    """Return the split and the label of each path."""
    fill(root, names, pictures)
    _, rows = ImageFolder(root=str(root), **options).index()
    columns = rows.select(["path", "part", "label"]).to_pydict()
    return {path: (part, label) for path, part, label in zip(*columns.values(), strict=True)}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("train_images", "test_images"),
        ("TrainSet", "TestSet"),
        ("Training Data", "Test Data"),
        ("trainset", "testset"),
        ("imagesTr", "imagesTs"),
        ("trn", "tst"),
        ("training_data", "holdout"),
        ("train2017", "test2017"),
        ("seg_train", "seg_test"),
        ("gz2-train", "gz2-test"),
        ("TRAIN", "TEST"),
        ("train.images", "eval.images"),
        ("train_part", "evaluation"),
        ("train", "test_set"),
    ],
)
def test_splits_have_many_spellings(
    tmp_path: Path, pictures: np.ndarray, caplog: pytest.LogCaptureFixture, train: str, test: str
) -> None:
    names = [f"{part}/{label}/{n}.png" for part in (train, test) for label in ("cat", "dog") for n in range(3)]
    with caplog.at_level("INFO", "raydistill"):
        result = layout_of(tmp_path, names, pictures)
    assert result == {name: ("train" if name.startswith(f"{train}/") else "test", name.split("/")[1]) for name in names}
    assert (f"{test} = test" in caplog.text) == (test != "TEST"), "a guess is logged"


@pytest.mark.parametrize("wrapper", ["dataset/", "a/b/c/", "my train/", "images/"])
def test_folder_around_the_data_set_is_skipped(
    tmp_path: Path, pictures: np.ndarray, caplog: pytest.LogCaptureFixture, wrapper: str
) -> None:
    with caplog.at_level("INFO", "raydistill"):
        result = layout_of(tmp_path / "splits", [wrapper + name for name in SPLIT], pictures)
    assert result == {wrapper + name: tuple(name.split("/")[:2]) for name in SPLIT}
    assert f"all pictures are below the folder '{wrapper[:-1]}'" in caplog.text
    classes = [f"{wrapper}{label}/{n}.png" for label in ("cat", "dog") for n in range(3)]
    assert layout_of(tmp_path / "classes", classes, pictures) == {
        name: (None, name.removeprefix(wrapper).split("/")[0]) for name in classes
    }


@pytest.mark.parametrize("inside", ["seg_{}", "images", "{}"])
def test_folder_around_the_classes_of_a_split_is_skipped(tmp_path: Path, pictures: np.ndarray, inside: str) -> None:
    names = [f"{part}/{inside.format(part)}/{label}/0.png" for part in ("train", "test") for label in ("cat", "dog")]
    assert layout_of(tmp_path, names, pictures) == {name: (name.split("/")[0], name.split("/")[2]) for name in names}


@pytest.mark.parametrize("parts", [("train", "test"), ("training_set", "val_set")])
def test_splits_below_the_classes_are_official(tmp_path: Path, pictures: np.ndarray, parts: tuple[str, str]) -> None:
    names = [f"{label}/{part}/{n}.png" for part in parts for label in ("cat", "dog") for n in range(2)]
    usual = {parts[0]: "train", parts[1]: "test" if parts[1] == "test" else "validation"}
    expected = {name: (usual[name.split("/")[1]], name.split("/")[0]) for name in names}
    assert layout_of(tmp_path, names, pictures) == expected


def test_classes_that_resemble_splits_are_classes(tmp_path: Path, pictures: np.ndarray) -> None:
    names = [f"{label}/{n}.png" for label in ("train_station", "test_tube", "other") for n in range(2)][:4]
    assert layout_of(tmp_path, names, pictures) == {name: (None, name.split("/")[0]) for name in names}
    (tmp_path / "one").mkdir()
    only = [f"{label}/0.png" for label in ("testset", "valset")]  # no training split among them
    assert layout_of(tmp_path / "one", only, pictures) == {name: (None, name.split("/")[0]) for name in only}


@pytest.mark.parametrize("above", ["", "wrapper/"])
@pytest.mark.parametrize(
    "labels",
    [("bus", "car", "train"), ("val", "spiral"), ("Test", "b"), ("dev", "ops"), ("train", "test", "other")],
)
def test_class_may_be_called_like_a_split(
    tmp_path: Path, pictures: np.ndarray, caplog: pytest.LogCaptureFixture, labels: tuple[str, ...], above: str
) -> None:
    names = [f"{above}{label}/{n}.png" for label in labels for n in range(2)]
    assert layout_of(tmp_path / "classes", names, pictures) == {name: (None, name.split("/")[-2]) for name in names}
    assert f"the folders {', '.join(sorted(labels))} are read as classes" in caplog.text
    split = [f"{above}{part}/{label}/0.png" for part in ("train", "test") for label in labels]
    assert layout_of(tmp_path / "splits", split, pictures) == {name: tuple(name.split("/")[-3:-1]) for name in split}
    inside = [f"{above}{label}/{part}/0.png" for label in labels for part in ("train", "val")]
    parts = {"train": "train", "val": "validation"}
    assert layout_of(tmp_path / "inside", inside, pictures) == {
        name: (parts[name.split("/")[-2]], name.split("/")[-3]) for name in inside
    }


@pytest.mark.parametrize("names", [["test/0.png", "train/1.png"], ["bus/red/0.png", "train/steam/1.png"]])
def test_folders_that_may_be_splits_are_classes_on_demand(
    tmp_path: Path, pictures: np.ndarray, names: list[str]
) -> None:
    with pytest.raises(CatalogError, match=r"; if the folders are classes, set survey\.layout=classes"):
        layout_of(tmp_path, names, pictures)
    expected = {name: (None, name.split("/")[0]) for name in names}
    assert layout_of(tmp_path, names, pictures, layout="classes") == expected


def test_same_subfolders_of_all_classes_are_logged(
    tmp_path: Path, pictures: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{part}/{label}/{n}.png" for part in ("first", "second") for label in ("cat", "dog") for n in range(2)]
    assert set(layout_of(tmp_path / "a", names, pictures).values()) == {(None, "first"), (None, "second")}
    assert (
        "the classes first, second have the same subfolders (cat, dog); if these are the classes, name" in caplog.text
    )
    caplog.clear()
    layout_of(tmp_path / "b", ["cat/x/0.png", "cat/y/1.png", "dog/x/2.png"], pictures)
    assert "subfolders" not in caplog.text


def test_flat_test_split_may_be_left_out(tmp_path: Path, pictures: np.ndarray) -> None:
    """Kaggle's competitions have pictures without labels in the folder test."""
    names = ["test/7.png", "test/8.png", "train/cat/0.png", "train/dog/1.png"]
    expected = {"train/cat/0.png": ("train", "cat"), "train/dog/1.png": ("train", "dog")}
    assert layout_of(tmp_path, names, pictures, splits={"test": None}) == expected


@pytest.mark.parametrize("inside", ["{}", "{}/{}"])
def test_flat_split_in_another_spelling_may_be_left_out(tmp_path: Path, pictures: np.ndarray, inside: str) -> None:
    """Intel's scenes on Kaggle have a split without class folders.

    The folders are seg_train/seg_train/CLASS, seg_test/seg_test/CLASS, seg_pred/seg_pred.
    """
    train, test, pred = (inside.format(name, name) for name in ("seg_train", "seg_test", "seg_pred"))
    names = [f"{part}/{label}/0.png" for part in (train, test) for label in ("cat", "dog")]
    expected = {name: ("train" if name.startswith("seg_train") else "test", name.split("/")[-2]) for name in names}
    result = layout_of(tmp_path, [*names, f"{pred}/7.png"], pictures, splits={"seg_pred": None})
    assert result == expected


@pytest.mark.parametrize("above", ["", "wrapper/"])
@pytest.mark.parametrize(
    "system", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", ".ipynb_checkpoints", "System Volume Information"]
)
def test_folders_of_the_system_are_no_classes(tmp_path: Path, pictures: np.ndarray, above: str, system: str) -> None:
    for part in ("", "train/"):
        names = [f"{above}{part}{label}/{n}.png" for label in ("cat", "dog") for n in range(2)]
        root = tmp_path / (part or "classes")
        fill(root, [f"{system}/{name}" for name in names], pictures)
        fill(root, [f"{names[0].rpartition('/')[0]}/{system}/0.png"], pictures)
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", f"{names[0].rpartition('/')[0]}/._0.png"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"?")
        expected = {name: (part.rstrip("/") or None, name.split("/")[-2]) for name in names}
        assert layout_of(root, names, pictures) == expected


@pytest.mark.parametrize(
    "label", ["E 0", "späte Spirale", "日本", "a=b", "it's", "x,y", "class.1", "100%", "[a]", "#1", "null"]
)
def test_any_name_of_a_folder_is_a_class(tmp_path: Path, pictures: np.ndarray, label: str) -> None:
    names = [f"train/{label}/0.png", "train/other/0.png", f"test/{label}/0.png"]
    assert layout_of(tmp_path, names, pictures) == {name: (name.split("/")[0], name.split("/")[1]) for name in names}


@pytest.mark.parametrize("suffix", [".heic", ".npz", ".fits", ".dng", ""])
@pytest.mark.parametrize("above", ["", "train/", "wrapper/", "wrapper/train/"])
def test_class_without_a_readable_picture_is_an_error(
    tmp_path: Path, pictures: np.ndarray, suffix: str, above: str
) -> None:
    fill(tmp_path, [f"{above}cat/0.png", f"{above}dog/0.png"], pictures)
    (tmp_path / above / "cow").mkdir()
    (tmp_path / above / "cow" / f"0{suffix}").write_bytes(b"?")
    (tmp_path / above / "dog" / "notes.xcf").write_bytes(b"?")
    (tmp_path / above / "metadata").mkdir()
    (tmp_path / above / "metadata" / "labels.csv").write_text("id,class")
    with pytest.raises(CatalogError) as caught:
        ImageFolder(root=str(tmp_path)).index()
    assert str(caught.value) == (
        f"{tmp_path}: the class folder '{above}cow' holds no picture that can be read (its files: {suffix or 'no suffix'}); "
        "convert them to PNG or JPEG, or remove the folder"
    )


def test_classes_that_look_alike_are_kept_apart(tmp_path: Path, pictures: np.ndarray) -> None:
    names = ["Spiral/0.png", "spiral/1.png", "edge on/2.png", "edge-on/3.png"]
    assert len({label for _, label in layout_of(tmp_path, names, pictures).values()}) == 4


BAD: list[tuple[list[str], dict[str, Any], str]] = [
    ([], {}, "there are no pictures in it; put pictures into root/CLASS, or into root/train/CLASS and root/test/CLASS"),
    (["cat/0.png", "1.png"], {}, "'1.png' is not in the folder of a class; move it into root/CLASS"),
    (["train/cat/0.png", "test/1.png"], {}, "'test/1.png' is not in the folder of a class; move it into root/test/CLASS, "
     "or leave the split out with survey.splits.test=null"),
    (["train/cat/0.png", "train/1.png"], {}, "'train/1.png' is not in the folder of a class; move it into root/train/CLASS, "
     "or remove it"),
    (["train/cat/0.png", "test/cat/0.png", "preview.png"], {}, "'preview.png' is not in the folder of a class; move it into "
     "root/train/CLASS, or remove it"),
    (["seg_train/cat/0.png", "seg_test/cat/0.png", "seg_pred/0.png"], {}, "'seg_pred/0.png' is not in the folder of a class; "
     "move it into root/seg_pred/CLASS, or leave the split out with survey.splits.seg_pred=null"),
    (["seg_train/cat/0.png", "seg_test/cat/0.png", "seg_pred/cat/0.png"], {}, "unknown split 'seg_pred'; set "),
    (["train/cat/0.png", "more/cat/1.png"], {}, "unknown split 'more'; set survey.splits.more to train, validation"),
    (["valid/0.png", "test/0.png", "train/1.png"], {}, "the folders test, train, valid hold no folders, so they are splits "
     "without classes, or classes; if splits, move pictures into root/train/CLASS; if the folders are classes, set "
     "survey.layout=classes"),
    (["train/cat/0.png"], {"splits": {"train": None}}, "no picture has a label; check survey.root and survey.splits"),
    (["train/c/0.png"], {"splits": {"tain": None}}, "survey.splits names 'tain', which the data set lacks; did you mean 'train'?"),
]  # fmt: skip


@pytest.mark.parametrize(("names", "options", "sentence"), BAD)
def test_wrong_folders_give_a_fix(
    tmp_path: Path, pictures: np.ndarray, names: list[str], options: dict[str, Any], sentence: str
) -> None:
    fill(tmp_path, names, pictures)
    with pytest.raises(CatalogError) as caught:
        ImageFolder(root=str(tmp_path), **options).index()
    assert str(caught.value).startswith(f"{tmp_path}: {sentence}")


def test_missing_folder_gives_a_fix() -> None:
    with pytest.raises(CatalogError, match=r"nowhere: there is no such data set; check survey\.root"):
        ImageFolder(root="nowhere").index()


def test_file_that_is_not_a_picture_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("<html>404</html>")
    with pytest.raises(RejectedImage, match="corrupt"):
        ImageFolder(root=str(tmp_path)).decode(str(tmp_path / "x.png"))
