"""The public Python API: load a config, run stages, open artifacts.

Each function takes a config (a `Config`, a YAML file or the name of a shipped one) and `key=value`
overrides, as the command line does, and returns the artifact of its stage. A stage whose artifact
exists opens it. A stage that needs workers raises `ClusterError` if it gets none, or if they die
too often.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from raydistill.config import Config, load, override

if TYPE_CHECKING:
    from raydistill.artifacts.audit import AuditReport
    from raydistill.artifacts.curated import CuratedSet
    from raydistill.artifacts.distilled import DistilledSet
    from raydistill.artifacts.evaluation import EvaluationReport
    from raydistill.artifacts.opening import Artifact
    from raydistill.artifacts.predictions import PredictionSet
    from raydistill.artifacts.search import SearchReport
    from raydistill.artifacts.survey import Survey
    from raydistill.artifacts.synthetic import SyntheticSet
    from raydistill.artifacts.trajectories import TrajectoryStore
    from raydistill.pipeline.plan import Plan

ConfigLike = Config | str | os.PathLike[str]


def load_config(config: ConfigLike, *overrides: str) -> Config:
    """Return a checked config.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".

    Returns
    -------
    Config
        All values checked, with defaults filled in.

    Raises
    ------
    ConfigError
        A file is missing, a key is unknown, or a value does not fit.

    Notes
    -----
    A `Config` has all its defaults filled in. Give `extends`, a top-level `augmentation` and null
    for a protocol with a file or a name; `curate.align=true` changes the default augmentation only
    there.

    Examples
    --------
    >>> import raydistill as rd
    >>> rd.load_config("demo", "distill.iterations=50").distill.iterations
    50
    """
    if not isinstance(config, Config):
        return load(Path(config) if isinstance(config, os.PathLike) else config, overrides)
    return override(config, overrides) if overrides else config


def run(config: ConfigLike, *overrides: str) -> EvaluationReport:
    """Run all stages of a config and return the evaluation.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".

    Returns
    -------
    EvaluationReport
        Compares the distilled set with its baselines.

    Raises
    ------
    RaydistillError
        The subclass says what is wrong: `ConfigError`, `CatalogError`, `ArtifactError`,
        `DivergenceError` or `ClusterError`. Call it again to resume: finished work is kept.
    """
    from raydistill.pipeline.run import run

    report: EvaluationReport = run(_plan(config, overrides))
    return report


def simulate(config: ConfigLike, *overrides: str) -> Survey:
    """Render the simulated survey of a config.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".

    Returns
    -------
    Survey
        Pictures, votes and the parameters of each galaxy.

    Raises
    ------
    ConfigError
        The config is wrong, or its survey is not a simulated one.
    """
    return cast("Survey", _run_stage("simulate", config, overrides))


def curate(config: ConfigLike, *overrides: str) -> CuratedSet:
    """Select classes and galaxies of a survey; check, crop and resize their pictures.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".

    Returns
    -------
    CuratedSet
        Labelled pictures in three splits.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    ArtifactMissing
        The simulated survey does not exist.
    CatalogError
        The survey's table or pictures cannot be used.
    """
    return cast("CuratedSet", _run_stage("curate", config, overrides))


def experts(config: ConfigLike, *overrides: str) -> TrajectoryStore:
    """Train the expert networks on the curated set and store their trajectories.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".

    Returns
    -------
    TrajectoryStore
        Parameters of each expert after each epoch.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    ArtifactMissing
        The curated set does not exist.
    DivergenceError
        An expert's loss is not finite.
    """
    return cast("TrajectoryStore", _run_stage("experts", config, overrides))


def distill(config: ConfigLike, *overrides: str) -> DistilledSet:
    """Distill a few images per class by matching the trajectories of the experts.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".

    Returns
    -------
    DistilledSet
        The synthetic images, their labels and learning rates.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    ArtifactMissing
        The curated set or the trajectories do not exist.
    DivergenceError
        The distillation diverged.
    """
    return cast("DistilledSet", _run_stage("distill", config, overrides))


def evaluate(config: ConfigLike, *overrides: str) -> EvaluationReport:
    """Train new networks on the distilled set and each baseline, and test them.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".

    Returns
    -------
    EvaluationReport
        Accuracies on test images, with intervals.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    ArtifactMissing
        The distilled set or an artifact before it does not exist.
    """
    return cast("EvaluationReport", _run_stage("evaluate", config, overrides))


def tune(config: ConfigLike, *overrides: str) -> SearchReport:
    """Search for the distillation recipe with the best accuracy on validation images.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".

    Returns
    -------
    SearchReport
        All trials. `best.yaml` in its folder is the best recipe as a config.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    ArtifactMissing
        The curated set or the trajectories do not exist.
    """
    from raydistill.pipeline.run import search

    return search(_plan(config, overrides))


def predict_survey(config: ConfigLike, survey: str | os.PathLike[str], *overrides: str) -> PredictionSet:
    """Predict the class of every picture of a survey with the trained experts of a config.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    survey
        A config file, the folder of a curated set, or a folder or zip of pictures. If it equals
        `config`, the overrides apply to the survey too.
    *overrides
        Values of `config` at dotted keys, as on the command line: "predict.experts=3".

    Returns
    -------
    PredictionSet
        Mean and spread of the class probabilities and the features of each picture.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    ArtifactMissing
        The curated set or the experts of the config do not exist.
    CatalogError
        The survey has no pictures, or none of them can be used.
    """
    from raydistill.pipeline.run import predict

    return predict(_plan(config, overrides), None if survey == config else os.fspath(survey))


def sample(config: ConfigLike, *overrides: str) -> SyntheticSet:
    """Sample synthetic galaxies from the trained generator of a config.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "sample.num_images=500".

    Returns
    -------
    SyntheticSet
        Pictures with their conditions; every row says that it is synthetic.

    Raises
    ------
    ConfigError
        A key is unknown, a value does not fit, or the conditions are wrong.
    CatalogError
        The table of conditions cannot be used.
    ArtifactMissing
        The curated set, the generator or the experts of the filter do not exist.
    """
    from raydistill.pipeline.run import sample

    return sample(_plan(config, overrides))


def audit_set(config: ConfigLike, synthetic: str | os.PathLike[str] | None = None, *overrides: str) -> AuditReport:
    """Compare a set of synthetic images, or another survey, with the real galaxies of a config.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    synthetic
        Folder of a synthetic, a distilled or another curated set. None: the set of `sample`.
    *overrides
        Values at dotted keys: "audit.num_pictures=500".

    Returns
    -------
    AuditReport
        All metrics. Its folder has `report.html` and `quiz.html`.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    ArtifactMissing, ArtifactIncompatible
        An input does not exist, was made from another curated set, or has too few pictures.
    """
    from raydistill.pipeline.run import audit

    return audit(_plan(config, overrides), None if synthetic is None else os.fspath(synthetic))


def open(uri: str | os.PathLike[str], *, verify: bool = True) -> Artifact:
    """Open an artifact of any kind.

    Parameters
    ----------
    uri
        Folder of the artifact: a path, or any URI that fsspec reads (`s3://`, `gs://`).
    verify
        Read every file and compare its sha256 with the manifest. False saves that time.

    Returns
    -------
    Survey, CuratedSet, TrajectoryStore, DistilledSet, EvaluationReport, SearchReport, SyntheticSet,
    PredictionSet or AuditReport

    Raises
    ------
    ArtifactMissing
        There is no finished artifact: no folder, or a folder without a manifest.
    ArtifactIncompatible
        Another release wrote it, or its kind is unknown to this one.
    ArtifactCorrupt
        The manifest is damaged; with `verify`, a file is gone or differs from its digest.

    Examples
    --------
    >>> import raydistill as rd
    >>> report = rd.open("runs/demo/evaluation-0123456789ab")  # doctest: +SKIP
    >>> report.table()[["training_set", "balanced_accuracy"]]  # doctest: +SKIP
    """
    from raydistill.artifacts.opening import open_artifact

    return open_artifact(os.fspath(uri), verify=verify)


def setup_logging(verbosity: int = 0) -> None:
    """Send log lines and progress to stderr, as the command line does.

    Parameters
    ----------
    verbosity
        -1: warnings only. 0: what each stage does. 1: debug lines. 2: also those of Ray and MLflow.
    """
    from raydistill import log

    log.setup(verbosity)


def _run_stage(name: str, config: ConfigLike, overrides: tuple[str, ...]) -> Any:
    from raydistill.pipeline.run import run_stage

    return run_stage(name, _plan(config, overrides))


def _plan(config: ConfigLike, overrides: tuple[str, ...]) -> Plan:
    from raydistill.pipeline.plan import Plan

    return Plan(load_config(config, *overrides))
