"""The manifest makes a folder an artifact.

Opening reports a missing, foreign or damaged one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raydistill import table
from raydistill.artifacts import manifest
from raydistill.artifacts.manifest import Manifest, check_parent, commit, identity_of, kind_of, open_manifest
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ArtifactMissing
from raydistill.storage import Folder
from raydistill.storage.checked import from_json, to_json
from tests.damage import flipped


def write(folder: Folder, data: bytes = b"data", parents: Any = (), seed: int = 0, kind: str = "curated") -> Manifest:
    folder.write("data/part-0.bin", data)
    folder.write("summary.json", b"{}")
    folder.write("picture.png", b"a picture")
    parents = dict(parents)
    identity = identity_of(kind, {"size": 8}, {name: p.identity for name, p in parents.items()}, seed)
    uris = dict.fromkeys(parents, "elsewhere")
    return commit(folder, kind=kind, identity=identity, config={"size": 8}, parents=parents, seed=seed, uris=uris)


def test_a_committed_folder_opens_with_the_same_manifest(folder: Folder) -> None:
    written = write(folder)
    assert open_manifest(folder, "curated") == written
    assert set(written.files) == {"data/part-0.bin", "summary.json", "picture.png"}
    assert written.files["data/part-0.bin"].bytes == 4
    assert "torch" in written.packages
    assert manifest.exists(folder)


def test_write_open_write_is_byte_identical(folder: Folder) -> None:
    write(folder)
    before = {name: folder.read(name) for name in folder.files()}
    opened = open_manifest(folder, "curated")
    other = folder / "again"
    for name in opened.files:
        other.write(name, folder.read(name))
    commit(
        other, kind=opened.kind, identity=opened.identity, config=opened.config, parents=opened.parents, seed=opened.seed,
        uris={name: parent.uri for name, parent in opened.parents.items()},
    )  # fmt: skip
    assert {name: other.read(name) for name in other.files()} == before


def test_commit_removes_unfinished_files_of_a_killed_writer(folder: Folder) -> None:
    folder.write("data/.1a2b3c4d.part-0.parquet", b"half")
    written = write(folder)
    assert list(written.files) == [name for name in folder.files() if name != manifest.NAME]
    assert not folder.exists("data/.1a2b3c4d.part-0.parquet")


def test_a_killed_writer_leaves_no_file(folder: Folder) -> None:
    with pytest.raises(ArtifactMissing, match="there is no curated set here; run 'raydistill curate CONFIG' first"):
        open_manifest(folder, "curated")
    folder.write("data/part-0.bin", b"data")
    with pytest.raises(
        ArtifactMissing, match="the curated set here was never finished; run 'raydistill curate CONFIG' again"
    ):
        open_manifest(folder, "curated")
    assert not manifest.exists(folder)


def test_partial_files_are_no_part_of_an_artifact(folder: Folder) -> None:
    folder.write(f"{manifest.PARTIAL}/expert-0001/state.npz", b"half")
    written = write(folder)
    assert not any(name.startswith(manifest.PARTIAL) for name in [*written.files, *folder.files()])


def test_a_process_that_is_killed_while_it_hashes_keeps_its_checkpoint(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(folder: Folder, name: str) -> str:
        raise KeyboardInterrupt

    folder.write(f"{manifest.PARTIAL}/state", b"half")
    with monkeypatch.context() as context:
        context.setattr(Folder, "sha256", killed)
        with pytest.raises(KeyboardInterrupt):
            write(folder)
    assert folder.read(f"{manifest.PARTIAL}/state") == b"half"
    assert not manifest.exists(folder)
    write(folder)
    assert not folder.exists(manifest.PARTIAL)


def test_a_verified_artifact_is_read_again_only_when_it_changes(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    digest = Folder.sha256
    monkeypatch.setattr(Folder, "sha256", lambda folder, name: (read.append(name), digest(folder, name))[1])
    written = write(folder)
    read.clear()
    open_manifest(folder, "curated")
    assert not read, "what this process has just written was read again"
    monkeypatch.setattr(manifest, "_verified", {})  # as in another process
    open_manifest(folder, "curated")
    open_manifest(folder, "curated")
    assert sorted(read) == sorted(written.files)
    folder.write("summary.json", b"[]")
    with pytest.raises(ArtifactCorrupt, match=r"'summary\.json' is damaged"):
        open_manifest(folder, "curated")
    with pytest.raises(ArtifactCorrupt, match=r"'summary\.json' is damaged"):
        open_manifest(folder, "curated")


@pytest.mark.parametrize("name", ["data/part-0.bin", "summary.json", "picture.png"])
def test_a_flipped_bit_is_corrupt(folder: Folder, name: str) -> None:
    write(folder)
    folder.write(name, flipped(folder.read(name), -1))
    with pytest.raises(ArtifactCorrupt, match=f"'{name}' is damaged: .*; remove the folder"):
        open_manifest(folder, "curated")
    open_manifest(folder, "curated", verify=False)


def test_a_file_of_another_size_is_corrupt_before_it_is_read(tmp_path: Path) -> None:
    write(folder := Folder(tmp_path))
    with (tmp_path / "data/part-0.bin").open("wb") as stream:
        stream.truncate(1 << 42)  # hashing it would take hours
    with pytest.raises(ArtifactCorrupt, match=r"'data/part-0\.bin' is damaged"):
        open_manifest(folder, "curated")


def test_a_file_that_is_gone_is_corrupt(folder: Folder) -> None:
    write(folder)
    folder.remove("data/part-0.bin")
    with pytest.raises(ArtifactCorrupt, match=r"'data/part-0\.bin' is gone"):
        open_manifest(folder, "curated")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"3", b"{}", b"\xff\xfe", b'{"schema_version": 1, "parents": []}', b"[" * 100_000],
    ids=range(8),
)
def test_a_manifest_that_cannot_be_read_is_corrupt(folder: Folder, text: bytes) -> None:
    write(folder)
    folder.write(manifest.NAME, text)
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json is damaged; remove the folder and run"):
        open_manifest(folder, "curated")
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json is damaged"):
        kind_of(folder)


def test_every_flipped_bit_and_every_truncation_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    parent = write(folder / "parent")
    identity, config = identity_of("trajectories", {}, {}, 0), {"lr": 1e-5, "name": "caf\u00e9", "size": 8}
    commit(folder, kind="trajectories", identity=identity, config=config, parents={"curated": parent}, seed=3,
           uris={"curated": "elsewhere"})  # fmt: skip
    path = tmp_path / manifest.NAME
    content = path.read_bytes()
    changed = [content[:size] for size in range(len(content))]
    changed += [flipped(content, at, bit) for at in range(len(content)) for bit in range(8)]
    for number, data in enumerate(changed):
        with pytest.raises(ValueError, match="its digest is missing or wrong"):
            from_json(data)
        if number % 30 == 0:
            path.write_bytes(data)
            with pytest.raises(ArtifactCorrupt):
                open_manifest(folder, "trajectories", verify=False)
    path.write_bytes(content)
    assert open_manifest(folder, "trajectories").config == config


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": "none"}, "'seed' is missing, unknown or of another type"),
        ({"files": {"a": {"sha256": 3, "bytes": 1}}}, "'files.a.sha256' is"),
        ({"files": {"a": {}}}, "'files.a.sha256' is"),
        ({"parents": {"curated": None}}, "'parents.curated' is"),
        ({"parents": []}, "'parents' is"),
        ({"more": 1}, "'more' is"),
        *(
            ({"files": {name: {"sha256": "a", "bytes": 1}}}, "it names '.*', outside of its folder")
            for name in ("../a", "/a", "a/../../b", "..\\a", "", "./a", "a//b", "a/", manifest.NAME)
        ),
    ],
)
def test_types_and_names_are_checked_after_the_digest(folder: Folder, change: dict[str, Any], reason: str) -> None:
    write(folder)
    folder.write(manifest.NAME, to_json(from_json(folder.read(manifest.NAME)) | change))
    with pytest.raises(ArtifactCorrupt, match=rf"manifest\.json is damaged: .*{reason}"):
        open_manifest(folder, "curated")


def test_verification_names_files_that_are_no_part_of_the_artifact(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder)
    monkeypatch.setattr(manifest, "_verified", {})
    open_manifest(folder, "curated")
    assert not caplog.text
    for name in ("data/part-1.bin", f"{manifest.PARTIAL}/state", *(f"more-{n}.png" for n in range(5))):
        folder.write(name, b"more")
    open_manifest(folder, "curated")
    assert "not part of the artifact: data/part-1.bin, more-0.png" in caplog.text
    assert "and 2 more" in caplog.text


def test_another_kind_is_rejected(folder: Folder) -> None:
    write(folder)
    with pytest.raises(
        ArtifactIncompatible, match="this is a curated set, not a distilled set; give the path of a distilled set"
    ):
        open_manifest(folder, "distilled")


@pytest.mark.parametrize("change", [{}, {"a_field_of_tomorrow": 1}, {"parents": None}])
def test_another_schema_version_is_rejected_with_any_fields(folder: Folder, change: dict[str, Any]) -> None:
    write(folder)
    raw = from_json(folder.read(manifest.NAME)) | {"schema_version": 99} | change
    folder.write(manifest.NAME, to_json(raw))
    with pytest.raises(ArtifactIncompatible, match="its schema version is 99, this raydistill reads 1"):
        open_manifest(folder, "curated")


def test_identity_depends_on_every_input_and_on_nothing_else() -> None:
    base = ("curated", {"a": 1, "b": [2, 3]}, {"x": "1", "y": "2"}, 0)
    same = identity_of("curated", {"b": [2, 3], "a": 1}, {"y": "2", "x": "1"}, 0)
    assert same == identity_of(*base)
    others = [
        identity_of("other", *base[1:]),
        identity_of(base[0], {"a": 1, "b": [3, 2]}, *base[2:]),
        identity_of(*base[:2], {"x": "1", "y": "3"}, 0),
        identity_of(*base[:3], 1),
    ]
    assert len({same, *others}) == 5


def test_a_new_revision_changes_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {kind: identity_of(kind, {"a": 1}, {}, 0) for kind in table.kinds()}
    monkeypatch.setitem(table.kinds(), "curated", replace(table.kinds()["curated"], revision=2))
    after = {kind: identity_of(kind, {"a": 1}, {}, 0) for kind in table.kinds()}
    assert {kind for kind in before if before[kind] != after[kind]} == {"curated"}


def test_content_depends_on_the_data_alone(folder: Folder) -> None:
    first, other = write(folder), write(folder / "other", seed=1)
    assert first.content == other.content
    assert first.identity != other.identity
    assert write(folder / "third", data=b"Data").content != first.content


def test_content_ignores_png_files_and_includes_file_names(folder: Folder) -> None:
    content = write(folder)
    folder.write("picture.png", b"drawn by another matplotlib")
    again = commit(folder, kind="curated", identity=content.identity, config={}, parents={}, seed=0, uris={})
    assert again.content == content.content
    folder.write("renamed.json", folder.read("summary.json"))
    folder.remove("summary.json")
    renamed = commit(folder, kind="curated", identity=content.identity, config={}, parents={}, seed=0, uris={})
    assert renamed.content != content.content


def test_a_child_is_checked_against_its_parents_content(folder: Folder) -> None:
    parent = write(folder / "parent")
    child = write(folder / "child", parents={"curated": parent}, kind="trajectories")
    check_parent(open_manifest(folder / "child", "trajectories"), "curated", parent, "here")
    stranger = write(folder / "stranger", data=b"other")
    with pytest.raises(
        ArtifactIncompatible, match=f"here: made from another curated set .*not {stranger.content[:12]}"
    ):
        check_parent(child, "curated", stranger, "here")
