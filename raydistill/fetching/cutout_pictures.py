"""Recognise answers of cut-out services that are no picture of a galaxy."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from raydistill.fetching.kinds import HEAD, describe_wrong_kind

BLANK = 2  # levels of 255; sky noise alone has more


def describe_wrong_picture(content: bytes, pixels: int) -> str:
    """Return why the bytes are no JPEG of a galaxy with this side [px], or "".

    A picture of one colour lies outside the survey: the services send it with status 200.
    """
    if wrong := describe_wrong_kind("x.jpg", content[:HEAD]):
        return f"the server sent {wrong}"
    try:
        with Image.open(io.BytesIO(content)) as opened:
            picture = np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        return f"the JPEG is damaged ({' '.join(str(error).split())[:80]})"
    height, width = picture.shape[:2]
    if (height, width) != (pixels, pixels):
        return f"the picture has {width} × {height} px"
    if int(picture.max()) - int(picture.min()) <= BLANK:
        return "the picture is blank; the position may be outside the survey"
    return ""
