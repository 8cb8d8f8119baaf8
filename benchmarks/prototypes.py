"""Draw several distilled sets side by side, one column per set, to compare them.

    python benchmarks/prototypes.py runs/gz2_kaggle5/distilled-65ea290f8d1f runs/gz2_kaggle5/distilled-… [--picture prototypes.png]

It drew the pictures of prototypes in docs/results-one-split.md, from the sets that the figures there were measured on.
"""

from __future__ import annotations

import argparse

import numpy as np

from raydistill.figures.image_grids import image_grid
from raydistill.stages.distill.artifact import SELECTED, read_images
from raydistill.storage import Folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--picture", default="prototypes.png")
    args = parser.parse_args()
    sets = [read_images(Folder(folder), SELECTED) for folder in args.sets]
    info = sets[0][1]
    names, per_class = info["class_names"], info["images_per_class"]
    shown = np.concatenate([images.display().numpy() for images, _ in sets])
    labels = np.tile(np.repeat(np.arange(len(names)), per_class), len(sets))
    many = "1 image" if per_class == 1 else f"{per_class} images"
    caption = f"{info['survey']}, {many} per class, all synthetic; a column for each of {len(sets)} distilled sets"
    image_grid(shown, labels, names, args.picture, columns=len(sets) * per_class, caption=caption)
    print(args.picture)


if __name__ == "__main__":
    main()
