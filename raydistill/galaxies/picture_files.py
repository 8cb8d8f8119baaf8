"""Find and read the files of pictures."""

from __future__ import annotations

import string
from collections.abc import Sequence

import pyarrow.fs as pafs

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.catalog import read_filename_mapping
from raydistill.galaxies.images import RejectedImage
from raydistill.storage import CHECK_ACCESS, arrow_filesystem, error_message, open_stream

Source = bytes | str | None  # content of a file, its path, or None for a catalogue row without a picture


def check_pattern(pattern: str) -> None:
    """Raise ConfigError unless the pattern makes a file name of an object id."""
    fields = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
    what, where = f"'{pattern}' is not a file name pattern", "survey.images.pattern"
    if fields != {"id"}:
        raise ConfigError(what, where, "write {id} in place of the object id")
    try:
        shown = pattern.format(id="q7")
    except (ValueError, LookupError, AttributeError):
        shown = ""
    if "q7" not in shown or "q70" in shown:  # ids are text, and {id:06} pads text with zeros on the right
        raise ConfigError(what, where, "write {id}, or {id:0>6} for six digits with leading zeros")


def locate(root: str, pattern: str, mapping: str | None, object_ids: Sequence[str]) -> list[str | None]:
    """Return the path of each object's file, or None if it has none."""
    assets = None if mapping is None else read_filename_mapping(mapping)
    present = list_files(root, recursive="/" in pattern)
    paths: list[str | None] = []
    for object_id in object_ids:
        asset = object_id if assets is None else assets.get(object_id)
        name = None if asset is None else pattern.format(id=asset)
        paths.append(f"{root.rstrip('/')}/{name}" if name in present else None)
    return paths


def list_files(root: str, recursive: bool) -> set[str]:
    """Return the names of the files in `root`, relative to it."""
    system, path = arrow_filesystem(root)
    try:
        files = system.get_file_info(pafs.FileSelector(path, recursive=recursive))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CatalogError(
            "there is no such image folder", root, "check survey.images.root, or download the images first"
        ) from error
    except OSError as error:
        raise CatalogError(f"the image folder cannot be listed ({error_message(error)})", root, CHECK_ACCESS) from error
    start = len(path.rstrip("/")) + 1
    names = {info.path[start:] for info in files if info.type == pafs.FileType.File}
    if not names:
        raise CatalogError("the image folder is empty", root, "download the images first")
    return names


def read_source(source: Source) -> tuple[bytes, str]:
    """Return the content of a picture file, and its path for error messages.

    Raises
    ------
    RejectedImage
        With the reason missing, unreadable or empty.
    CatalogError
        If a remote storage fails: that is not a fault of the picture.
    """
    where = source if isinstance(source, str) else ""
    if source is None:
        raise RejectedImage("missing", where, "no picture for this object")
    if isinstance(source, str):
        try:
            with open_stream(source) as stream:
                source = stream.read()
        except FileNotFoundError as error:
            raise RejectedImage("missing", where, "no such file") from error
        except OSError as error:
            if "://" in where:
                raise CatalogError(
                    f"cannot be read ({error_message(error)})", where, "run the command again"
                ) from error
            raise RejectedImage("unreadable", where, error_message(error)) from error
    if not source:
        raise RejectedImage("empty", where, "a file of 0 bytes")
    return bytes(source), where
