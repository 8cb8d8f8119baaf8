"""Evaluate the detector: test fields against truth, real frames against photutils."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from raydistill.figures.drawing import BLUE, CHART_DPI, VERMILION, Target, save, styled
from raydistill.morphology.structure import Box
from raydistill.stages.detect.measures import (
    CategoryMatches,
    Matches,
    average_precision,
    best_threshold,
    central,
    match,
    match_categories,
    mean_average_precision,
    precision_recall,
)
from raydistill.stages.detect.scenes.fields import boxes_of
from raydistill.statistics.resampling import bootstrap_interval

EXACT, PHOTUTILS, LABELS = "exact", "photutils", "labels"  # the truth
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
            match(_array(f["boxes"]), _array(f["scores"]), boxes_of(t["annotations"]))
            for f, t in zip(self.found, truth, strict=True)
        ]

    def photutils(self) -> list[Matches]:
        """Match the boxes of photutils with the exact truth; the score is the area."""
        assert self.truth is not None
        pairs = zip(self.found, self.truth, strict=True)
        return [match(boxes_of(f["annotations"]), _areas(f), boxes_of(t["annotations"])) for f, t in pairs]

    def by_category(self, count: int) -> list[list[CategoryMatches]]:
        """Match the detector's boxes of each category with the true ones."""
        assert self.truth is not None
        pairs = zip(self.found, self.truth, strict=True)
        return [match_categories(f, t["annotations"], count) for f, t in pairs]


