"""Draw a distillation: training curves, and prototypes beside real galaxies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.ndimage import uniform_filter1d

from raydistill.figures.drawing import BLUE, CHART_DPI, GREEN, MUTED, PURPLE, VERMILION, Floats, Target, save, styled
from raydistill.statistics.memorisation import picture_distances

# Compare prototypes with class means and with the most similar real galaxies.
#
# A prototype is a synthetic image for training a network, and need not be a plausible galaxy. The
# class mean shows how it differs from an average; its nearest real neighbours show whether it is a
# copy.
#
# Images are numpy arrays [H, W, 3] with the first row on top, as in a JPEG.

# Real galaxies compared at a time: 1024 pictures of 128 px are 400 MB in float64, of 32 px 25 MB.
NEIGHBOUR_BLOCK = 1024


def as_unit_float(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Return images as float32: uint8 is divided by 255, floats keep their values."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images.astype(np.float32)


def class_means(
    images: npt.NDArray[np.generic], labels: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.float32]:
    """Return the mean image of each class.

    Parameters
    ----------
    images
        [N, H, W, 3], uint8 or float in [0, 1].
    labels
        [N] integers in [0, num_classes).
    num_classes
        Number of classes of the result.

    Returns
    -------
    numpy.ndarray
        float32 [num_classes, H, W, 3] in [0, 1]; NaN for a class without images.
    """
    means = np.full((num_classes, *images.shape[1:]), np.nan, dtype=np.float32)
    for label in np.unique(labels):
        means[label] = as_unit_float(images[labels == label]).mean(axis=0, dtype=np.float64)
    return means


def nearest_real(prototypes: npt.NDArray[np.generic], real: npt.NDArray[np.generic], k: int) -> npt.NDArray[np.int64]:
    """Return the `k` real images nearest to each prototype, by Euclidean distance.

    The distance is between pixels.

    Parameters
    ----------
    prototypes, real
        [N, …] and [M, …] of the same image shape (or flattened), uint8 or float in [0, 1].
    k
        Number of neighbours, at most M.

    Returns
    -------
    numpy.ndarray
        int64 [N, k], indices into `real`, nearest first; equal distances (to rounding) in order of
        index.

    Notes
    -----
    Rotations and shifts are not searched: a galaxy and its mirror image are far apart.
    """
    queries = _flat(prototypes)
    blocks = (real[start : start + NEIGHBOUR_BLOCK] for start in range(0, len(real), NEIGHBOUR_BLOCK))
    distances = np.concatenate([_squared_distances(queries, _flat(block)) for block in blocks], axis=1)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def distances_in_any_pose(
    prototypes_SHWC: npt.NDArray[np.generic], real_NHWC: npt.NDArray[np.generic]
) -> npt.NDArray[np.float64]:
    """Return the distance of each prototype to each real image, float64 [S, N].

    It is the root mean square difference of pixel values in [0, 1], for the best of eight flips and
    turns.

    Parameters
    ----------
    prototypes_SHWC, real_NHWC
        Images of the same size, uint8 or float in [0, 1].
    """
    queries = as_unit_float(prototypes_SHWC).astype(np.float64)
    blocks = (real_NHWC[start : start + NEIGHBOUR_BLOCK] for start in range(0, len(real_NHWC), NEIGHBOUR_BLOCK))
    return np.concatenate(
        [picture_distances(queries, as_unit_float(block).astype(np.float64)) for block in blocks], axis=1
    )


def nearest_real_means(
    prototypes: npt.NDArray[np.generic], real: npt.NDArray[np.generic], k: int
) -> npt.NDArray[np.float32]:
    """Return the mean of the `k` nearest real images of each prototype.

    The means are float32 [N, H, W, 3] in [0, 1].
    """
    return np.stack([as_unit_float(real[index]).mean(axis=0) for index in nearest_real(prototypes, real, k)])


def most_confident(
    labels: npt.NDArray[np.integer], confidence: npt.NDArray[np.floating], num_classes: int, count: int
) -> list[npt.NDArray[np.int64]]:
    """Return indices of the `count` most confident galaxies per class; ties by index."""
    order = np.argsort(-confidence, kind="stable")
    return [order[labels[order] == label][:count] for label in range(num_classes)]


def _flat(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    return as_unit_float(images).reshape(len(images), -1).astype(np.float64)


def _squared_distances(a_ND: npt.NDArray[np.float64], b_MD: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return |a|² - 2ab + |b|² in float64.

    Its cancellation (1e-13) is far below a step of 8-bit pixels.
    """
    return (a_ND**2).sum(1)[:, None] - 2 * a_ND @ b_MD.T + (b_MD**2).sum(1)[None]


