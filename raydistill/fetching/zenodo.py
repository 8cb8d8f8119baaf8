"""Read sizes, checksums and the licence of a record from Zenodo's API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from raydistill.errors import DownloadError
from raydistill.fetching.http import (
    TRANSIENT,
    Patience,
    Reach,
    TransientError,
    at_base,
    describe_failure,
    make_session,
    open_url,
    read_body,
)
from raydistill.log import get_logger

log = get_logger(__name__)

MOST = 4_000_000  # bytes of an answer
DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}  # of a checksum


@dataclass(frozen=True)
class Published:
    """Size [bytes] and checksum of a record's files by name, and its licence or ""."""

    files: Mapping[str, tuple[int | None, str]]
    licence: str


def read_zenodo(number: str, base: str | None, patience: Patience, reach: Reach) -> Published:
    """Return what Zenodo publishes of a record, or nothing if its API does not answer.

    The API is asked once. Without an answer the built-in checksums serve alone.
    """
    url = at_base(f"https://zenodo.org/api/records/{number}", base)
    try:
        with make_session() as session, open_url(session, url, patience, reach) as response:
            response.raise_for_status()
            return parse_record(json.loads(read_body(response, patience, MOST)))
    except (
        *TRANSIENT, TransientError, DownloadError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError,
        RecursionError,
    ) as error:  # fmt: skip
        log.info("fetch: Zenodo's API gives no list of files (%s); the built-in checksums are used", _reason(error))
        return Published({}, "")


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"it answers {error.response.status_code}"
    if isinstance(error, DownloadError):
        return error.what
    known = isinstance(error, (*TRANSIENT, TransientError)) and not isinstance(error, ValueError)
    return describe_failure(error) if known else "its answer has another form"


def parse_record(values: Mapping[str, Any]) -> Published:
    """Return the files and the licence of a record as the API gives it.

    Examples
    --------
    >>> checksum = "md5:900150983cd24fb0d6963f7d28e17f72"
    >>> parse_record({"files": [{"key": "a.csv", "size": 3, "checksum": checksum}],
    ...               "metadata": {"license": {"id": "cc-by-4.0"}}})
    Published(files={'a.csv': (3, 'md5:900150983cd24fb0d6963f7d28e17f72')}, licence='CC BY 4.0')
    """
    files = {str(file["key"]): (int(file["size"]), _checksum(file)) for file in values["files"]}
    licence: Any = ((values.get("metadata") or {}).get("license") or {}).get("id")
    is_identifier = isinstance(licence, str) and re.fullmatch(r"[\w.+-]{1,60}", licence, re.ASCII)
    return Published(files, _usual_name(licence) if is_identifier else "")


def _checksum(file: Mapping[str, Any]) -> str:
    """Return the checksum of a file as "md5:…"; "" for one that cannot be verified."""
    text = str(file["checksum"]).lower()
    kind, _, value = text.partition(":")
    if re.fullmatch(f"[0-9a-f]{{{DIGITS.get(kind, 0)}}}", value) and value:
        return text
    log.warning("fetch: the list of files has a checksum of an unknown kind, which is not used: %.100s", text)
    return ""


def _usual_name(licence: str) -> str:
    """Spell a Creative Commons licence as usual: "CC BY-NC 4.0" for "cc-by-nc-4.0"."""
    kind, _, version = licence.rpartition("-")
    if not licence.lower().startswith("cc-"):
        return licence
    return f"CC {kind[3:].upper()} {version}"
