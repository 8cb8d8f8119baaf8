"""Find the configs and the distilled sets that come with raydistill."""

from __future__ import annotations

import os
import re
from pathlib import Path

from raydistill.errors import ArtifactMissing

# Folders of the configs: inside an installed package, or beside it in a checkout.
FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


SETS = Path(__file__).parent / "sets"


def set_folder(place: str) -> str:
    """Return the folder of the released set of this name, or the place itself.

    A folder of the user comes before a name.

    Raises
    ------
    ArtifactMissing
        There is neither.
    """
    if os.path.exists(place) or not re.fullmatch(r"[\w-]+", place):
        return place
    if place not in set_names():
        what, fix = "there is no folder and no released set of this name", "check it; `raydistill sets` lists the names"
        raise ArtifactMissing(what, place, fix)
    return str(SETS / place)


def set_names() -> list[str]:
    """Return the names of the released sets."""
    return sorted(path.parent.name for path in SETS.glob("*/manifest.json"))


def find(name: str) -> Path | None:
    """Return the file of a shipped config, such as `demo` or `methods/datm`."""
    paths = (folder / f"{name.removesuffix('.yaml')}.yaml" for folder in FOLDERS)
    return next((path for path in paths if path.is_file()), None)


def names(folder: str = "") -> list[str]:
    """Return the names of the configs in `configs/`, or in a folder there."""
    return sorted({path.stem for root in FOLDERS for path in (root / folder).glob("*.yaml")})


def describe(path: Path) -> str:
    """Return the first sentence of a config's header, without its name."""
    line = path.read_text().partition("\n")[0]
    return re.split(r"(?<!\bal)\.(?: |$)", line.removeprefix("#").partition(":")[2].strip())[0]
