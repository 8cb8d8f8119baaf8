"""Load configs, open artifacts, set up logging."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.config import Config, load, override

if TYPE_CHECKING:
    from raydistill.artifacts.opening import Artifact
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


def open(uri: str | os.PathLike[str], *, verify: bool = True, tracking_uri: str | None = None) -> Artifact:
    """Open an artifact of any kind.

    Parameters
    ----------
    uri
        Folder of the artifact: a path, or any URI that fsspec reads (`s3://`, `gs://`). Or a
        distilled set in MLflow's model registry: `models:/NAME@best` or `models:/NAME/3`.
    verify
        Read every file and compare its sha256 with the manifest. False saves that time.
    tracking_uri
        MLflow's tracking URI, for `models:/…`. None: the environment variable MLFLOW_TRACKING_URI.

    Returns
    -------
    Survey, CuratedSet, TrajectoryStore, DistilledSet, EvaluationReport, SearchReport, SyntheticSet,
    PredictionSet, AuditReport, DetectionReport, HuntRound, HuntReport or AugmentationReport

    Raises
    ------
    ArtifactMissing
        There is no finished artifact: no folder, or a folder without a manifest. Or MLflow has no
        such model, version or alias.
    ConfigError
        `models:/…` has another form, or no tracking URI is known.
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

    place = os.fspath(uri)
    if place.startswith("models:/"):
        from raydistill.tracking.model_uris import find_folder

        return open_artifact(find_folder(place, tracking_uri), verify=verify)
    return open_artifact(place, verify=verify)


def setup_logging(verbosity: int = 0) -> None:
    """Send log lines and progress to stderr, as the command line does.

    In a notebook they appear below the cell, with one bar.

    Parameters
    ----------
    verbosity
        -1: warnings only. 0: what each stage does. 1: debug lines. 2: also those of Ray and MLflow.
    """
    from raydistill import log

    log.setup(verbosity)


def make_plan(config: ConfigLike, overrides: tuple[str, ...]) -> Plan:
    """Return the plan of a config with overrides."""
    from raydistill.pipeline.plan import Plan

    return Plan(load_config(config, *overrides))


def run_stage(name: str, config: ConfigLike, overrides: tuple[str, ...], *arguments: str | None) -> Any:
    """Run one stage of a config, and return its artifact."""
    from raydistill.pipeline.run import run_stage

    return run_stage(name, make_plan(config, overrides), *arguments)
