"""Measure what labels of a user add to `curate.filter`.

    RAYDISTILL_DATA=FOLDER python benchmarks/filter_labels.py [--output runs]

Four per cent of the pictures of gz2_kaggle5 get a defect that the filter does not inject: the ghost
of a bright star, which is a ring, or fringes. Somebody labels 0, 10, 30 or 100 pictures of the
training split, half of them damaged (three draws). Prints the share of the damaged pictures without
a label that the filter rejects, and that of the others, with 95 % intervals: Wilson over pictures
without labels, Student's t over draws with them. Every picture is scored by a network that has not
seen it. A stopped run resumes when the command is run again.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from running import run_stage

from raydistill.config import load
from raydistill.galaxies.selection import SPLITS
from raydistill.pipeline.plan import Plan
from raydistill.seeding import fold_in
from raydistill.simulation.render import grid
from raydistill.stages.curate.select.selection import select_galaxies
from raydistill.statistics.intervals import Interval, mean_interval, wilson
from raydistill.text import interval, text_table

CONFIG, DAMAGED, NUMBERS, DRAWS, RATE = "gz2_kaggle5", 25, (0, 10, 30, 100), 3, 0.05  # one in 25 is damaged
MARK = "artifact"  # the label of a damaged picture


def damage(levels_HW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add a ring or fringes to a picture; its middle half is what the filter sees."""
    y, x = grid(len(levels_HW3), 2 / len(levels_HW3))  # the view reaches from -0.5 to 0.5
    if rng.random() < 0.5:
        row, column = rng.uniform(-0.35, 0.35, 2)
        distance = np.hypot(x - column, y - row) / rng.uniform(0.12, 0.3)
        light = rng.uniform(25, 70) * ((distance < 1) & (distance > rng.uniform(0.4, 0.7)))
    else:
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.2)
        light = rng.uniform(12, 30) * (1 + np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period))
    colour = rng.uniform(0.5, 1, 3)
    return np.clip(levels_HW3 + light[..., None] * colour, 0, 255).astype(np.uint8)


def write_pictures(source: Path, folder: Path, ids: list[str]) -> set[str]:
    """Copy the survey's pictures, some of them damaged, and return the ids of these."""
    damaged = set(np.random.default_rng(fold_in(0, "damaged")).permutation(ids)[: len(ids) // DAMAGED].tolist())
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(ids):
        path = folder / f"{name}.jpg"
        picture = np.asarray(Image.open(source / path.name).convert("RGB"))
        if name in damaged:
            picture = damage(picture, np.random.default_rng(fold_in(0, "damage", number)))
        Image.fromarray(picture).save(path, quality=95)
    return damaged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs"))
    output = parser.parse_args().output.absolute() / "filter-labels"
    config = load(CONFIG, [])
    galaxies = select_galaxies(config.curate, Plan(config).user_survey()).galaxies
    ids = galaxies["object_id"].to_pylist()
    source = Path(os.environ["RAYDISTILL_DATA"], "gz2_kaggle", "images_training_rev1")
    damaged = write_pictures(source, output / "pictures", ids)
    training = [
        name for name, split in zip(ids, galaxies["split"].to_pylist(), strict=True) if SPLITS[split] == "train"
    ]
    rows: list[tuple[str, ...]] = [("labels", "damaged pictures rejected", "others rejected")]
    for number in NUMBERS:
        counts = np.array(
            [rejected(output, number, draw, ids, training, damaged) for draw in range(DRAWS if number else 1)]
        )
        rows.append((str(number), *(interval(*over(counts[:, which])) for which in (0, 1))))
    print(text_table(f"{len(damaged)} of {len(ids)} pictures are damaged", rows))


def over(counts_DC: np.ndarray) -> Interval:
    """Return a share with its interval, from counts and totals of each draw."""
    shares = counts_DC[:, 0] / counts_DC[:, 1]
    return mean_interval(shares) if len(shares) > 1 else wilson(*map(int, counts_DC[0]))


def rejected(
    output: Path, number: int, draw: int, ids: list[str], training: list[str], damaged: set[str]
) -> list[tuple[int, int]]:
    """Return rejected pictures and all: of the damaged ones, and of the others."""
    rng = np.random.default_rng(fold_in(draw, "labels"))
    order = rng.permutation(training).tolist()
    known = {
        name: label
        for label, is_damaged in ((MARK, True), ("clean", False))
        for name in [name for name in order if (name in damaged) is is_damaged][: number // 2]
    }
    options = [f"false_rejection_rate: {RATE}"]
    if known:
        table = output / f"labels-{number}-{draw}.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("id", "label"), *known.items()])
        options.append(f"labels: '{table}'")
    words = [f"curate.filter={{{', '.join(options)}}}", f"survey.images.root={output / 'pictures'}", f"output={output}"]
    curated = run_stage("curate", [CONFIG, *words])
    out = {row["object_id"] for row in pq.read_table(curated / "rejected.parquet").to_pylist()}
    of = [[name for name in ids if name not in known and (name in damaged) is which] for which in (True, False)]
    return [(sum(name in out for name in names), len(names)) for names in of]


if __name__ == "__main__":
    main()
