"""Measure how legible pictures of galaxies are, beside real galaxies.

`legibility.py` says what each measure is. Pictures are arrays [N, H, W, 3], black 0 and white 1;
values outside are cut to this range. Versions of a picture are its eight flips and turns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from raydistill.learning.augmenting import orbit
from raydistill.morphology.pictures import light_above_sky
from raydistill.morphology.shapes import fourier_components, pattern
from raydistill.stages.distill.figures import nearest_real

Pictures = npt.NDArray[np.floating]
Values = npt.NDArray[np.floating]  # one value a picture, [N]


class Galaxies(NamedTuple):
    """Training and test galaxies by class: pictures [N, H, W, 3], black 0 and white 1."""

    train: list[Pictures]
    test: list[Pictures]


def versions(pictures: Pictures) -> Pictures:
    """Return the eight flips and turns of every picture, [N, 8, H, W, 3]."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)
    turned = orbit(tensor, "dihedral").permute(0, 2, 3, 1).numpy()
    return turned.reshape(len(pictures), 8, *pictures.shape[1:])


def fine_structure(pictures: Pictures) -> Values:
    """Return the share of power above half of the Nyquist frequency, [N].

    The power is that of brightness; a Hann window hides the edges.
    """
    light = pictures.clip(0, 1).mean(axis=-1)
    window = np.outer(np.hanning(light.shape[1]), np.hanning(light.shape[2]))
    light = light - (light * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    power = np.abs(np.fft.fft2(light * window)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(light.shape[1]), np.fft.fftfreq(light.shape[2]), indexing="ij"))
    share: Values = power[:, frequency > 0.25].sum(axis=1) / power.sum(axis=(1, 2))
    return share


def m2(pictures: Pictures) -> Values:
    """Return the m = 2 amplitude of pictures, [N]; NaN where too faint."""
    light = light_above_sky(pictures).values_NHWC.mean(-1)
    return pattern(fourier_components(light), 2).amplitude_N


def distance(pictures: Pictures, training: Pictures) -> Values:
    """Return the RMS difference of each picture to the nearest training galaxy, [N].

    It is the least difference over the versions of the picture.
    """
    near = nearest_real(flat := versions(pictures.clip(0, 1)).reshape(-1, *pictures.shape[1:]), training, 1)[:, 0]
    return np.sqrt(((flat - training[near]) ** 2).mean(axis=(1, 2, 3))).reshape(-1, 8).min(axis=1)


def correlation(one: Pictures, other: Pictures) -> list[float]:
    """Return the correlation of each pair, for the best-fitting version of the other."""
    best = []
    for picture, turned in zip(one.clip(0, 1), versions(other.clip(0, 1)), strict=True):
        best.append(max(float(np.corrcoef(picture.ravel(), version.ravel())[0, 1]) for version in turned))
    return best


class Reference:
    """The measures of held-out galaxies, in whose medians prototypes are given."""

    def __init__(self, galaxies: Galaxies) -> None:
        self._training = galaxies.train
        held_out = {
            name: [self._values(name, one, label) for label, one in enumerate(galaxies.test)]
            for name in ("distance", "fine structure", "m = 2")
        }
        self.medians = {name: [float(np.nanmedian(one)) for one in values] for name, values in held_out.items()}
        self._ranges = {
            name: [np.nanquantile(one, [0.025, 0.975]) for one in values] for name, values in held_out.items()
        }

    def ratio(self, name: str, prototypes: Pictures) -> list[float | None]:
        """Return the value of each prototype over the median of its held-out galaxies.

        It is None where a prototype has no value.
        """
        values = [float(self._values(name, one[None], label)[0]) for label, one in enumerate(prototypes)]
        ratios = [value / median for value, median in zip(values, self.medians[name], strict=True)]
        return [one if np.isfinite(one) else None for one in ratios]

    def inside(self, name: str, prototypes: Pictures) -> int:
        """Return how many prototypes lie within the central 95 % of their class."""
        values = [float(self._values(name, one[None], label)[0]) for label, one in enumerate(prototypes)]
        return sum(low <= value <= high for value, (low, high) in zip(values, self._ranges[name], strict=True))

    def _values(self, name: str, pictures: Pictures, label: int) -> Values:
        if name == "distance":
            return distance(pictures, self._training[label])
        return fine_structure(pictures) if name == "fine structure" else m2(pictures)
