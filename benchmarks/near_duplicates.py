"""Count the altered copies that the perceptual hash finds, and its false matches.

    RAYDISTILL_DATA=FOLDER python benchmarks/near_duplicates.py [--size 32] [--crop 0.5] [--every 6]

Every picture of Galaxy Zoo 2 and EFIGI is hashed, and every sixth one is altered and hashed again.
The first table has the share of the altered copies within a distance of their original, the second
the number of pairs of pictures within it. The data sets share 38 galaxies, whose ids differ: those
pairs are true.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance

from raydistill.galaxies.pictures.images import decode_picture, prepare
from raydistill.galaxies.pictures.perceptual_hash import BITS, BYTES, MAX_DISTANCE, perceptual_hashes
from raydistill.stages.curate.decoding import ROWS_PER_BLOCK

FOLDERS = {"GZ2": ("gz2_kaggle/images_training_rev1", "gz2_hart16/images"), "EFIGI": ("efigi/images",)}
DISTANCES = (8, 12, MAX_DISTANCE, 20, 24, 28, 32)


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def brighten(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(factor)


def shift(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(picture), 1, axis=1))


def resize(picture: Image.Image, factor: float) -> Image.Image:
    size = round(picture.width * factor), round(picture.height * factor)
    return picture.resize(size, Image.Resampling.LANCZOS)


def magnify(picture: Image.Image, factor: float) -> Image.Image:
    """Enlarge the galaxy in a picture of the same size."""
    larger = resize(picture, factor)
    left, top = (larger.width - picture.width) // 2, (larger.height - picture.height) // 2
    return larger.crop((left, top, left + picture.width, top + picture.height))


ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 70": lambda picture: jpeg(picture, 70),
    "10 % brighter": lambda picture: brighten(picture, 1.1),
    "10 % darker": lambda picture: brighten(picture, 0.9),
    "shifted by 1 px": shift,
    "resized by 2 %": lambda picture: resize(picture, 1.02),
    "resized to a half": lambda picture: resize(picture, 0.5),
    "magnified by 2 %": lambda picture: magnify(picture, 1.02),
    "JPEG of quality 50": lambda picture: jpeg(picture, 50),
}


def read_pictures(root: Path) -> Iterator[tuple[str, bytes]]:
    for catalog, folders in FOLDERS.items():
        for folder in folders:
            for path in sorted((root / folder).glob("*.jpg")):
                yield catalog, path.read_bytes()
    for content in pq.read_table(root / "gz2_unlabelled.parquet", columns=["jpeg"])["jpeg"].to_pylist():
        yield "GZ2", content


def words(hashes: list[bytes | None]) -> np.ndarray:
    """Return the hashes as uint64 `[N, BYTES / 8]`."""
    return np.frombuffer(b"".join(one or bytes(BYTES) for one in hashes), np.uint64).reshape(len(hashes), -1)


def count_pairs(hashes: np.ndarray) -> np.ndarray:
    """Return the number of pairs at each distance."""
    counts = np.zeros(BITS + 1, np.int64)
    for row in range(len(hashes) - 1):
        distances = np.bitwise_count(hashes[row] ^ hashes[row + 1 :]).sum(axis=1)
        counts += np.bincount(distances, minlength=BITS + 1)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--crop", type=float, default=0.5)
    parser.add_argument("--every", type=int, default=6)
    args = parser.parse_args()
    originals, catalogs, decode_seconds = [], [], []
    altered: dict[str, list[np.ndarray]] = {name: [] for name in ALTERATIONS}
    for number, (catalog, content) in enumerate(read_pictures(Path(os.environ["RAYDISTILL_DATA"]))):
        start = time.perf_counter()
        decoded = decode_picture(content)
        if len(decoded) == 424:
            decode_seconds.append(time.perf_counter() - start)
        originals.append(prepare(decoded, args.crop, args.size))
        if number % args.every == 0:
            catalogs.append(catalog)
            for name, alter in ALTERATIONS.items():
                pixels = np.asarray(alter(Image.fromarray(decoded)))
                altered[name].append(prepare(pixels, args.crop, args.size))

    hash_seconds, blocks = [], []
    for first in range(0, len(originals), ROWS_PER_BLOCK):
        pictures = np.stack(originals[first : first + ROWS_PER_BLOCK])
        start = time.perf_counter()
        blocks.append(words(perceptual_hashes(pictures)))
        hash_seconds.append((time.perf_counter() - start) / len(pictures))
    hashes = np.concatenate(blocks)
    hash_us, decode_us = 1e6 * np.median(hash_seconds), 1e6 * np.median(decode_seconds)
    print(f"{len(hashes)} pictures: hash {hash_us:.1f} us, decoding 424 px {decode_us:.0f} us (medians)")
    print(f"{'within':24}" + "".join(f"{distance:>9}" for distance in DISTANCES))
    for name, copies in altered.items():
        distances = np.bitwise_count(words(perceptual_hashes(np.stack(copies))) ^ hashes[:: args.every]).sum(axis=1)
        for catalog in FOLDERS:
            own = distances[np.array(catalogs) == catalog]
            shares = "".join(f"{(own <= distance).mean():9.4f}" for distance in DISTANCES)
            print(f"{name + ', ' + catalog:24}{shares}")
    pairs = count_pairs(hashes).cumsum()
    print(f"{'pairs of ' + format(pairs[-1], '.2g'):24}" + "".join(f"{pairs[distance]:9d}" for distance in DISTANCES))


if __name__ == "__main__":
    main()
