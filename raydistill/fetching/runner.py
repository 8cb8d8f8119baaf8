"""Fetch records: download files in parallel, unpack them, and write provenance.

Files are the unit of parallel work. One connection a file is what public servers expect, and a part
that grows at one end can be continued by any later run; several ranges of one file would need a map
of its holes, and gain only where a server limits each connection.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from raydistill.errors import ConfigError, DownloadError
from raydistill.fetching.download import Downloaded, Progress, Source, download
from raydistill.fetching.http import Patience, Reach, at_base, check_base
from raydistill.fetching.provenance import (
    check_local,
    complete_files,
    file_entry,
    is_complete,
    is_damaged,
    licence_of,
    provenance_file,
    write_config,
    write_provenance,
)
from raydistill.fetching.records import RECORDS, Record, RemoteFile, find_record, hosts_of
from raydistill.fetching.threads import run_in_threads
from raydistill.fetching.unpacking import unpack
from raydistill.fetching.zenodo import Published, read_zenodo
from raydistill.log import get_logger, progress
from raydistill.storage import disk_errors

log = get_logger(__name__)

MB = 1_000_000
OTHER_VERSION = "see whether a newer version of raydistill knows the file, or give a mirror with --base-url"


@dataclass(frozen=True)
class Fetched:
    """A complete record.

    Parameters
    ----------
    folder
        Its folder.
    config
        Config that reads it, or None if there is none.
    """

    folder: Path
    config: Path | None


def fetch(
    *names: str,
    to: str | os.PathLike[str] = "data",
    base_url: str | None = None,
    insecure: bool = False,
    parallel: int = 4,
    keep_archives: bool = False,
    patience: Patience | None = None,
) -> list[Fetched]:
    """Download public records: "gz2", "hart16", "table5", "efigi" or "galaxy10".

    An interrupted download resumes, and a complete record is not asked for again.

    Parameters
    ----------
    *names
        The records; their files are downloaded at the same time.
    to
        Folder below which each record has its own. Files of earlier runs stay.
    base_url
        Address of a mirror, whose folders have the names of the hosts.
    insecure
        Accept a mirror or a redirect without https; 127.0.0.1 needs none.
    parallel
        Number of files that are downloaded at the same time.
    keep_archives
        Keep archives after they are unpacked.
    patience
        Limits of time and of retries.

    Returns
    -------
    list of Fetched
        In the order of `names`, each once: `folder` of each record, and `config`: a config that
        reads its table, or None.

    Raises
    ------
    ConfigError
        For an unknown name.
    DownloadError
        If a file cannot be fetched, or is not the published one.
    """
    if parallel < 1:
        raise ConfigError(f"the number of parallel downloads is {parallel}", "--parallel", "give at least 1")
    check_base(base_url, insecure)
    to, patience = Path(to), patience or Patience()
    check_local(to)
    records = [find_record(name) for name in dict.fromkeys(names)]
    with ExitStack() as locks:
        missing = []
        for record in records:
            folder = to / record.folder
            locks.enter_context(_locked(record, folder))
            if is_complete(record, folder):
                log.info("fetch: %s is complete in %s", record.name, folder)
            else:
                if is_damaged(folder / provenance_file(record.name)):
                    log.warning("fetch: %s is damaged, so the files are fetched again", provenance_file(record.name))
                missing.append((record, _published(record, base_url, patience, insecure)))
        jobs = [
            _Job(record, file, to / record.folder, base_url, published, Reach(hosts_of(record), insecure))
            for record, published in missing
            for file in record.files
            if file.name not in complete_files(record, to / record.folder)
        ]
        results = dict(zip(jobs, _download_all(jobs, parallel, patience), strict=True))
        for record, published in missing:
            of_record = {job: result for job, result in results.items() if job.record is record}
            _finish(record, to / record.folder, of_record, published, keep_archives)
        return [Fetched(to / record.folder, _config(record, to / record.folder)) for record in records]


def describe_records(names: Sequence[str], to: Path, base: str | None = None) -> list[dict[str, Any]]:
    """Describe a fetch without requests: files, addresses, licences, what is there."""
    check_local(to)
    rows = []
    for record in map(find_record, names):
        folder = to / record.folder
        files = [
            {"name": file.name, "url": at_base(file.url, base), "checksum": file.checksum} for file in record.files
        ]
        row = {"record": record.name, "title": record.title, "folder": str(folder), "size": record.size or "unknown",
               "licence": record.licence, "citation": record.citation, "complete": is_complete(record, folder)}  # fmt: skip
        rows.append({**row, "files": files})
    return rows


@dataclass(frozen=True, eq=False)
class _Job:
    """One file to download."""

    record: Record
    file: RemoteFile
    folder: Path
    base: str | None
    published: Published
    reach: Reach

    @property
    def path(self) -> Path:
        return self.folder / self.file.name

    @property
    def source(self) -> Source:
        size, checksum = self.published.files.get(self.file.name, (None, ""))
        both = " ".join(dict.fromkeys(part for part in (self.file.checksum, checksum) if part))
        return Source(at_base(self.file.url, self.base), size, both, self.file.most, self.reach)

    @property
    def target(self) -> Path:
        return self.folder / (self.file.into or self.file.name)


@contextmanager
def _locked(record: Record, folder: Path) -> Iterator[None]:
    """Hold a record, so that two processes do not write the same part."""
    with disk_errors(str(folder), "choose another folder with --to"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{record.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            what = f"another process fetches {record.name} into this folder"
            raise DownloadError(what, str(folder), "wait for it, or choose another folder with --to") from error
    try:
        yield
    finally:
        lock.release()


def _published(record: Record, base: str | None, patience: Patience, insecure: bool) -> Published:
    """Return what Zenodo publishes. DownloadError if it contradicts the record."""
    if not record.zenodo:
        return Published({}, "")
    published = read_zenodo(record.zenodo, base, patience, Reach(hosts_of(record), insecure))
    for file in record.files:
        size, checksum = published.files.get(file.name, (None, ""))
        if checksum != file.checksum and checksum.partition(":")[0] == file.checksum.partition(":")[0]:
            what = f"the list of files gives {checksum} for {file.name}, and this version of raydistill knows {file.checksum}"
            raise DownloadError(what, f"fetch {record.name}", OTHER_VERSION)
        if size is not None and not 0 <= size <= file.most:
            what = f"the list of files gives {size} bytes for {file.name}, which has at most {file.most}"
            raise DownloadError(what, f"fetch {record.name}", OTHER_VERSION)
    return published


def _download_all(jobs: Sequence[_Job], parallel: int, patience: Patience) -> list[Downloaded]:
    """Download files in threads. An error or Ctrl-C stops all of them; parts stay."""
    if not jobs:
        return []
    stop = threading.Event()
    names = ", ".join(dict.fromkeys(job.record.name for job in jobs))
    with progress(None, f"fetching {names}", "MB") as bar:
        total = _Total(jobs, bar)

        def work(job: _Job) -> Downloaded:
            return download(job.source, job.path, patience=patience, stop=stop, on_progress=total.of(job))

        return run_in_threads(work, jobs, parallel, stop)


class _Total:
    """The progress of several files as one bar."""

    def __init__(self, jobs: Sequence[_Job], bar: Any) -> None:
        self._states = {job: Progress(0, job.source.size) for job in jobs}
        self._bar, self._lock = bar, threading.Lock()

    def of(self, job: _Job) -> Callable[[Progress], None]:
        """Return the function that one download calls."""

        def show(state: Progress) -> None:
            with self._lock:
                self._states[job] = state
                sizes = [state.size for state in self._states.values()]
                if None not in sizes:
                    self._bar.set_total(sum(size for size in sizes if size) // MB)
                self._bar.update(sum(state.done for state in self._states.values()) // MB)

        return show


def _finish(
    record: Record, folder: Path, results: dict[_Job, Downloaded], published: Published, keep_archives: bool
) -> None:
    """Unpack the files of a record, write its provenance, and remove its archives."""
    entries = complete_files(record, folder)
    for job, done in results.items():
        if not done.verified:
            way = "its archive's own checksums are verified" if job.file.unpack else "it could not be verified"
            log.warning("fetch: no checksum of %s is published; %s", job.file.name, way)
        result: dict[str, Any] = {"size": done.size, "sha256": done.sha256}
        if job.file.unpack:
            unpacked = unpack(job.path, job.file.unpack, job.target)
            result["unpacked"] = {"into": job.file.into, **asdict(unpacked)}
        entries[job.file.name] = file_entry(job.file, job.base, job.source.checksum, result)
    licence = published.licence or record.licence
    write_provenance(record, folder, licence, [entries[file.name] for file in record.files])
    for job in results:
        if job.file.unpack and not keep_archives:
            job.path.unlink()
    log.info("fetch: %s: licence: %s", record.name, licence)
    log.info("fetch: %s: please cite %s", record.name, record.citation)


def _config(record: Record, folder: Path) -> Path | None:
    """Write the config of a record that can be read, unless it exists.

    The user may have changed it.
    """
    if not record.survey:
        return None
    licence, citations = licence_of(record, folder), record.citation.split("; ")
    if record.needs:
        pictures = RECORDS[record.needs]
        licence = f"{licence}; pictures: {licence_of(pictures, folder)}"
        citations += pictures.citation.split("; ")
        if not is_complete(pictures, folder):
            log.info("fetch: the pictures of this table: raydistill fetch %s --to %s", record.needs, folder.parent)
    path = folder.absolute() / f"{record.name}.yaml"
    if not path.exists():
        write_config(record, path, licence, "; ".join(dict.fromkeys(citations)))
    log.info("fetch: to use it: raydistill run %s", path)
    return path
