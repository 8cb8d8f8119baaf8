"""Test zips of pictures: read in place, bounded, and rejected if they are harmful."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from random import Random

import fsspec
import numpy as np
import psutil
import pytest
from astropy.io import fits
from deep_files import with_pillow
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.datasets.folder import ImageFolder
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures import archives
from raydistill.galaxies.pictures.archives import Archive, find_archive
from raydistill.galaxies.pictures.files import read_source
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.sources import FolderImages

PICTURES = np.random.default_rng(0).integers(0, 256, (9, 40, 36, 3), dtype=np.uint8)
PNG = [with_pillow(picture, "PNG") for picture in PICTURES]


def write(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return str(path)


def write_twice(path: Path, name: str, contents: list[bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
        for content in contents[:2]:
            archive.writestr(name, content)
    return str(path)


# Surveys

PLACES = {
    "at the top": ("", ""),
    "in one folder": ("images_training_rev1/", ""),
    "in nested folders": ("a/b c/é/", ""),
    "in a folder that is named": ("images/", "/images"),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("place", PLACES)
def test_pictures_of_a_survey_are_read_from_a_zip(tmp_path, place, method):
    inside, root = PLACES[place]
    files = {f"{inside}{number}.png": content for number, content in enumerate(PNG)}
    other = {"__MACOSX/images/._0.png": b"x", ".DS_Store": b"x"} | ({"README.md": b"x"} if inside else {})
    uri = write(tmp_path / "Images.ZIP", other | files, method)
    images = FolderImages(f"{uri}{root}", pattern="{id}.png")
    paths = images.paths(["0", "8", "9"])
    assert paths == [f"{uri}{root}/0.png", f"{uri}{root}/8.png", None]
    np.testing.assert_array_equal([images.decode(path) for path in paths[:2]], PICTURES[[0, 8]])
    assert sorted(tmp_path.iterdir()) == [tmp_path / "Images.ZIP"], "nothing is unpacked"


@pytest.mark.parametrize("pattern", ["sdss/{id}.png", "sdss/{id}.*", "{id:.1}/{id}.png"])
def test_patterns_with_folders_name_files_of_a_zip(tmp_path, pattern):
    uri = write(tmp_path / "x.zip", {pattern.replace(".*", ".PNG").format(id="7"): PNG[7]})
    images = FolderImages(uri, pattern=pattern)
    (path,) = images.paths(["7"])
    np.testing.assert_array_equal(images.decode(path), PICTURES[7])


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_fits_files_are_read_from_a_zip_also_with_gzip(tmp_path, suffix, compress):
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(np.arange(3 * 16).reshape(3, 4, 4).astype(np.float32))]).writeto(buffer)
    content = buffer.getvalue()
    uri = write(tmp_path / "x.zip", {"f/a.fits": content, f"f/b.fits{suffix}": compress(content)})
    images = FitsImages(uri, pattern="{id}.*", channels=(0, 1, 2))
    first, second = (images.decode(path) for path in images.paths(["a", "b"]))
    (tmp_path / "a.fits").write_bytes(content)
    np.testing.assert_array_equal(first, images.decode(f"{tmp_path}/a.fits"))
    np.testing.assert_array_equal(second, first)


@pytest.mark.parametrize(("stored", "name"), [("café".encode(), "café"), (b"caf\x82", "café"), (b"caf\xfe", "caf■")])
def test_names_without_the_flag_of_utf8_are_utf8_or_code_page_437(tmp_path, stored, name):
    placeholder = "x" * len(stored)
    path = Path(write(tmp_path / "x.zip", {f"{placeholder}/0.png": PNG[0], "b/1.png": PNG[1]}))
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), stored))
    data = ImageFolder(root=str(path))
    assert data.index().names == ["b", name]
    np.testing.assert_array_equal(data.decode(f"{path}/{name}/0.png"), PICTURES[0])


def test_folder_named_like_a_zip_stays_a_folder(tmp_path):
    (tmp_path / "x.zip").mkdir()
    (tmp_path / "x.zip" / "0.png").write_bytes(PNG[0])
    images = FolderImages(f"{tmp_path}/x.zip", pattern="{id}.png")
    np.testing.assert_array_equal(images.decode(*images.paths(["0"])), PICTURES[0])


def test_directory_of_a_zip_is_read_once_and_again_after_a_change(tmp_path):
    uri = write(tmp_path / "x.zip", {f"{number}.png": content for number, content in enumerate(PNG)})
    first, name = find_archive(f"{uri}/3.png")
    assert name == "3.png"
    assert find_archive(f"{uri}/4.png")[0] is first
    write(tmp_path / "x.zip", {"3.png": PNG[5]})
    assert find_archive(f"{uri}/3.png")[0] is not first
    np.testing.assert_array_equal(FolderImages(uri, pattern="{id}.png").decode(f"{uri}/3.png"), PICTURES[5])


def test_zip_may_be_at_a_uri(tmp_path):
    local = write(tmp_path / "x.zip", {"in/3.png": PNG[3]})
    fsspec.filesystem("memory").pipe("/surveys/x.zip", Path(local).read_bytes())
    images = FolderImages("memory://surveys/x.zip", pattern="{id}.png")
    paths = images.paths(["3", "4"])
    assert paths == ["memory://surveys/x.zip/3.png", None]
    np.testing.assert_array_equal(images.decode(paths[0]), PICTURES[3])


# Data sets


@pytest.mark.parametrize("wrapper", ["", "data/"])
def test_data_set_in_a_zip_has_its_splits_labels_and_pixels(tmp_path, wrapper):
    names = [f"{part}/{label}/{n}.png" for part in ("test", "train") for label in ("cat", "dog") for n in range(2)]
    uri = write(tmp_path / "set.zip", {wrapper + name: PNG[n] for n, name in enumerate(names)} | {"README.txt": b"x"})
    data = ImageFolder(root=uri)
    classes, rows = data.index()
    assert classes == ["cat", "dog"]
    assert rows["part"].to_pylist() == ["test"] * 4 + ["train"] * 4
    assert rows["label"].to_pylist() == ["cat", "cat", "dog", "dog"] * 2
    decoded = [data.decode(f"{uri}/{path}") for path in rows["path"].to_pylist()]
    np.testing.assert_array_equal(decoded, PICTURES[:8])
    assert data.files() == {wrapper + name: len(PNG[n]) for n, name in enumerate(names)}


def test_folder_within_a_zip_is_a_data_set(tmp_path):
    uri = write(tmp_path / "x.zip", {"a/cat/0.png": PNG[0], "a/dog/1.png": PNG[1], "b/cow/2.png": PNG[2]})
    data = ImageFolder(root=f"{uri}/a")
    names, rows = data.index()
    assert names == ["cat", "dog"]
    np.testing.assert_array_equal([data.decode(f"{uri}/a/{path}") for path in rows["path"].to_pylist()], PICTURES[:2])


# Refused


@pytest.mark.parametrize("name", ["../0.png", "a/../../0.png", "/etc/0.png", "a\\..\\0.png", "C:\\0.png"])
def test_paths_outside_of_the_zip_are_rejected(tmp_path, name):
    uri = write(tmp_path / "x.zip", {"0.png": PNG[0], name: PNG[1]})
    with pytest.raises(CatalogError, match="a path outside of it; check where it comes from"):
        FolderImages(uri, pattern="{id}.png").paths(["0"])


def encrypted(path: Path) -> str:
    """Set the flag of an encrypted file in the directory and in the file's header."""
    content = bytearray(Path(write(path, {"0.png": PNG[0]})).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    return str(path)


def bomb(path: Path) -> str:
    """Announce a file of 4 GB in a zip of some bytes."""
    content = bytearray(Path(write(path, {"0.png": bytes(1000)})).read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 0xFFFFFF00)
    path.write_bytes(content)
    return str(path)


def with_compression(path: Path, number: int) -> str:
    content = bytearray(Path(write(path, {"0.png": PNG[0]})).read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, number)
    path.write_bytes(content)
    return str(path)


HARMFUL = {
    "encrypted": (encrypted, "the zip is encrypted; unpack it"),
    "bomb": (bomb, "the zip unpacks to more than 200 times its size"),
    "deflate64": (lambda path: with_compression(path, 9), r"'0.png' has a compression that cannot be read \(type 9\)"),
    "zips": (
        lambda path: write(path, {"a.zip": b"x", "b.zip": b"x"}),
        "the zip holds zips and no pictures, such as 'a.zip'",
    ),
    "zips and a table": (
        lambda path: write(path, {"labels.csv": b"x", "README": b"x", "b.zip": b"x"}),
        "the zip holds zips and no pictures, such as 'b.zip'; unpack it and give the folder",
    ),
    "zip in a zip": (
        lambda path: write(path, {"a/b.zip": b"x", "0.png": PNG[0]}) + "/a/b.zip/train",
        "'a/b.zip' is a zip in the zip; unpack it and give the folder",
    ),
    "two files of one name": (
        lambda path: write_twice(path, "0.png", PNG),
        "two files '0.png' that differ; remove one",
    ),
    "no zip": (lambda path: str(path) if path.write_bytes(b"PK rubbish") else "", "cannot be read as a zip"),
    "nothing": (str, "there is no such zip"),
    "empty": (lambda path: write(path, {}), "the image folder is empty"),
}


def test_equal_files_of_one_name_in_a_zip_are_one(tmp_path):
    uri = write_twice(tmp_path / "x.zip", "0.png", [PNG[0], PNG[0]])
    assert FolderImages(uri, pattern="{id}.png").paths(["0"]) == [f"{uri}/0.png"]


@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_and_damaged_zips_are_rejected(tmp_path, kind):
    make, sentence = HARMFUL[kind]
    with pytest.raises(CatalogError, match=sentence):
        FolderImages(make(tmp_path / "x.zip"), pattern="{id}.png").paths(["0"])


def test_number_of_files_in_a_zip_is_bounded(tmp_path, monkeypatch):
    uri = write(tmp_path / "x.zip", {f"{n}.png": b"x" for n in range(9)})
    monkeypatch.setattr(archives, "MAX_MEMBERS", 8)
    with pytest.raises(CatalogError, match="the zip holds 9 files, at most 8 are read"):
        Archive(uri)


def test_file_that_unpacks_to_more_than_it_says_is_rejected(tmp_path):
    """zipfile stops at the announced size, and the checksum is then wrong."""
    path = tmp_path / "x.zip"
    content = bytearray(Path(write(path, {"0.png": bytes(10_000_000)})).read_bytes())
    struct.pack_into("<I", content, content.index(b"PK\x01\x02") + 24, 100)
    path.write_bytes(content)
    with pytest.raises(RejectedImage, match="corrupt"):
        read_source(f"{path}/0.png")


def test_rejected_zip_is_closed_though_its_error_is_kept(tmp_path):
    path = write(tmp_path / "x.zip", {"../0.png": PNG[0]})

    def is_open() -> bool:
        return any(item.path == str(path) for item in psutil.Process().open_files())

    def reject() -> bool:
        errors = []
        try:
            FolderImages(str(path), pattern="{id}.png").paths(["0"])
        except CatalogError as error:
            errors.append(error)  # error, traceback and list are a cycle
        return bool(errors) and is_open()

    assert reject()
    gc.collect()
    assert not is_open()


@given(st.integers(0, 2**32), st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_damaged_zip_gives_its_pictures_or_one_sentence(tmp_path_factory, seed, count):
    random, path = Random(seed), tmp_path_factory.mktemp("zip") / "x.zip"
    content = bytearray(Path(write(path, {f"a/{n}.png": PNG[n] for n in range(3)})).read_bytes())
    for _ in range(count):
        content[random.choice([random.randrange(len(content)), random.randrange(len(content) - 300, len(content))])] = (
            random.randrange(256)
        )
    path.write_bytes(content)
    images = FolderImages(str(path), pattern="{id}.png")
    errors: list[Exception] = []
    try:
        paths = images.paths(["0", "1", "2"])
    except CatalogError as error:
        errors, paths = [error], []
    for number, at in enumerate(paths):
        try:
            np.testing.assert_array_equal(images.decode(at), PICTURES[number])
        except RejectedImage as error:
            errors.append(error)
    assert not any("\n" in str(error) for error in errors)


PEAK = """
import resource, sys
from raydistill.galaxies.pictures.files import read_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for number in range(0, 120, 3):
    read_source(f"{sys.argv[1]}/{number}.bin")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_zip_is_not_read_into_memory(tmp_path):
    uri = write(tmp_path / "x.zip", {f"{n}.bin": bytes(1_000_000) for n in range(120)}, zipfile.ZIP_STORED)
    shown = subprocess.run([sys.executable, "-c", PEAK, uri], capture_output=True, text=True, check=True)
    assert int(shown.stdout) < 50_000, "kB of a zip of 120 MB"
