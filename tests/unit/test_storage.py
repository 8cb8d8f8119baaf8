"""Files are complete or absent, on a disk and on an object store."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from raydistill import storage
from raydistill.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ConfigError
from raydistill.storage import CACHE_DAYS, Folder


def test_files_are_read_as_written(folder: Folder) -> None:
    assert not folder.exists()
    folder.write("a/b.bin", b"one")
    folder.write("c.bin", b"three")
    assert folder.read("a/b.bin") == b"one"
    assert folder.files() == ["a/b.bin", "c.bin"]
    assert folder.files("a") == ["a/b.bin"]
    assert folder.size("c.bin") == 5
    assert folder.sha256("c.bin") == hashlib.sha256(b"three").hexdigest()
    assert folder.exists()
    assert folder.exists("a/b.bin")
    assert not folder.exists("a/c.bin")
    with folder.open("c.bin") as stream:
        stream.seek(2)
        assert stream.read() == b"ree"


def test_a_second_write_replaces_the_first(folder: Folder) -> None:
    folder.write("a", b"long before")
    folder.write("a", b"now")
    assert folder.read("a") == b"now"


def test_create_rejects_a_file_that_exists(folder: Folder) -> None:
    assert folder.create("a", b"first")
    assert not folder.create("a", b"second")
    assert folder.read("a") == b"first"


def test_an_empty_file_is_a_file(folder: Folder) -> None:
    folder.write("empty", b"")
    assert folder.read("empty") == b""
    assert folder.files() == ["empty"]


def test_a_uri_opens_the_same_folder(folder: Folder) -> None:
    folder.write("deep/down/a", b"x")
    assert Folder(folder.uri).read("deep/down/a") == b"x"
    assert (folder / "deep" / "down").read("a") == b"x"
    assert Folder(str(folder) + "/").uri == folder.uri


def test_relative_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder("runs/x")
    monkeypatch.chdir("/")
    folder.write("a", b"x")
    assert (tmp_path / "runs/x/a").read_bytes() == b"x"


def test_a_failed_write_leaves_no_file(folder: Folder) -> None:
    folder.write("kept", b"old")
    for name in ("kept", "new"):
        path = fail_half_way(folder, name)
    assert folder.read("kept") == b"old"
    assert folder.files() == ["kept"]
    assert not path.exists()
    if folder.is_local:
        assert os.listdir(folder.uri) == ["kept"]


def fail_half_way(folder: Folder, name: str) -> Path:
    """Return the local path to which a failed block had written."""
    with suppress(InterruptedError), folder.writing(name) as path:
        path.write_bytes(b"half of")
        raise InterruptedError
    return path


def test_a_file_is_invisible_until_it_is_complete(folder: Folder) -> None:
    with folder.writing("a.npy") as path:
        path.write_bytes(b"half")
        assert path.suffix == ".npy"  # libraries choose their format by it
        assert not folder.exists("a.npy")
        assert folder.files() == []
    assert folder.files() == ["a.npy"]


def test_reading_a_missing_file_names_it(folder: Folder) -> None:
    with pytest.raises(ArtifactMissing, match=r"there is no 'lost\.json'; check the path"):
        folder.read("lost.json")


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 42)  # it takes no space on the disk


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "a pipe, a socket or a device"),
        (os.mkdir, "a folder"),
        (lambda path: os.mknod(path, stat.S_IFSOCK), "a pipe, a socket or a device"),
        (lambda path: path.symlink_to("/dev/zero"), "a pipe, a socket or a device"),
        (lambda path: path.symlink_to(path.name), "cannot be read .Too many levels"),
        (_sparse, "larger than the memory"),
    ],
    ids=["pipe", "folder", "socket", "endless", "loop", "sparse"],
)
def test_what_is_not_a_file_is_rejected_at_once(make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    make(tmp_path / "summary.json")
    for action in [Folder(tmp_path).read] if make is _sparse else [Folder(tmp_path).read, Folder(tmp_path).sha256]:
        with pytest.raises(ArtifactError, match=rf"summary\.json.*{reason}"):
            action("summary.json")


def test_files_and_folders_are_removed(folder: Folder) -> None:
    folder.remove()  # a missing folder is not an error
    folder.write("a/one", b"")
    folder.write("a/two", b"")
    folder.write("b", b"")
    folder.remove("a")
    folder.remove("a")
    assert folder.files() == ["b"]
    folder.remove("b")
    assert folder.files() == []


def test_a_local_folder_is_copied_with_its_subfolders(folder: Folder, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a").write_bytes(b"1")
    (source / "b").write_bytes(b"2")
    folder.put_tree(source)
    assert {name: folder.read(name) for name in folder.files()} == {"b": b"2", "deep/a": b"1"}


def test_a_local_path_holds_the_file(folder: Folder) -> None:
    folder.write("x/a.npy", b"data")
    digest = folder.sha256("x/a.npy")
    path = folder.local("x/a.npy", digest)
    assert path.read_bytes() == b"data"
    assert folder.local("x/a.npy", digest) == path
    if not folder.is_local:
        assert digest in path.parts
        folder.remove("x/a.npy")
        assert folder.local("x/a.npy", digest).read_bytes() == b"data"  # from the cache


def test_copies_unused_for_a_long_time_leave_the_cache(folder: Folder) -> None:
    if folder.is_local:
        pytest.skip("a local folder has no cache")
    digests = {}
    for name in "abc":
        folder.write(name, name.encode())
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    old, used = (folder.local(name, digests[name]) for name in "ab")
    long_ago = time.time() - (CACHE_DAYS + 1) * 86400
    for copy in (old, used):
        os.utime(copy, (long_ago, long_ago))
    assert folder.local("b", digests["b"]) == used
    folder.local("c", digests["c"])
    assert used.exists()
    assert not old.parent.exists()
    assert folder.local("a", digests["a"]).read_bytes() == b"a"


def test_a_damaged_cached_copy_is_downloaded_again(folder: Folder) -> None:
    if folder.is_local:
        pytest.skip("a local folder has no cache")
    folder.write("a", b"data")
    digest = folder.sha256("a")
    folder.local("a", digest).write_bytes(b"dat")
    assert folder.local("a", digest).read_bytes() == b"data"
    folder.write("a", b"other")
    assert folder.local("a", digest).read_bytes() == b"data", "an intact copy was downloaded again"
    folder.local("a", digest).unlink()
    with pytest.raises(ArtifactCorrupt, match="'a' is not the file that was written"):
        folder.local("a", digest)
    assert not list(folder.local("a").parent.parent.glob(f"{digest}/*")), "a damaged copy was left in the cache"


def test_a_local_copy_without_a_digest_is_never_stale(folder: Folder) -> None:
    folder.write("a", b"old")
    folder.local("a")
    folder.write("a", b"new")
    assert folder.local("a").read_bytes() == b"new"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full to be out of space on")
def test_a_full_disk_is_an_artifact_error_and_leaves_no_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "artifact")

    def write_to_the_full_device() -> None:
        with folder.writing("a") as path:
            path.symlink_to("/dev/full")  # every write to it fails with ENOSPC
            path.write_bytes(b"data")

    with pytest.raises(ArtifactError, match="the disk is full; free some space") as caught:
        write_to_the_full_device()
    assert caught.value.exit_code == 3
    assert caught.value.where == folder.uri
    assert os.listdir(folder.uri) == []


def test_a_full_object_store_is_an_artifact_error(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    monkeypatch.setattr(folder._fs, "put_file", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        folder.write("a", b"data")
    assert folder.files() == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "no permission to write"),
        (errno.EROFS, "no permission to write"),
    ],
)
def test_other_disk_errors_are_artifact_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(storage.os, "replace", fail)
    with pytest.raises(ArtifactError, match=message):
        Folder(tmp_path).write("a", b"data")


def test_check_writable_leaves_the_folder_unchanged(folder: Folder) -> None:
    folder.write("kept", b"1")
    folder.check_writable()
    assert folder.files() == ["kept"]


def test_check_writable_does_not_create_the_folder(tmp_path: Path) -> None:
    Folder(tmp_path / "runs" / "demo").check_writable()
    assert not list(tmp_path.iterdir())


def test_check_writable_rejects_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="a file stands where a folder should be made"):
        Folder(tmp_path / "file" / "run").check_writable()


def test_unrelated_exceptions_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd failure") as caught, Folder(tmp_path).writing("a"):
        raise OSError(errno.EIO, "odd failure")
    assert not isinstance(caught.value, ArtifactError)


def test_an_unknown_scheme_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="nosuch://bucket/x: unknown storage 'nosuch://'"):
        Folder("nosuch://bucket/x")


@pytest.mark.parametrize(
    "uri",
    ["reference://::file:///x/refs.json", "simplecache::https://x.org/a", "filecache://::s3://b/x", "s3://b/x::http://x.org/y",
     "zip://a::file:///x.zip", "dask://x", "dir://x", "git://x", "jupyter://x", "data://x"],
)  # fmt: skip
def test_storages_that_wrap_others_are_rejected(uri: str) -> None:
    with pytest.raises(ConfigError, match="unknown storage"):
        Folder(uri)


def test_colons_in_a_local_path_are_part_of_it(tmp_path: Path) -> None:
    Folder(tmp_path / "a::b").write("x", b"1")
    assert (tmp_path / "a::b" / "x").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "..", "a/..", "x\0y"])
def test_no_name_leaves_the_folder(folder: Folder, name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("outside")
    for action in (folder.read, folder.exists, folder.size, folder.remove, folder.open, folder.files, folder.local):
        with pytest.raises(ArtifactCorrupt, match="it names a file outside of its folder"):
            action(name)
    with pytest.raises(ArtifactCorrupt):
        folder.write(name, b"")
    assert (tmp_path / "x").read_text() == "outside"


def test_the_error_of_an_unreachable_store_survives_pickling(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    class EndpointConnectionError(Exception):
        """An error like botocore's: no OSError, and its arguments cannot rebuild it."""

        __module__ = "botocore.exceptions"

        def __init__(self, *, url: str) -> None:
            super().__init__(f"no connection to {url}")

    def down(*_: object, **__: object) -> None:
        raise EndpointConnectionError(url="http://x")

    folder._fs = type(
        "Down", (), {"exists": down, "cat_file": down, "find": down, "invalidate_cache": lambda _: None}
    )()
    for ask in (lambda: folder.exists("a"), lambda: folder.read("a"), folder.files):
        with pytest.raises(ArtifactError, match=r"the storage did not answer \(no connection to http://x\)") as caught:
            ask()
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_path_is_shown_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Folder("runs/demo").shown == "runs/demo"
    assert Folder(tmp_path.parent / "other").shown == str(tmp_path.parent / "other")
    assert Folder("memory://bucket/runs").shown == Folder("memory://bucket/runs").uri
