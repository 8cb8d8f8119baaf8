"""Render the templates of the pages, with pictures as data URIs."""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from raydistill.galaxies.pictures.images import encode_png

Pixels = npt.NDArray[np.uint8]
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes
    ----------
    uri
        The PNG file as a data URI.
    alt
        Its description for readers who do not see it.
    caption
        The text below it.
    """

    uri: str
    alt: str
    caption: str = ""


def picture(pixels_HWC: Pixels, alt: str, caption: str = "") -> Picture:
    """Return a picture of the page from its pixels."""
    encoded = base64.b64encode(encode_png(pixels_HWC)).decode()
    return Picture(f"data:image/png;base64,{encoded}", alt, caption)


def render(template: str, **content: Any) -> str:
    """Return a page; text is escaped."""
    return _environment().get_template(template).render(**content)


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
