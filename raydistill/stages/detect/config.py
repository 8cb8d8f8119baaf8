"""Define the part of a config about the detector."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import PositiveFloat, PositiveInt

from raydistill.stages.detect.science.options import FieldModel


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
        `raydistill curate CONFIG curate.crop_fraction=1 curate.image_size=SIDE` writes.
    max_frames
        Real frames of the test split, at most, on which the detector is evaluated. As many of the
        training split give sky and noise.
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
    width: PositiveInt = 32
    steps: PositiveInt = 400
    batch_size: PositiveInt = 8
    lr: PositiveFloat = 0.002
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width % 32:
            raise ValueError(f"width must be a multiple of 32, got {self.width}")
        if self.min_recognised is not None and not 0 <= self.min_recognised <= 1:
            raise ValueError(f"min_recognised must lie in [0, 1], got {self.min_recognised:g}")