def figures_of(
    evaluated: dict[str, Evaluated],
    central_box: Box,
    side: int,
    seed: int,
    class_names: tuple[str, ...] | None,
    categories: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the contents of `metrics.json`.

    Parameters
    ----------
    evaluated
        "validation" and "test" fields, real "frames", and "labelled" frames, if there are any.
    central_box
        The box of the baseline, which detects the same in every frame.
    side, seed
        Of the frames in pixels, and of the bootstrap.
    class_names
        Classes of the central galaxies, if they are those of the detector; else None.
    categories
        Of the detector.
    """
    threshold = best_threshold(evaluated["validation"].detector())
    test, frames = evaluated["test"], evaluated["frames"]
    fixed = [match(_array([central_box]), np.ones(1), boxes_of(record["annotations"])) for record in frames.found]
    rows: list[dict[str, Any]] = []

    def add(images: str, truth: str, method: str, metric: str, items: Sequence[Any], of: Callable[..., float]) -> None:
        interval = bootstrap_interval(items, of, seed)
        values = {name: round(value, 5) for name, value in interval._asdict().items()}
        rows.append({"images": images, "truth": truth, "method": method, "metric": metric, **values, "n": len(items)})

    sets = [
        ("fields", EXACT, DETECTOR, test.detector(), threshold),
        ("fields", EXACT, PHOTUTILS, test.photutils(), 0.0),
        ("frames", PHOTUTILS, DETECTOR, frames.detector(), threshold),
        ("frames", PHOTUTILS, FIXED, fixed, 0.0),
    ]
    if labelled := evaluated.get("labelled"):
        sets.append(("labelled", LABELS, DETECTOR, labelled.detector(), threshold))
        sets.append(("labelled", LABELS, PHOTUTILS, labelled.photutils(), 0.0))
    for images, truth, method, matches, least in sets:
        add(images, truth, method, "average_precision", matches, average_precision)
        add(images, truth, method, "precision", matches, lambda some, at=least: precision_recall(some, at)[0])
        add(images, truth, method, "recall", matches, lambda some, at=least: precision_recall(some, at)[1])
    detected = [_kept(record, threshold) for record in frames.found]
    known = [boxes_of(record["annotations"]) for record in frames.found]
    for method, boxes in (
        (DETECTOR, [pair[0] for pair in detected]),
        (PHOTUTILS, known),
        (FIXED, [_array([central_box])] * len(known)),
    ):
        add("frames", "", method, "detections_per_frame", [float(len(frame)) for frame in boxes], _mean)
        add("frames", "frame", method, "central_found", [float(central(frame, side).any()) for frame in boxes], _mean)
    add("fields", EXACT, DETECTOR, "class_accuracy", _right_in_fields(test, threshold), _mean)
    if class_names is not None:
        right = _right_in_frames(detected, frames.labels, side)
        add("frames", "catalogue", DETECTOR, "class_accuracy", right, _mean)
    if labelled:
        by_category = labelled.by_category(len(categories))
        name = "mean_average_precision"
        add("labelled", LABELS, DETECTOR, name, by_category, mean_average_precision)
        at_half = partial(mean_average_precision, overlaps=slice(0, 1))
        add("labelled", LABELS, DETECTOR, f"{name}_50", by_category, at_half)
        for number, category in enumerate(categories):
            of_category = [[frame[number]] for frame in by_category]
            if any(matches.truths for (matches,) in of_category):
                add("labelled", LABELS, DETECTOR, f"average_precision_50/{category}", of_category, at_half)
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
    for matches, detections, truth in zip(test.detector(), test.found, test.truth, strict=True):
        for row, score, box in zip(matches.order_D, matches.scores_D, matches.truth_D, strict=True):
            if box >= 0 and score >= threshold:
                right.append(float(detections["categories"][row] + 1 == truth["annotations"][box]["category_id"]))
    return right


def _right_in_frames(
    detected: Sequence[tuple[np.ndarray, np.ndarray]], labels: Sequence[int], side: int
) -> list[float]:
    """Return whether each frame's best central detection has the catalogue's class.

    Frames without a central detection are left out.
    """
    right = []
    for (boxes, categories), label in zip(detected, labels, strict=True):
        central_rows = np.flatnonzero(central(boxes, side))
        if len(central_rows):
            right.append(float(categories[central_rows[0]] == label))
    return right


def _kept(detections: dict[str, Any], threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes and categories with at least this score, by falling score."""
    kept = _array(detections["scores"]) >= threshold
    return _array(detections["boxes"]).reshape(-1, 4)[kept], np.array(detections["categories"], np.int64)[kept]


def _areas(record: dict[str, Any]) -> np.ndarray:
    return np.array([annotation["area"] for annotation in record["annotations"]], np.float64)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


SHOWN = 12  # frames
COLUMNS = 4


@styled
def draw_frames(path: Target, frames_NHWC: np.ndarray, detections: Sequence[dict[str, Any]], threshold: float) -> None:
    """Draw the first frames with the boxes of both.

    Parameters
    ----------
    frames_NHWC
        uint8 [N, H, W, 3].
    detections
        A record per frame: `boxes` [D, 4] and `scores` [D] of the detector, and `annotations` of
        photutils, in the format of COCO.
    threshold
        Least score of a detection to draw.
    """
    count = min(SHOWN, len(frames_NHWC))
    rows = -(-count // COLUMNS)
    figure = Figure(figsize=(2.2 * COLUMNS, 2.2 * rows + 0.4), dpi=CHART_DPI, layout="constrained")
    figure.suptitle("Frames of the survey: photutils (blue, dashed) and the detector (orange)")
    for number, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).flat):
        axes.set_axis_off()
        if number < count:
            axes.imshow(frames_NHWC[number], extent=(0, frames_NHWC.shape[2], frames_NHWC.shape[1], 0))
            _draw_boxes(axes, detections[number], threshold)
    save(figure, path)


def _draw_boxes(axes: Axes, detections: dict[str, Any], threshold: float) -> None:
    for annotation in detections["annotations"]:
        left, top, width, height = annotation["bbox"]
        axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=BLUE, lw=1.0, ls="--"))
    for (left, top, right, bottom), score in zip(detections["boxes"], detections["scores"], strict=True):
        if score >= threshold:
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=VERMILION, lw=1.2))
