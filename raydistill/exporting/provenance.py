"""Find survey, licence and citation of the galaxies behind a set of pictures.

A curated set has them in its manifest, and a released set in its card. Other sets name a curated set
among their parents. Where it is not found, the FITS header of a distilled set names survey and licence.
"""

from __future__ import annotations

from dataclasses import dataclass

from raydistill.artifacts.manifest import Manifest, Parent, describe_kind, kind_of, open_manifest
from raydistill.errors import ArtifactError
from raydistill.log import get_logger
from raydistill.stages.curate.artifact import KIND, CuratedSet
from raydistill.stages.distill.artifact import PROTOTYPES, DistilledSet
from raydistill.stages.sample.artifact import SyntheticSet
from raydistill.storage import Folder

log = get_logger(__name__)

METHOD = "https://arxiv.org/abs/2311.17967"  # the paper whose method makes distilled sets
_UNKNOWN = ("", "unknown")


@dataclass(frozen=True)
class Provenance:
    """Where the galaxies of a set come from.

    Attributes
    ----------
    survey
        Name of the survey in its config.
    simulated
        Whether the survey was simulated.
    licence, citation
        As the config of the survey names them; "" if it does not.
    homepage
        URL of the method's paper for a distilled set, else "".
    """

    survey: str
    simulated: bool
    licence: str
    citation: str
    homepage: str = ""

    def describe(self, manifest: Manifest) -> str:
        """Return one sentence on the set: its kind, survey and digest."""
        noun = describe_kind(manifest.kind)[0]
        galaxies = "simulated galaxies" if self.simulated else "galaxies"
        of = f" of the survey {self.survey}" if self.survey else ""
        return f"A {noun} of {galaxies}{of}, written by raydistill; content sha256 {manifest.content}."


def provenance_of(pictures: CuratedSet | SyntheticSet | DistilledSet) -> Provenance:
    """Return where the galaxies of a set come from."""
    if isinstance(pictures, CuratedSet):
        return _of_curated(pictures.manifest, pictures.summary.survey, pictures.summary.simulated)
    homepage = METHOD if isinstance(pictures, DistilledSet) else ""
    if isinstance(pictures, DistilledSet) and (card := pictures.card) is not None:
        return Provenance(card.survey, card.simulated, card.licence, card.citation, homepage)
    if (curated := find_curated(pictures.folder, pictures.manifest)) is not None:
        return _of_curated(curated.manifest, curated.summary.survey, curated.summary.simulated, homepage)
    where = pictures.folder.uri
    log.warning("export: the curated set of %s is not found, so its citation is left out", where)
    if isinstance(pictures, SyntheticSet):
        return Provenance(pictures.summary.survey, pictures.summary.simulated, "", "")
    if PROTOTYPES not in pictures.manifest.files:
        return Provenance("", False, "", "", homepage)
    header = pictures.to_fits()[0].header
    licence = str(header.get("LICENCE", ""))
    licence = "" if licence in _UNKNOWN else licence
    return Provenance(str(header.get("SURVEY", "")), bool(header.get("SIMULATD")), licence, "", homepage)


def _of_curated(manifest: Manifest, survey: str, simulated: bool, homepage: str = "") -> Provenance:
    licence, citation = (str(manifest.config.get(key) or "") for key in ("licence", "citation"))
    return Provenance(survey, simulated, licence, citation, homepage)


def find_curated(folder: Folder, manifest: Manifest) -> CuratedSet | None:
    """Return the curated set from which an artifact was made; None if not found.

    A run folder may have been moved, so each parent is also looked for beside the artifact.
    """
    beside = folder.uri.rpartition("/")[0]
    for parent in manifest.parents.values():
        for uri in (parent.uri, f"{beside}/{parent.uri.rpartition('/')[2]}"):
            try:
                opened = _open_parent(Folder(uri), parent)
            except ArtifactError:
                continue
            if opened is not None:
                return opened
    return None


def _open_parent(folder: Folder, parent: Parent) -> CuratedSet | None:
    kind = kind_of(folder)
    manifest = open_manifest(folder, kind, verify=False)
    if manifest.content != parent.content:
        return None
    return CuratedSet.open(folder, verify=False) if kind == KIND else find_curated(folder, manifest)
