"""Tests of folders of pictures: folder names give splits and classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raydistill.datasets.folder import ImageFolder
from raydistill.errors import CatalogError
from raydistill.galaxies.images import RejectedImage


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


BAD: list[tuple[list[str], dict[str, Any], str]] = [
    ([], {}, "there are no pictures in it; put pictures into root/CLASS, or into root/train/CLASS and root/test/CLASS"),
    (["cat/0.png", "1.png"], {}, "'1.png' is not in the folder of a class; move it into root/CLASS"),
    (["train/cat/0.png", "test/1.png"], {}, "'test/1.png' is not in the folder of a class; move it into root/train/CLASS"),
    (["train/cat/0.png", "more/cat/1.png"], {}, "unknown split 'more'; set survey.splits.more to train, validation"),
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
