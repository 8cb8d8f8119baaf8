"""Open any artifact by its path: the manifest says which kind it is."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raydistill.artifacts.manifest import kind_of
from raydistill.errors import ArtifactIncompatible
from raydistill.storage import Folder

if TYPE_CHECKING:
    from raydistill.artifacts.adaptation import AdaptationReport
    from raydistill.artifacts.analysis import AnalysisReport
    from raydistill.artifacts.audit import AuditReport
    from raydistill.artifacts.augmentation import AugmentationReport
    from raydistill.artifacts.curated import CuratedSet
    from raydistill.artifacts.detection import DetectionReport
    from raydistill.artifacts.distilled import DistilledSet
    from raydistill.artifacts.evaluation import EvaluationReport
    from raydistill.artifacts.generator import GeneratorArtifact
    from raydistill.artifacts.hunt import HuntReport, HuntRound
    from raydistill.artifacts.predictions import PredictionSet
    from raydistill.artifacts.search import SearchReport
    from raydistill.artifacts.survey import Survey
    from raydistill.artifacts.synthetic import SyntheticSet
    from raydistill.artifacts.trajectories import TrajectoryStore

    Artifact = (
        Survey
        | CuratedSet
        | TrajectoryStore
        | DistilledSet
        | EvaluationReport
        | SearchReport
        | SyntheticSet
        | PredictionSet
        | GeneratorArtifact
        | AuditReport
        | DetectionReport
        | HuntReport
        | HuntRound
        | AugmentationReport
        | AdaptationReport
        | AnalysisReport
    )

# The module and the class of each kind. A module is imported when one is opened: most import torch.
KINDS = {
    "survey": "survey:Survey",
    "curated": "curated:CuratedSet",
    "trajectories": "trajectories:TrajectoryStore",
    "distilled": "distilled:DistilledSet",
    "evaluation": "evaluation:EvaluationReport",
    "search": "search:SearchReport",
    "synthetic": "synthetic:SyntheticSet",
    "predictions": "predictions:PredictionSet",
    "generator": "generator:GeneratorArtifact",
    "audit": "audit:AuditReport",
    "detection": "detection:DetectionReport",
    "hunt": "hunt:HuntReport",
    "hunt_round": "hunt:HuntRound",
    "augmentation": "augmentation:AugmentationReport",
    "adaptation": "adaptation:AdaptationReport",
    "analysis": "analysis:AnalysisReport",
}


def open_artifact(uri: str | Folder, *, verify: bool = True) -> Artifact:
    """Open the artifact of any kind at a path or URI, as `raydistill.open` describes."""
    folder = uri if isinstance(uri, Folder) else Folder(uri)
    kind = kind_of(folder)
    if kind not in KINDS:
        raise ArtifactIncompatible(
            f"this raydistill does not know artifacts of kind '{kind}'", folder.uri, "install the release that wrote it"
        )
    module, _, name = KINDS[kind].partition(":")
    artifact: Any = getattr(import_module(f"raydistill.artifacts.{module}"), name).open(folder, verify=verify)
    return artifact
