"""Evaluate the detector: test fields against truth, real frames against photutils."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from raydistill.figures.drawing import BLUE, CHART_DPI, VERMILION, Target, save, styled
from raydistill.morphology.structure import Box, Floats
from raydistill.stages.detect.scenes.fields import boxes_of
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
    evaluated: dict[str, Evaluated], central_box: Box, side: int, seed: int, class_names: tuple[str, ...] | None
) -> dict[str, Any]:
    """Return the contents of `metrics.json`.

    Parameters
    ----------
    evaluated
        "validation" and "test" fields, and real "frames".
    central_box
        The box of the baseline, which detects the same in every frame.
    side, seed
        Of the frames in pixels, and of the bootstrap.
    class_names
        Classes of the central galaxies, if they are those of the detector; else None.
    """
    threshold = best_threshold(evaluated["validation"].detector())
    test, frames = evaluated["test"], evaluated["frames"]
    fixed = [match(_array([central_box]), np.ones(1), boxes_of(record)) for record in frames.found]
    rows: list[dict[str, Any]] = []

    def add(images: str, truth: str, method: str, metric: str, items: Sequence[Any], of: Callable[..., float]) -> None:
        interval = bootstrap_interval(items, of, seed)
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
    detected = [_kept(record, threshold) for record in frames.found]
    known = [boxes_of(record) for record in frames.found]
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


# Measure average precision at overlap 0.5, and detection of central galaxies.
#
# Shape suffixes: D detections and T true boxes of an image. A box has corners left, top, right,
# bottom [px]. All functions ignore classes.

OVERLAP = 0.5  # least intersection over union of a hit
RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
CENTRED = 1 / 16  # of the side: greatest distance of a central detection from the centre of the frame
WIDEST = 0.75  # of the side: greatest width and height of a central detection


class Matches(NamedTuple):
    """Detections of one image by falling score.

    Attributes
    ----------
    order_D, scores_D
        Rows of the detections, int64 `[D]`, and their scores.
    truth_D
        The true box of each, -1 for none.
    truths
        Number of true boxes.
    """

    order_D: npt.NDArray[np.int64]
    scores_D: Floats
    truth_D: npt.NDArray[np.int64]
    truths: int


def overlaps(boxes_D4: Floats, truths_T4: Floats) -> Floats:
    """Return the intersection over union of each pair, float64 `[D, T]`."""
    a, b = np.asarray(boxes_D4, np.float64)[:, None], np.asarray(truths_T4, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (a, b)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))


def match(boxes_D4: Floats, scores_D: Floats, truths_T4: Floats) -> Matches:
    """Match detections by falling score, each with the free true box it overlaps most."""
    order_D = np.argsort(-np.asarray(scores_D), kind="stable")
    overlap_DT = overlaps(np.asarray(boxes_D4).reshape(-1, 4), np.asarray(truths_T4).reshape(-1, 4))
    truth_D = np.full(len(order_D), -1)
    for row, index in enumerate(order_D if overlap_DT.shape[1] else []):
        best = int(overlap_DT[index].argmax())
        if overlap_DT[index, best] >= OVERLAP:
            truth_D[row] = best
            overlap_DT[:, best] = 0
    return Matches(order_D, np.asarray(scores_D, np.float64)[order_D], truth_D, overlap_DT.shape[1])


def _ranked(images: Sequence[Matches]) -> tuple[Floats, Floats]:
    """Return all detection scores, falling, and the number of hits up to each."""
    scores, truth = np.concatenate([m.scores_D for m in images]), np.concatenate([m.truth_D for m in images])
    order = np.argsort(-scores, kind="stable")
    return scores[order], np.cumsum(truth[order] >= 0)


def average_precision(images: Sequence[Matches]) -> float:
    """Return the mean best precision at or above each of 101 recalls, as in COCO.

    NaN if no image has a true object.
    """
    truths, (_, hits) = sum(image.truths for image in images), _ranked(images)
    if not truths:
        return float("nan")
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / truths
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(best[np.searchsorted(recall, RECALLS - 1e-12)].mean())


def precision_recall(images: Sequence[Matches], threshold: float) -> tuple[float, float]:
    """Return precision and recall of the detections with at least this score."""
    kept = [image.truth_D[image.scores_D >= threshold] >= 0 for image in images]
    hits, all_, truths = sum(hit.sum() for hit in kept), sum(map(len, kept)), sum(image.truths for image in images)
    return float(hits / all_) if all_ else 0.0, float(hits / truths) if truths else 0.0


def best_threshold(images: Sequence[Matches]) -> float:
    """Return the score with the largest harmonic mean of precision and recall."""
    scores, hits = _ranked(images)
    if not len(scores):
        return 1.0
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + sum(image.truths for image in images))
    return float(scores[f1.argmax()])


def central(boxes_D4: Floats, side: float) -> np.ndarray:
    """Return which boxes are of the galaxy at the centre of a frame, bool `[D]`.

    Such a box is centred within 1/16 of the frame's side, and at most 3/4 wide and high.
    """
    boxes = np.asarray(boxes_D4, np.float64).reshape(-1, 4)
    offset = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - side / 2).max(axis=1)
    return np.asarray((offset <= CENTRED * side) & ((boxes[:, 2:] - boxes[:, :2]).max(axis=1) <= WIDEST * side))


SHOWN = 12  # frames
COLUMNS = 4


@styled
def draw_frames(path: Target, frames_NHWC: np.ndarray, detections: Sequence[dict[str, Any]], threshold: float) -> None:
    """Draw the first frames with the boxes of both.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
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
