"""Write where files came from, and a config that reads them.

`NAME.provenance.json` is written last: a record without it is not complete. It has no date, so two
fetches of the same files write the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raydistill.errors import ConfigError
from raydistill.escaping import for_config, hide_passwords
from raydistill.fetching.records import Record, RemoteFile
from raydistill.storage import Folder, check_path
from raydistill.storage.checked import from_json, to_json


def check_local(folder: Path) -> None:
    """Raise ConfigError for an object store, or a path that is not UTF-8.

    In a store no part of a file can grow.
    """
    check_path(os.path.abspath(folder), ConfigError)
    if re.match(r"[a-z][a-z0-9]+:/", str(folder)):
        raise ConfigError(
            f"'{folder}' is not a folder of this machine", "--to", "fetch into a local folder and copy it"
        )


def provenance_file(name: str) -> str:
    """Return the name of the provenance of a record.

    Examples
    --------
    >>> provenance_file("gz2")
    'gz2.provenance.json'
    """
    return f"{name}.provenance.json"


def write_json(folder: Path, name: str, values: Mapping[str, Any]) -> None:
    """Write a JSON file with its digest atomically."""
    Folder(folder).write(name, to_json(values))


def read_json(path: Path) -> dict[str, Any]:
    """Return the values of `write_json`; none if the file is missing or damaged."""
    try:
        return from_json(path.read_bytes())
    except (OSError, ValueError):
        return {}


def is_damaged(path: Path) -> bool:
    """Return whether a file of `write_json` is there and cannot be used."""
    return path.exists() and not read_json(path)


def complete_files(record: Record, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the provenance, by name, of a record's files that have their sizes."""
    entries = read_json(folder / provenance_file(record.name)).get("files")
    by_name = {str(entry.get("name")): entry for entry in entries or () if isinstance(entry, dict)}
    return {file.name: by_name[file.name] for file in record.files if _is_there(folder, file, by_name.get(file.name))}


def is_complete(record: Record, folder: Path) -> bool:
    """Return whether every file of a record is there."""
    return {file.name for file in record.files} <= complete_files(record, folder).keys()


def _is_there(folder: Path, file: RemoteFile, entry: Mapping[str, Any] | None) -> bool:
    target, values = folder / (file.into or file.name), entry or {}
    unpacked = values.get("unpacked")
    recorded = unpacked if isinstance(unpacked, dict) else values
    if target.is_dir():
        return sum(1 for _ in target.iterdir()) == recorded.get("files")
    return target.is_file() and target.stat().st_size == recorded.get("size")


def write_provenance(record: Record, folder: Path, licence: str, files: Sequence[Mapping[str, Any]]) -> None:
    """Write the provenance of a record: source, checksums, licence and citation."""
    values = {
        "record": record.name,
        "title": record.title,
        "homepage": record.homepage,
        "licence": licence,
        "citation": record.citation,
        "files": list(files),
    }
    write_json(folder, provenance_file(record.name), values)


def file_entry(file: RemoteFile, mirror: str | None, published: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's row: published URL, mirror that served it, size and checksums."""
    served = mirror and hide_passwords(mirror)
    return {"name": file.name, "url": file.url, "mirror": served, "published_checksum": published or None, **result}


def licence_of(record: Record, folder: Path) -> str:
    """Return the licence published at the time of fetching, else the built-in one."""
    return str(read_json(folder / provenance_file(record.name)).get("licence") or record.licence)


def write_config(record: Record, path: Path, licence: str, citation: str) -> None:
    """Write a config for a record in `path`'s folder, with licence and citation."""
    survey = {**in_folder(record.survey, path.parent), "licence": licence, "citation": citation}
    text = (
        f"# {record.name}: written by `raydistill fetch {record.name}`. The curated set's manifest gets the licence.\n"
    )
    values = {"extends": record.extends, "name": record.name, "survey": survey}
    Folder(path.parent).write(path.name, (text + for_config(values)).encode())


def in_folder(values: Any, folder: Path) -> Any:
    """Return `values` with `{folder}` in its texts replaced.

    Examples
    --------
    >>> in_folder({"root": "{folder}/images", "pattern": "{id}.jpg"}, Path("/data"))
    {'root': '/data/images', 'pattern': '{id}.jpg'}
    """
    if isinstance(values, Mapping):
        return {key: in_folder(value, folder) for key, value in values.items()}
    return values.replace("{folder}", str(folder)) if isinstance(values, str) else values
