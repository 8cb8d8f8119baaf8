"""Read a survey's table, and find the picture of each of its rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.config import CatalogSurvey
from raydistill.errors import ConfigError, RaydistillError
from raydistill.galaxies.catalog import read_catalog
from raydistill.galaxies.pictures.files import ALLOW_IMAGES, FITS_SUFFIXES, PICTURE_SUFFIXES, check_links
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.galaxies.pictures.paths import FoundPaths, find_paths
from raydistill.galaxies.pictures.sources import ParquetImages
from raydistill.galaxies.tables.ids import check_repeated, find_repeated
from raydistill.log import get_logger

log = get_logger(__name__)


def read_survey(survey: CatalogSurvey, *, need_labels: bool = True) -> pa.Table:
    """Return a survey's table, as `read_catalog` does; errors name keys of the config."""
    images = survey.images
    log.info("curate: reading %s", survey.catalog)
    with error_prefix("survey.", ConfigError):
        return read_catalog(
            survey.catalog, survey.dialect, fractions=survey.fractions, columns=survey.columns, hdu=survey.hdu,
            path_column=getattr(images, "path_column", None), need_labels=need_labels, duplicates=survey.duplicates,
        )  # fmt: skip


def find_pictures(survey: CatalogSurvey, catalog: pa.Table) -> FoundPaths:
    """Return the picture of each row.

    Parameters
    ----------
    survey
        Where the pictures are.
    catalog
        Rows with `object_id`, and with `file` where the survey has a column of paths.

    Returns
    -------
    FoundPaths
        Paths below the survey's folder; for a Parquet table its name; for mosaics, tiles and positions.
    """
    images, ids, none = survey.images, catalog["object_id"].to_pylist(), [""] * len(catalog)
    if isinstance(images, ParquetImages):
        stored = images.rows()["object_id"]
        is_wanted = pc.is_in(stored, catalog["object_id"].combine_chunks())
        repeated, what = find_repeated(stored.filter(is_wanted)), "have several pictures"
        check_repeated(repeated, f"{what} in '{images.id_column}'", images.uri, survey.duplicates, "keep one of each")
        present = set(stored.to_pylist())
        return FoundPaths([images.name if object_id in present else None for object_id in ids], none, none)
    if isinstance(images, MosaicImages):
        ra_N, dec_N, r90_N = (catalog[name].to_numpy() for name in ("ra", "dec", "petro_r90"))
        return images.find(ra_N, dec_N, r90_N, survey.duplicates)
    if images.path_column is not None:
        suffixes = FITS_SUFFIXES if isinstance(images, FitsImages) else PICTURE_SUFFIXES
        values, column = catalog["file"].to_pylist(), images.path_column
        matches = find_paths(
            images.root, values, column, survey.catalog, suffixes, survey.duplicates, images.allow_outside
        )
    else:
        prefix = len(images.root.rstrip("/")) + 1
        files = [None if path is None else path[prefix:] for path in images.paths(ids, survey.duplicates)]
        matches = FoundPaths(files, images.expected_names(ids) if None in files else none, none)
    if not images.allow_outside:
        paths = [path for path in matches.files if path is not None]
        bands = images.files if isinstance(images, FitsImages) else lambda path: [path]
        check_links(images.root, [str(file) for path in paths for file in bands(path)], ALLOW_IMAGES)
    return matches


@contextmanager
def error_prefix(prefix: str, kind: type[RaydistillError]) -> Iterator[None]:
    """Add the place in the config to errors of packages that do not know the config."""
    try:
        yield
    except kind as error:
        raise kind(error.what, (prefix + error.where).removesuffix(", "), error.fix) from error


def absolute(uri: str) -> str:
    """Return the absolute path: a worker may have another working folder."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))
