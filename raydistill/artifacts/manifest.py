"""Write and read the manifest, which turns a folder of files into an artifact.

A stage writes the manifest last. A folder without one counts as unfinished, so a killed stage
leaves no artifact, on disks and on object stores alike.

- The *identity* is a digest of the kind, the artifact's part of the config, the parents' identities
  and the seed. It names the folder, and `run` skips a stage whose identity exists.
- The *content* is a digest of the data files without the PNG figures and the costs. They hold no
  time, host or order of arrival, so it compares two runs.

The manifest holds the digest of every other file and its own, so any damage is noticed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from raydistill import table
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ArtifactMissing
from raydistill.log import get_logger
from raydistill.storage import Folder
from raydistill.storage.checked import from_json, to_json

log = get_logger(__name__)

SCHEMA_VERSION = 1
NAME = "manifest.json"
COST, COSTS = "cost.json", "costs.json"  # of the artifact, and of the training sets of an evaluation
PARTIAL = "partial"  # subfolder of unfinished work, never part of an artifact
_PACKAGES = ("raydistill", "torch", "numpy", "pyarrow", "ray", "astropy", "pillow")


@dataclass(frozen=True)
class Parent:
    """An artifact that this one was built from: its identity, content digest and URI."""

    identity: str
    content: str
    uri: str


@dataclass(frozen=True)
class FileEntry:
    """The digest of a file of an artifact, and its size."""

    sha256: str
    bytes: int


@dataclass(frozen=True, repr=False)
class Manifest:
    """The record that makes a folder an artifact.

    Attributes
    ----------
    kind
        Kind of artifact, such as "curated" (`raydistill.table`).
    identity
        Hex digest of kind, config, parents' identities and seed.
    content
        Hex digest of the data files without the PNG figures and the costs.
    seed
        Root seed of the run.
    config
        The part of the resolved config that determines the artifact.
    parents
        The artifacts that this one was built from, by role.
    files
        Digest and size of each file, by name.
    packages
        Versions of the installed packages that wrote the artifact.
    git_commit
        Commit of raydistill's checkout, or None where it was installed.
    schema_version
        Version of the manifest's own format.
    """

    kind: str
    identity: str
    content: str
    seed: int
    config: dict[str, Any]
    parents: dict[str, Parent]
    files: dict[str, FileEntry]
    packages: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    schema_version: int = SCHEMA_VERSION

    def __repr__(self) -> str:
        return f"<Manifest: {self.kind} {self.identity[:12]}, {len(self.files)} files, content {self.content[:12]}>"


def identity_of(kind: str, config: Any, parents: Mapping[str, str], seed: int) -> str:
    """Return the hex digest of an artifact's inputs; `config` must be JSON data."""
    revision = table.revision(kind)
    head = [SCHEMA_VERSION, kind, *([revision] if revision > 1 else [])]
    text = json.dumps([*head, config, dict(sorted(parents.items())), seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def exists(folder: Folder) -> bool:
    """Return whether the folder holds a finished artifact."""
    return folder.exists(NAME)


def commit(folder: Folder, *, kind: str, identity: str, config: Any, parents: Mapping[str, Manifest | Parent], seed: int,
         uris: Mapping[str, str]) -> Manifest:  # fmt: skip
    """Hash all files but the unfinished ones, remove these, and write the manifest.

    In this order a process that is killed while it hashes can resume.
    """
    folder.remove_unfinished()
    names = [name for name in folder.files() if name != NAME and not name.startswith(f"{PARTIAL}/")]
    files = {name: FileEntry(folder.sha256(name), folder.size(name)) for name in names}
    manifest = Manifest(
        kind=kind,
        identity=identity,
        content=_content(files),
        seed=seed,
        config=config,
        parents={name: Parent(p.identity, p.content, uris[name]) for name, p in parents.items()},
        files=files,
        packages=_package_versions(),
        git_commit=source_commit(),
    )
    folder.remove(PARTIAL)
    folder.write(NAME, to_json(asdict(manifest)))
    _verified[folder.uri] = folder.change_token()
    return manifest


def kind_of(folder: Folder) -> str:
    """Return the kind that the manifest in a folder names.

    Raises
    ------
    ArtifactMissing
        The folder has no manifest.
    ArtifactCorrupt
        The manifest cannot be read.
    """
    if not folder.exists(NAME):
        what = "the artifact here was never finished" if folder.exists() else "there is no artifact here"
        raise ArtifactMissing(what, folder.uri, "check the path, or run the stage that writes it")
    return _read(folder, "the stage that writes it").kind


def open_manifest(folder: Folder, kind: str, *, verify: bool = True) -> Manifest:
    """Return the manifest of a finished artifact of this kind.

    Parameters
    ----------
    folder
        Folder of the artifact.
    kind
        The kind that it must have.
    verify
        Read every file and compare its sha256. A process does this once per artifact, as long as
        the artifact does not change.

    Raises
    ------
    ArtifactMissing
        The folder has no manifest.
    ArtifactIncompatible
        The artifact has another kind or schema version.
    ArtifactCorrupt
        The manifest is damaged; with `verify`, a file is gone or differs from its digest.
    """
    noun, command = describe_kind(kind)
    if not folder.exists(NAME):
        unfinished = folder.exists()
        what = f"the {noun} here was never finished" if unfinished else f"there is no {noun} here"
        raise ArtifactMissing(what, folder.uri, f"run {command} {'again' if unfinished else 'first'}")
    manifest = _read(folder, command)
    if manifest.kind != kind:
        actual = describe_kind(manifest.kind)[0]
        actual, noun = (f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for word in (actual, noun))
        raise ArtifactIncompatible(f"this is {actual}, not {noun}", folder.uri, f"give the path of {noun}")
    if verify and _verified.get(folder.uri) != (token := folder.change_token()):
        _verify(folder, manifest)
        _verified[folder.uri] = token
    return manifest


def _read(folder: Folder, command: str) -> Manifest:
    """Return the manifest after a check of its digest, its types and its file names."""
    damaged, fix = f"{NAME} is damaged", f"remove the folder and run {command} again"
    try:
        raw = from_json(folder.read(NAME))
    except ValueError as error:
        raise ArtifactCorrupt(damaged, folder.uri, fix) from error
    version = raw.get("schema_version")  # first: another version may have other fields
    if version != SCHEMA_VERSION:
        what = f"its schema version is {version}, this raydistill reads {SCHEMA_VERSION}"
        raise ArtifactIncompatible(what, folder.uri, f"run {command} again")
    try:
        manifest = _adapter().validate_python(raw)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        what = f"{damaged}: '{place}' is missing, unknown or of another type"
        raise ArtifactCorrupt(what, folder.uri, fix) from error
    if outside := [name for name in manifest.files if not _is_inside(name)]:
        raise ArtifactCorrupt(f"{damaged}: it names '{outside[0]}', outside of its folder", folder.uri, fix)
    return manifest


@functools.cache
def _adapter() -> TypeAdapter[Manifest]:
    for cls in (Manifest, Parent, FileEntry):
        cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[union-attr]
    return TypeAdapter(Manifest)


def _is_inside(name: str) -> bool:
    return name != NAME and not {"", ".", ".."} & set(name.split("/")) and not {"\\", "\0"} & set(name)


def describe_kind(kind: str) -> tuple[str, str]:
    """Return the noun for artifacts of this kind, and the command that builds them."""
    if kind not in table.kinds():
        return kind, "'raydistill run CONFIG'"
    return table.kinds()[kind].noun, f"'raydistill {table.stage_of(kind).name} CONFIG'"


# Change tokens of the artifacts that this process has verified, by URI. The stages of a run open
# the same parents, and reading them from a bucket a second time would be slow.
_verified: dict[str, str] = {}


def _verify(folder: Folder, manifest: Manifest) -> None:
    """Compare all files with their digests, and warn of unexpected files."""
    fix = f"remove the folder and run {describe_kind(manifest.kind)[1]} again"
    if "card.json" in manifest.files:
        fix = "get the released set again"
    for name, expected in manifest.files.items():
        if not folder.exists(name):
            raise ArtifactCorrupt(f"'{name}' is gone", folder.uri, fix)
        if folder.size(name) != expected.bytes or folder.sha256(name) != expected.sha256:
            raise ArtifactCorrupt(f"'{name}' is damaged: its digest is not the manifest's", folder.uri, fix)
    if unexpected := sorted(set(folder.files()) - {NAME, *manifest.files}):
        named = ", ".join(unexpected[:5]) + (f" and {len(unexpected) - 5} more" if len(unexpected) > 5 else "")
        log.warning("%s holds files that are not part of the artifact: %s", folder, named)


def check_parent(child: Manifest, name: str, parent: Manifest, where: str) -> None:
    """Raise ArtifactIncompatible unless `child` was built from `parent`'s content."""
    if child.parents[name].content != parent.content:
        raise ArtifactIncompatible(
            f"made from another {describe_kind(name)[0]} ({child.parents[name].content[:12]}, not {parent.content[:12]})",
            where,
            f"run {describe_kind(child.kind)[1]} again",
        )


def _content(files: Mapping[str, FileEntry]) -> str:
    data = sorted(
        (name, entry.sha256) for name, entry in files.items() if not (name.endswith(".png") or name in (COST, COSTS))
    )
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@functools.cache
def source_commit() -> str | None:
    """Return the commit of raydistill's checkout; None if this file is not tracked."""
    here = Path(__file__).resolve().parent
    try:
        for command in (["ls-files", "--error-unmatch", Path(__file__).name], ["rev-parse", "HEAD"]):
            done = subprocess.run(["git", *command], cwd=here, check=True, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
