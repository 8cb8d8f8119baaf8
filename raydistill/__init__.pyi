import os

from .api import load_config, open, run, setup_logging
from .config import Config
from .errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactIncompatible,
    ArtifactMissing,
    CatalogError,
    ClusterError,
    ConfigError,
    DivergenceError,
    DownloadError,
    RaydistillError,
)
from .fetching.cutouts import CutoutRequest, fetch_cutouts
from .fetching.runner import fetch
from .galaxies.pictures.images import prepare
from .stages.adapt.artifact import AdaptationReport
from .stages.analyse.artifact import AnalysisReport
from .stages.audit.artifact import AuditReport
from .stages.augment.artifact import AugmentationReport
from .stages.curate.artifact import CuratedSet
from .stages.detect.artifact import DetectionReport
from .stages.distill.artifact import DistilledSet
from .stages.evaluate.artifact import EvaluationReport
from .stages.experts.artifact import TrajectoryStore
from .stages.generate.artifact import GeneratorArtifact
from .stages.hunt.artifact import HuntReport, HuntRound
from .stages.predict.artifact import PredictionSet
from .stages.pretrain.artifact import EncoderArtifact
from .stages.sample.artifact import SyntheticSet
from .stages.similar.artifact import SimilarSheet
from .stages.simulate.artifact import Survey
from .stages.tune.artifact import SearchReport

__all__ = [
    "AdaptationReport",
    "AnalysisReport",
    "ArtifactCorrupt",
    "ArtifactError",
    "ArtifactIncompatible",
    "ArtifactMissing",
    "AuditReport",
    "AugmentationReport",
    "CatalogError",
    "ClusterError",
    "Config",
    "ConfigError",
    "CuratedSet",
    "CutoutRequest",
    "DetectionReport",
    "DistilledSet",
    "DivergenceError",
    "DownloadError",
    "EncoderArtifact",
    "EvaluationReport",
    "GeneratorArtifact",
    "HuntReport",
    "HuntRound",
    "PredictionSet",
    "RaydistillError",
    "SearchReport",
    "SimilarSheet",
    "Survey",
    "SyntheticSet",
    "TrajectoryStore",
    "adapt",
    "analyse",
    "audit",
    "augment",
    "curate",
    "detect",
    "distill",
    "evaluate",
    "experts",
    "fetch",
    "fetch_cutouts",
    "generate",
    "hunt",
    "load_config",
    "open",
    "predict",
    "prepare",
    "pretrain",
    "run",
    "sample",
    "setup_logging",
    "simulate",
    "tune",
]
__version__: str

# The functions of the stages, as `api.stage_function` makes them from the table.
def simulate(config: Config | str | os.PathLike[str], *overrides: str) -> Survey: ...
def curate(config: Config | str | os.PathLike[str], *overrides: str) -> CuratedSet: ...
def experts(config: Config | str | os.PathLike[str], *overrides: str) -> TrajectoryStore: ...
def distill(config: Config | str | os.PathLike[str], *overrides: str) -> DistilledSet: ...
def evaluate(config: Config | str | os.PathLike[str], *overrides: str) -> EvaluationReport: ...
def predict(config: Config | str | os.PathLike[str], *overrides: str) -> PredictionSet: ...
def pretrain(config: Config | str | os.PathLike[str], *overrides: str) -> EncoderArtifact: ...
def tune(config: Config | str | os.PathLike[str], *overrides: str) -> SearchReport: ...
def analyse(config: Config | str | os.PathLike[str], *overrides: str) -> AnalysisReport: ...
def generate(config: Config | str | os.PathLike[str], *overrides: str) -> GeneratorArtifact: ...
def sample(config: Config | str | os.PathLike[str], *overrides: str) -> SyntheticSet: ...
def audit(config: Config | str | os.PathLike[str], *overrides: str) -> AuditReport: ...
def augment(config: Config | str | os.PathLike[str], *overrides: str) -> AugmentationReport: ...
def detect(config: Config | str | os.PathLike[str], *overrides: str) -> DetectionReport: ...
def hunt(config: Config | str | os.PathLike[str], *overrides: str) -> HuntRound | HuntReport: ...
def similar(config: Config | str | os.PathLike[str], *overrides: str) -> SimilarSheet: ...
def adapt(config: Config | str | os.PathLike[str], *overrides: str) -> AdaptationReport: ...
