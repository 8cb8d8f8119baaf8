"""Draw frames with the boxes of a detector and of photutils."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from raydistill.figures.drawing import BLUE, CHART_DPI, VERMILION, Target, save, styled

SHOWN = 12  # frames
COLUMNS = 4


@styled
def draw_frames(path: Target, frames_NHWC: np.ndarray, found: Sequence[dict[str, Any]], threshold: float) -> None:
    """Draw the first frames with the boxes of both.

    Parameters
    ----------
    path
        File name, or a binary file open for writing.
    frames_NHWC
        uint8 [N, H, W, 3].
    found
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
            _draw_boxes(axes, found[number], threshold)
    save(figure, path)


def _draw_boxes(axes: Axes, found: dict[str, Any], threshold: float) -> None:
    for one in found["annotations"]:
        left, top, width, height = one["bbox"]
        axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=BLUE, lw=1.0, ls="--"))
    for (left, top, right, bottom), score in zip(found["boxes"], found["scores"], strict=True):
        if score >= threshold:
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=VERMILION, lw=1.2))
