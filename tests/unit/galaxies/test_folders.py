"""A folder is listed once, whatever is in it, and what is left out is named."""

from __future__ import annotations

import os
import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from raydistill.config import load
from raydistill.datasets.array_files import open_arrays
from raydistill.datasets.folder import ImageFolder
from raydistill.errors import CatalogError, RaydistillError
from raydistill.galaxies.classes import load_class_tree
from raydistill.galaxies.folders import list_folder
from raydistill.galaxies.pictures.files import list_files, read_source
from raydistill.galaxies.pictures.tiles import open_tile
from raydistill.galaxies.tables import open_table
from raydistill.storage import Folder


def touch(root: Path, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"12345")


def warnings(caplog: pytest.LogCaptureFixture, root: Path) -> list[str]:
    return [record.getMessage().removeprefix(f"{root}: ") for record in caplog.records]


def test_files_have_their_sizes_in_the_order_of_their_paths(tmp_path: Path) -> None:
    touch(tmp_path, "b/c/2.png", "b/1.png", "a.png", ".hidden/3.png")
    listing = list_folder(str(tmp_path))
    assert listing.files == {".hidden/3.png": 5, "a.png": 5, "b/1.png": 5, "b/c/2.png": 5}
    assert list(listing.files) == sorted(listing.files)
    assert sorted(listing.folders) == [".hidden", "b", "b/c"]
    assert list(list_folder(f"{tmp_path}/", recursive=False).files) == ["a.png"]


@pytest.mark.parametrize(("link", "target"), [("loop", "."), ("a/up", ".."), ("a/b/x", "../.."), ("out", "..")])
def test_link_to_a_folder_around_it_is_rejected(tmp_path: Path, link: str, target: str) -> None:
    root = tmp_path / "root"
    touch(root, "a/b/1.png")
    (root / link).symlink_to(target)
    with pytest.raises(CatalogError, match=f"root: the link '{link}' leads to a folder around it; remove it"):
        list_folder(str(root))
    assert not list_folder(str(root), recursive=False).files, "it is followed by no flat listing"


def test_folder_behind_several_links_is_listed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "root"
    touch(root, "m/1.png", "z/2.png")
    touch(tmp_path, "outside/3.png")
    for link, target in {"a": "m", "m/n": "../z", "z/n": "../m", "o": "../outside", "p": "../outside"}.items():
        (root / link).symlink_to(target)
    files = list_files(str(root), recursive=True, once=True)
    assert list(files) == ["m/1.png", "o/3.png", "z/2.png"], "a folder's own path is kept, then the first link"
    assert warnings(caplog, root) == [
        "links to folders that are read already are left out: 4 (first: 'a' leads to 'm')"
    ]
    assert "a/1.png" in list_files(str(root), recursive=True), "a table may name a file by the link"


def test_link_to_a_hidden_folder_is_its_visible_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, ".store/1.png", ".store/deep/2.png")
    (tmp_path / "class").symlink_to(".store")
    assert list(list_files(str(tmp_path), recursive=True, once=True)) == ["class/1.png", "class/deep/2.png"]
    assert not caplog.records


def test_file_behind_a_link_is_listed_once_and_a_hard_link_is_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    touch(root, "b/1.png", ".h.png")
    touch(tmp_path, "outside.png")
    (root / "a.png").symlink_to("b/1.png")
    (root / "c.png").symlink_to("../outside.png")
    (root / "d.png").symlink_to(".h.png")
    os.link(root / "b/1.png", root / "e.png")
    for uri in (root.as_uri(), str(root)):
        caplog.clear()
        names = [name for name in list_files(uri, recursive=True, once=True) if name != ".h.png"]
        assert names == ["b/1.png", "c.png", "d.png", "e.png"]
    assert warnings(caplog, root) == [
        "links to files that are read already are left out: 1 (first: 'a.png' leads to 'b/1.png')"
    ]


def test_pipes_sockets_devices_and_dead_links_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 107 bytes
    touch(tmp_path, "1.png")
    os.mkfifo("a.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("b.png")
    for link, target in {"c.png": "/dev/zero", "d.png": "nowhere", "e.png": "e.png", ".f.png": "nowhere"}.items():
        os.symlink(target, link)
    assert list(list_folder(".").files) == ["1.png"]
    assert [record.getMessage() for record in caplog.records] == [
        ".: pipes, sockets and devices are left out: 3 (first: 'a.png')",
        ".: links that lead nowhere are left out: 2 (first: 'd.png')",
    ]


READERS: dict[str, Callable[[str], object]] = {
    "t.csv": open_table,
    "t.zip": open_table,
    "t.parquet": open_table,
    "p.zip": lambda path: list_files(path, recursive=True),
    "p.png": read_source,
    "p.fits": open_tile,
    "a.npz": lambda path: open_arrays(path).__enter__(),
    "c.tar.gz": lambda path: ImageFolder(root=path).files(),
    "c.yaml": load,
    "tree.yaml": load_class_tree,
    "manifest.json": lambda path: Folder(os.path.dirname(path)).read("manifest.json"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_reading_a_pipe_or_a_device_is_rejected(tmp_path: Path, name: str, kind: str) -> None:
    path = str(tmp_path / name)
    os.mkfifo(path) if kind == "pipe" else os.symlink("/dev/zero", path)
    with pytest.raises(RaydistillError, match="this is a pipe, a socket or a device; save its content as a file"):
        READERS[name](path)


NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
ODD = ["-rf", "a\nb", "\x1b[31m", "'\"", " ", "#1 50%?", "<b>", "=1+1", "{id}", "C:", "x" * 255, NFC, NFD, "​"]


def test_names_of_any_text_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, *ODD, *(f"{name}/{name}" for name in ("a b", NFD)[:1]))
    assert set(list_folder(str(tmp_path)).files) == {*ODD, "a b/a b"}


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"caf\xe9/1.png", b"\xed\xa0\x80.png", b"\xff\xfe"])
def test_name_that_is_not_utf8_is_left_out(tmp_path: Path, name: bytes, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.png", name)
    assert list(list_folder(str(tmp_path)).files) == ["a.png"]
    shown = "".join(chr(byte) if byte < 128 else f"\\x{byte:02x}" for byte in name.partition(b"/")[0])
    assert warnings(caplog, tmp_path) == [f"names that are not UTF-8 are left out: 1 (first: '{shown}'); rename them"]


def test_folder_that_cannot_be_listed_is_an_error_unless_it_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "lost+found/2.png")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith(closed):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root, who runs tests in containers, may list any folder
    closed = "lost+found"
    assert list(list_folder(str(tmp_path)).files) == ["a/1.png"]
    closed = "/a"
    with pytest.raises(CatalogError, match=r"the folder 'a' cannot be listed \(Permission denied\); see that"):
        list_folder(str(tmp_path))


def test_folder_deeper_than_any_path_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(45):
        os.mkdir("x" * 100)
        os.chdir("x" * 100)
    with pytest.raises(CatalogError, match=r"x…' cannot be listed \(File name too long\)") as caught:
        list_folder(str(tmp_path))
    assert len(str(caught.value)) < 400 + len(str(tmp_path))
