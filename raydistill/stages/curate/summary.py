"""`summary.json` of a curated set: class names, counts and channel statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raydistill.artifacts.records import Record, read_json
from raydistill.log import get_logger
from raydistill.storage import Folder

Levels = dict[str, int | float | list[int | float]]  # the display range, by key of the config


def format_levels(levels: Levels) -> str:
    """Return the numbers of `chosen_levels` as text: value_range=[0, 4095]."""
    shown = {key: value if isinstance(value, list) else [value] for key, value in levels.items()}
    texts = {key: ", ".join(f"{value:.6g}" for value in values) for key, values in shown.items()}
    return ", ".join(
        f"{key}=[{text}]" if isinstance(levels[key], list) else f"{key}={text}" for key, text in texts.items()
    )


@dataclass(frozen=True)
class ClassSummary:
    """Counts of one class of a curated set.

    Attributes
    ----------
    name
        Name of the class.
    candidates
        Galaxies of the class in the survey.
    kept
        Galaxies after selection and image checks.
    train, validation, test
        Galaxies in each split.
    lowest_confidence
        Lowest confidence of a kept galaxy, in [0, 1]; None where the class is empty.
    """

    name: str
    candidates: int
    kept: int
    train: int
    validation: int
    test: int
    lowest_confidence: float | None


@dataclass(frozen=True)
class Summary(Record):
    """The contents of `summary.json`.

    Attributes
    ----------
    survey
        Name of the survey in the config.
    simulated
        Whether the survey was simulated.
    image_size
        Side of the images in pixels.
    crop_fraction
        Side of the central square that was cut out, as a fraction of the picture's shorter side.
    mean, std
        Statistics of each colour channel of the training images, in units where white is 1.
    classes
        Counts of each class; the index is the label.
    rejected
        Number of pictures that failed the checks, by reason.
    aligned
        Whether every galaxy was turned until its major axis is horizontal (`curate.align`).
    unassigned
        Number of rows of the survey's table that belong to no class, by reason; "excluded" counts
        those of `curate.exclude`.
    duplicates
        Number of pictures whose pixels also occur in an earlier split, by pair of splits, such as
        "train/test". "train/train" counts those that occur earlier in the same split.
    near_duplicates
        Number of pictures that look like one of an earlier split, by pair of splits.
    levels
        The numbers chosen for `value_range: auto`, or for `stretch: auto` and its `minimum`; empty
        if nothing was chosen.
    tree
        Name of the decision tree of `votes` (`galaxies.trees.TREES`), whose `answers` give their
        order. Empty for Galaxy Zoo 2, and for a survey without votes.
    """

    survey: str
    simulated: bool
    image_size: int
    crop_fraction: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[ClassSummary, ...]
    rejected: dict[str, int]
    aligned: bool = False
    unassigned: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    levels: Levels = field(default_factory=dict)
    near_duplicates: dict[str, int] = field(default_factory=dict)
    tree: str = ""

    @property
    def origin(self) -> dict[str, Any]:
        """Return what an artifact made from these pictures also says of them."""
        names = ("survey", "simulated", "image_size", "crop_fraction", "aligned")
        return {name: getattr(self, name) for name in names}

    @property
    def num_train(self) -> int:
        """Return the number of training galaxies."""
        return sum(entry.train for entry in self.classes)


log = get_logger(__name__)

HEAD = ("class", "candidates", "kept", "train", "valid", "test", "lowest p")
FORM = "%-*s %10s %6s %6s %6s %6s %10s"


def log_summary(summary: Summary) -> None:
    """Log a table of candidates, counts and lowest confidence per class."""
    width = max(len(entry.name) for entry in summary.classes)
    log.info(FORM, width, *HEAD)
    for c in summary.classes:
        lowest = "-" if c.lowest_confidence is None else f"{c.lowest_confidence:.3f}"
        log.info(FORM, width, c.name, c.candidates, c.kept, c.train, c.validation, c.test, lowest)
    log.info("candidates: galaxies of the class in the survey; kept: with a usable picture, in three splits")
    log.info("lowest p: the smallest confidence of a kept galaxy: its fraction of votes, or 1 for a plain label")
    if summary.levels:
        log.info("curate: display range of the pictures: %s", format_levels(summary.levels))
    if summary.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.rejected.items())
        log.warning("curate: rejected pictures: %s (listed in rejected.parquet)", reasons)


def log_existing(folder: Folder) -> None:
    """Log the counts of a set that exists, and how to try rejected pictures again."""
    summary = read_json(folder, "summary.json", Summary)
    log_summary(summary)
    if num_rejected := sum(summary.rejected.values()):
        what = "curate: %d pictures were rejected when this set was curated; to try them again, remove %s"
        log.info(what, num_rejected, folder)
