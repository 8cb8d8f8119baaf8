"""Evaluate the detector: test fields against truth, real frames against photutils."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raydistill.morphology.segmentation import Box
from raydistill.stages.detect.config import Detect
from raydistill.stages.detect.science.coco import boxes_of
from raydistill.stages.detect.science.measures import (
    Matches,
    average_precision,
    best_threshold,
    central,
    match,
    precision_recall,
)
from raydistill.statistics.resampling import bootstrap_interval

EXACT, PHOTUTILS = "exact", "photutils"  # the truth
DETECTOR, FIXED = "detector", "fixed box"  # the methods, beside photutils


@dataclass(frozen=True)
class Evaluated:
    """Sources that were found in some pictures.

    Parameters
    ----------
    found
        A record per picture, as `SourceFinder` writes it.
    truth
        A record per picture with the exact annotations; None for real frames.
    labels
        Classes of the central galaxies of real frames.
    """

    found: Sequence[dict[str, Any]]
    truth: Sequence[dict[str, Any]] | None
    labels: Sequence[int] = ()

    def detector(self) -> list[Matches]:
        """Match the detector's boxes with the truth, or with photutils on real frames."""
        truth = self.found if self.truth is None else self.truth
        return [
            match(_array(f["boxes"]), _array(f["scores"]), boxes_of(t)) for f, t in zip(self.found, truth, strict=True)
        ]

    def photutils(self) -> list[Matches]:
        """Match the boxes of photutils with the exact truth; the score is the area."""
        assert self.truth is not None
        return [match(boxes_of(f), _areas(f), boxes_of(t)) for f, t in zip(self.found, self.truth, strict=True)]


def figures_of(
    evaluated: dict[str, Evaluated], central_box: Box, detect: Detect, class_names: tuple[str, ...] | None
) -> dict[str, Any]:
    """Return the contents of `metrics.json`.

    Parameters
    ----------
    evaluated
        "validation" and "test" fields, and real "frames".
    central_box
        The box of the baseline, which detects the same in every frame.
    detect
        Side and seed.
    class_names
        Classes of the central galaxies, if they are those of the detector; else None.
    """
    threshold, side = best_threshold(evaluated["validation"].detector()), detect.fields.side
    test, frames = evaluated["test"], evaluated["frames"]
    fixed = [match(_array([central_box]), np.ones(1), boxes_of(one)) for one in frames.found]
    rows: list[dict[str, Any]] = []

    def add(images: str, truth: str, method: str, metric: str, items: Sequence[Any], of: Callable[..., float]) -> None:
        interval = bootstrap_interval(items, of, detect.seed)
        values = {name: round(value, 5) for name, value in interval._asdict().items()}
        rows.append({"images": images, "truth": truth, "method": method, "metric": metric, **values, "n": len(items)})

    for images, truth, method, matches, least in (
        ("fields", EXACT, DETECTOR, test.detector(), threshold),
        ("fields", EXACT, PHOTUTILS, test.photutils(), 0.0),
        ("frames", PHOTUTILS, DETECTOR, frames.detector(), threshold),
        ("frames", PHOTUTILS, FIXED, fixed, 0.0),
    ):
        add(images, truth, method, "average_precision", matches, average_precision)
        add(images, truth, method, "precision", matches, lambda some, at=least: precision_recall(some, at)[0])
        add(images, truth, method, "recall", matches, lambda some, at=least: precision_recall(some, at)[1])
    found = [_kept(one, threshold) for one in frames.found]
    known = [boxes_of(one) for one in frames.found]
    for method, boxes in (
        (DETECTOR, [one[0] for one in found]),
        (PHOTUTILS, known),
        (FIXED, [_array([central_box])] * len(known)),
    ):
        add("frames", "", method, "detections_per_frame", [float(len(one)) for one in boxes], _mean)
        add("frames", "frame", method, "central_found", [float(central(one, side).any()) for one in boxes], _mean)
    add("fields", EXACT, DETECTOR, "class_accuracy", _right_in_fields(test, threshold), _mean)
    if class_names is not None:
        right = _right_in_frames(found, frames.labels, side)
        add("frames", "catalogue", DETECTOR, "class_accuracy", right, _mean)
    return {
        "threshold": threshold,
        "overlap": 0.5,
        "reference": "photutils is a reference on real frames, and not the truth",
        "fields": len(test.found),
        "frames": len(frames.found),
        "figures": [row for row in rows if row["n"]],
    }


def _right_in_fields(test: Evaluated, threshold: float) -> list[float]:
    """Return for each hit whether it has the category of its true box."""
    assert test.truth is not None
    right = []
    for matches, found, truth in zip(test.detector(), test.found, test.truth, strict=True):
        for row, score, box in zip(matches.order_D, matches.scores_D, matches.truth_D, strict=True):
            if box >= 0 and score >= threshold:
                right.append(float(found["categories"][row] + 1 == truth["annotations"][box]["category_id"]))
    return right


def _right_in_frames(found: Sequence[tuple[np.ndarray, np.ndarray]], labels: Sequence[int], side: int) -> list[float]:
    """Return whether each frame's best central detection has the catalogue's class.

    Frames without a central detection are left out.
    """
    right = []
    for (boxes, categories), label in zip(found, labels, strict=True):
        own = np.flatnonzero(central(boxes, side))
        if len(own):
            right.append(float(categories[own[0]] == label))
    return right


def _kept(found: dict[str, Any], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes and categories with at least this score, by falling score."""
    kept = _array(found["scores"]) >= threshold
    return _array(found["boxes"]).reshape(-1, 4)[kept], np.array(found["categories"], np.int64)[kept]


def _areas(found: dict[str, Any]) -> np.ndarray:
    return np.array([one["area"] for one in found["annotations"]], np.float64)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
