"""Place galaxy pictures into larger fields with realistic sky, noise and stars.

1. photutils finds the central galaxy of each picture. Its light is cut out (`cut_stamp`): the sky
   is subtracted, the noise filtered out, and the light of neighbours left out. It ends softly, so a
   field shows no seams.
2. Stamps are mirrored, turned, scaled and moved at random, and added as linear light: where two
   overlap, the field shows the sum. The surface brightness does not change with the scale.
3. Stars, the sky and its noise are added, and the sum gets the stretch of the survey.

The truth of a galaxy is its mask: the pixels in which its light alone exceeds the threshold that
photutils has in the noise of this field. So a mask is exact also where something else overlaps it.

Lengths are in pixels of the field. Light is in units of `simulation.injections.light`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from raydistill.morphology.structure import (
    Bools,
    Box,
    Floats,
    Labels,
    central_source,
    find_sources,
    smooth_brightness,
    visible_part,
)
from raydistill.simulation.injections.base import (
    above_sky,
    channels_of,
    light_of_level,
    to_light,
    to_picture,
)
from raydistill.stages.detect.config import FieldModel

TAPER = 12  # light ends softly within 1/12 of the side of a picture
TRUNCATED = 0.12  # a galaxy that covers more of the picture's edge is left out
STAR = -1  # label of a star
MIN_SKY = 100  # px: with fewer pixels without a source the whole frame is measured
MOFFAT = 3.0  # exponent of the profile of a star
STAR_LEVELS = 0.1, 1.5  # of the centre of a star; more than 1 is saturated
STAR_COLOURS = 0.2, 1.2  # g - r [mag]


@dataclass(frozen=True)
class Stamp:
    """The light of one galaxy, without sky, noise and neighbours.

    Parameters
    ----------
    light : float32 `[n, n, 3]`
    width
        Width of the stamp at scale 1 [px of a field].
    label
        Class of the galaxy.
    name
        Id of the picture.
    """

    light: Floats
    width: float
    label: int
    name: str


@dataclass(frozen=True)
class Sky:
    """The sky of a real frame: the level and the noise of each channel, `[3]`.

    `correlation` is that of the noise in neighbouring pixels.
    """

    level: tuple[float, ...]
    noise: tuple[float, ...]
    correlation: float


@dataclass(frozen=True)
class Placed:
    """A visible source of a field: its label, the id of its picture, mask and scale.

    The label of a star is `STAR`.
    """

    label: int
    name: str
    mask: Bools
    scale: float


@dataclass(frozen=True)
class Field:
    """A picture, uint8 `[side, side, 3]`, and its visible sources."""

    picture: np.ndarray
    sources: tuple[Placed, ...]


def measure_sky(light: Floats, sources: Labels) -> Sky:
    """Return the sky of a real frame in the pixels without a source.

    Parameters
    ----------
    light : float `[H, W, 3]`
        Linear light of the frame.
    sources : int32 `[H, W]`
        What `find_sources` has found in it.
    """
    empty = ~ndimage.binary_dilation(sources > 0, iterations=3)
    if empty.sum() < MIN_SKY:
        empty = np.ones_like(empty)
    level = np.median(light[empty], axis=0)
    below = np.minimum(light[empty] - level, 0)  # faint sources are above
    noise = np.sqrt(2 * (below**2).mean(axis=0))
    mean = light.mean(axis=2)
    rest = np.where(empty, mean - mean[empty].mean(), np.nan)
    products, variance = rest[:, 1:] * rest[:, :-1], float(np.nanvar(rest))
    known = products[~np.isnan(products)]
    correlation = float(np.clip(known.mean() / variance, 0, 0.9)) if variance > 0 and len(known) else 0.0
    return Sky(tuple(level.tolist()), tuple(noise.tolist()), correlation)


def cut_stamp(picture: np.ndarray, model: FieldModel) -> Floats | None:
    """Return the light of the galaxy at the centre of a picture.

    Parameters
    ----------
    picture : uint8 `[n, n, 3]`
    model
        Contrast and threshold.

    Returns
    -------
    float32 `[n, n, 3]`, or None
        None if photutils finds no galaxy there, or if the galaxy reaches the edge of the picture.
    """
    light = to_light(picture, model.contrast_of_pictures)
    labels = find_sources(light, model.sigmas, max(1, model.min_area // 4))
    central = central_source(labels)
    edge_pixels = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    if not central or (edge_pixels == central).mean() > TRUNCATED:
        return None
    size = len(light)
    outline = ndimage.binary_dilation(labels == central, iterations=max(2, size // 10))  # the faint outskirts
    others = ndimage.binary_dilation((labels > 0) & (labels != central))
    soft = ndimage.gaussian_filter((outline & ~others).astype(np.float64), size / 32)
    edge = np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5) / (size / TAPER)
    window = np.sin(np.pi / 2 * np.minimum(edge, 1)) ** 2
    return np.asarray(np.maximum(above_sky(light), 0) * (soft * window[:, None] * window)[..., None], np.float32)


def make_field(stamps: Sequence[Stamp | None], sky: Sky, model: FieldModel, rng: np.random.Generator) -> Field:
    """Return a field; equal states of `rng` give equal bits.

    Parameters
    ----------
    stamps
        At least one. Each galaxy is drawn from them, with replacement; None is left out.
    sky
        Of a real frame of the same pixel scale.
    model
        Numbers and sizes.
    rng
        Random numbers.
    """
    side, sources = model.side, []
    for index in rng.integers(len(stamps), size=max(1, rng.poisson(model.galaxies))):
        stamp = stamps[int(index)]
        if stamp is None:
            continue
        low, high = np.log(model.scales)
        scale = float(np.exp(rng.uniform(low, high)))
        sources.append((stamp.label, stamp.name, _place(stamp, scale, side, rng), scale))
    width = rng.uniform(*model.star_width) * side
    for _ in range(rng.poisson(model.stars)):
        sources.append((STAR, "star", _star(width, model, rng), 1.0))
    noise = _noise(sky, side, rng)
    deviation = float(smooth_brightness(noise).std())
    total = np.array(sky.level) + noise + sum(light for _, _, light, _ in sources)
    masks = [visible_part(light, deviation, model.sigmas, model.min_area) for _, _, light, _ in sources]
    placed = [
        Placed(label, name, mask, scale)
        for (label, name, _, scale), mask in zip(sources, masks, strict=True)
        if mask.any()
    ]
    return Field(to_picture(total, model.contrast), tuple(placed))


def _place(stamp: Stamp, scale: float, side: int, rng: np.random.Generator) -> Floats:
    """Return the light `[side, side, 3]` of a stamp at a random position.

    The stamp is mirrored, turned and scaled.
    """
    size = len(stamp.light)
    zoom = stamp.width * scale / size  # pixels of the field per pixel of the stamp
    angle, mirror = rng.uniform(0, 2 * math.pi), rng.choice((-1.0, 1.0))
    centre = rng.uniform(0, side, 2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.diag([1.0, mirror]) / zoom
    offset = (size - 1) / 2 - matrix @ centre
    blur = max(0.0, (1 / zoom - 1) / 2)  # against aliasing
    light = ndimage.gaussian_filter(stamp.light, (blur, blur, 0)) if blur else stamp.light
    channels = [
        ndimage.affine_transform(channel, matrix, offset, (side, side), order=1) for channel in np.moveaxis(light, 2, 0)
    ]
    return np.stack(channels, axis=-1)


def _star(width: float, model: FieldModel, rng: np.random.Generator) -> Floats:
    """Return the light `[side, side, 3]` of a star of FWHM `width` placed at random."""
    row, column = rng.uniform(0, model.side, 2)
    rows, columns = np.arange(model.side)[:, None] + 0.5 - row, np.arange(model.side) + 0.5 - column
    core = width / (2 * math.sqrt(2 ** (1 / MOFFAT) - 1))
    profile = (1 + (rows**2 + columns**2) / core**2) ** -MOFFAT
    colour = rng.uniform(*STAR_COLOURS)
    r_i = 0.05 + ((colour - STAR_COLOURS[0]) / 1.2) ** 2
    level = float(np.exp(rng.uniform(*np.log(STAR_LEVELS))))
    return np.asarray(light_of_level(level, model.contrast) * profile[..., None] * channels_of(colour, r_i))


def _noise(sky: Sky, side: int, rng: np.random.Generator) -> Floats:
    """Return noise `[side, side, 3]` with the sky's deviation and correlation.

    White noise that a Gaussian of width b has blurred has the correlation exp(-1 / (4 b²)) between
    neighbours.
    """
    noise = rng.standard_normal((side, side, 3))
    if sky.correlation > 0.01:
        blur = math.sqrt(-1 / (4 * math.log(sky.correlation)))
        noise = ndimage.gaussian_filter(noise, (blur, blur, 0), mode="wrap")
        noise /= noise.std(axis=(0, 1))
    return np.asarray(noise * np.array(sky.noise))


# Write annotations in the format of COCO (cocodataset.org/#format-data).
#
# A mask is a run-length encoding, uncompressed: the lengths of runs of 0 and 1 in turn, column by
# column, the first of 0. pycocotools reads it.

STAR_NAME = "star"


def encode_mask(mask: Bools) -> dict[str, Any]:
    """Return a mask `[H, W]` as a run-length encoding.

    >>> encode_mask(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': [1, 3]}
    """
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    starts = np.flatnonzero(pixels[1:] != pixels[:-1])
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def annotation(mask: Bools, box: Box, category: int, extra: dict[str, Any]) -> dict[str, Any]:
    """Return an annotation without its ids."""
    return {
        "category_id": category,
        "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
        "area": int(mask.sum()),
        "segmentation": encode_mask(mask),
        "iscrowd": 0,
        **extra,
    }


def categories(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the classes, and then stars; ids begin at 1."""
    names = [(name, "galaxy") for name in class_names] + [(STAR_NAME, STAR_NAME)]
    return [{"id": n, "name": name, "supercategory": group} for n, (name, group) in enumerate(names, start=1)]


def document(
    images: Sequence[dict[str, Any]], class_names: Sequence[str], description: str, synthetic: bool
) -> dict[str, Any]:
    """Return a COCO document.

    Parameters
    ----------
    images
        Records of images. The key `annotations` has those of the image, which get their ids here.
    class_names
        Classes of galaxies.
    description
        One sentence.
    synthetic
        Whether the images are synthetic. The document and every image and annotation say so.
    """
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        records.append({"id": number, **{k: v for k, v in image.items() if k != "annotations"}, "synthetic": synthetic})
        for annotation in image["annotations"]:
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation, "synthetic": synthetic})
    return {
        "info": {"description": description, "synthetic": synthetic},
        "images": records,
        "annotations": annotations,
        "categories": categories(class_names),
    }


def boxes_of(annotations: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the boxes of annotations, float64 `[N, 4]`: left, top, right, bottom."""
    boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
