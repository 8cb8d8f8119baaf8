"""How a galaxy lies in its picture, and the picture turned so that it lies level.

Galaxies point anywhere, and a network that sees few of them spends them on learning that. With `curate.align` every picture is turned by
the angle of its long axis, from the second moments of its light: without labels, and alike in training, validation and test. A turn is no
mirror: the sense in which a spiral winds stays. Which of the two ends is left remains chance, and for a round galaxy all of the angle.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image
from scipy import ndimage

MEASURED = 100  # pixels across `side` in which the angle is measured, where there are as many
ROUNDS = 8
NOISE = 2.0  # deviations above the sky from which smoothed pixels belong to the galaxy
SMOOTHING = 0.01  # of the side
WIDEST = 0.25  # deviation of the weight, of the side


def long_axis(image: np.ndarray, side: float) -> float:
    """Angle of the long axis in degrees from the horizontal, counter-clockwise as one looks at the picture, in [-90, 90].

    image: uint8 `[H, W, 3]`, a galaxy in the middle. side: of the central square that matters, in pixels. From the second moments of the
    bright region in the middle, so that neighbours do not count, under a round Gaussian as wide as the light itself, for those that
    touch: adaptive moments (Bernstein & Jarvis 2002, AJ 123, 583) with a weight that stays round. 0 where nothing is brighter than the
    sky.
    """
    if (factor := int(side // MEASURED)) > 1:
        image, side = np.asarray(Image.fromarray(image).reduce(factor)), side / factor
    red, green, blue = (image[..., channel].astype(np.float64) for channel in range(3))
    light = _light_in_the_middle(red + green + blue, side)  # numpy's sum along the last axis takes ten times as long
    y_H1, x_1W = _from_the_centre(light)
    squared = x_1W**2 + y_H1**2
    deviation = WIDEST * side
    for _ in range(ROUNDS):
        weighted = light * np.exp(-squared / (2 * deviation**2))
        total = weighted.sum()
        if total <= 0:
            return 0.0
        # Of a Gaussian under a weight as wide as itself half the variance is left, and <r²> is that of both directions.
        deviation = min(max(math.sqrt((weighted * squared).sum() / total), 1.0), WIDEST * side)
    across = (weighted * (x_1W**2 - y_H1**2)).sum()
    aslant = 2 * (weighted * x_1W * y_H1).sum()
    return math.degrees(math.atan2(aslant, across) / 2)


def align_major_axis(image: np.ndarray, side: float, pixels: int) -> tuple[np.ndarray, float]:
    """The middle of a picture, its long axis level, float32 `[h, w, 3]`, and how many of its pixels `side` of the original's are.

    It is centred as `image` is, and shrunk first to `pixels` across `side` where there are more, for turning takes its time. Where the
    turned picture has no pixels (in the corners of a square of more than .7 of the picture's side) lies its sky. Values may lie a little
    outside [0, 255].
    """
    angle = round(long_axis(image, side), 2)  # what processors add up differently does not show
    scale = min(1.0, pixels / side)
    lengths = [int(min(length, math.sqrt(2) * side + 4) * scale) for length in (image.shape[1], image.shape[0])]
    starts = [
        (length - kept / scale) / 2 for length, kept in zip((image.shape[1], image.shape[0]), lengths, strict=True)
    ]
    ends = [start + kept / scale for start, kept in zip(starts, lengths, strict=True)]
    turned = []
    for channel in np.moveaxis(image, 2, 0):
        shrunk = Image.fromarray(channel.astype(np.float32)).resize(
            (lengths[0], lengths[1]), Image.Resampling.LANCZOS, box=(*starts, *ends)
        )
        sky = float(np.median(_edge(channel)))
        turned.append(np.asarray(shrunk.rotate(-angle, Image.Resampling.BICUBIC, fillcolor=sky)))
    return np.stack(turned, axis=-1), side * scale


def _light_in_the_middle(grey: np.ndarray, side: float) -> np.ndarray:
    """The inner square's flux above the sky, of its bright region next to the centre and in the circle within it; 0 elsewhere."""
    inner, edge = _middle(grey, side), _edge(grey)
    sky, bright = np.quantile(edge, [0.5, 0.84])
    # The larger of two deviations, for a sky that is cut off at black has a median deviation of 0; a level at least, for rounding.
    noise = max(bright - sky, 1.4826 * np.median(np.abs(edge - sky)), 1.0)
    regions, _ = ndimage.label(ndimage.gaussian_filter(inner, SMOOTHING * side) > sky + NOISE * noise)
    distance = np.hypot(*_from_the_centre(inner))
    nearest = np.where(regions > 0, distance, np.inf).argmin()
    galaxy = (regions == regions.flat[nearest]) & (regions > 0) & (distance <= side / 2)
    return np.where(galaxy, np.maximum(inner - sky, 0), 0)


def _from_the_centre(channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y upwards [H, 1] and x to the right [1, W] of the pixels, in pixels."""
    height, width = channel.shape
    return (height - 1) / 2 - np.arange(height)[:, None], np.arange(width)[None, :] - (width - 1) / 2


def _middle(image: np.ndarray, side: float) -> np.ndarray:
    """A view of the central rectangle of at least `side` pixels each way, or of all there is; its centre is that of the picture."""
    top, left = (max(0, int((length - side) / 2)) for length in image.shape[:2])
    return image[top : image.shape[0] - top, left : image.shape[1] - left]


def _edge(channel: np.ndarray) -> np.ndarray:
    """The pixels of a channel's frame, a fiftieth of its side wide."""
    wide = max(1, min(channel.shape) // 50)
    top, bottom, left, right = channel[:wide], channel[-wide:], channel[wide:-wide, :wide], channel[wide:-wide, -wide:]
    return np.concatenate([part.ravel() for part in (top, bottom, left, right)])
