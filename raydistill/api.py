"""The public Python API: configs, stages, artifacts.

The functions of the stages are made from the table of stages. Each takes a config (a `Config`, a
YAML file or the name of a shipped one) and `key=value` overrides, as the command line does, and
returns the artifact of its stage. A stage whose artifact exists opens it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raydistill import shipped, table
from raydistill.config.reading import load, override
from raydistill.config.tree import Config

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


def open(uri: str | os.PathLike[str], *, verify: bool = True, tracking_uri: str | None = None) -> Any:
    """Open an artifact of any kind.

    Parameters
    ----------
    uri
        Folder of the artifact: a path, or any URI that fsspec reads (`s3://`, `gs://`). Or the name
        of a set that comes with raydistill (`raydistill sets`). Or a distilled set in MLflow's
        model registry: `models:/NAME@best` or `models:/NAME/3`.
    verify
        Read every file and compare its sha256 with the manifest. False saves that time.
    tracking_uri
        MLflow's tracking URI, for `models:/…`. None: the environment variable MLFLOW_TRACKING_URI.

    Returns
    -------
    Any
        An object of the class of its kind, such as `CuratedSet`.

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
    from raydistill.artifacts.display import open_artifact

    place = shipped.set_folder(os.fspath(uri))
    if place.startswith("models:/"):
        from raydistill.tracking.registry import find_folder

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


def run(config: ConfigLike, *overrides: str, to: str = "evaluate") -> Any:
    """Run all stages of a config up to one, and return its artifact.

    It prints the result to stderr, as `raydistill run` does.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".
    to
        Name of the last stage.

    Returns
    -------
    Any
        The artifact of the last stage: by default an `EvaluationReport`, which compares the
        distilled set with its baselines.

    Raises
    ------
    RaydistillError
        The subclass says what is wrong: `ConfigError`, `CatalogError`, `ArtifactError`,
        `DivergenceError` or `ClusterError`. Call it again to resume: finished work is kept.
    """
    from raydistill.pipeline.plan import Plan
    from raydistill.pipeline.run import run

    stage = table.find(to)
    plan = Plan(load_config(config, *overrides))
    artifact = run(plan, stage.name)
    if stage.show is not None:
        print(table.resolve(stage.show)(plan.config, artifact), file=sys.stderr)
    return artifact


def stage_function(stage: table.Stage) -> Callable[..., Any]:
    """Return the function of a stage: config and overrides -> artifact."""

    def build(config: ConfigLike, *overrides: str) -> Any:
        from raydistill.pipeline.plan import Plan
        from raydistill.pipeline.run import run_stage

        return run_stage(stage.name, Plan(load_config(config, *overrides)))

    build.__name__ = build.__qualname__ = stage.name
    build.__module__ = "raydistill"
    argument = (
        f" Its key `{stage.argument.key}` is {stage.argument.name} on the command line." if stage.argument else ""
    )
    build.__doc__ = f"""{stage.help}

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "distill.iterations=500".{argument}

    Returns
    -------
    {" or ".join(kind.artifact.rpartition(":")[2] for kind in stage.kinds if isinstance(kind.artifact, str))}
        The artifact, which is opened if it exists.

    Raises
    ------
    RaydistillError
        Its subclass says what is wrong. What the stage reads must exist, else it is
        `ArtifactMissing`. Call it again to resume: finished work is kept.
    """
    return build
