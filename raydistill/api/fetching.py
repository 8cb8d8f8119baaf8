"""Download public records and cut-outs of galaxies."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raydistill.fetching.cutouts import CutoutReport, CutoutRequest
    from raydistill.fetching.runner import Fetched


def fetch(
    *names: str,
    to: str | os.PathLike[str] = "data",
    base_url: str | None = None,
    insecure: bool = False,
    parallel: int = 4,
    keep_archives: bool = False,
) -> list[Fetched]:
    """Download public records: "gz2", "hart16", "table5", "efigi" or "galaxy10".

    An interrupted download resumes, and a complete record is not asked for again.

    Parameters
    ----------
    *names
        The records; their files are downloaded at the same time.
    to
        Folder below which each record has its own.
    base_url
        Address of a mirror, whose folders have the names of the hosts.
    insecure
        Accept a mirror or a redirect without https; 127.0.0.1 needs none.
    parallel
        Number of files that are downloaded at the same time.
    keep_archives
        Keep archives after they are unpacked.

    Returns
    -------
    list of Fetched
        `folder` of each record, and `config`: a config that reads its table, or None.

    Raises
    ------
    ConfigError
        For an unknown name.
    DownloadError
        If a file cannot be fetched, or is not the published one.
    """
    from raydistill.fetching.runner import fetch_records

    return fetch_records(
        names, Path(to), base=base_url, insecure=insecure, parallel=parallel, keep_archives=keep_archives
    )


def fetch_cutouts(
    catalog: str | os.PathLike[str],
    to: str | os.PathLike[str] = "cutouts",
    request: CutoutRequest | None = None,
    *,
    columns: Mapping[str, str | None] | None = None,
    rate: float = 2.0,
    parallel: int = 2,
    base_url: str | None = None,
    insecure: bool = False,
) -> CutoutReport:
    """Download a JPEG of each galaxy of a table by position, named by object id.

    Parameters
    ----------
    catalog
        A table with object ids and positions, in any format.
    to
        Destination. Pictures that are there are not asked for again.
    request
        Survey, size and scale. None: SDSS, 424 px that span 8.48 petroR90_r, as in Galaxy Zoo 2.
    columns
        Columns with unusual names: {"id": …, "ra": …, "dec": …, "petro_r90": …}.
    rate
        Most requests a second.
    parallel
        Number of pictures that are downloaded at the same time.
    base_url
        Address of a mirror, whose folders have the names of the hosts.
    insecure
        Accept a mirror or a redirect without https; 127.0.0.1 needs none.

    Returns
    -------
    CutoutReport
        Counts; `failures.csv` in the folder has a reason for each galaxy without a picture.

    Raises
    ------
    CatalogError, ConfigError
        If the table has no positions or no R90, or the folder has pictures of other settings.
    DownloadError
        If the service does not answer, or no galaxy has a picture.
    """
    from raydistill.fetching.cutouts import fetch_cutouts as fetch_pictures

    return fetch_pictures(
        os.fspath(catalog), Path(to), request, columns=columns, rate=rate, parallel=parallel, base=base_url,
        insecure=insecure,
    )  # fmt: skip
