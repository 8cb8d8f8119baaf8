"""Fit the ranges of a model to a few real examples of what it makes.

The fit is approximate Bayesian computation by rejection. Parameters are drawn within the wide
ranges, and applied to pictures without the thing. Draws whose pictures resemble an example, by a
few summary numbers, are accepted. The new range of a parameter covers the accepted draws.

The summary does not depend on orientation, so angles keep about their range. It sees colour and
symmetry only: a parameter that changes neither keeps its range too.

References: Beaumont 2010, Annu. Rev. Ecol. Evol. Syst. 41, 379.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from raydistill.galaxies.pictures.alignment import measure_shape
from raydistill.seeding import fold_in
from raydistill.simulation.injections.base import InjectionModel, above_sky, sky_of, to_light

AnyModel = TypeVar("AnyModel", bound=InjectionModel)

ACCEPTED = 0.04  # share of the draws that an example accepts
COVERED = (5.0, 95.0)  # percentiles of the accepted draws that are the new range
RADIUS = 2.0  # of the summary, in radii of the galaxy
BRIGHT = 3.0  # pixels this many sigma above the sky have a colour
FEWEST = 20  # bright pixels of a galaxy that has a summary


def summary_of(picture: np.ndarray, contrast: float) -> np.ndarray:
    """Return numbers that describe what stands out of a galaxy.

    Parameters
    ----------
    picture : uint8 `[H, W, 3]`
    contrast : float
        Of its stretch.

    Returns
    -------
    float64 `[8]`
        Percentiles 3, 16, 84 and 97 of the colour red - blue relative to its median [mag];
        percentile 97 of the brightness relative to that of the opposite pixel [mag]; distance from
        the centre, radius and axis ratio of the light that is redder than the median. All 0 for a
        galaxy of fewer than 20 bright pixels.
    """
    light = to_light(picture, contrast)
    galaxy, (_, noise) = above_sky(light), sky_of(light)
    along, across = measure_shape(picture).coordinates(*picture.shape[:2])
    bright = (np.hypot(along, across) < RADIUS) & (galaxy.min(axis=2) > max(BRIGHT * noise.max(), 1e-6))
    if bright.sum() < FEWEST:
        return np.zeros(8)
    colour = 2.5 * np.log10(galaxy[bright, 0] / galaxy[bright, 2])
    excess = colour - np.median(colour)
    mean = np.maximum(galaxy.mean(axis=2), 1e-6)
    uneven = 2.5 * np.log10(mean / mean[::-1, ::-1])[bright]
    red = np.maximum(excess, 0) + 1e-9
    points = np.stack([along[bright], across[bright]])
    centre = np.average(points, axis=1, weights=red)
    small, large = np.linalg.eigvalsh(np.cov(points, aweights=red))
    extent = np.hypot(*centre), np.sqrt(large), np.sqrt(max(small, 0.0) / large)
    return np.array([*np.percentile(excess, [3, 16, 84, 97]), np.percentile(uneven, 97), *extent])


def fit_ranges(
    model: AnyModel, hosts: Sequence[np.ndarray], examples: Sequence[np.ndarray], *, draws: int = 500, seed: int = 0
) -> AnyModel:
    """Return the model with ranges that fit examples.

    Parameters
    ----------
    model : InjectionModel
        Its ranges are the widest possible ones.
    hosts : sequence of uint8 `[H, W, 3]`
        Pictures of galaxies without the thing.
    examples : sequence of uint8 `[H, W, 3]`
        Pictures of galaxies with it, of the same survey.
    draws : int
        Injections to compare with the examples. Each example accepts 4 % of them, at least 10.
    seed : int
        Of the draws.

    Returns
    -------
    InjectionModel
        Each range lies within that of `model`.

    Raises
    ------
    ValueError
        Without hosts or examples, or with fewer than 10 draws.
    """
    if not len(hosts) or not len(examples):
        raise ValueError(f"a fit needs hosts and examples, got {len(hosts)} and {len(examples)}")
    if draws < 10:
        raise ValueError(f"a fit needs at least 10 draws, got {draws}")
    drawn, summaries = [], []
    for number in range(draws):
        rng = np.random.default_rng(fold_in(seed, "fit", number))
        host, parameters = hosts[int(rng.integers(len(hosts)))], model.draw(rng)
        drawn.append(list(parameters.values()))
        summaries.append(summary_of(model.apply(host, parameters), model.stretch))
    values_DP, summaries_DS = np.array(drawn), np.array(summaries)
    spread_S = np.std(summaries_DS, axis=0) + 1e-9
    num_accepted = max(10, round(ACCEPTED * draws))
    accepted = []
    for example in examples:
        distances_D = np.linalg.norm((summaries_DS - summary_of(example, model.stretch)) / spread_S, axis=1)
        accepted.append(np.argsort(distances_D, kind="stable")[:num_accepted])
    low_P, high_P = np.percentile(values_DP[np.concatenate(accepted)], COVERED, axis=0)
    names = list(model.ranges())
    return model.with_ranges({n: (float(a), float(b)) for n, a, b in zip(names, low_P, high_P, strict=True)})
