"""Sample synthetic galaxies, audit them, and train classifiers with them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from raydistill.api.configs import ConfigLike, run_stage

if TYPE_CHECKING:
    from raydistill.stages.audit.artifact import AuditReport
    from raydistill.stages.augment.artifact import AugmentationReport
    from raydistill.stages.sample.artifact import SyntheticSet


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
    return run_stage("sample", config, overrides)


def audit_set(config: ConfigLike, synthetic: str | os.PathLike[str] | None = None, *overrides: str) -> AuditReport:
    """Compare synthetic images, or another survey, with the real galaxies of a config.

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
    return run_stage("audit", config, overrides, None if synthetic is None else os.fspath(synthetic))


def augment(config: ConfigLike, *overrides: str) -> AugmentationReport:
    """Compare classifiers trained on real, synthetic and distilled galaxies.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys, as on the command line: "augment.seeds=10".

    Returns
    -------
    AugmentationReport
        Accuracies on test galaxies, and paired differences to the baselines.

    Raises
    ------
    ConfigError
        A key is unknown, or a value does not fit.
    ArtifactMissing, ArtifactIncompatible
        A set does not exist, does not fit the survey, or was made from its validation or test
        galaxies.
    """
    return run_stage("augment", config, overrides)
