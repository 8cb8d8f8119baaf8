"""Run the stages from the survey to the evaluation, a search, and predictions."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from raydistill.api.configs import ConfigLike, make_plan, run_stage

if TYPE_CHECKING:
    from raydistill.stages.analyse.artifact import AnalysisReport
    from raydistill.stages.curate.artifact import CuratedSet
    from raydistill.stages.distill.artifact import DistilledSet
    from raydistill.stages.evaluate.artifact import EvaluationReport
    from raydistill.stages.experts.artifact import TrajectoryStore
    from raydistill.stages.predict.artifact import PredictionSet
    from raydistill.stages.simulate.artifact import Survey
    from raydistill.stages.tune.artifact import SearchReport


def run(config: ConfigLike, *overrides: str) -> EvaluationReport:
    """Run all stages of a config and return the evaluation.

    It prints the accuracies and the verdict to stderr, as `raydistill run` does.

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
    from raydistill.pipeline.report import report_text
    from raydistill.pipeline.run import run

    plan = make_plan(config, overrides)
    report: EvaluationReport = run(plan)
    print(report_text("evaluate", plan.config, report), file=sys.stderr)
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
    return run_stage("simulate", config, overrides)


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
    return run_stage("curate", config, overrides)


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
    return run_stage("experts", config, overrides)


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
    return run_stage("distill", config, overrides)


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
    return run_stage("evaluate", config, overrides)


def analyse(config: ConfigLike, *overrides: str) -> AnalysisReport:
    """Measure the prototypes of a config beside its real galaxies.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "analyse.neighbours=50".

    Returns
    -------
    AnalysisReport
        Tables and statements. Its folder has `report.html` and the figures.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    CatalogError
        The table of `analyse.properties` cannot be used.
    ArtifactMissing, ArtifactIncompatible
        The distilled set or the curated set does not exist, or they do not fit together.
    """
    return run_stage("analyse", config, overrides)


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
    return run_stage("tune", config, overrides)


def predict_survey(config: ConfigLike, survey: str | os.PathLike[str], *overrides: str) -> PredictionSet:
    """Predict the class of each picture of a survey with a config's trained experts.

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
    return run_stage("predict", config, overrides, None if survey == config else os.fspath(survey))
