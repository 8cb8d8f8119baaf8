from .api.configs import load_config, open, setup_logging
from .api.detection import detect
from .api.distillation import analyse, curate, distill, evaluate, experts, predict_survey, run, simulate, tune
from .api.fetching import fetch, fetch_cutouts
from .api.generation import audit_set, augment, sample
from .api.hunting import hunt
from .api.surveys import adapt_survey
from .artifacts.adaptation import AdaptationReport
from .artifacts.analysis import AnalysisReport
from .artifacts.audit import AuditReport
from .artifacts.augmentation import AugmentationReport
from .artifacts.curated import CuratedSet
from .artifacts.detection import DetectionReport
from .artifacts.distilled import DistilledSet
from .artifacts.evaluation import EvaluationReport
from .artifacts.hunt import HuntReport, HuntRound
from .artifacts.predictions import PredictionSet
from .artifacts.search import SearchReport
from .artifacts.survey import Survey
from .artifacts.synthetic import SyntheticSet
from .artifacts.trajectories import TrajectoryStore
from .config import Config
from .core.architectures import ConvNet
from .core.augment import Augmentation
from .core.distiller import Distiller
from .core.engines import Adjoint, Unrolled
from .core.matching import Matcher
from .core.networks import Network, build_network, initial_parameters
from .core.options.training import Training
from .core.recipe import Recipe
from .core.schedule import Fixed, LossWeighted, SelfAdaptive, StepwiseWindow
from .core.training import fit, predict, train
from .core.trajectories import InMemoryTrajectories
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
from .fetching.cutouts import CutoutRequest

__all__ = [
    "AdaptationReport",
    "Adjoint",
    "AnalysisReport",
    "ArtifactCorrupt",
    "ArtifactError",
    "ArtifactIncompatible",
    "ArtifactMissing",
    "AuditReport",
    "Augmentation",
    "AugmentationReport",
    "CatalogError",
    "ClusterError",
    "Config",
    "ConfigError",
    "ConvNet",
    "CuratedSet",
    "CutoutRequest",
    "DetectionReport",
    "DistilledSet",
    "Distiller",
    "DivergenceError",
    "DownloadError",
    "EvaluationReport",
    "Fixed",
    "HuntReport",
    "HuntRound",
    "InMemoryTrajectories",
    "LossWeighted",
    "Matcher",
    "Network",
    "PredictionSet",
    "RaydistillError",
    "Recipe",
    "SearchReport",
    "SelfAdaptive",
    "StepwiseWindow",
    "Survey",
    "SyntheticSet",
    "Training",
    "TrajectoryStore",
    "Unrolled",
    "adapt_survey",
    "analyse",
    "audit_set",
    "augment",
    "build_network",
    "curate",
    "detect",
    "distill",
    "evaluate",
    "experts",
    "fetch",
    "fetch_cutouts",
    "fit",
    "hunt",
    "initial_parameters",
    "load_config",
    "open",
    "predict",
    "predict_survey",
    "run",
    "sample",
    "setup_logging",
    "simulate",
    "train",
    "tune",
]
__version__: str
