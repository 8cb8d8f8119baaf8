"""Fetch pictures of a table's galaxies by position: SDSS or Legacy Surveys."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import requests

from raydistill.errors import ConfigError, DownloadError
from raydistill.escaping import csv_text
from raydistill.fetching.http import (
    TRANSIENT,
    Patience,
    Reach,
    TransientError,
    at_base,
    check_base,
    check_status,
    count_attempts,
    describe_failure,
    make_session,
    open_url,
    read_body,
    retry_wait,
)
from raydistill.fetching.kinds import describe_wrong_picture
from raydistill.fetching.provenance import check_local, is_damaged, read_json, write_json
from raydistill.fetching.records import SDSS_LICENCE
from raydistill.fetching.threads import Pace, run_in_threads
from raydistill.galaxies.catalog import read_catalog
from raydistill.log import duration, get_logger, progress
from raydistill.storage import Folder, disk_errors

log = get_logger(__name__)

SETTINGS = "cutouts.provenance.json"
FAILURES = "failures.csv"
GZ2_FRAME = 8.48  # side of a picture of Galaxy Zoo 2 in petroR90_r: 424 px of 0.02 R90
UNREACHABLE = 20  # consecutive pictures without any answer, after which the server counts as unreachable
MOST = 50_000_000  # bytes of a picture
LONG_WAIT = 10.0  # seconds; shorter ones are not logged
_UNSAFE = frozenset('/\\:*?"<>|\0\n\r')


@dataclass(frozen=True)
class Survey:
    """A cut-out service.

    Parameters
    ----------
    url
        Address, with `{release}`.
    release
        Default release: the data release of SDSS, or the layer of the Legacy Surveys.
    pixels
        Smallest and largest side of a picture [px]. The servers change others without a word.
    names
        The service's names of scale and side.
    licence, citation
        For the provenance.
    hosts
        Hosts to which the service may redirect.
    """

    url: str
    release: str
    pixels: tuple[int, int]
    names: Mapping[str, tuple[str, ...]]
    licence: str
    citation: str
    hosts: frozenset[str]


# Limits and parameters: SkyServer's pages "Finding Chart" and "API"; legacysurvey.org/viewer, whose limit of 3000 px
# users report (kmhess/SoFiA-image-pipeline, issue 76).
SURVEYS: Mapping[str, Survey] = {
    "sdss": Survey(
        "https://skyserver.sdss.org/{release}/SkyServerWS/ImgCutout/getjpeg",
        "dr17",
        (64, 2048),
        {"scale": ("scale",), "side": ("width", "height")},
        SDSS_LICENCE,
        "Abdurro'uf et al. 2022, ApJS 259, 35 (SDSS DR17); York et al. 2000, AJ 120, 1579",
        frozenset({"skyserver.sdss.org", "www.sdss.org"}),
    ),
    "legacy": Survey(
        "https://www.legacysurvey.org/viewer/cutout.jpg?layer={release}",
        "ls-dr10",
        (8, 3000),
        {"scale": ("pixscale",), "side": ("size",)},
        "DESI Legacy Imaging Surveys: acknowledge as legacysurvey.org/acknowledgment asks",
        "Dey et al. 2019, AJ 157, 168",
        frozenset({"legacysurvey.org", "www.legacysurvey.org"}),
    ),
}


@dataclass(frozen=True)
class CutoutRequest:
    """How pictures are cut.

    Parameters
    ----------
    survey
        "sdss" or "legacy".
    pixels
        Side of a picture [px].
    scale
        Width of a pixel [arcsec]. None: the picture spans 8.48 petroR90_r of its galaxy, as in
        Galaxy Zoo 2: 0.02 R90 a pixel at 424 px. Galaxies without R90 are then left out.
    release
        Data release of SDSS ("dr17") or layer of the Legacy Surveys ("ls-dr10"). None: the default.
    """

    survey: str = "sdss"
    pixels: int = 424
    scale: float | None = None
    release: str | None = None

    def __post_init__(self) -> None:
        if self.survey not in SURVEYS:
            known = " or ".join(SURVEYS)
            raise ConfigError(f"there is no survey '{self.survey}'", "--survey", f"give {known}")
        low, high = SURVEYS[self.survey].pixels
        if not low <= self.pixels <= high:
            what = f"{self.survey} cuts pictures of {low} to {high} px, not {self.pixels}"
            raise ConfigError(what, "--pixels", "give another size")
        if self.scale is not None and not 0 < self.scale < 1000:
            raise ConfigError(f"a pixel of {self.scale:g} arcsec is out of range", "--scale", "SDSS's own is 0.396")

    def url(self, ra: float, dec: float, scale: float) -> str:
        """Return the URL of a picture at a position [deg, ICRS], pixel `scale` [arcsec]."""
        survey = SURVEYS[self.survey]
        values = {"ra": f"{ra:.7f}", "dec": f"{dec:.7f}"}
        values |= dict.fromkeys(survey.names["scale"], f"{scale:.6g}")
        values |= {name: str(self.pixels) for name in survey.names["side"]}
        address = survey.url.format(release=self.release or survey.release)
        return f"{address}{'&' if '?' in address else '?'}{urlencode(values)}"


@dataclass(frozen=True)
class CutoutReport:
    """Counts of pictures fetched now, present before, and failed (in failures.csv)."""

    folder: Path
    fetched: int
    present: int
    failed: int


@dataclass(frozen=True)
class _Galaxy:
    """One picture to fetch; `reason` says why it cannot be."""

    name: str
    ra: float | None
    dec: float | None
    url: str
    reason: str = ""


def fetch_cutouts(
    catalog: str | os.PathLike[str],
    to: str | os.PathLike[str] = "cutouts",
    request: CutoutRequest | None = None,
    *,
    columns: Mapping[str, str | None] | None = None,
    hdu: int | str | None = None,
    rate: float = 2.0,
    parallel: int = 2,
    base_url: str | None = None,
    insecure: bool = False,
    patience: Patience | None = None,
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
    hdu
        As in a config: one of several tables of the file.
    rate
        Most requests a second, over all threads.
    parallel
        Number of pictures that are downloaded at the same time.
    base_url
        Address of a mirror, whose folders have the names of the hosts.
    insecure
        Accept a mirror or a redirect without https; 127.0.0.1 needs none.
    patience
        Limits of time and of retries.

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
    request, patience = request or CutoutRequest(), patience or Patience(attempts=4, stall_seconds=30)
    if parallel < 1:
        raise ConfigError(f"the number of parallel downloads is {parallel}", "--parallel", "give at least 1")
    check_base(base_url, insecure)
    folder = Path(to)
    check_local(folder)
    galaxies = list_galaxies(os.fspath(catalog), request, columns, hdu)
    with disk_errors(str(folder), "choose another folder with --to"):
        folder.mkdir(parents=True, exist_ok=True)
        _check_settings(folder, request)
        wanted = [galaxy for galaxy in galaxies if galaxy.reason or not (folder / f"{galaxy.name}.jpg").exists()]
        fetcher = _Fetcher(folder, request, Pace(rate), base_url, patience, insecure)
        with progress(len(galaxies), f"fetching cut-outs of {request.survey}", "pictures") as bar:
            bar.resume_at(len(galaxies) - len(wanted))
            lock = threading.Lock()

            def work(galaxy: _Galaxy) -> str:
                reason = galaxy.reason or fetcher.fetch(galaxy)
                with lock:
                    bar.advance()
                return reason

            reasons = run_in_threads(work, wanted, parallel, fetcher.stop)
        failed = [(galaxy, reason) for galaxy, reason in zip(wanted, reasons, strict=True) if reason]
        _write_failures(folder, failed)
    report = CutoutReport(folder, len(wanted) - len(failed), len(galaxies) - len(wanted), len(failed))
    _log_failures(report, failed)
    return report


def list_galaxies(
    catalog: str, request: CutoutRequest, columns: Mapping[str, str | None] | None, hdu: int | str | None
) -> list[_Galaxy]:
    """Return a table's galaxies in order, with picture URLs or the reason for none."""
    table = read_catalog(catalog, "plain", columns=columns, hdu=hdu, need_labels=False)
    if pa.compute.count(table["ra"]).as_py() == 0 or pa.compute.count(table["dec"]).as_py() == 0:
        raise ConfigError("the table has no positions", catalog, "name their columns with --ra NAME and --dec NAME")
    if request.scale is None and pa.compute.count(table["petro_r90"]).as_py() == 0:
        fix = "give --scale ARCSEC (SDSS's own is 0.396), or name the column with --r90 NAME"
        raise ConfigError("the table has no R90, which sets the scale of a picture", catalog, fix)
    rows = zip(*(table[name].to_pylist() for name in ("object_id", "ra", "dec", "petro_r90")), strict=True)
    return [_galaxy(name, ra, dec, r90, request) for name, ra, dec, r90 in rows]


