"""Files are whole or not there, on a disk and on an object store."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import time
from contextlib import suppress
from pathlib import Path

import pytest

from raydistill import storage
from raydistill.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ConfigError
from raydistill.storage import CACHE_DAYS, Folder


def test_what_is_written_is_read(folder: Folder) -> None:
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


def test_writing_again_replaces(folder: Folder) -> None:
    folder.write("a", b"long before")
    folder.write("a", b"now")
    assert folder.read("a") == b"now"


def test_create_refuses_a_file_that_exists(folder: Folder) -> None:
    assert folder.create("a", b"first")
    assert not folder.create("a", b"second")
    assert folder.read("a") == b"first"


def test_an_empty_file_is_a_file(folder: Folder) -> None:
    folder.write("empty", b"")
    assert folder.read("empty") == b""
    assert folder.files() == ["empty"]


def test_a_uri_leads_back_to_the_same_folder(folder: Folder) -> None:
    folder.write("deep/down/a", b"x")
    assert Folder(folder.uri).read("deep/down/a") == b"x"
    assert (folder / "deep" / "down").read("a") == b"x"
    assert Folder(str(folder) + "/").uri == folder.uri


def test_relative_paths_are_of_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder("runs/x")
    monkeypatch.chdir("/")
    folder.write("a", b"x")
    assert (tmp_path / "runs/x/a").read_bytes() == b"x"


def test_a_block_that_fails_leaves_nothing_behind(folder: Folder) -> None:
    folder.write("kept", b"old")
    for name in ("kept", "new"):
        path = fail_half_way(folder, name)
    assert folder.read("kept") == b"old"
    assert folder.files() == ["kept"]
    assert not path.exists()
    if folder.is_local:
        assert os.listdir(folder.uri) == ["kept"]


def fail_half_way(folder: Folder, name: str) -> Path:
    """The local path that a block that fails had written to."""
    with suppress(InterruptedError), folder.writing(name) as path:
        path.write_bytes(b"half of")
        raise InterruptedError
    return path


def test_nobody_sees_a_file_before_it_is_whole(folder: Folder) -> None:
    with folder.writing("a.npy") as path:
        path.write_bytes(b"half")
        assert path.suffix == ".npy"  # libraries choose their format by it
        assert not folder.exists("a.npy")
        assert folder.files() == []
    assert folder.files() == ["a.npy"]


def test_reading_what_is_not_there_names_it(folder: Folder) -> None:
    with pytest.raises(ArtifactMissing, match=r"there is no 'lost\.json'; check the path"):
        folder.read("lost.json")


def test_removing(folder: Folder) -> None:
    folder.remove()  # nothing there is fine
    folder.write("a/one", b"")
    folder.write("a/two", b"")
    folder.write("b", b"")
    folder.remove("a")
    folder.remove("a")
    assert folder.files() == ["b"]
    folder.remove("b")
    assert folder.files() == []


def test_a_whole_local_tree_is_copied(folder: Folder, tmp_path: Path) -> None:
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


def test_copies_that_nobody_asked_for_in_a_long_time_leave_the_cache(folder: Folder) -> None:
    if folder.is_local:
        pytest.skip("is its own copy")
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


def test_a_damaged_copy_in_the_cache_is_fetched_again(folder: Folder) -> None:
    folder.write("a", b"data")
    digest = folder.sha256("a")
    if folder.is_local:
        return
    folder.local("a", digest).write_bytes(b"dat")
    assert folder.local("a", digest).read_bytes() == b"data"
    folder.write("a", b"other")
    assert folder.local("a", digest).read_bytes() == b"data", "a copy that is good was fetched again"
    folder.local("a", digest).unlink()
    with pytest.raises(ArtifactCorrupt, match="'a' is not the file that was written"):
        folder.local("a", digest)
    assert not list(folder.local("a").parent.parent.glob(f"{digest}/*")), "what is wrong was left in the cache"


def test_a_local_copy_without_a_digest_is_never_stale(folder: Folder) -> None:
    folder.write("a", b"old")
    folder.local("a")
    folder.write("a", b"new")
    assert folder.local("a").read_bytes() == b"new"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full to be out of space on")
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
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


def test_a_full_disk_is_a_sentence_on_object_stores_too(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    monkeypatch.setattr(folder._fs, "put_file", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        folder.write("a", b"data")
    assert folder.files() == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "no permission to write"),
        (errno.EROFS, "no permission to write"),
    ],
)
def test_what_else_goes_wrong_with_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(storage.os, "replace", fail)
    with pytest.raises(ArtifactError, match=words):
        Folder(tmp_path).write("a", b"data")


def test_a_folder_that_is_tried_out_stays_as_it_is(folder: Folder) -> None:
    folder.write("kept", b"1")
    folder.check_writable()
    assert folder.files() == ["kept"]


def test_a_folder_that_is_tried_out_is_not_made(tmp_path: Path) -> None:
    Folder(tmp_path / "runs" / "demo").check_writable()
    assert not list(tmp_path.iterdir())


def test_a_folder_in_which_nothing_can_be_written_says_so_when_it_is_tried_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="a file stands where a folder should be made"):
        Folder(tmp_path / "file" / "run").check_writable()


def test_other_failures_are_not_dressed_up(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd failure") as caught, Folder(tmp_path).writing("a"):
        raise OSError(errno.EIO, "odd failure")
    assert not isinstance(caught.value, ArtifactError)


def test_an_unknown_scheme_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="nosuch://bucket/x: unknown storage 'nosuch://'"):
        Folder("nosuch://bucket/x")


def test_a_store_that_does_not_answer_is_a_sentence_that_survives_the_way_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path)

    class EndpointConnectionError(Exception):
        """As botocore's: no OSError, and its arguments do not make another one."""

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
