"""Test how the files of a survey's pictures are found."""

from __future__ import annotations

import logging
import re

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


def test_two_pictures_of_one_galaxy_are_rejected_or_the_first_suffix_counts(tmp_path, caplog):
    for name in ("1.jpg", "1.png", "2.tif", "2.JPG", "2.webp", "3.gif"):
        (tmp_path / name).touch()
    images, ids = FolderImages(str(tmp_path), pattern="{id}.*"), ["1", "2", "3"]
    what = "2 ids have several pictures, such as 1.png and 1.jpg (first: 1, 2)"
    with pytest.raises(CatalogError, match=re.escape(f"{what}; keep one of each, or set survey.duplicates=first")):
        images.paths(ids)
    assert names(images.paths(ids, "first")) == ["1.png", "2.JPG", "3.gif"]
    assert f"{what}; the first one is taken" in caplog.text
    assert names(FolderImages(str(tmp_path), pattern="{id}.jpg").paths(["1"])) == ["1.jpg"]


def test_two_assets_of_one_galaxy_are_rejected_if_both_have_a_picture(tmp_path, caplog):
    (tmp_path / "map.csv").write_text("objid,asset_id\n7,b\n7,a\n8,c\n8,gone\n")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    images = FolderImages(str(tmp_path), mapping=str(tmp_path / "map.csv"))
    assert names(images.paths(["8", "9"])) == ["c.jpg", None]
    with pytest.raises(CatalogError, match=r"1 ids have several pictures, such as b\.jpg and a\.jpg \(first: 7\)"):
        images.paths(["7", "8"])
    assert names(images.paths(["7", "8"], "first")) == ["b.jpg", "c.jpg"]
    bands = FitsImages(str(tmp_path), pattern="{id}-{band}.fits", mapping=str(tmp_path / "map.csv"))
    for name in ("a-I.fits", "a-R.fits", "a-G.fits", "b-I.fits"):
        (tmp_path / name).touch()
    assert names(bands.paths(["7"])) == ["a-{I,R,G}.fits"]


def test_decomposed_names_of_files_are_those_of_the_ids(tmp_path):
    (tmp_path / "caf\u0065\u0301.jpg").touch()
    assert names(FolderImages(str(tmp_path)).paths(["caf\xe9"])) == ["caf\u0065\u0301.jpg"]


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
