"""Define the part of a config about the detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from raydistill.simulation.injections.base import SDSS_CONTRAST

# Define the model of fields (`stages.detect.science.fields`), without scipy.


MAX_DETECTIONS = 50  # of an image


@dataclass(frozen=True, kw_only=True)
class FieldModel:
    """Fields of synthetic galaxies.

    Parameters
    ----------
    side
        Side of a field [px]. A field shows as much sky as a frame of the survey.
    galaxies
        Mean number of galaxies in a field. At least one is drawn.
    scales
        Smallest and largest scale of a galaxy; 1 is its size in a frame of the survey. The logarithm
        of the scale is uniform.
    stars
        Mean number of stars in a field.
    star_width
        Narrowest and widest full width at half maximum of the stars of a field, relative to its side.
    sigmas
        Threshold of photutils above the sky, in units of the noise of the smoothed brightness.
    min_area
        Smallest area of a source [px].
    contrast
        Of the stretch of frames and fields: 4.7 for SDSS, 8.81 for simulated surveys.
    picture_contrast
        Of the stretch of the synthetic pictures. None: `contrast`.
    """

    side: int = 128
    galaxies: float = 3.0
    scales: tuple[float, float] = (0.25, 1.2)
    stars: float = 3.0
    star_width: tuple[float, float] = (0.012, 0.03)
    sigmas: float = 3.0
    min_area: int = 30
    contrast: float = SDSS_CONTRAST
    picture_contrast: float | None = None

    def __post_init__(self) -> None:
        if not 64 <= self.side <= 1024 or self.side % 16:
            raise ValueError(f"side must be a multiple of 16 in [64, 1024], got {self.side}")
        for name, (low, high) in (("scales", self.scales), ("star_width", self.star_width)):
            if not 0 < low <= high <= 4:
                raise ValueError(f"{name} must be [lowest, highest] in (0, 4], got [{low:g}, {high:g}]")
        for name in ("galaxies", "stars"):
            if not 0 <= getattr(self, name) <= 1000:
                raise ValueError(f"{name} must lie in [0, 1000], got {getattr(self, name):g}")
        if not (0 < self.sigmas < 100 and self.min_area > 0):
            raise ValueError(f"sigmas and min_area must be positive, got {self.sigmas:g} and {self.min_area}")
        for name, contrast in (("contrast", self.contrast), ("picture_contrast", self.contrast_of_pictures)):
            if not 0 < contrast < 100:
                raise ValueError(f"{name} must be positive and below 100, got {contrast:g}")

    @property
    def contrast_of_pictures(self) -> float:
        """The contrast of the synthetic pictures."""
        return self.contrast if self.picture_contrast is None else self.picture_contrast


@dataclass(frozen=True, kw_only=True)
class LabelledFrames:
    """Frames with known sources, as COCO documents.

    Parameters
    ----------
    train, test
        JSON files. Their pictures lie beside them or below, and have the side of a field.
    use
        What trains the detector: "labelled" frames alone, "synthetic" fields alone, or "both", half
        of each batch.
    limit
        Training frames to use, a random choice by `detect.seed`; a larger one contains a smaller
        one. None: all.
    """

    train: str
    test: str
    use: Literal["both", "labelled", "synthetic"] = "both"
    limit: PositiveInt | None = None


@dataclass(frozen=True)
class Detect:
    """Set the fields, the training and the frames of `raydistill detect`.

    Parameters
    ----------
    set
        Folder of a synthetic set. None: that of `sample`.
    fields
        Fields of synthetic galaxies.
    train_fields
        Fields of the training.
    test_fields
        Fields of the test. As many choose the score from which a detection counts. Training,
        validation and test fields have no picture in common.
    min_recognised
        Leave out galaxies that the experts recognise with a lower probability, as `sample.filter`
        recorded it. None: use all.
    frames
        Path of a curated set of whole frames with the side of a field. None: the one that
        `raydistill curate CONFIG curate.crop_fraction=1 curate.image_size=SIDE curate.align=false`
        writes.
    max_frames
        Real frames of the test split, at most, on which the detector is evaluated. As many of the
        training split give sky and noise.
    labelled
        Real frames with known sources, which train and test the detector. None: there are none.
    width
        Channels of the detector, a multiple of 32.
    steps, batch_size
        Optimiser steps, and fields per step.
    lr
        Learning rate of AdamW. It rises during the first tenth of the steps, then falls as a cosine.
    seed
        Decides fields, weights, batches and intervals.
    """

    set: str | None = None
    fields: FieldModel = field(default_factory=FieldModel)
    train_fields: PositiveInt = 400
    test_fields: PositiveInt = 100
    min_recognised: float | None = None
    frames: str | None = None
    max_frames: PositiveInt = 200
    labelled: LabelledFrames | None = None
    width: PositiveInt = 32
    steps: PositiveInt = 400
    batch_size: PositiveInt = 8
    lr: PositiveFloat = 0.002
    seed: int = 0

    @property
    def side(self) -> int:
        """Return the side of fields and frames [px]."""
        return self.fields.side

    def __post_init__(self) -> None:
        if self.width % 32:
            raise ValueError(f"width must be a multiple of 32, got {self.width}")
        if self.min_recognised is not None and not 0 <= self.min_recognised <= 1:
            raise ValueError(f"min_recognised must lie in [0, 1], got {self.min_recognised:g}")
        if (mean := self.fields.galaxies + self.fields.stars) > MAX_DETECTIONS / 2:
            what = f"fields must have at most {MAX_DETECTIONS // 2} galaxies and stars in the mean, got {mean:g}"
            raise ValueError(f"{what}, because the detector finds at most {MAX_DETECTIONS} sources in a picture")
        if self.labelled is not None and self.labelled.use == "both" and self.batch_size < 2:
            raise ValueError("batch_size must be at least 2, because half of each batch are labelled frames")
