"""Open any artifact by its path: the manifest says which kind it is."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from raydistill.artifacts.manifest import kind_of
from raydistill.errors import ArtifactIncompatible
from raydistill.storage import Folder

if TYPE_CHECKING:
    from raydistill.stages.adapt.artifact import AdaptationReport
    from raydistill.stages.analyse.artifact import AnalysisReport
    from raydistill.stages.audit.artifact import AuditReport
    from raydistill.stages.augment.artifact import AugmentationReport
    from raydistill.stages.curate.artifact import CuratedSet
    from raydistill.stages.detect.artifact import DetectionReport
    from raydistill.stages.distill.artifact import DistilledSet
    from raydistill.stages.evaluate.artifact import EvaluationReport
    from raydistill.stages.experts.artifact import TrajectoryStore
    from raydistill.stages.generate.artifact import GeneratorArtifact
    from raydistill.stages.hunt.artifact import HuntReport, HuntRound
    from raydistill.stages.predict.artifact import PredictionSet
    from raydistill.stages.sample.artifact import SyntheticSet
    from raydistill.stages.simulate.artifact import Survey
    from raydistill.stages.tune.artifact import SearchReport

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
