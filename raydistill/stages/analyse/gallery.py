"""Write the gallery: prototypes beside class means and nearest real galaxies.

A slider shows the prototypes during the distillation, and two lists choose classes whose prototypes
are subtracted. Everything is inside the page; links to survey viewers are followed on request only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from raydistill.figures.pages import Picture, picture, render

Pixels = npt.NDArray[np.uint8]
MAX_BYTES = 8_000_000  # of the frames of a page: fewer of them where images are large


@dataclass(frozen=True)
class Neighbour:
    """A real galaxy near a prototype.

    Attributes
    ----------
    picture
        Its picture.
    object_id
        Its id.
    class_name
        Its class.
    distance
        Root mean square difference of pixel values in [0, 1], for the best flip or turn.
    votes
        The volunteers' answers, in words; empty without votes.
    links
        Addresses of survey viewers, by name; empty without coordinates.
    """

    picture: Picture
    object_id: str
    class_name: str
    distance: str
    votes: list[str]
    links: dict[str, str]


@dataclass(frozen=True)
class GalleryRow:
    """The pictures of one class: its mean, and the neighbours of its first prototype."""

    name: str
    mean: Picture
    neighbour_mean: Picture
    neighbours: list[Neighbour]


def survey_links(ra: float | None, dec: float | None) -> dict[str, str]:
    """Return the addresses of viewers that show a position.

    Parameters
    ----------
    ra, dec
        Position in degrees (ICRS); None where unknown.
    """
    if ra is None or dec is None or not np.isfinite([ra, dec]).all():
        return {}
    place = {"ra": f"{ra:.6f}", "dec": f"{dec:.6f}"}
    return {
        "SDSS": f"https://skyserver.sdss.org/dr18/VisualTools/navi?{urlencode({**place, 'scale': '0.2'})}",
        "Legacy Surveys": f"https://www.legacysurvey.org/viewer?{urlencode({**place, 'layer': 'ls-dr10', 'zoom': '15'})}",
    }


def gallery(rows: Sequence[GalleryRow], images_per_class: int, frames: Mapping[int, Pixels]) -> str:
    """Return the gallery as a part of a page.

    Parameters
    ----------
    rows
        The classes, in order.
    images_per_class
        Number of prototypes of each class.
    frames
        Images uint8 [S, H, W, 3] by iteration, sorted by class; the last one is the published set.
    """
    mosaics = [(number, picture(mosaic(frames[number], images_per_class), "")) for number in sorted(frames)]
    return render("gallery.html", rows=rows, ipc=images_per_class, frames=thin(mosaics))


def mosaic(images_SHWC: Pixels, images_per_class: int) -> Pixels:
    """Return images as one picture, a row per class."""
    _, height, width, channels = images_SHWC.shape
    tiles = images_SHWC.reshape(-1, images_per_class, height, width, channels).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(-1, images_per_class * width, channels))


def thin(mosaics: list[tuple[int, Picture]]) -> list[tuple[int, Picture]]:
    """Return evenly spaced frames of about `MAX_BYTES`, with the first and last."""
    size = sum(len(one.uri) for _, one in mosaics)
    count = max(2, int(len(mosaics) * MAX_BYTES / size)) if size > MAX_BYTES else len(mosaics)
    if count >= len(mosaics):
        return mosaics
    return [mosaics[round(position)] for position in np.linspace(0, len(mosaics) - 1, count)]
