"""Draw several distilled sets side by side, one column per set, to compare them.

    python benchmarks/prototypes.py runs/gz2_kaggle5/distilled-65ea290f8d1f runs/gz2_kaggle5/distilled-… [--picture prototypes.png]

It drew the pictures of prototypes in docs/results-one-split.md, from the sets that the figures there were measured on.
"""

from __future__ import annotations

import argparse

import numpy as np

from raydistill.distillation.coreset import classes_of
from raydistill.figures.image_grids import image_grid
from raydistill.stages.distill.artifact import SELECTED, read_images
from raydistill.stages.distill.counts import amount, counts_of
from raydistill.storage import Folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--picture", default="prototypes.png")
    args = parser.parse_args()
    sets = [read_images(Folder(folder), SELECTED) for folder in args.sets]
    info = sets[0][1]
    names, counts = info["class_names"], [counts_of(of_set) for _, of_set in sets]
    shown = np.concatenate([images.display().numpy() for images, _ in sets])
    labels = np.concatenate([classes_of(of_set).numpy() for of_set in counts])
    caption = f"{info['survey']}, {amount(counts[0])}, all synthetic; a column for each of {len(sets)} distilled sets"
    image_grid(shown, labels, names, args.picture, columns=sum(max(of_set) for of_set in counts), caption=caption)
    print(args.picture)


if __name__ == "__main__":
    main()
