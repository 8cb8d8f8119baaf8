"""An object store that denies access is an error, not a missing picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from gcsfs.retry import HttpError

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.files import read_source
from raydistill.galaxies.pictures.images import RejectedImage
from raydistill.galaxies.pictures.paths import find_paths
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.galaxies.tables import open_table
from raydistill.storage import open_stream


class Store(MemoryFileSystem):
    """A store whose folder `closed` answers like Google's store without credentials."""

    protocol = ("store",)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("store://").strip("/")

    def _deny(self, path: str) -> None:
        if "closed" in path:
            raise HttpError({"code": 401, "message": "invalid credentials"})

    def info(self, path: str, **kwargs: Any) -> Any:
        self._deny(path)
        return super().info(path, **kwargs)

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._deny(path)
        return super().find(path, *args, **kwargs)

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._deny(path)
        return super().cat_file(path, *args, **kwargs)


@pytest.fixture(autouse=True)
def store() -> Iterator[Store]:
    fsspec.register_implementation("store", Store, clobber=True)
    files = Store()
    files.pipe("/open/a.jpg", b"a picture")
    files.pipe("/open/votes.csv", b"id,class\n1,cat\n")
    files.pipe("/closed/a.jpg", b"a picture")
    yield files
    files.rm("/open", recursive=True)


def test_existing_files_are_read_and_others_are_missing() -> None:
    assert read_source("store://open/a.jpg")[0] == b"a picture"
    assert open_stream("store://open/a.jpg").read() == b"a picture"
    assert open_table("store://open/votes.csv").read(["class"]).to_pydict() == {"class": ["cat"]}
    assert FolderImages(root="store://open").paths(["a", "b"]) == ["store://open/a.jpg", None]
    with pytest.raises(RejectedImage, match="missing"):
        read_source("store://open/b.jpg")


def test_denied_access_is_not_a_missing_picture() -> None:
    with pytest.raises(CatalogError, match=r"cannot be read .*invalid credentials") as caught:
        read_source("store://closed/a.jpg")
    assert not isinstance(caught.value, RejectedImage)
    with pytest.raises(CatalogError, match="invalid credentials"):
        open_table("store://closed/votes.csv").read(["class"])
    with pytest.raises(CatalogError):
        FolderImages(root="store://closed").paths(["a"])


def test_denied_folder_of_a_path_is_not_a_missing_picture(tmp_path: Path) -> None:
    assert find_paths("store://open", ["a.jpg", "store://open/a.jpg"], "p", "t.csv").files == ["a.jpg", "a.jpg"]
    for paths in (["a.jpg"], ["store://closed/a.jpg"]):
        with pytest.raises(CatalogError, match=r"cannot be listed .*invalid credentials"):
            find_paths("store://closed", paths, "p", "t.csv")
    with pytest.raises(CatalogError, match=r"cannot be listed .*invalid credentials"):
        find_paths("store://open", ["store://closed/b.jpg", "a.jpg"], "p", "t.csv", allow_outside=True)
    (tmp_path / "b.jpg").touch()
    with pytest.raises(CatalogError, match=r"cannot be listed .*invalid credentials"):
        find_paths("store://open", [f"{tmp_path}/b.jpg", "store://closed/c.jpg"], "p", "t.csv", allow_outside=True)


def test_copy_of_pictures_in_a_denied_folder_is_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    values = [f"store://closed/{name}.jpg" for name in "abc"]
    assert find_paths(str(tmp_path), values, "p", "t.csv").files == ["a.jpg", "b.jpg", None]