# Panels of the training figure from top to bottom: axis label, and the curves in it (history key,
# name, colour).
TRAINING_PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "matching loss",
        (("matching_loss", "start epochs up to the cap", BLUE), ("next_epoch_loss", "one epoch later", VERMILION)),
    ),
    ("loss on\nthe survey", (("outcome_loss", "", BLUE),)),
    ("start epoch", (("start_epoch", "", MUTED), ("max_start_epoch", "", MUTED))),
    ("student\nlearning rate", (("student_lr", "", PURPLE),)),
    ("balanced accuracy\non validation", (("validation_accuracy", "", GREEN),)),
)


@styled
def training_curves(path: Target, history: Mapping[str, Floats]) -> None:
    """Draw the history of a distillation over its iterations, one panel per quantity.

    Parameters
    ----------
    history
        `iteration` [T], and at least one of:

        - `matching_loss`, `next_epoch_loss`, `outcome_loss`, `start_epoch`, `max_start_epoch`,
          `validation_accuracy`: [T], NaN where not measured,
        - `student_lr`: [T], or [T, n] for n learning rates.

        Other keys are ignored.

    Notes
    -----
    Losses are drawn as measured (faint) and as a running mean. Start epochs are points, and the
    latest one of the window a line. Grey vertical lines mark where it advances; it is not drawn
    where it is constant.
    """
    iteration = np.asarray(history["iteration"], dtype=float)
    panels = [
        (label, curves) for label, curves in TRAINING_PANELS if any(_has_curve(history, key) for key, _, _ in curves)
    ]
    ratios = [2.2 if label == "matching loss" else 1.0 for label, _ in panels]
    figure = Figure(figsize=(7.2, 0.9 + 1.05 * sum(ratios)), dpi=CHART_DPI, layout="constrained")
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=ratios)
    advances = _advances(history, iteration)
    for axes, (label, curves) in zip(grid[:, 0], panels, strict=True):
        for x in advances:
            axes.axvline(x, color="#e3e5e9", linewidth=0.8, zorder=0)
        for key, name, colour in curves:
            if _has_curve(history, key):
                _draw_curve(axes, key, iteration, np.asarray(history[key], dtype=float), name, colour)
        axes.set_ylabel(label)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, borderpad=0.2)
    figure.align_ylabels()
    grid[-1, 0].set_xlabel("distillation iteration")
    pad = max(0.01 * float(np.ptp(iteration)), 0.5)
    grid[-1, 0].set_xlim(iteration.min() - pad, iteration.max() + pad)
    save(figure, path)


def _has_curve(history: Mapping[str, Floats], key: str) -> bool:
    """Return whether the history has numbers of this key.

    A constant `max_start_epoch` does not count.
    """
    if key not in history:
        return False
    values = np.asarray(history[key], dtype=float)
    return len(np.unique(values[np.isfinite(values)])) > (1 if key == "max_start_epoch" else 0)


def _advances(history: Mapping[str, Floats], iteration: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the iterations where `max_start_epoch` rises; none if more than 40."""
    if "max_start_epoch" not in history:
        return np.empty(0)
    rises = iteration[1:][np.diff(np.asarray(history["max_start_epoch"], dtype=float)) > 0]
    return rises if len(rises) <= 40 else np.empty(0)


def _draw_curve(
    axes: Axes, key: str, iteration: npt.NDArray[np.float64], values: npt.NDArray[np.float64], name: str, colour: str
) -> None:
    measured = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
    x, y = iteration[measured], values[measured]
    if not len(x):
        return
    if key in ("matching_loss", "next_epoch_loss"):
        axes.plot(x, y, color=colour, linewidth=0.5, alpha=0.28)
        axes.plot(x, uniform_filter1d(y, max(1, len(y) // 80), mode="nearest"), color=colour, linewidth=1.6, label=name)
        if y.min() > 0 and y.max() > 10 * y.min():
            axes.set_yscale("log")
    elif key == "start_epoch":
        axes.plot(x, y, linestyle="none", marker=".", markersize=3, color=colour, alpha=0.5)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    elif key == "max_start_epoch":
        axes.step(x, y, where="post", color=colour, linewidth=1.4)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    elif key == "validation_accuracy":
        axes.plot(x, y, color=colour, linewidth=1.2, marker="o", markersize=3)
        best = int(np.argmax(y))
        axes.set_ylim(max(0.0, y.min() - 0.06), min(1.0, y.max() + 0.12))
        axes.annotate(
            f"best {100 * y[best]:.1f} %",
            (x[best], y[best]),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=colour,
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    else:
        axes.plot(x, y, color=colour, linewidth=1.4)
