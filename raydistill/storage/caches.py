"""Folders for what may be made again: in the home folder, or temporary ones."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of copies of remote files, which may be removed at any time.

    It is `RAYDISTILL_CACHE`, by default `~/.cache/raydistill`. If the home folder is missing or
    cannot be written to, it is a temporary folder.
    """
    if "RAYDISTILL_CACHE" not in os.environ:
        default = Path("~/.cache/raydistill")
        if is_writable(default):
            return default.expanduser()
        choose_temporary("RAYDISTILL_CACHE")
    return Path(os.environ["RAYDISTILL_CACHE"])


def choose_temporary(variable: str) -> None:
    """Set an environment variable to a new folder, which is removed at exit."""
    os.environ[variable] = folder = tempfile.mkdtemp(prefix="raydistill-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def is_writable(folder: Path) -> bool:
    """Return whether a folder can be written to, or made; `~` is the home folder."""
    path = Path(os.path.expanduser(folder))  # Path.expanduser raises without a home folder
    nearest = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
    return path.is_absolute() and nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


if os.path.expanduser("~") == "~":  # a user without an entry in passwd, as in a container
    choose_temporary("HOME")  # astropy and others raise without one
# matplotlib would make a folder for its list of fonts in the home folder, or warn that it cannot.
_FONTS = Path("~/.config/matplotlib")
if "MPLCONFIGDIR" not in os.environ and not (_FONTS.expanduser().is_dir() and is_writable(_FONTS)):
    choose_temporary("MPLCONFIGDIR")
