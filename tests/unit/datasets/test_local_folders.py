"""Links and folders that a listing leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from raydistill.datasets.folder import DOWNLOAD, ImageFolder
from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.files import ALLOW_DATA_SET


def fill(root: Path, *folders: str, count: int = 3) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            (root / folder / f"{n}.png").write_bytes(b"png")


def labels(root: Path, **options: bool) -> dict[str, int]:
    """Return the number of pictures by class."""
    data = ImageFolder(root=str(root), **options)  # type: ignore[arg-type]
    data.files()
    result = data.index().rows["label"].to_pylist()
    return {label: result.count(label) for label in sorted(set(result))}


def rejected(root: Path) -> str:
    with pytest.raises(CatalogError) as caught:
        labels(root)
    assert caught.value.where == str(root)
    return str(caught.value).removeprefix(f"{root}: ")


ABOVE = pytest.mark.parametrize("above", ["", "train/", "wrapper/", "wrapper/train/"])


@ABOVE
def test_linked_class_is_read(tmp_path: Path, above: str) -> None:
    fill(tmp_path, f"set/{above}a", "elsewhere/pictures")
    (tmp_path / "set" / above / "b").symlink_to(tmp_path / "elsewhere" / "pictures")
    assert labels(tmp_path / "set", allow_outside=True) == {"a": 3, "b": 3}
    assert rejected(tmp_path / "set") == (
        f"links lead 3 pictures out of this folder (first: {above}b/0.png to {tmp_path}/elsewhere/pictures/0.png); "
        f"{ALLOW_DATA_SET}"
    )


@pytest.mark.parametrize("store", ["store", "set/.git/annex"])
def test_linked_pictures_and_a_linked_root_are_read(tmp_path: Path, store: str) -> None:
    fill(tmp_path, "set/a", store)
    (tmp_path / "set" / "b").mkdir()
    for n in range(2):
        (tmp_path / "set" / "b" / f"{n}.png").symlink_to(tmp_path / store / f"{n}.png")
    (tmp_path / "link").symlink_to("set")
    for root in ("set", "link"):
        assert labels(tmp_path / root, allow_outside=True) == {"a": 3, "b": 2}
        if store == "store":
            assert "links lead 2 pictures out of this folder (first: b/0.png to " in rejected(tmp_path / root)
        else:
            assert labels(tmp_path / root) == {"a": 3, "b": 2}


@ABOVE
def test_class_that_is_a_dead_link_is_rejected(tmp_path: Path, above: str) -> None:
    fill(tmp_path, f"{above}a", f"{above}c")
    (tmp_path / above / "b").symlink_to(tmp_path / "nowhere")
    assert rejected(tmp_path) == f"the class folder '{above}b' is a link that leads nowhere; repair or remove it"


@ABOVE
def test_class_of_dead_links_is_rejected(tmp_path: Path, above: str) -> None:
    fill(tmp_path, f"{above}a", f"{above}c")
    fill(tmp_path, f"{above}b", count=0)
    (tmp_path / above / "b" / "7.png").symlink_to("../.git/annex/objects/7.png")
    assert rejected(tmp_path) == (
        f"the class folder '{above}b' holds no picture, but links that lead nowhere (first: {above}b/7.png); {DOWNLOAD}"
    )


def test_data_set_of_dead_links_is_rejected(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", count=0)
    (tmp_path / "b" / "7.png").symlink_to("nowhere")
    assert (
        rejected(tmp_path) == f"there are no pictures in it, but links that lead nowhere (first: b/7.png); {DOWNLOAD}"
    )


def test_some_dead_links_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "a", "b")
    (tmp_path / "b" / "7.png").symlink_to("nowhere")
    (tmp_path / "b" / ".hidden").symlink_to("nowhere")
    assert labels(tmp_path) == {"a": 3, "b": 3}
    assert "links that lead nowhere are left out: 1 (first: 'b/7.png')" in caplog.text


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_link_in_a_circle_is_rejected(tmp_path: Path, target: str) -> None:
    fill(tmp_path, "a/deeper", "b")
    (tmp_path / "a" / "deeper" / "again").symlink_to(target)
    (tmp_path / "b" / "again").symlink_to(tmp_path / "b")  # a listing would follow both 2**40 times
    assert rejected(tmp_path) == "the link 'a/deeper/again' leads to a folder around it; remove it"


@ABOVE
def test_empty_folder_is_no_class(tmp_path: Path, caplog: pytest.LogCaptureFixture, above: str) -> None:
    fill(tmp_path, f"{above}a", f"{above}c")
    names = [f"{above}b{n}" for n in range(9)]
    fill(tmp_path, *names, count=0)
    (tmp_path / above / "b0" / ".DS_Store").write_bytes(b"?")
    assert labels(tmp_path) == {"a": 3, "c": 3}
    assert f"curate: empty folders are not classes: {', '.join(names[:6])} and 3 more" in caplog.messages


def test_class_that_is_empty_in_one_split_is_a_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, "train/a", "train/b", "test/a")
    fill(tmp_path, "test/b", count=0)
    assert labels(tmp_path) == {"a": 6, "b": 3}
    assert "empty" not in caplog.text


@pytest.mark.parametrize("above", ["", "train/"])
def test_hidden_class_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, above: str) -> None:
    fill(tmp_path, f"{above}.a", f"{above}b", f"{above}c", f"{above}__MACOSX/b")
    assert labels(tmp_path) == {"b": 3, "c": 3}
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"curate: hidden folders are left out: {above}.a (3 pictures); rename them if they are needed"
    ]
