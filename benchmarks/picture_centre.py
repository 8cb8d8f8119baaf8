"""Measure where galaxies are in their pictures: the value of `curate.centre`.

    python benchmarks/picture_centre.py FOLDER [--pictures 400] [--seed 0]

The sum of many pictures of galaxies in any orientation is symmetric about their common centre. So
the autoconvolution of the mean picture has its peak at twice the centre. Errors are standard errors
over the pictures (bootstrap). Pictures of another size than the first one are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raydistill.galaxies.pictures.images import RejectedImage, decode_picture

Floats = npt.NDArray[np.float64]
RESAMPLES = 100
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}


def centre(mean_HW: Floats) -> Floats:
    """Return the centre of symmetry, to the right and downwards of the middle [px]."""
    shape = np.array(mean_HW.shape)
    light = mean_HW - np.median(mean_HW)
    convolved = np.fft.irfft2(np.fft.rfft2(light, tuple(2 * shape)) ** 2, tuple(2 * shape))
    peak = np.array(np.unravel_index(convolved.argmax(), convolved.shape))
    offsets = []
    for axis in range(2):
        before, at, after = (convolved[tuple(np.where(np.arange(2) == axis, peak + step, peak))] for step in (-1, 0, 1))
        offsets.append((before - after) / (2 * (before - 2 * at + after)))
    y, x = (peak + offsets) / 2 - (shape - 1) / 2
    return np.array([x, y])


def load(folder: Path, count: int, seed: int) -> Floats:
    """Return the summed channels of random pictures, float64 [N, H, W]."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    chosen = np.random.default_rng(seed).permutation(len(paths))[:count]
    pictures: list[Floats] = []
    for number in chosen:
        try:
            grey = decode_picture(paths[number].read_bytes()).sum(axis=2, dtype=np.float64)
        except RejectedImage:
            continue
        if not pictures or grey.shape == pictures[0].shape:
            pictures.append(grey)
    if not pictures:
        raise SystemExit(f"{folder} has no pictures")
    return np.stack(pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pictures = load(args.folder, args.pictures, args.seed)
    best = centre(pictures.mean(axis=0))
    rng = np.random.default_rng(args.seed)
    draws = [centre(pictures[rng.integers(len(pictures), size=len(pictures))].mean(axis=0)) for _ in range(RESAMPLES)]
    error = np.std(draws, axis=0)
    _, height, width = pictures.shape
    print(f"{len(pictures)} pictures of {width} x {height} px")
    print(f"curate.centre=[{best[0]:.1f}, {best[1]:.1f}]  (standard errors {error[0]:.2f}, {error[1]:.2f} px)")


if __name__ == "__main__":
    main()
