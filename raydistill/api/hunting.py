"""Find rare objects in a survey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raydistill.api.configs import ConfigLike, run_stage

if TYPE_CHECKING:
    from raydistill.stages.hunt.artifact import HuntReport, HuntRound


def hunt(config: ConfigLike, *overrides: str) -> HuntRound | HuntReport:
    """Rank a survey by what its labels teach, and write the candidates of a round.

    Parameters
    ----------
    config
        A YAML file, the name of a shipped config such as "demo", or a `Config`.
    *overrides
        Values at dotted keys: "hunt.labels=labels.csv" is the file that the sheet of the last round
        saved.

    Returns
    -------
    HuntRound or HuntReport
        The round: candidates, scores and `sheet.html`. With `hunt.oracle` the report, which
        compares strategies.

    Raises
    ------
    ConfigError
        A key is unknown, a value does not fit, or the condition of the oracle is wrong.
    ArtifactMissing, ArtifactIncompatible
        The predictions, the experts or a synthetic set do not exist, or do not fit.
    CatalogError
        The labels or the table of the truth cannot be used.
    """
    return run_stage("hunt", config, overrides)
