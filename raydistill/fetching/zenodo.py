"""Read sizes, checksums and the licence of a record from Zenodo's API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from raydistill.fetching.http import Patience, at_base, describe_failure, make_session
from raydistill.log import get_logger

log = get_logger(__name__)


@dataclass(frozen=True)
class Published:
    """Size [bytes] and checksum of a record's files by name, and its licence or ""."""

    files: Mapping[str, tuple[int | None, str]]
    licence: str


def read_zenodo(number: str, base: str | None, patience: Patience) -> Published:
    """Return what Zenodo publishes of a record, or nothing if its API does not answer.

    The API is asked once. Without an answer the built-in checksums serve.
    """
    url = at_base(f"https://zenodo.org/api/records/{number}", base)
    try:
        with make_session() as session:
            response = session.get(url, timeout=(patience.connect_seconds, patience.stall_seconds))
            response.raise_for_status()
            return parse_record(response.json())
    except (requests.RequestException, KeyError, TypeError, ValueError, AttributeError) as error:
        log.info("fetch: Zenodo's API gives no list of files (%s); the built-in checksums are used", _reason(error))
        return Published({}, "")


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code}"
    known = isinstance(error, requests.RequestException) and not isinstance(error, ValueError)
    return describe_failure(error) if known else "its answer has another form"


def parse_record(values: Mapping[str, Any]) -> Published:
    """Return the files and the licence of a record as the API gives it.

    Examples
    --------
    >>> parse_record({"files": [{"key": "a.csv", "size": 3, "checksum": "md5:ab"}],
    ...               "metadata": {"license": {"id": "cc-by-4.0"}}})
    Published(files={'a.csv': (3, 'md5:ab')}, licence='CC BY 4.0')
    """
    files = {str(file["key"]): (int(file["size"]), str(file["checksum"]).lower()) for file in values["files"]}
    licence = str(((values.get("metadata") or {}).get("license") or {}).get("id", ""))
    return Published(files, _usual_name(licence))


def _usual_name(licence: str) -> str:
    """Spell a Creative Commons licence as usual: "CC BY-NC 4.0" for "cc-by-nc-4.0"."""
    kind, _, version = licence.rpartition("-")
    if not licence.lower().startswith("cc-"):
        return licence
    return f"CC {kind[3:].upper()} {version}"
