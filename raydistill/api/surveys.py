"""Adapt networks to another survey."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from raydistill.api.configs import ConfigLike, run_stage

if TYPE_CHECKING:
    from raydistill.stages.adapt.artifact import AdaptationReport


def adapt_survey(config: ConfigLike, target: str | os.PathLike[str], *overrides: str) -> AdaptationReport:
    """Align networks trained on the survey of a config with another survey.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`. Its curated set is
        the source.
    target
        The config of another survey, or the folder of its curated set. Its labels train the ceiling
        and score the result; nothing else uses them.
    *overrides
        Values at dotted keys: "adapt.seeds=5".

    Returns
    -------
    AdaptationReport
        Accuracies on both surveys, the closed share of the gap, calibration and rejection.

    Raises
    ------
    ConfigError
        A key is unknown, a value does not fit, or the classes do not match (`adapt.classes`).
    ArtifactMissing, ArtifactIncompatible
        A curated set or a set of the config does not exist, or they do not fit together.
    """
    return run_stage("adapt", config, overrides, os.fspath(target))
