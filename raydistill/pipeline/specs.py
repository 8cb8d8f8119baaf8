"""Describe an artifact before it exists: kind, identity, folder, seed and parents."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raydistill import config as configs
from raydistill.artifacts.manifest import Manifest, commit, describe_kind, exists, open_manifest
from raydistill.config import CatalogSurvey
from raydistill.datasets.base import DataSet
from raydistill.errors import ArtifactMissing, CatalogError
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.galaxies.pictures.sources import ParquetImages
from raydistill.simulation.config import SimulatedSurvey
from raydistill.storage import Folder

if TYPE_CHECKING:
    from raydistill.pipeline.plan import Plan


@dataclass(frozen=True)
class ArtifactSpec:
    """An artifact of a plan, whether or not it exists yet.

    Parameters
    ----------
    kind
        The kind of artifact, such as `curated`.
    identity
        Digest of `kind`, `config`, the identities of `parents` and `seed`.
    folder
        Where its files are, or will be.
    seed
        The seed of the stage; 0 where nothing is random.
    config
        The part of the config that determines the artifact, as plain values.
    parents
        The artifacts that the stage reads, by their role.
    plan
        The plan by which its stage builds it. None: it exists, and comes from another run.
    """

    kind: str
    identity: str
    folder: Folder
    seed: int
    config: dict[str, Any]
    parents: dict[str, ArtifactSpec]
    plan: Plan | None = field(default=None, repr=False, compare=False)

    @property
    def exists(self) -> bool:
        """Whether the artifact is finished: its folder has a manifest."""
        return exists(self.folder)

    def commit(self) -> Manifest:
        """Write and return the manifest, which makes the finished files an artifact."""
        manifests = {name: open_manifest(spec.folder, spec.kind, verify=False) for name, spec in self.parents.items()}
        uris = {name: spec.folder.uri for name, spec in self.parents.items()}
        return commit(
            self.folder,
            kind=self.kind,
            identity=self.identity,
            config=self.config,
            parents=manifests,
            seed=self.seed,
            uris=uris,
        )


def existing_spec(kind: str, uri: str, fix: str) -> ArtifactSpec:
    """Return the finished artifact at a path from the config or the command line.

    Parameters
    ----------
    kind
        Kind that the artifact must have.
    uri
        Its folder.
    fix
        The last part of the error message.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
        There is no finished artifact of this kind.
    """
    folder = Folder(uri)
    try:
        manifest = open_manifest(folder, kind, verify=False)
    except ArtifactMissing as error:
        raise ArtifactMissing(f"no finished {describe_kind(kind)[0]} is here", folder.uri, fix) from error
    return ArtifactSpec(kind, manifest.identity, folder, manifest.seed, manifest.config, {})


def survey_parts(survey: configs.Survey) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what identifies a survey, and what only describes it.

    Licence and citation do not affect the data, so the identity leaves them out; the manifest has
    them.
    """
    parts: dict[str, Any] = {"survey": configs.plain(survey)}
    if isinstance(survey, SimulatedSurvey):
        return parts, {}
    provenance = {key: parts["survey"].pop(key) for key in ("licence", "citation")}
    if isinstance(survey, DataSet):
        parts["data_sha256"] = survey.digest()
        parts["survey"].pop("download", None)
    if isinstance(survey, CatalogSurvey):
        parts["catalog_sha256"] = file_digest(survey.catalog, "vote table", "survey.catalog")
        if isinstance(survey.images, MosaicImages):
            parts["mosaics_sha256"] = survey.images.digest()
        elif not isinstance(survey.images, ParquetImages) and survey.images.mapping is not None:
            parts["mapping_sha256"] = file_digest(survey.images.mapping, "filename mapping", "survey.images.mapping")
    return parts, provenance


def file_digest(uri: str, noun: str, key: str, *, contents: bool = False) -> str:
    """Return the digest of a file, or that of the names and sizes of a folder's files.

    Parameters
    ----------
    uri
        The file or folder.
    noun, key
        Name and config key of the file, for an error message.
    contents
        Of a folder, digest the contents of its files in place of their sizes.

    Raises
    ------
    CatalogError
        There is no such file.
    """
    folder, name = Folder.holding(uri)
    if not folder.exists(name):
        raise CatalogError(f"there is no such {noun}", uri, f"check {key}, and RAYDISTILL_DATA if the config uses it")
    inside = folder.files(name)
    if inside in ([], [name]):
        return folder.sha256(name)
    known = folder.sha256 if contents else folder.size
    return hashlib.sha256(repr([(n, known(n)) for n in inside]).encode()).hexdigest()
