"""Leave out the galaxies that fulfil `curate.exclude`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.config import CatalogSurvey, Exclusion
from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.tables.conditions import match_rows


def without_excluded(catalog: pa.Table, exclusion: Exclusion, survey: CatalogSurvey, truth: str | None) -> pa.Table:
    """Return the rows of a catalogue that do not fulfil the condition.

    Parameters
    ----------
    catalog
        Galaxies with their `object_id`.
    exclusion
        The condition and its table.
    survey
        The survey, whose table is the default.
    truth
        Table of the truth of a simulated survey, which is then the default.

    Raises
    ------
    CatalogError
        The table cannot be read, or has no row of any galaxy.
    ConfigError
        The condition is wrong, or no galaxy of the survey fulfils it.
    """
    own = exclusion.table is None and truth is None
    uri, column = exclusion.table or truth or survey.catalog, exclusion.id
    if own:
        column = column or survey.columns.get("id")
    keys, fulfils_N = match_rows(
        uri, exclusion.where, column, "curate.exclude.where", "curate.exclude.id", survey.hdu if own else None,
        survey.duplicates if own else None,
    )  # fmt: skip
    if not pc.any(pc.is_in(catalog["object_id"], pa.array(keys, pa.string()))).as_py():
        raise CatalogError(f"none of its {len(keys)} ids is of the survey", uri, "check curate.exclude.id")
    excluded = pa.array([key for key, fulfils in zip(keys, fulfils_N, strict=True) if fulfils], pa.string())
    kept = catalog.filter(pc.invert(pc.is_in(catalog["object_id"], excluded)))
    if len(kept) == len(catalog):
        raise ConfigError("no galaxy of the survey fulfils it", "curate.exclude.where", "correct the condition")
    return kept