def _galaxy(name: str, ra: float | None, dec: float | None, r90: float | None, request: CutoutRequest) -> _Galaxy:
    if _UNSAFE & set(name) or name.startswith(".") or len(name) > 200:
        return _Galaxy(name, ra, dec, "", "the object id cannot be the name of a file")
    if ra is None or dec is None:
        return _Galaxy(name, ra, dec, "", "the table has no position")
    scale = request.scale
    if scale is None:
        if r90 is None or r90 <= 0:
            return _Galaxy(name, ra, dec, "", "the table has no R90")
        scale = GZ2_FRAME * r90 / request.pixels
    return _Galaxy(name, ra, dec, request.url(ra, dec, scale))


class _Fetcher:
    """Fetch pictures at a common pace, from several threads."""

    def __init__(
        self, folder: Path, request: CutoutRequest, pace: Pace, base: str | None, patience: Patience, insecure: bool
    ) -> None:
        self._folder, self._request, self._pace = Folder(folder), request, pace
        self._base, self._patience = base, patience
        self._reach = Reach(SURVEYS[request.survey].hosts, insecure)
        self._local, self._lock, self._unreachable = threading.local(), threading.Lock(), 0
        self.stop = threading.Event()

    def fetch(self, galaxy: _Galaxy) -> str:
        """Fetch one picture, and return "" or the reason of its failure."""
        url = at_base(galaxy.url, self._base)
        for failures in range(1, self._patience.attempts + 1):
            self._pace.wait(self.stop)
            try:
                return self._fetch_once(url, galaxy.name)
            except DownloadError as error:
                self._answered()
                return error.what
            except (TransientError, *TRANSIENT) as error:
                seconds = retry_wait(error, failures, self._patience, url)
                if seconds >= LONG_WAIT:
                    log.info("fetch: %s; the next request follows in %s", describe_failure(error), duration(seconds))
                self._pace.pause(seconds)
                last = error
        reason = f"{describe_failure(last)}, after {count_attempts(self._patience.attempts)}"
        self._count_unreachable(last, reason, url)
        return reason

    def _fetch_once(self, url: str, name: str) -> str:
        with open_url(self._session(), url, self._patience, self._reach) as response:
            check_status(response, url)
            content = read_body(response, self._patience, MOST)
        self._answered()
        if wrong := describe_wrong_picture(content, self._request.pixels):
            return wrong
        self._folder.write(f"{name}.jpg", content)
        return ""

    def _session(self) -> requests.Session:
        """Return the session of this thread."""
        if not hasattr(self._local, "session"):
            self._local.session = make_session()
        return self._local.session

    def _answered(self) -> None:
        with self._lock:
            self._unreachable = 0

    def _count_unreachable(self, error: Exception, reason: str, url: str) -> None:
        with self._lock:
            self._unreachable += 1
            if self._unreachable >= UNREACHABLE:
                what = f"{reason}, for {UNREACHABLE} pictures in a row"
                raise DownloadError(what, url, "run the same command again later; it resumes") from error


