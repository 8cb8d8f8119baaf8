"""Train detectors on synthetic galaxies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from raydistill.api.configs import ConfigLike, run_stage

if TYPE_CHECKING:
    from raydistill.stages.detect.artifact import DetectionReport


def detect(config: ConfigLike, synthetic: str | os.PathLike[str] | None = None, *overrides: str) -> DetectionReport:
    """Train a detector on fields of synthetic galaxies, and test it on real frames.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    synthetic
        Folder of a synthetic set. None: the set of `sample`.
    *overrides
        Values at dotted keys: "detect.steps=800".

    Returns
    -------
    DetectionReport
        Figures with 95 % intervals. Its folder has the fields and COCO documents.

    Raises
    ------
    ConfigError
        A key is unknown, a value does not fit, or torchvision or photutils is not installed.
    ArtifactMissing, ArtifactIncompatible
        An input does not exist, or does not fit.
    DivergenceError
        If the loss is not finite.
    """
    return run_stage("detect", config, overrides, None if synthetic is None else os.fspath(synthetic))
