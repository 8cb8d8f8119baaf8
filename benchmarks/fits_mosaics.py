"""Curate galaxies cut out of simulated FITS mosaics, and measure time and memory.

    python benchmarks/fits_mosaics.py [--galaxies 10000] [--tiles 16] [--side 2400] [--folder FOLDER]

Prints one JSON object: the size of the mosaics, the seconds of `curate`, and the peak memory of this process and of the
largest worker. `rss` counts pages that are shared with other processes, as those of Ray's object store; `uss` does not.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from astropy.io import fits
from astropy.wcs import WCS

from raydistill.config import CatalogSurvey, Config, Curate, Resources, Tracking
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.stage import curate
from raydistill.tracking.tracker import Tracker

SCALE, STAMP = 0.4, 61  # arcsec; px
CLASSES = ("smooth", "spiral")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--galaxies", type=int, default=10_000)
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--side", type=int, default=2400, help="rows and columns of a tile")
    parser.add_argument("--folder", help="default: a temporary one, which is removed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        survey = write_survey(folder, args.galaxies, args.tiles, args.side)
        print(json.dumps(measure(folder, survey) | {"galaxies": args.galaxies, "mosaics_mb": size(folder / "tiles")}))


def write_survey(folder: Path, galaxies: int, tiles: int, side: int) -> CatalogSurvey:
    """Write tiles of noise with randomly placed blobs and spirals, and their table."""
    rng = np.random.default_rng(0)
    rows = ["id,label,ra,dec"]
    for tile in range(tiles):
        wcs = tile_wcs(150 + tile, 10.0, side)
        own = range(tile, galaxies, tiles)
        x, y = rng.integers(STAMP, side - STAMP, (2, len(own)))
        ra, dec = wcs.all_pix2world(x, y, 0)
        rows += [f"g{n:06d},{CLASSES[n % 2]},{a:.7f},{d:.7f}" for n, a, d in zip(own, ra, dec, strict=True)]
        for band, colour in zip("irg", (1.0, 0.8, 0.5), strict=True):
            pixels = rng.normal(0, 0.02, (side, side)).astype(np.float32)
            for number, column, row in zip(own, x, y, strict=True):
                half = STAMP // 2
                pixels[row - half : row + half + 1, column - half : column + half + 1] += colour * stamp(number)
            path = folder / "tiles" / band / f"{tile:03d}.fits"
            path.parent.mkdir(parents=True, exist_ok=True)
            fits.PrimaryHDU(pixels, wcs.to_header()).writeto(path, overwrite=True)
    (folder / "catalog.csv").write_text("\n".join(rows) + "\n")
    images = MosaicImages(
        str(folder / "tiles"), ("i/*.fits", "r/*.fits", "g/*.fits"), f"{STAMP * SCALE} arcsec", stretch=0.5
    )
    return CatalogSurvey(catalog=str(folder / "catalog.csv"), images=images)


def tile_wcs(ra: float, dec: float, side: int) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
    wcs.wcs.crpix, wcs.wcs.cdelt = [side / 2, side / 2], [-SCALE / 3600, SCALE / 3600]
    return wcs


def stamp(number: int) -> np.ndarray:
    """Return a galaxy of random shape, float32 `[STAMP, STAMP]`; the number seeds it."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:STAMP, :STAMP] - STAMP // 2
    radius, angle = np.hypot(x, y * rng.uniform(1, 2)), np.arctan2(y, x) + rng.uniform(0, 6)
    arms = 1 + (number % 2) * np.cos(2 * (angle - 2 * np.log(radius + 1)))
    return (arms * np.exp(-radius / rng.uniform(3, 8))).astype(np.float32)


def measure(folder: Path, survey: CatalogSurvey) -> dict[str, float]:
    """Return seconds of `curate`, and peak memory [MB] of driver and largest worker."""
    recipe = Curate(classes=CLASSES, image_size=32, crop_fraction=1.0)
    config = Config(
        name="mosaics", output=str(folder / "runs"), survey=survey, curate=recipe, resources=Resources(),
        tracking=Tracking(enabled=False),
    )  # fmt: skip
    peaks = {"driver_rss_mb": 0.0, "worker_rss_mb": 0.0, "worker_uss_mb": 0.0}
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(peaks, stop))
    watcher.start()
    start = time.perf_counter()
    result = curate(Plan(config), Tracker("", "benchmark", enabled=False))
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    kept = sum(one.kept for one in result.summary.classes)
    return {"seconds": round(seconds, 1), "kept": kept} | {name: round(value) for name, value in peaks.items()}


def watch(peaks: dict[str, float], stop: threading.Event) -> None:
    """Update the peaks twice a second."""
    own = psutil.Process()
    while not stop.wait(0.5):
        peaks["driver_rss_mb"] = max(peaks["driver_rss_mb"], own.memory_info().rss / 1e6)
        for process in own.children(recursive=True):
            try:
                if not (process.cmdline() or [""])[0].startswith("ray::"):
                    continue
                memory = process.memory_full_info()
            except psutil.Error:
                continue
            peaks["worker_rss_mb"] = max(peaks["worker_rss_mb"], memory.rss / 1e6)
            peaks["worker_uss_mb"] = max(peaks["worker_uss_mb"], memory.uss / 1e6)


def size(folder: Path) -> float:
    """Return the size of all files below a folder [MB]."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6)


if __name__ == "__main__":
    main()
