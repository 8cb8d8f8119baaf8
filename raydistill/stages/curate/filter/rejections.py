"""Which galaxies are left out: by `curate.exclude`, or because of their pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.config import CatalogSurvey, Exclusion
from raydistill.errors import CatalogError, ConfigError, RaydistillError
from raydistill.galaxies.catalog_schemas import find_column
from raydistill.galaxies.pictures.files import FITS_SUFFIXES, PICTURE_SUFFIXES, below, list_files, suffix_of
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.mosaics import BandImages, MosaicImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.galaxies.tables.expressions import match_rows
from raydistill.galaxies.tables.opening import open_table
from raydistill.simulation.defects import REASONS

# Describe rejected pictures, and how to fix a class that lost all of them.

Rejection = dict[str, Any]

COMMON = 1 / 3  # share of the rejections from which on a reason gets an advice beside the commonest one

_FIXES = {
    "duplicate": "put these galaxies into the training split only, or set curate.duplicates=keep",
    "unreadable": "check the permissions of the files",
    "not-finite": "replace the NaN and infinite pixels",
    "wrong-bands": "store pictures with one or three channels",
    "several-frames": "store one picture per file, with its colours as H x W x 3",
    **dict.fromkeys(REASONS, "lower curate.filter.false_rejection_rate, or set curate.filter=null"),
    **dict.fromkeys(
        ("empty", "truncated", "corrupt"), "download the damaged files again, or convert them to PNG or JPEG"
    ),
}
_FIXES_OF_DETAILS = {
    "a pointer of Git LFS": "run 'git lfs pull'",
    "a web page": "download the pictures themselves",
    "a FITS file": "set survey.images.kind=fits",
}
_FITS_FIXES = {
    "constant": "set survey.images.stretch=auto, or survey.images.channels to bands with light",
    "not-finite": "set survey.images.fill=median, raise survey.images.max_fill, or lower curate.crop_fraction",
    "wrong-bands": "set survey.images.channels to the extensions or planes for red, green and blue",
    **dict.fromkeys(("empty", "truncated", "corrupt"), "download the damaged files again"),
}


def rejection(object_id: str, source: str, reason: str, detail: str, label: int) -> Rejection:
    """Return a row of `rejected.parquet`, with the label of the galaxy.

    The file does not hold the label.
    """
    return {"object_id": object_id, "source": source, "reason": reason, "detail": detail, "label": label}


def describe_rejections(rejections: Sequence[Rejection]) -> str:
    """Return the number of pictures by reason, and the first of the commonest reason."""
    counts = _count_reasons(rejections)
    first = _first(rejections, counts[0][0])
    detail = f" ({first['detail']})" if first["detail"] else ""
    shown = ", ".join(f"{count} {reason}" for reason, count in counts)
    return f"rejected pictures: {shown}; first: {first['source'] or first['object_id']}{detail}"


def fix_rejections(rejections: Sequence[Rejection], images: Any) -> str:
    """Return what to do about the commonest reason and nearly as common ones.

    Parameters
    ----------
    rejections
        At least one.
    images
        Source of the pictures, or the data set.
    """
    counts = _count_reasons(rejections)
    common = [reason for reason, count in counts if count >= COMMON * len(rejections)] or [counts[0][0]]
    fixes = [_fix(_first(rejections, reason), images) for reason in common]
    return ", and ".join(dict.fromkeys(fixes))


def _count_reasons(rejections: Sequence[Rejection]) -> list[tuple[str, int]]:
    """Return reasons and their counts, the commonest first."""
    counts = Counter(row["reason"] for row in rejections)
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _first(rejections: Sequence[Rejection], reason: str) -> Rejection:
    return next(row for row in rejections if row["reason"] == reason)


def _fix(row: Rejection, images: Any) -> str:
    """Return what to do about the reason of a rejection."""
    reason, detail = row["reason"], row["detail"]
    if reason == "missing":
        return _fix_missing(row, images)
    if reason == "wrong-size":
        return _fix_size(detail)
    if fix := next((fix for what, fix in _FIXES_OF_DETAILS.items() if detail.startswith(what)), None):
        return fix
    if isinstance(images, BandImages):
        return _FITS_FIXES.get(reason) or _FIXES.get(reason, "fix them")
    if reason == "constant" or "value_range" in detail or "pixels reach" in detail:
        prefix = "survey.images" if isinstance(images, (FolderImages, ParquetImages)) else "survey"
        return f"set {prefix}.value_range to the display range"
    return _FIXES.get(reason, "fix them")


def _fix_missing(row: Rejection, images: Any) -> str:
    if isinstance(images, ParquetImages):
        if row["detail"]:
            return f"fill column '{images.image_column}' of survey.images.uri"
        return f"check survey.images.id_column: no row has the id {row['object_id']}"
    if isinstance(images, MosaicImages):
        return f"check survey.images.files: of {row['object_id']}, {row['detail'] or 'there is no tile'}"
    if not isinstance(images, (FolderImages, FitsImages)):
        return f"check survey.root: there is no {below(images.root, row['source'])}"
    path_column = getattr(images, "path_column", None)
    rule = f"path_column={path_column}" if path_column is not None else f"pattern={images.pattern}"
    place = f"there is no {below(images.root, row['source'])}" if row["source"] else f"{row['object_id']} has no file"
    return f"check survey.images.root and survey.images.{rule}: {place}{_other_names(images)}"


def _other_names(images: FolderImages | FitsImages) -> str:
    """Name a picture of the folder, and the key for files with names of their own."""
    if images.path_column is not None:
        return ""
    suffixes = FITS_SUFFIXES if isinstance(images, FitsImages) else PICTURE_SUFFIXES
    with suppress(RaydistillError):  # no such folder
        names = list_files(images.root, recursive="/" in images.pattern)
        if other := next((name for name in sorted(names) if suffix_of(name, suffixes)), None):
            key = "" if images.mapping else "; survey.images.mapping names a table of ids and file names"
            return f", but there is {below(images.root, other)}{key}"
    return ""


def _fix_size(detail: str) -> str:
    if "at least" in detail:
        return "lower curate.min_picture_size, or use larger pictures"
    if "not square" in detail:
        return "set survey.images.fit to crop or pad, or cut squares around the galaxies"
    if detail.startswith("a cut-out"):
        return "lower survey.images.size"
    return "resample the bands to one shape" if "bands of shape" in detail else "use smaller pictures"


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
    survey_table = exclusion.table is None and truth is None
    uri, column = exclusion.table or truth or survey.catalog, exclusion.id
    if survey_table:
        column = column or find_column("id", open_table(uri, hdu=survey.hdu).names, survey.columns, uri)
    keys, fulfils_N = match_rows(
        uri, exclusion.where, column, "curate.exclude.where", "curate.exclude.id", survey.hdu if survey_table else None,
        survey.duplicates if survey_table else None,
    )  # fmt: skip
    if not pc.any(pc.is_in(catalog["object_id"], pa.array(keys, pa.string()))).as_py():
        raise CatalogError(f"none of its {len(keys)} ids is of the survey", uri, "check curate.exclude.id")
    excluded = pa.array([key for key, fulfils in zip(keys, fulfils_N, strict=True) if fulfils], pa.string())
    kept = catalog.filter(pc.invert(pc.is_in(catalog["object_id"], excluded)))
    if len(kept) == len(catalog):
        raise ConfigError("no galaxy of the survey fulfils it", "curate.exclude.where", "correct the condition")
    return kept
