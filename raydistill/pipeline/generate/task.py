"""Define what the driver and the workers of the generate stage exchange, and the data that they load."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raydistill.artifacts.conditions import ConditionEncoding, columns_of, conditions_of
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.tables import decode_images
from raydistill.config import Generate
from raydistill.diffusion.training import TrainingImages
from raydistill.errors import RaydistillError
from raydistill.galaxies.selection import Split
from raydistill.pipeline.generate.extra_sets import ExtraSet, joined, load_extra_images


@dataclass(frozen=True)
class GenerateTask:
    """The arguments of a worker; they are pickled."""

    folder: str
    curated: str
    encoding: ConditionEncoding
    generate: Generate
    survey: str
    seed: int
    threads: int
    gpus: float
    checkpoint_seconds: float
    extra_sets: tuple[ExtraSet, ...] = ()


@dataclass(frozen=True)
class Update:
    """A message of worker 0 to the driver: new records and previews, or the error that ended the training."""

    step: int
    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    error: RaydistillError | None = None


def load_training_images(curated: CuratedSet, task: GenerateTask) -> TrainingImages:
    """Return the training pictures with their conditions, those of the extra sets last."""
    extras = [load_extra_images(extra, curated, task.encoding) for extra in task.extra_sets]
    return joined([load_images(curated, "train", task.encoding), *extras])


def load_images(curated: CuratedSet, split: Split, encoding: ConditionEncoding) -> TrainingImages:
    """Return the pictures of a split with their conditions, sorted by object id."""
    table = curated.table(split, ["image", *columns_of(encoding)])
    images_NHWC = decode_images(table["image"], curated.summary.image_size)
    return TrainingImages(images_NHWC, conditions_of(table, table["label"].to_numpy(), images_NHWC, encoding))
