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
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as opened:
            if opened.size != (pixels, pixels):  # before its pixels take memory
                return f"the picture has {opened.width} × {opened.height} px"
            picture = np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"the JPEG is damaged ({' '.join(str(error).split())[:80]})"
    if int(picture.max()) - int(picture.min()) <= BLANK:
        return "the picture is blank; the position may be outside the survey"
    return ""
