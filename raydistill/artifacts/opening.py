"""Open any artifact by its path: the manifest says which kind it is."""

from __future__ import annotations

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.distilled import DistilledSet
from raydistill.artifacts.evaluation import EvaluationReport
from raydistill.artifacts.manifest import kind_of
from raydistill.artifacts.search import SearchReport
from raydistill.artifacts.survey import Survey
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.errors import ArtifactIncompatible
from raydistill.storage import Folder

Artifact = Survey | CuratedSet | TrajectoryStore | DistilledSet | EvaluationReport | SearchReport

KINDS: dict[str, type[Artifact]] = {
    "survey": Survey,
    "curated": CuratedSet,
    "trajectories": TrajectoryStore,
    "distilled": DistilledSet,
    "evaluation": EvaluationReport,
    "search": SearchReport,
}


def open_artifact(uri: str | Folder, *, verify: bool = True) -> Artifact:
    """Open the artifact at a path or URI, whatever its kind.

    Parameters
    ----------
    uri
        Folder of the artifact: a path, or any URI that fsspec reads (`s3://`, `gs://`).
    verify
        Read every file and compare its sha256 with the manifest. False saves that time.

    Returns
    -------
    Survey, CuratedSet, TrajectoryStore, DistilledSet, EvaluationReport or SearchReport

    Raises
    ------
    ArtifactMissing
        There is no finished artifact: no folder, or a folder without a manifest.
    ArtifactIncompatible
        Another release wrote it, or its kind is unknown to this one.
    ArtifactCorrupt
        The manifest is damaged; with `verify`, a file is gone or differs from its digest.
    """
    folder = uri if isinstance(uri, Folder) else Folder(uri)
    kind = kind_of(folder)
    if kind not in KINDS:
        raise ArtifactIncompatible(
            f"this raydistill does not know artifacts of kind '{kind}'", folder.uri, "install the release that wrote it"
        )
    return KINDS[kind].open(folder, verify=verify)
