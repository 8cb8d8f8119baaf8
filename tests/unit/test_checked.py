"""Files that are read again carry their digest; a damaged one counts as missing."""

from __future__ import annotations

import json

import pytest

from raydistill.errors import ArtifactCorrupt
from raydistill.storage import Folder, checked
from tests.damage import flipped

DATA = b'{"balanced_accuracy": 0.5}'


@pytest.mark.parametrize("data", [b"", b"\n", DATA, bytes(range(256)) * 100], ids=len)
def test_file_is_read_as_it_was_written(folder: Folder, data: bytes) -> None:
    assert checked.read(folder, "a/b") is None
    assert not checked.is_intact(folder, "a/b")
    checked.write(folder, "a/b", data)
    assert checked.read(folder, "a/b") == checked.require(folder, "a/b") == data
    assert checked.is_intact(folder, "a/b")


def test_every_flipped_bit_and_every_truncation_counts_as_missing(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    checked.write(folder, "a", DATA)
    content = folder.read("a")
    changed = [content[:size] for size in range(len(content))] + [content + b" "]
    changed += [flipped(content, at, bit) for at in range(len(content)) for bit in range(8)]
    assert all(checked.unseal(content_) is None for content_ in changed)
    for content_ in (b"", content[:-1], flipped(content, 0), flipped(content, -1)):
        folder.write("a", content_)
        caplog.clear()
        assert checked.read(folder, "a") is None
        assert not checked.is_intact(folder, "a")
        assert f"{folder}/a is damaged and is made again" in caplog.text
        with pytest.raises(ArtifactCorrupt, match="'a' is gone or damaged; run the same command again"):
            checked.require(folder, "a")


def test_record_vouches_for_finished_files(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.write("data/a", b"12345")
    assert checked.recorded(folder, "record") is None
    checked.record(folder, "record", {"data/a": folder.sha256("data/a")}, {"rows": 5})
    assert checked.recorded(folder, "record") == checked.values_of(folder, "record") == {"rows": 5}
    folder.write("data/a", b"12344")
    assert checked.recorded(folder, "record") is None
    assert f"{folder}/data/a is damaged" in caplog.text
    folder.remove("data/a")
    assert checked.recorded(folder, "record") is None


@pytest.mark.parametrize("values", [{}, {"a": [1e-5, float("inf")], "b": {"\u00e9": None}}])
def test_document_holds_its_own_digest(values: dict[str, object]) -> None:
    content = checked.to_json(values)
    assert checked.from_json(content) == values
    assert len(json.loads(content)["sha256"]) == 64
    for at in range(len(content)):
        with pytest.raises(ValueError, match="its digest is missing or wrong"):
            checked.from_json(flipped(content, at, 5))  # the bit between upper and lower case
