from .api.configs import load_config, open, setup_logging
from .api.detection import detect
from .api.distillation import analyse, curate, distill, evaluate, experts, predict_survey, run, simulate, tune
from .api.fetching import fetch, fetch_cutouts
from .api.generation import audit_set, augment, sample
from .api.hunting import hunt
from .api.surveys import adapt_survey
from .config import Config
from .distillation.distiller import Distiller
from .distillation.engines import Adjoint, Unrolled
from .distillation.matching import Matcher
from .distillation.recipe import Recipe
from .distillation.schedule import Fixed, LossWeighted, SelfAdaptive, StepwiseWindow
from .distillation.trajectories import InMemoryTrajectories
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
from .learning.architectures import ConvNet
from .learning.augment import Augmentation
from .learning.networks import Network, build_network, initial_parameters
from .learning.options.training import Training
from .learning.training import fit, predict, train
from .stages.adapt.artifact import AdaptationReport
from .stages.analyse.artifact import AnalysisReport
from .stages.audit.artifact import AuditReport
from .stages.augment.artifact import AugmentationReport
from .stages.curate.artifact import CuratedSet
from .stages.detect.artifact import DetectionReport
from .stages.distill.artifact import DistilledSet
from .stages.evaluate.artifact import EvaluationReport
from .stages.experts.artifact import TrajectoryStore
from .stages.hunt.artifact import HuntReport, HuntRound
from .stages.predict.artifact import PredictionSet
from .stages.sample.artifact import SyntheticSet
from .stages.simulate.artifact import Survey
from .stages.tune.artifact import SearchReport

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
