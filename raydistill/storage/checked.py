"""Files that are read again carry their sha256, so that no damage passes for data.

- `write` and `read`: a file of unfinished work or of a cache. Its first line is the digest of the
  rest.
- `record` and `recorded`: the digests of an artifact's files while it has no manifest.
- `to_json` and `from_json`: a JSON document for people, which holds its own digest.

A damaged file counts as missing, with a line in the log, and is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from raydistill.errors import ArtifactCorrupt
from raydistill.log import get_logger
from raydistill.storage import Folder

log = get_logger(__name__)

DIGEST = "sha256"  # key of a document's own digest
_HEAD = len(hashlib.sha256().hexdigest()) + 1  # bytes of the first line
_BLOCK = 1 << 20


def seal(data: bytes) -> bytes:
    """Return the data after a line with their digest."""
    return _head(hashlib.sha256(data).hexdigest()) + data


def unseal(sealed: bytes) -> bytes | None:
    """Return the data of `seal`, or None if they are damaged."""
    data = sealed[_HEAD:]
    return data if sealed[:_HEAD] == _head(hashlib.sha256(data).hexdigest()) else None


def write(folder: Folder, name: str, data: bytes) -> None:
    """Write a file that `read` verifies; readers see all of it or nothing."""
    folder.write(name, seal(data))


def read(folder: Folder, name: str) -> bytes | None:
    """Return what `write` wrote, or None if the file is missing or damaged."""
    if not folder.exists(name):
        return None
    data = unseal(folder.read(name))
    if data is None:
        _log_damage(folder, name)
    return data


def require(folder: Folder, name: str) -> bytes:
    """Return what `write` wrote in this run; raise ArtifactCorrupt if it is damaged."""
    data = read(folder, name)
    if data is None:
        raise ArtifactCorrupt(
            f"'{name}' is gone or damaged", folder.uri, "run the same command again; it is made again"
        )
    return data


def is_intact(folder: Folder, name: str) -> bool:
    """Return whether `read` returns data, in little memory."""
    if not folder.exists(name):
        return False
    with folder.open(name) as stream:
        head, sha256 = stream.read(_HEAD), hashlib.sha256()
        while block := stream.read(_BLOCK):
            sha256.update(block)
    intact: bool = head == _head(sha256.hexdigest())
    if not intact:
        _log_damage(folder, name)
    return intact


def record(folder: Folder, name: str, digests: Mapping[str, str], values: Mapping[str, Any] | None = None) -> None:
    """Write the sha256 of finished files, and values that describe them, to `name`."""
    write(folder, name, json.dumps({"files": dict(digests), "values": dict(values or {})}).encode())


def recorded(folder: Folder, name: str) -> dict[str, Any] | None:
    """Return the values of `record`, or None unless it and all its files are intact."""
    data = read(folder, name)
    if data is None:
        return None
    content: dict[str, dict[str, Any]] = json.loads(data)
    for file, digest in content["files"].items():
        if not folder.exists(file) or folder.sha256(file) != digest:
            _log_damage(folder, file)
            return None
    return content["values"]


def values_of(folder: Folder, name: str) -> dict[str, Any]:
    """Return the values of a `record` whose files `recorded` has seen in this run."""
    return json.loads(require(folder, name))["values"]


def to_json(values: Mapping[str, Any]) -> bytes:
    """Return a JSON document of the values and the sha256 of their canonical JSON."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return json.dumps({**values, DIGEST: digest}, indent=1, sort_keys=True).encode()


def from_json(data: bytes) -> dict[str, Any]:
    """Return the values of `to_json`; raise ValueError unless it wrote these bytes."""
    with suppress(ValueError, RecursionError):
        values = json.loads(data)
        if isinstance(values, dict) and values.pop(DIGEST, None) and to_json(values) == data:
            return values
    raise ValueError("its digest is missing or wrong")


def _head(digest: str) -> bytes:
    return f"{digest}\n".encode()


def _log_damage(folder: Folder, name: str) -> None:
    log.warning("%s/%s is damaged and is made again", folder, name)
