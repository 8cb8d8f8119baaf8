"""Test that SAOImage DS9 shows prototypes as their picture does.

North of a picture is up, and spirals keep their sense.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.stages.distill.report import Card, write_prototypes
from tests.mosaics import COLOURS, Spiral

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        shutil.which("ds9") is None or shutil.which("Xvfb") is None, reason="needs ds9 and Xvfb (Debian: saods9, xvfb)"
    ),
]
SIDE = 32
HEADER: dict[str, Card] = {"IPC": 1, "SEED": 0, "DIGEST": "0" * 16, "STRETCH": "linear", "SIMULATD": True}


def prototype(winding: int) -> np.ndarray:
    """Return a spiral, float32 `[H, W, 3]` in [0, 1], with row 0 at the top.

    It has a blue corner at the top left.
    """
    steps = np.arange(SIDE) - (SIDE - 1) / 2
    light = Spiral(0, 0, winding).light(steps[None], -steps[:, None])
    picture = (light[..., None] * COLOURS).astype(np.float32)
    picture[:4, :6] = 0, 0, 1
    return picture


@contextmanager
def display() -> Iterator[str]:
    """Start an X server without a screen; yield its DISPLAY."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1000x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(write,), stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as stream:
            yield f":{stream.readline().strip()}"
    finally:
        server.terminate()
        server.wait(30)


def shown_by_ds9(path: Path, extension: int) -> np.ndarray:
    """Return the picture of a prototype that DS9 exports, uint8 `[H, W, 3]`."""
    picture = path.with_name(f"{extension}.png")
    with display() as screen:
        command = ["ds9", "-rgbcube", f"{path}[{extension}]", "-export", "png", str(picture), "-exit"]
        subprocess.run(command, env={**os.environ, "DISPLAY": screen}, check=True, timeout=120, capture_output=True)
    return np.asarray(Image.open(picture).convert("RGB"))


@pytest.mark.timeout(300)
def test_ds9_shows_prototypes_in_the_orientation_of_the_picture(tmp_path: Path) -> None:
    pictures = np.stack([prototype(1), prototype(-1)])
    path = tmp_path / "prototypes.fits"
    write_prototypes(path, pictures, np.array([0, 1]), ["anticlockwise", "clockwise"], HEADER)
    for extension, expected in enumerate(pictures, start=1):
        shown = shown_by_ds9(path, extension).astype(float)
        assert shown.shape == expected.shape
        levels = 255 * (expected / expected.max(axis=(0, 1)))  # DS9 scales each colour to its own range
        assert abs(shown - levels).max() < 4
        for wrong in (levels[::-1], levels[:, ::-1], levels[..., ::-1]):
            assert abs(shown - wrong).max() > 100
