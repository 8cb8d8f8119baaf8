"""Draw donors, hosts and recombinations of a survey's training galaxies.

    RAYDISTILL_DATA=FOLDER python benchmarks/recombinations.py CONFIG [key=value ...] [--picture FILE]

Each column has a donor, a host, the donor's bulge and structure on the host's disk, and the donor
beside the host. Prints the milliseconds that a decomposition and a recombination take.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from PIL import Image
from running import run_stage

from raydistill import load_config
from raydistill.morphology.recombination import Likeness, add_companion, decompose, recombine
from raydistill.simulation.injections.base import contrast_of
from raydistill.stages.curate.artifact import CuratedSet

PER_CLASS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--picture", default="docs/images/recombinations.png")
    options, overrides = parser.parse_known_args()
    arguments = [options.config, *overrides]
    curated = CuratedSet.open(str(run_stage("run", [*arguments, "--to", "curate"])))
    loaded, contrast = curated.load("train"), contrast_of(load_config(*arguments).survey)
    pictures, labels_N = loaded.images_NHWC.numpy(), loaded.labels_N.numpy()
    likeness, rng = Likeness.of(pictures), np.random.default_rng(0)
    columns, seconds = [], {"decomposition": 0.0, "recombination": 0.0}
    for label in np.unique(labels_N):
        for donor in rng.choice(np.flatnonzero(labels_N == label), PER_CLASS):
            host = int(rng.choice(likeness.nearest(int(donor), 10)))
            begin = time.perf_counter()
            given, kept = (decompose(pictures[row], contrast) for row in (donor, host))
            middle = time.perf_counter()
            made = recombine(given, kept, contrast, np.random.default_rng(0))
            seconds["decomposition"] += (middle - begin) / 2
            seconds["recombination"] += time.perf_counter() - middle
            pair = add_companion(given, kept, contrast, np.random.default_rng(0), (1.5, 3.0), (0.3, 1.0))
            columns.append(np.concatenate([pictures[donor], pictures[host], made, pair]))
    Image.fromarray(np.concatenate(columns, axis=1)).save(options.picture)
    for name, total in seconds.items():
        print(f"{name}: {1000 * total / len(columns):.1f} ms")


if __name__ == "__main__":
    main()
