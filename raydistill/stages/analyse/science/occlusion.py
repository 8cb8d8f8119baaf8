"""Hide a ring of each picture, and measure which classes are then missed.

The rings are circular annuli around the centre of the frame. Their radii are fractions of half its
side. In Galaxy Zoo 2 the cropped frame is 4.24 R90 wide, so half of it is 2.12 R90:

======  ==================  ============
ring    of half the side    in R90
======  ==================  ============
bulge   0 to 0.15           0 to 0.32
bar     0.15 to 0.35        0.32 to 0.74
arms    0.35 to 0.75        0.74 to 1.6
sky     0.75 to the corner  beyond 1.6
======  ==================  ============

The names say where such a structure usually is; a ring also holds other light. The sky is a control:
a network that needs it has learned something that is not in the galaxy. The rings differ in area.

Two fills replace the pixels of a ring:

- "ring mean": the mean colour of the same picture in the ring. The structure is hidden, and the
  light is kept.
- "class mean": the mean picture of the class. Only the individual difference from the class is hidden.

Both leave evidence of the class in the ring, so a drop is a lower limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raydistill.seeding import fold_in
from raydistill.statistics.intervals import percentile_interval
from raydistill.statistics.resampling import Change, mean_of_resamples, share_changed

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# Maps pictures float32 [N, H, W, 3], black 0 and white 1, to class probabilities [N, K].
Classifier = Callable[[Tensor], Tensor]
Fill = Literal["ring mean", "class mean"]
FILLS: tuple[Fill, ...] = ("ring mean", "class mean")


@dataclass(frozen=True)
class Annulus:
    """A ring around the centre of a frame.

    Parameters
    ----------
    name
        The structure that usually lies there.
    inner, outer
        Radii, relative to half the side of the frame. The inner circle belongs to the ring.
    """

    name: str
    inner: float
    outer: float

    def mask(self, height: int, width: int) -> Tensor:
        """Return the pixels whose centre lies in the ring, bool [H, W]."""
        y_H1 = torch.arange(height)[:, None] - (height - 1) / 2
        x_1W = torch.arange(width)[None, :] - (width - 1) / 2
        radius_HW = torch.hypot(*torch.broadcast_tensors(y_H1, x_1W)) / (min(height, width) / 2)
        return (radius_HW >= self.inner) & (radius_HW < self.outer)


ANNULI = (
    Annulus("bulge", 0.0, 0.15),
    Annulus("bar", 0.15, 0.35),
    Annulus("arms", 0.35, 0.75),
    Annulus("sky", 0.75, math.inf),
)


def occlude(pictures_NHWC: Tensor, mask_HW: Tensor, fill_NHWC: Tensor | None = None) -> Tensor:
    """Return pictures whose pixels in a mask are replaced.

    Parameters
    ----------
    pictures_NHWC
        float32, in any unit.
    mask_HW
        bool, True where pixels are replaced.
    fill_NHWC
        Pictures from which the pixels come. None: the mean colour of each picture in the mask.

    Returns
    -------
    torch.Tensor
        float32 [N, H, W, C], a copy.
    """
    if not mask_HW.any():
        return pictures_NHWC.clone()
    if fill_NHWC is None:
        fill_NHWC = pictures_NHWC[:, mask_HW].mean(dim=1)[:, None, None, :]
    return torch.where(mask_HW[None, :, :, None], fill_NHWC, pictures_NHWC)


@dataclass(frozen=True)
class Drop:
    """The fall of completeness when a ring is hidden.

    Attributes
    ----------
    annulus
        Name of the ring.
    fill
        Values that replace its pixels.
    label
        The class; None for the mean over the classes that have pictures (balanced accuracy).
    before
        Completeness of the unchanged pictures.
    change
        Completeness before minus completeness after. The mean over classes has no p-value (NaN).
    """

    annulus: str
    fill: Fill
    label: int | None
    before: float
    change: Change


def hidden(pictures_NHWC: Tensor, fill_NHWC: Tensor, annuli: tuple[Annulus, ...] = ANNULI) -> Tensor:
    """Return pictures, each ring hidden by each fill: [rings, fills, N, H, W, C].

    The fills are `FILLS`.

    Parameters
    ----------
    pictures_NHWC
        float32.
    fill_NHWC
        The mean picture of each picture's class.
    annuli
        The rings.
    """
    masks = [annulus.mask(*pictures_NHWC.shape[1:3]) for annulus in annuli]
    fills = {"ring mean": None, "class mean": fill_NHWC}
    return torch.stack([torch.stack([occlude(pictures_NHWC, mask, fills[fill]) for fill in FILLS]) for mask in masks])


def completeness_drops(
    classify: Classifier,
    pictures_NHWC: Tensor,
    labels_N: Tensor,
    means_KHWC: Tensor,
    seed: int,
    annuli: tuple[Annulus, ...] = ANNULI,
) -> list[Drop]:
    """Return the drops of every ring and fill, for each class and for their mean.

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
        Of the bootstrap.
    annuli
        The rings.
    """
    labels, fill_NHWC = labels_N.numpy(), means_KHWC[labels_N]
    right_N = _right(classify, pictures_NHWC[None], labels)[0]
    drops: list[Drop] = []
    for annulus in annuli:  # one at a time, to save memory
        after_FN = _right(classify, hidden(pictures_NHWC, fill_NHWC, (annulus,))[0], labels)
        for fill, after_N in zip(FILLS, after_FN, strict=True):
            own_seed = fold_in(seed, annulus.name, fill)
            drops += _drops(annulus.name, fill, right_N, after_N, labels, own_seed)
    return drops


def _right(classify: Classifier, pictures_FNHWC: Tensor, labels_N: Ints) -> Bools:
    """Return which pictures of F sets are assigned to their class, bool [F, N]."""
    predicted_FN = classify(pictures_FNHWC.flatten(0, 1)).argmax(dim=1).view(len(pictures_FNHWC), -1).numpy()
    return predicted_FN == labels_N


def _drops(name: str, fill: Fill, right_N: Bools, after_N: Bools, labels_N: Ints, seed: int) -> list[Drop]:
    difference_N = right_N.astype(np.float64) - after_N
    drops, resampled = [], []
    for label in np.unique(labels_N).tolist():
        of_class = labels_N == label
        change = share_changed(right_N[of_class], after_N[of_class], fold_in(seed, label))
        drops.append(Drop(name, fill, label, float(right_N[of_class].mean()), change))
        resampled.append(mean_of_resamples(difference_N[of_class], fold_in(seed, label)))
    mean = float(np.mean([drop.change.interval.value for drop in drops]))
    interval = percentile_interval(mean, np.mean(resampled, axis=0))
    before = float(np.mean([drop.before for drop in drops]))
    return [*drops, Drop(name, fill, None, before, Change(interval, len(labels_N), math.nan))]
