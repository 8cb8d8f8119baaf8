"""Print the purity of graded candidates, by target and round.

    python benchmarks/candidates.py [NAME=labels.csv ...] [--images FOLDER]

Without arguments the catalogues of docs/catalogues are read. Each NAME writes one from the labels of
a hunt (grades 1 no, 3 maybe, 5 yes; the examples that it began with are left out), and with
`--images` a sheet of all graded yes, the highest score of the last round first. Purity is the share
graded yes, with its 95 % Wilson interval. With RAYDISTILL_DATA, candidates of Hart et al. (2016) are
compared with the votes of volunteers: the fraction for odd times that for the feature, both weighted;
and those of Kaggle's challenge with the share that volunteers call odd.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.table import Table
from PIL import Image
from running import ROOT

from raydistill.figures.image_grids import image_grid
from raydistill.statistics.intervals import wilson
from raydistill.text import interval, text_table

CATALOGUES, PICTURES = ROOT / "docs" / "catalogues", ROOT / "docs" / "images"
GRADES = {1: "no", 3: "maybe", 5: "yes"}
COLUMNS = {
    "object_id": "survey (kaggle: Galaxy Zoo challenge; gz2: without labels; hart: Hart et al. 2016; efigi) and its id",
    "score": "of the round that showed it, from 0 to 1",
    "grade": "by the eye of one grader: yes, maybe, no",
    "round": "of the hunt; each showed the 50 galaxies of the highest scores",
}
SIDE = 64
FEATURES = {"mergers": "a24_merger", "rings": "a19_ring", "dust": "a38_dust_lane"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogues", nargs="*", metavar="NAME=labels.csv")
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    for word in options.catalogues:
        name, path = word.split("=", 1)
        graded = write_catalogue(name, Path(path))
        if options.images:
            draw_sheet(name, graded, options.images)
    rows: list[tuple[str, ...]] = [("target", "round", "yes", "maybe", "no", "purity")]
    for path in sorted(CATALOGUES.glob("*.vot")):
        table = Table.read(path, format="votable").to_pandas()
        for number, of in [*table.groupby("round"), ("all", table)]:
            counts = [int((of["grade"] == grade).sum()) for grade in ("yes", "maybe", "no")]
            rows.append((path.stem, str(number), *map(str, counts), interval(*wilson(counts[0], len(of)))))
    print(text_table("Candidates graded by eye", rows))
    if data := os.environ.get("RAYDISTILL_DATA"):
        print(text_table("Median vote fraction of the candidates of Hart et al. by grade", votes(Path(data))))
        print(text_table("Share of Kaggle's candidates that volunteers call odd", odd(Path(data))))


def votes(data: Path) -> list[tuple[str, ...]]:
    """Return the median vote fraction by grade, and what was found."""
    folder = data / "gz2_hart16"
    survey = pd.read_csv(folder / "gz2_hart16.csv").merge(pd.read_csv(folder / "gz2_filename_mapping.csv"), on="objid")
    survey["object_id"] = "hart-" + survey["asset_id"].astype(str)
    rows = [("target", *GRADES.values(), "fraction above .5: found", "in the survey")]
    for name, feature in FEATURES.items():
        odd, of_odd = (
            survey["t06_odd_a14_yes_weighted_fraction"],
            survey[f"t08_odd_feature_{feature}_weighted_fraction"],
        )
        survey["fraction"] = odd * of_odd
        table = Table.read(CATALOGUES / f"{name}.vot", format="votable").to_pandas()
        shown = table.merge(survey[["object_id", "fraction"]], on="object_id")
        grades = {grade: shown[shown["grade"] == grade]["fraction"] for grade in GRADES.values()}
        cells = [f"{of.median():.2f} (n = {len(of)})" if len(of) else "" for of in grades.values()]
        rows.append((name, *cells, str((shown["fraction"] > 0.5).sum()), str((survey["fraction"] > 0.5).sum())))
    return rows


def odd(data: Path) -> list[tuple[str, ...]]:
    """Return the share of odd galaxies by grade, beside that of all labelled ones."""
    survey = pd.read_csv(data / "gz2_kaggle" / "labels_5_classes.csv")
    survey["object_id"] = "kaggle-" + survey["GalaxyID"].astype(str)
    rows = [("target", *GRADES.values(), "all")]
    for name in FEATURES:
        table = Table.read(CATALOGUES / f"{name}.vot", format="votable").to_pandas().merge(survey, on="object_id")
        grades = [table[table["grade"] == grade]["odd_biased"] for grade in GRADES.values()]
        rows.append((name, *(f"{of.sum()} of {len(of)}" for of in grades), f"{survey['odd_biased'].mean():.3f}"))
    return rows


def write_catalogue(name: str, labels: Path) -> pd.DataFrame:
    """Write a VOTable of the graded candidates, the last round first; return it."""
    table = pd.read_csv(labels)
    table = table[table["round"] > 0].assign(grade=lambda of: of["label"].map(GRADES))
    table["object_id"] = table["filename"].str.rpartition(".")[0]
    table = table.sort_values(["round", "score"], ascending=False)[["object_id", "score", "grade", "round"]]
    CATALOGUES.mkdir(exist_ok=True)
    written = Table.from_pandas(table)
    for column, text in COLUMNS.items():
        written[column].description = text
    written.write(CATALOGUES / f"{name}.vot", format="votable", overwrite=True)
    return table


def draw_sheet(name: str, table: pd.DataFrame, images: Path) -> None:
    """Draw the galaxies graded yes."""
    files = {path.stem: path for path in images.iterdir()}
    yes = table[table["grade"] == "yes"]["object_id"]
    opened = [Image.open(files[one]).convert("RGB") for one in yes]
    pictures = [np.asarray(one.crop(one.getbbox()).resize((SIDE, SIDE))) for one in opened]  # without black frames
    heading = f"{name}: the {len(yes)} graded yes among {len(table)} candidates"
    image_grid(
        np.stack(pictures),
        np.zeros(len(pictures), int),
        ["yes"],
        PICTURES / f"catalogue-{name}.png",
        columns=8,
        heading=heading,
    )


if __name__ == "__main__":
    main()
