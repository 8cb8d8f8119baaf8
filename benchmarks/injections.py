"""Measure the stretch of SDSS pictures, and compare injected with real dust lanes.

    RAYDISTILL_DATA=FOLDER python benchmarks/injections.py [--figure FILE]

First table: stars of one picture have one width. Galaxies of Galaxy Zoo 2 (gz2_hart16) are searched
for pairs of a faint and a bright star. The table has the median of ln(width of the bright star /
width of the faint one) for light = sinh(contrast m) / contrast, with m the mean level. It is 0 for
the right contrast.

Second table: colour excess of early types of EFIGI by their attribute `Visible_Dust`, and of
dust-free ones with an injected lane. The excess of a galaxy is the percentile 97 of the colour
red - blue relative to its median [mag], among pixels within 2 radii of the galaxy.

The figure has early types of EFIGI without dust, below them the same with injections, and real
dusty ones.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from raydistill.simulation.injections import Arc, DustLane, InjectionModel, LowSurfaceBrightness, Star, TidalTail
from raydistill.simulation.injections.base import SDSS_CONTRAST
from raydistill.simulation.injections.fitting import summary_of

CONTRASTS = (0.001, 2.0, 3.0, 4.0, 4.5, 4.7, 5.0, 6.0, 8.81)
HALF = 12  # px: half side of a star's stamp
FAINTEST, BRIGHTEST = 0.15, 0.97  # levels of usable stars
LEAST_DIFFERENCE = 0.25  # of the levels of a pair
CENTRE = 110  # px around the galaxy without usable stars
GALAXIES = 150  # of a row of the second table
PERCENTILES = (10, 25, 50, 75, 90)


def stars(picture: np.ndarray) -> list[tuple[float, list[float]]]:
    """Return the peak level of isolated stars and their widths [px], one per contrast."""
    level = picture.mean(axis=2) / 255
    sky, smooth = np.median(level), ndimage.gaussian_filter(level, 1.0)
    peaks = np.argwhere((ndimage.maximum_filter(smooth, HALF + 1) == smooth) & (smooth > FAINTEST))
    found = []
    for row, column in peaks:
        y, x = row - level.shape[0] / 2, column - level.shape[1] / 2
        if np.hypot(y, x) < CENTRE or max(abs(y), abs(x)) > level.shape[0] / 2 - HALF - 2:
            continue
        stamp = (slice(row - HALF, row + HALF + 1), slice(column - HALF, column + HALF + 1))
        own = level[stamp]
        ring = np.concatenate([own[0], own[-1], own[:, 0], own[:, -1]])
        if picture[stamp].max() > 255 * BRIGHTEST or ring.max() > sky + 0.08:
            continue
        found.append((float(own.max()), [width(own, float(np.median(ring)), contrast) for contrast in CONTRASTS]))
    return found


def width(level: np.ndarray, sky: float, contrast: float) -> float:
    """Return the full width at half maximum [px], from the area above it."""
    light = (np.sinh(contrast * level) - np.sinh(contrast * sky)) / contrast
    fine = ndimage.zoom(light, 4, order=1)
    regions, _ = ndimage.label(fine > np.sort(light.ravel())[-3:].mean() / 2)
    area = (regions == regions[fine.shape[0] // 2, fine.shape[1] // 2]).sum() / 16
    return float(2 * np.sqrt(area / np.pi))


def measure_contrast(folder: Path) -> None:
    """Print the first table."""
    pairs, pictures = [], sorted((folder / "gz2_hart16" / "images").glob("*.jpg"))
    for path in pictures:
        own = sorted(stars(np.asarray(Image.open(path).convert("RGB"))))
        if len(own) > 1 and own[-1][0] - own[0][0] > LEAST_DIFFERENCE:
            pairs.append(np.log(np.array(own[-1][1]) / np.array(own[0][1])))
    print(f"{len(pictures)} pictures, {len(pairs)} pairs of stars")
    median, error = np.median(pairs, axis=0), 1.25 * np.std(pairs, axis=0) / np.sqrt(len(pairs))
    for contrast, one, own in zip(CONTRASTS, median, error, strict=True):
        print(f"contrast {contrast:5.2f}   ln(width ratio) {one:+.3f} ± {own:.3f}")


def measure_excess(folder: Path, early: Sequence[dict[str, str]]) -> None:
    """Print the second table."""
    by_dust = defaultdict(list)
    for row in early:
        by_dust[float(row["Visible_Dust"])].append(read(folder, row))
    for dust, pictures in sorted(by_dust.items()):
        print_row(f"real, Visible_Dust {dust:g}", pictures[:GALAXIES])
    clean = [read(folder, row) for row in early if float(row["Visible_Dust"]) == 0][:GALAXIES]
    for name, model in {"injected": DustLane(), "injected, depth 0.2-0.8": DustLane(depth=(0.2, 0.8))}.items():
        print_row(name, [inject(model, picture, number) for number, picture in enumerate(clean)])


def print_row(name: str, pictures: Sequence[np.ndarray]) -> None:
    excess = np.percentile([summary_of(one, SDSS_CONTRAST)[3] for one in pictures], PERCENTILES)
    print(f"{name:28} n {len(pictures):4}   " + "  ".join(f"{one:.3f}" for one in excess))


def inject(model: InjectionModel, picture: np.ndarray, number: int) -> np.ndarray:
    return model.apply(picture, model.draw(np.random.default_rng(number)))


def read(folder: Path, row: dict[str, str]) -> np.ndarray:
    return np.asarray(Image.open(folder / "efigi" / "images" / f"{row['PGCname']}.jpg").convert("RGB"))


def draw(folder: Path, early: Sequence[dict[str, str]], path: str, columns: int = 9) -> None:
    """Write the figure."""
    clean = [read(folder, row) for row in early if float(row["Visible_Dust"]) == 0][5 :: GALAXIES // 20][:columns]
    dusty = [read(folder, row) for row in early if float(row["Visible_Dust"]) >= 0.75][: 2 * columns]
    models = (DustLane(), DustLane(), Star(), Arc(), TidalTail(), LowSurfaceBrightness())
    rows = [clean]
    rows += [[inject(m, one, 100 * k + n) for n, one in enumerate(clean)] for k, m in enumerate(models, start=1)]
    rows += [dusty[:columns], dusty[columns:]]
    figure = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    Image.fromarray(figure).resize((figure.shape[1] * 2, figure.shape[0] * 2), Image.Resampling.BICUBIC).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", help="file of the figure")
    options = parser.parse_args()
    folder = Path(os.environ["RAYDISTILL_DATA"])
    with open(folder / "efigi" / "efigi_attributes.csv", encoding="utf-8") as file:
        early = [row for row in csv.DictReader(file) if float(row["T"]) <= 0 and float(row["Inclination"]) < 0.8]
    if options.figure:
        draw(folder, early, options.figure)
    measure_contrast(folder)
    measure_excess(folder, early)


if __name__ == "__main__":
    main()
