"""Hide a ring of each picture, and measure which classes are then missed.

The rings are circular annuli of equal area around the centre, which share out the circle that
touches the frame. Their radii are fractions of half the frame's side, r_k = sqrt(k / 8). In Galaxy
Zoo 2 the cropped frame is 4.24 R90 wide, so half of it is 2.12 R90.

A larger hidden area costs more, wherever it lies. So each ring is compared with controls: random
patches of the circle, as many pixels as the ring. The excess of a ring is its loss minus the mean
loss of its controls; it is 0 at all radii if the evidence is spread evenly.

Two fills replace the pixels:

- "ring mean": the mean colour of the same picture in the ring to which the pixel belongs. The
  structure along the ring is hidden, and the radial profile is kept.
- "class mean": the mean picture of the class. Only the individual difference from the class is hidden.

Both leave evidence of the class, so a loss is a lower limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raydistill.seeding import fold_in, generator
from raydistill.statistics.intervals import percentile_interval
from raydistill.statistics.resampling import Change, mean_change, mean_of_resamples, share_changed

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Maps pictures float32 [N, H, W, 3], black 0 and white 1, to class probabilities [N, K].
Classifier = Callable[[Tensor], Tensor]
Fill = Literal["ring mean", "class mean"]
FILLS: tuple[Fill, ...] = ("ring mean", "class mean")
NUM_RINGS = 8
NUM_CONTROLS = 4  # random masks for each ring
PATCHES_PER_SIDE = 8


@dataclass(frozen=True)
class Annulus:
    """A ring around the centre of a frame.

    Parameters
    ----------
    inner, outer
        Radii, relative to half the side of the frame. The inner circle belongs to the ring.
    """

    inner: float
    outer: float

    @property
    def name(self) -> str:
        return f"{self.inner:.2f} to {self.outer:.2f}"

    def mask(self, height: int, width: int) -> Tensor:
        """Return the pixels whose centre lies in the ring, bool [H, W]."""
        y_H1 = torch.arange(height)[:, None] - (height - 1) / 2
        x_1W = torch.arange(width)[None, :] - (width - 1) / 2
        radius_HW = torch.hypot(*torch.broadcast_tensors(y_H1, x_1W)) / (min(height, width) / 2)
        return (radius_HW >= self.inner) & (radius_HW < self.outer)


ANNULI = tuple(Annulus(math.sqrt(k / NUM_RINGS), math.sqrt((k + 1) / NUM_RINGS)) for k in range(NUM_RINGS))
CIRCLE = Annulus(0.0, 1.0)


class Masks(NamedTuple):
    """A ring, bool [H, W], and its controls with as many pixels, bool [C, H, W]."""

    ring_HW: Tensor
    controls_CHW: Tensor


def ring_masks(pictures_NHWC: Tensor, seed: int) -> list[Masks]:
    """Return the masks of all rings of `ANNULI`, for pictures of this size."""
    height, width = pictures_NHWC.shape[1:3]
    side = max(1, round(min(height, width) / PATCHES_PER_SIDE))
    patches_HW = patch_grid(height, width, side)
    circle_P = CIRCLE.mask(height, width).flatten().nonzero()[:, 0]
    result = []
    for annulus in ANNULI:
        ring_HW = annulus.mask(height, width)
        controls = torch.zeros(NUM_CONTROLS, height * width, dtype=torch.bool)
        for number, control in enumerate(controls):
            order = torch.randperm(
                int(patches_HW.max()) + 1, generator=generator(fold_in(seed, "control", annulus.name, number))
            )
            by_patch = order[patches_HW.flatten()[circle_P]].argsort(stable=True)
            control[circle_P[by_patch[: int(ring_HW.sum())]]] = True
        result.append(Masks(ring_HW, controls.view(NUM_CONTROLS, height, width)))
    return result


def patch_grid(height: int, width: int, side: int) -> Tensor:
    """Return the number of the patch of each pixel, int64 [H, W], row by row.

    Patches are squares of `side` pixels; the last ones of a row or column may be smaller.
    """
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    return rows[:, None] * (int(columns.max()) + 1) + columns[None, :]


def ring_means(pictures_NHWC: Tensor) -> Tensor:
    """Return pictures whose rings have the mean colour of the ring; corners stay."""
    result = pictures_NHWC.clone()
    for annulus in ANNULI:
        mask_HW = annulus.mask(*pictures_NHWC.shape[1:3])
        if mask_HW.any():
            result[:, mask_HW] = pictures_NHWC[:, mask_HW].mean(dim=1, keepdim=True)
    return result


def occlude(pictures_NHWC: Tensor, mask_HW: Tensor, fill_NHWC: Tensor) -> Tensor:
    """Return pictures whose pixels in a mask are those of `fill_NHWC`."""
    return torch.where(mask_HW[None, :, :, None], fill_NHWC, pictures_NHWC)


def fills_of(pictures_NHWC: Tensor, means_NHWC: Tensor) -> dict[Fill, Tensor]:
    """Return the pictures that fill masks; `means_NHWC` are the class means."""
    return {"ring mean": ring_means(pictures_NHWC), "class mean": means_NHWC}


@dataclass(frozen=True)
class Loss:
    """The fall of completeness when a ring is hidden, beside that of random patches.

    Attributes
    ----------
    ring
        Its name.
    fill
        Values that replace its pixels.
    label
        The class; None for the mean over the classes that have pictures (balanced accuracy).
    before
        Completeness of the unchanged pictures.
    loss
        Completeness before minus completeness after.
    control
        The mean loss of the controls.
    excess
        Loss minus control, paired over pictures. The mean over classes has no p-value (NaN).
    """

    ring: str
    fill: Fill
    label: int | None
    before: float
    loss: Change
    control: float
    excess: Change


def completeness_losses(
    classify: Classifier, pictures_NHWC: Tensor, labels_N: Tensor, means_KHWC: Tensor, seed: int
) -> list[Loss]:
    """Return the losses of every ring and fill, for each class and for their mean.

    Parameters
    ----------
    classify
        Returns class probabilities of pictures.
    pictures_NHWC
        float32, black 0 and white 1; real galaxies that the classifier was not trained on.
    labels_N
        int64, their classes.
    means_KHWC
        Mean picture of each class, for the fill "class mean".
    seed
        Of the controls and the bootstrap.
    """
    labels, fills = labels_N.numpy(), fills_of(pictures_NHWC, means_KHWC[labels_N])
    right_N = _right(classify, pictures_NHWC, labels)
    losses: list[Loss] = []
    for annulus, (ring_HW, controls_CHW) in zip(ANNULI, ring_masks(pictures_NHWC, seed), strict=True):
        for fill, fill_NHWC in fills.items():
            after_N = _right(classify, occlude(pictures_NHWC, ring_HW, fill_NHWC), labels)
            controls = [
                _right(classify, occlude(pictures_NHWC, control_HW, fill_NHWC), labels) for control_HW in controls_CHW
            ]
            seed_of = fold_in(seed, annulus.name, fill)
            losses += _losses(annulus.name, fill, right_N, after_N, np.mean(controls, axis=0), labels, seed_of)
    return losses


def _right(classify: Classifier, pictures_NHWC: Tensor, labels_N: Ints) -> npt.NDArray[np.bool_]:
    """Return which pictures are assigned to their class, bool [N]."""
    return np.asarray(classify(pictures_NHWC).argmax(dim=1).numpy() == labels_N)


def _losses(
    name: str, fill: Fill, right_N: npt.NDArray[np.bool_], after_N: npt.NDArray[np.bool_], controls_N: Floats,
    labels_N: Ints, seed: int,
) -> list[Loss]:  # fmt: skip
    losses, resampled = [], []
    for label in np.unique(labels_N).tolist():
        rows, own_seed = labels_N == label, fold_in(seed, label)
        before_N, after, control = right_N[rows], after_N[rows], controls_N[rows]
        excess = mean_change(control, after.astype(np.float64), own_seed)
        loss = share_changed(before_N, after, own_seed)
        before = float(before_N.mean())
        losses.append(Loss(name, fill, label, before, loss, before - float(control.mean()), excess))
        resampled.append(
            [mean_of_resamples(first - after.astype(np.float64), own_seed) for first in (before_N, control)]
        )
    of_all = np.mean(resampled, axis=0)
    means = [
        np.mean([entry.loss.interval.value for entry in losses]),
        np.mean([e.excess.interval.value for e in losses]),
    ]
    loss, excess = (
        Change(percentile_interval(float(mean), values), len(labels_N), math.nan)
        for mean, values in zip(means, of_all, strict=True)
    )
    before, control = (float(np.mean([getattr(entry, key) for entry in losses])) for key in ("before", "control"))
    return [*losses, Loss(name, fill, None, before, loss, control, excess)]
