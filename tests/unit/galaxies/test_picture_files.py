"""Test how the files of a survey's pictures are found."""

from __future__ import annotations

import logging

import pytest

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.sources import FolderImages


def names(paths: list[str | None]) -> list[str | None]:
    return [path and path.rpartition("/")[2] for path in paths]


def test_any_suffix_finds_pictures_of_every_kind_and_case(tmp_path):
    files = ["1.jpg", "2.JPG", "3.png", "4.TIFF", "5.webp", "6.npy", "7.txt", "8.jpg.part", "9.a.Jpeg"]
    for name in files:
        (tmp_path / name).touch()
    images = FolderImages(str(tmp_path), pattern="{id}.*")
    ids = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "9.a", "x"]
    assert names(images.paths(ids)) == [*files[:6], None, None, None, "9.a.Jpeg", None]


def test_any_suffix_below_folders_and_with_a_mapping(tmp_path):
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "abc.PNG").touch()
    assert names(FolderImages(str(tmp_path), pattern="{id:.2}/{id}.*").paths(["abc", "abd"])) == ["abc.PNG", None]
    (tmp_path / "map.csv").write_text("objid,asset_id\n7,abc\n")
    images = FolderImages(str(tmp_path), pattern="ab/{id}.*", mapping=str(tmp_path / "map.csv"))
    assert names(images.paths(["7", "8"])) == ["abc.PNG", None]


def test_of_two_pictures_of_one_galaxy_the_first_suffix_is_taken(tmp_path, caplog):
    for name in ("1.jpg", "1.png", "2.tif", "2.JPG", "2.webp", "3.gif"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.INFO, "raydistill"):
        found = FolderImages(str(tmp_path), pattern="{id}.*").paths(["1", "2", "3"])
    assert names(found) == ["1.png", "2.JPG", "3.gif"]
    assert [line.partition(";")[0] for line in caplog.messages] == [
        "curate: 2 galaxies have several pictures, such as 1.png and 1.jpg"
    ]
    assert names(FolderImages(str(tmp_path), pattern="{id}.jpg").paths(["1"])) == ["1.jpg"]


def test_ids_with_folders_are_found_below_them(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "7.jpg").touch()
    assert FolderImages(str(tmp_path), pattern="{id}").paths(["a/b/7.jpg"]) == [f"{tmp_path}/a/b/7.jpg"]
    with pytest.raises(CatalogError, match="the image folder holds folders and no files; name them in"):
        FolderImages(str(tmp_path), pattern="{id}").paths(["7.jpg"])


def test_missing_pictures_with_another_suffix_give_a_warning(tmp_path, caplog):
    for name in ("1.jpg", "2.JPG", "3.png"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        assert names(FolderImages(str(tmp_path)).paths(["1", "2", "3", "4"])) == ["1.jpg", None, None, None]
    assert "2 pictures have another suffix than .jpg, such as 2.JPG" in caplog.text
    assert "survey.images.pattern='{id}.*'" in caplog.text


def test_expected_names_tell_which_file_was_tried(tmp_path):
    (tmp_path / "map.csv").write_text("objid,asset_id\n7,abc\n")
    images = FolderImages(str(tmp_path), pattern="{id:.2}/{id}.jpg", mapping=str(tmp_path / "map.csv"))
    assert images.expected_names(["7", "8"]) == ["ab/abc.jpg", ""]
    bands = FitsImages(str(tmp_path), pattern="{id}-{band}.fits", channels=("i", "r", "g"))
    assert bands.expected_names(["7"]) == ["7-{i,r,g}.fits"]
