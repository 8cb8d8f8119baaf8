"""The manifest: what makes a folder of files an artifact.

It is written last. A folder without one does not exist, so a killed writer leaves nothing half-true, on disks and on object
stores alike. *Identity* is a digest of what determines an artifact (kind, its part of the config, its parents' identities, the
seed): it names the folder and decides what `run` may skip. *Content* is a digest of the data files alone (pictures excepted), which
carry no time, host or order of arrival: two runs that should agree are compared by it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ArtifactMissing
from raydistill.storage import Folder

SCHEMA_VERSION = 1
# Raised by a change to the code that makes other data of the same config, so that nothing older is taken for it.
REVISIONS = {"survey": 1, "curated": 1, "trajectories": 1, "distilled": 1, "evaluation": 1, "search": 1}
NAME = "manifest.json"
PARTIAL = "partial"  # subfolder of work in progress, never part of an artifact
# How a person calls each kind, and the command that makes it.
_WORDS = {
    "survey": ("simulated survey", "simulate"),
    "curated": ("curated set", "curate"),
    "trajectories": ("set of expert trajectories", "experts"),
    "distilled": ("distilled set", "distill"),
    "evaluation": ("evaluation", "evaluate"),
    "search": ("search", "tune"),
}
_PACKAGES = ("raydistill", "torch", "numpy", "pyarrow", "ray", "astropy", "pillow")


@dataclass(frozen=True)
class Parent:
    """An artifact that this one was made from."""

    identity: str
    content: str
    uri: str


@dataclass(frozen=True)
class Manifest:
    """See the module; `files` maps names to {sha256, bytes}."""

    kind: str
    identity: str
    content: str
    seed: int
    config: dict[str, Any]
    parents: dict[str, Parent]
    files: dict[str, dict[str, Any]]
    packages: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    schema_version: int = SCHEMA_VERSION


def identity_of(kind: str, config: Any, parents: Mapping[str, str], seed: int) -> str:
    """Hex digest of what determines an artifact; `config` is anything JSON can hold."""
    revision = REVISIONS.get(kind, 1)
    made_by = [SCHEMA_VERSION, kind, *([revision] if revision > 1 else [])]
    text = json.dumps([*made_by, config, dict(sorted(parents.items())), seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def exists(folder: Folder) -> bool:
    """True if a whole artifact is there."""
    return folder.exists(NAME)


def commit(folder: Folder, *, kind: str, identity: str, config: Any, parents: Mapping[str, Manifest | Parent], seed: int,
         uris: Mapping[str, str]) -> Manifest:  # fmt: skip
    """Drop what is left of the work in progress, hash every file in the folder, and make it an artifact."""
    folder.remove(PARTIAL)
    folder.remove_unfinished()
    files = {
        name: {"sha256": folder.sha256(name), "bytes": folder.size(name)} for name in folder.files() if name != NAME
    }
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
    folder.write(NAME, json.dumps(asdict(manifest), indent=1, sort_keys=True).encode())
    _verified[folder.uri] = folder.change_token()
    return manifest


def opened(uri: str | Folder, kind: str, *, verify: bool = True) -> tuple[Folder, Manifest]:
    """The folder of an artifact of this kind, and its manifest.

    verify: read every file and compare its sha256, once a process for each artifact that does not change. Errors are those of
    `open_manifest`.
    """
    folder = uri if isinstance(uri, Folder) else Folder(uri)
    return folder, open_manifest(folder, kind, verify=verify)


def kind_of(folder: Folder) -> str:
    """Return the kind that the manifest in a folder names.

    Raises ArtifactMissing where no manifest is there, ArtifactCorrupt where it cannot be read.
    """
    if not folder.exists(NAME):
        what = "the artifact here was never finished" if folder.exists() else "there is no artifact here"
        raise ArtifactMissing(what, folder.uri, "check the path, or run the stage that writes it")
    try:
        return str(json.loads(folder.read(NAME))["kind"])
    except (ValueError, TypeError, KeyError) as error:
        fix = "remove the folder and run the stage that writes it again"
        raise ArtifactCorrupt("manifest.json is damaged", folder.uri, fix) from error


def open_manifest(folder: Folder, kind: str, *, verify: bool = True) -> Manifest:
    """The manifest of a whole, undamaged artifact of this kind.

    Raises ArtifactMissing, ArtifactIncompatible (other kind or schema version) or, with `verify`, ArtifactCorrupt when a file is gone
    or differs from its digest.
    """
    noun, command = in_words(kind)
    if not folder.exists(NAME):
        begun = folder.exists()
        what = f"the {noun} here was never finished" if begun else f"there is no {noun} here"
        raise ArtifactMissing(what, folder.uri, f"run {command} {'again' if begun else 'first'}")
    try:
        raw = json.loads(folder.read(NAME))
        version = raw["schema_version"]  # first: another version may have other fields
        if version != SCHEMA_VERSION:
            raise ArtifactIncompatible(
                f"its schema version is {version}, this raydistill reads {SCHEMA_VERSION}",
                folder.uri,
                f"run {command} again",
            )
        manifest = Manifest(**{**raw, "parents": {name: Parent(**p) for name, p in raw["parents"].items()}})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        fix = f"remove the folder and run {command} again"
        raise ArtifactCorrupt("manifest.json is damaged", folder.uri, fix) from error
    if manifest.kind != kind:
        given = in_words(manifest.kind)[0]
        raise ArtifactIncompatible(f"this is a {given}, not a {noun}", folder.uri, f"give the path of a {noun}")
    if verify and _verified.get(folder.uri) != (stamp := folder.change_token()):
        _verify(folder, manifest)
        _verified[folder.uri] = stamp
    return manifest


def in_words(kind: str) -> tuple[str, str]:
    """What a person calls an artifact of this kind, and the command that makes it."""
    noun, stage = _WORDS.get(kind, (kind, "run"))
    return noun, f"'raydistill {stage} CONFIG'"


# What this process has read and found whole, as it was then; the stages of a run open their parents in turn, and may lie in a bucket.
_verified: dict[str, str] = {}


def _verify(folder: Folder, manifest: Manifest) -> None:
    fix = f"remove the folder and run {in_words(manifest.kind)[1]} again"
    for name, expected in manifest.files.items():
        if not folder.exists(name):
            raise ArtifactCorrupt(f"'{name}' is gone", folder.uri, fix)
        if folder.sha256(name) != expected["sha256"]:
            raise ArtifactCorrupt(f"'{name}' is damaged: its digest is not the manifest's", folder.uri, fix)


def check_parent(child: Manifest, name: str, parent: Manifest, where: str) -> None:
    """ArtifactIncompatible unless `parent` holds the very content that `child` was made from."""
    if child.parents[name].content != parent.content:
        raise ArtifactIncompatible(
            f"made from another {in_words(name)[0]} ({child.parents[name].content[:12]}, not {parent.content[:12]})",
            where,
            f"run {in_words(child.kind)[1]} again",
        )


def _content(files: Mapping[str, Mapping[str, Any]]) -> str:
    data = sorted((name, entry["sha256"]) for name, entry in files.items() if not name.endswith(".png"))
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def source_commit() -> str | None:
    """The commit of this package's checkout; None when it is installed, though the environment lie in someone's checkout."""
    here = Path(__file__).resolve().parent
    try:
        for command in (["ls-files", "--error-unmatch", Path(__file__).name], ["rev-parse", "HEAD"]):
            done = subprocess.run(["git", *command], cwd=here, check=True, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
