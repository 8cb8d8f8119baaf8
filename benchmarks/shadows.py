"""Tell faint galaxies from artifacts, also in another survey by a few labels.

The claim of arXiv:2011.12437.

    python benchmarks/shadows.py [--objects 1500] [--output runs]

Two surveys are simulated: half of the objects are galaxies of low surface brightness (r band, mean
within the half-light radius 24.3 to 26 mag / arcsec²), half are what a search for them finds by
mistake: blended faint sources, haloes and ghosts of bright stars, cirrus, outskirts of bright
galaxies. The second survey has a finer pixel, a sharper PSF and five times the light. Networks are
trained on the first survey (`raydistill run`), and predict both.

Prints accuracy on test objects of the first survey, and of the second one without its labels and
with a head on 10, 30, 100 and all of its labels, alone and beside those of the first survey (five
draws; 95 % interval over them). Writes a VOTable of the second survey: id, score, surface brightness and half-light radius measured in the
picture, and says how far these are from the truth.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from astropy.table import Table
from PIL import Image
from running import run_stage

from raydistill.galaxies.pictures.images import encode_png
from raydistill.learning.metrics import balanced_accuracy, confusion_of
from raydistill.seeding import fold_in
from raydistill.simulation.config import Telescope
from raydistill.simulation.injections.base import above_sky, lupton_contrast, to_light
from raydistill.simulation.render import grid, sersic
from raydistill.simulation.sky import ZERO_POINT, add_neighbours, add_stamp, band_ratios, observe, stretch
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.hunt.learn.classes import ClassHead
from raydistill.stages.hunt.learn.regression import Regression
from raydistill.stages.predict.artifact import PredictionSet
from raydistill.statistics.intervals import Interval, mean_interval, wilson
from raydistill.statistics.standardise import Standardiser
from raydistill.text import interval, text_table

TELESCOPES = {
    "first": Telescope(psf_fwhm=1.0, pixel_scale=0.263, exposure=20, stretch=0.04, softening=6),
    "second": Telescope(psf_fwhm=0.6, pixel_scale=0.168, exposure=100, stretch=0.02, softening=6),
}
WIDTH, SIZE, MARGIN = 38.0, 64, 6  # of a picture [arcsec] and [px], and native px around it
CLASSES = ("artifact", "galaxy")
KINDS = ("blend", "halo", "ghost", "cirrus", "outskirt")
LABELS, DRAWS = (10, 30, 100), 5
BRIGHTNESS, RADIUS = (24.3, 26.0), (2.5, 7.0)  # mag / arcsec² and arcsec


class Simulated(NamedTuple):
    """A picture, uint8 [SIZE, SIZE, 3], its kind, surface brightness and radius."""

    picture: np.ndarray
    kind: str
    brightness: float
    radius: float


def simulate(kind: str, telescope: Telescope, seed: int) -> Simulated:
    """Return an object of a kind: "galaxy", or one of `KINDS`."""
    rng = np.random.default_rng(seed)
    side = round(WIDTH / telescope.pixel_scale) + 2 * MARGIN
    x, y = grid(side, telescope.pixel_scale)  # arcsec
    light = np.zeros((3, side, side), np.float32)
    mu, radius = rng.uniform(*BRIGHTNESS), float(np.exp(rng.uniform(*np.log(RADIUS))))
    colour = band_ratios(rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.4))[:, None, None]
    angle, axis_ratio = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)

    def elliptic(row: float, column: float) -> np.ndarray:
        u = np.cos(angle) * (x - column) + np.sin(angle) * (y - row)
        v = (np.cos(angle) * (y - row) - np.sin(angle) * (x - column)) / axis_ratio
        return np.hypot(u, v)

    area = (telescope.pixel_scale) ** 2
    faint = 10 ** (0.4 * (ZERO_POINT - mu)) * area  # nmgy per px of this surface brightness
    if kind == "galaxy":
        shape = sersic(elliptic(0, 0) / radius, rng.uniform(0.6, 1.2))
        total = 2 * np.pi * radius**2 * axis_ratio * faint / area  # nmgy: half of it is within the radius
        light += colour * (shape * (total / shape.sum())).astype(np.float32)
    elif kind == "blend":
        for _ in range(rng.integers(3, 8)):
            stamp = np.zeros_like(light)
            add_stamp(stamp, rng, rng.uniform(21.5, 23.5), (rng.uniform(0.2, 1.2), 0.3), rng.uniform(0.5, 2.5))
            shift = rng.normal(0, 2.5 / telescope.pixel_scale, 2) - _centre_of(stamp)
            light += np.roll(stamp, np.rint(shift).astype(int), (1, 2))
    elif kind == "halo":
        row, column = rng.uniform(10, 22, 2) * rng.choice([-1, 1], 2)
        light += colour * (faint * 3 * (1 + np.hypot(x - column, y - row) / 6) ** -3).astype(np.float32)
    elif kind == "ghost":
        distance = elliptic(*rng.uniform(-4, 4, 2)) / rng.uniform(4, 10)
        inner = rng.choice([0.0, 0.5])
        light += colour * (faint * ((distance < 1) & (distance >= inner))).astype(np.float32)
    elif kind == "cirrus":
        spectrum = np.fft.rfft2(rng.standard_normal((side, side)))
        frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
        field = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / side) ** 1.5, s=(side, side))
        light += colour * (faint * np.maximum(field / field.std(), 0)).astype(np.float32)
    else:
        distance = elliptic(*(rng.uniform(9, 15, 2) * rng.choice([-1, 1], 2))) / rng.uniform(3, 6)
        light += colour * (faint * 40 * np.exp(-1.7 * distance)).astype(np.float32)
    add_neighbours(light, rng, telescope)
    recorded = observe(light, telescope.psf_fwhm, rng, telescope)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    picture = Image.fromarray(stretch(recorded, telescope)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return Simulated(np.asarray(picture), kind, mu, radius * axis_ratio**0.5)


def _centre_of(light: np.ndarray) -> np.ndarray:
    """Return the offset of the brightest pixel from the centre [px]."""
    place = np.unravel_index(light.sum(axis=0).argmax(), light.shape[1:])
    return np.array(place) - light.shape[1] // 2


def write_survey(folder: Path, telescope: Telescope, count: int, root: int) -> dict[str, Simulated]:
    """Write a survey as folders of its classes, and return its objects by id."""
    objects = {}
    for number in range(count):
        kind = "galaxy" if number % 2 else KINDS[number // 2 % len(KINDS)]
        one = objects[f"{number:05d}"] = simulate(kind, telescope, fold_in(root, "object", number))
        path = folder / CLASSES[kind == "galaxy"] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(one.picture))
    return objects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1500)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    options = parser.parse_args()
    for what, found in figures(options.output, options.objects).items():
        print(f"{what}: {interval(*found)}")


def figures(output: Path, count: int) -> dict[str, Interval]:
    """Simulate, train, predict; write the catalogue and return accuracies."""
    root = output.absolute() / f"shadows-{count}"
    surveys, configs = {}, {}
    for number, (name, telescope) in enumerate(TELESCOPES.items()):
        surveys[name] = write_survey(root / "pictures" / name, telescope, count, number)
        configs[name] = root / f"{name}.yaml"
        survey = {"root": str(root / "pictures" / name)}
        config = {"extends": "faint_galaxies.yaml", "name": name, "output": str(root), "survey": survey}
        configs[name].write_text(yaml.safe_dump(config))
    first = str(configs["first"])
    run_stage("run", [first, "--to", "predict"])
    run_stage("run", [str(configs["second"]), "--to", "curate"])
    predict = {"first": [first], "second": [first, str(configs["second"])]}
    predictions = {name: PredictionSet.open(str(run_stage("predict", words))) for name, words in predict.items()}
    return summarised(surveys, predictions, root)


def summarised(
    surveys: dict[str, dict[str, Simulated]], predictions: dict[str, PredictionSet], root: Path
) -> dict[str, Interval]:
    """Print measurements, write the catalogue, and return the accuracies."""
    (curated,) = (CuratedSet.open(str(path)) for path in (root / "first").glob("curated-*"))
    tested = set(curated.table("test", ["object_id"])["object_id"].to_pylist())
    ids, probability_NK = predictions["first"].probabilities()
    rows = np.array([name in tested for name in ids])
    truth = truth_of(surveys["first"], ids)
    results = {"first survey, test objects": accuracy(probability_NK[rows], truth[rows])}
    known = predictions["first"].features()[1].astype(np.float64)[~rows], truth[~rows]
    ids, probability_NK = predictions["second"].probabilities()
    labels, features = truth_of(surveys["second"], ids), predictions["second"].features()[1].astype(np.float64)
    pool = np.flatnonzero([int(Path(name).stem) % 4 < 2 for name in ids])
    test = np.setdiff1d(np.arange(len(ids)), pool)
    results["second survey, no label of it"] = accuracy(probability_NK[test], labels[test])
    standardiser, scores = Standardiser.of([features[pool]]), np.empty(0)
    for number, both in product((*LABELS, len(pool)), (False, True)):
        values = []
        for draw in range(DRAWS if number < len(pool) else 1):
            chosen = np.random.default_rng(fold_in(draw, "labels")).permutation(pool)[:number]
            learned = features[chosen], labels[chosen]
            if both:
                learned = np.concatenate([known[0], learned[0]]), np.concatenate([known[1], learned[1]])
            head = ClassHead.fit(*learned, 2, standardiser, Regression().strength)
            found = head.probabilities(features[test])
            values.append(balanced_accuracy(confusion_of(found, labels[test])))
            scores = found[:, 1] if (number, both, draw) == (LABELS[-1], False, 0) else scores
        which = " and those of the first survey" if both else ""
        results[f"second survey, a head on {number} labels{which}"] = mean_interval(values)
    write_catalogue(surveys, [ids[row] for row in test], scores, root / "faint_galaxies.vot")
    return results


def truth_of(survey: dict[str, Simulated], ids: list[str]) -> np.ndarray:
    """Return the class of each object, 1 for a galaxy."""
    return np.array([int(survey[Path(name).stem].kind == "galaxy") for name in ids])


def accuracy(probability_NK: np.ndarray, labels_N: np.ndarray) -> Interval:
    """Return the accuracy, and its Wilson interval over objects."""
    return wilson(int((probability_NK.argmax(axis=1) == labels_N).sum()), len(labels_N))


def measure(picture: np.ndarray, telescope: Telescope) -> tuple[float, float]:
    """Return surface brightness [mag] and half-light radius [arcsec].

    The brightness is relative, and the mean within that radius. Both are of the light within 8
    arcsec of the centre, without pixels twice as bright as the median of the innermost arcsecond
    and a half, which are stars and other galaxies.
    """
    light = above_sky(to_light(picture, lupton_contrast(telescope.softening))).mean(axis=2) * telescope.stretch
    distance = np.hypot(*grid(SIZE, WIDTH / SIZE))
    limit = 2 * max(float(np.median(light[distance < 1.5])), 1e-6)
    inside = (distance < 8) & (light < limit)
    order = np.argsort(distance[inside])
    radii, grown = distance[inside][order], np.cumsum(light[inside][order])
    half = int(np.searchsorted(grown, max(grown[-1], 1e-9) / 2).clip(1, len(grown) - 1))
    return -2.5 * np.log10(max(grown[half], 1e-9) / (half + 1)), float(radii[half])


def write_catalogue(surveys: dict[str, dict[str, Simulated]], ids: list[str], scores: np.ndarray, path: Path) -> None:
    """Write the candidates of the second survey; print the errors of measurements."""
    known = [one for one in surveys["first"].values() if one.kind == "galaxy"]
    zero = np.median([one.brightness - measure(one.picture, TELESCOPES["first"])[0] for one in known])
    rows = []
    for name, score in zip(ids, scores, strict=True):
        one = surveys["second"][Path(name).stem]
        if score >= 0.5:
            brightness, radius = measure(one.picture, TELESCOPES["second"])
            rows.append((name, score, brightness + zero, radius, one))
    rows.sort(key=lambda row: -row[1])
    columns = ("object_id", "score", "mean_surface_brightness_r", "half_light_radius")
    table = Table(rows=[row[:4] for row in rows], names=columns, units=(None, None, "mag arcsec-2", "arcsec"))
    table.write(path, format="votable", overwrite=True)
    real = [row for row in rows if row[4].kind == "galaxy"]
    errors = np.array([(row[2] - row[4].brightness, np.log10(row[3] / row[4].radius)) for row in real])
    off, scatter = np.median(errors, axis=0), 1.4826 * np.median(abs(errors - np.median(errors, axis=0)), axis=0)
    print(text_table(
        f"{path.name}: {len(rows)} candidates, {len(real)} of them galaxies",
        [("measured minus true", "median", "scatter"),
         ("surface brightness [mag / arcsec²]", f"{off[0]:+.2f}", f"{scatter[0]:.2f}"),
         ("half-light radius [dex]", f"{off[1]:+.2f}", f"{scatter[1]:.2f}")],
    ))  # fmt: skip


if __name__ == "__main__":
    main()