def _check_settings(folder: Path, request: CutoutRequest) -> None:
    """Write the settings of a folder, or reject one whose pictures were cut otherwise."""
    survey = SURVEYS[request.survey]
    values: dict[str, Any] = {
        **asdict(request),
        "release": request.release or survey.release,
        "frame_r90": GZ2_FRAME if request.scale is None else None,
        "url": survey.url,
        "licence": survey.licence,
        "citation": survey.citation,
    }
    settings, is_new = read_json(folder / SETTINGS), not any(folder.glob("*.jpg"))
    if is_damaged(folder / SETTINGS) and not is_new:
        what = f"'{SETTINGS}' is damaged, so nothing says how the pictures were cut"
        raise DownloadError(what, str(folder), "remove the folder, or choose another one with --to")
    if not settings or is_new:
        write_json(folder, SETTINGS, values)
        return
    different = sorted(key for key in asdict(request) if settings.get(key) != values[key])
    if different:
        key = different[0]
        what = f"the folder has pictures with {key} {settings.get(key)}, and {values[key]} is asked for"
        raise ConfigError(what, str(folder), "choose another folder with --to")


def _write_failures(folder: Path, failed: list[tuple[_Galaxy, str]]) -> None:
    rows = [(galaxy.name, galaxy.ra, galaxy.dec, reason, galaxy.url) for galaxy, reason in failed]
    Folder(folder).write(FAILURES, csv_text([("object_id", "ra", "dec", "reason", "url"), *rows]).encode())


def _log_failures(report: CutoutReport, failed: list[tuple[_Galaxy, str]]) -> None:
    for reason, count in Counter(reason for _, reason in failed).most_common(5):
        log.warning("fetch: galaxies without a picture: %d (%s)", count, reason)
    if failed and not report.fetched and not report.present:
        what = f"no galaxy has a picture; the first reason is: {failed[0][1]}"
        raise DownloadError(what, str(report.folder / FAILURES), "the file lists all reasons")
