r"""Curate a survey with `curate.filter`; print defects found and pictures rejected.

    RAYDISTILL_DATA=FOLDER python benchmarks/picture_filter.py [CONFIG] [--output runs] \
        [--grid FOLDER] [key=value ...]

The first table has the share of injected defects that are found, and the share of the survey's own
training pictures that are rejected, each with its exact 95 % interval. No network was trained on
the pictures that it is measured on. The second table has the rejected pictures by class. A picture
per reason shows the rejected ones with the highest probability. CONFIG is gz2_kaggle5 unless given.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageDraw
from running import run_stage

from raydistill.config import CatalogSurvey, Config, load
from raydistill.galaxies.pictures.images import decode_picture, prepare
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.pipeline.plan import Plan
from raydistill.simulation.defects import REASONS
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.select.selection import select_galaxies

SHOWN, COLUMNS, SIDE = 48, 8, 96


def print_rates(report: dict[str, Any]) -> None:
    print(f"{'reason':26}{'limits':>16}  found [95 %]           n   rejected [95 %] of {report['pictures']}")
    for reason, entry in report["reasons"].items():
        limits = " ".join(f"{limit:.3f}" for limit in entry["limits"])
        found, wrong = entry["found"], entry["false_rejections"]
        print(
            f"{reason:26}{limits:>16}  {found['share']:.3f} [{found['low']:.3f}, {found['high']:.3f}] {found['total']:5d}"
            f"   {wrong['share']:.4f} [{wrong['low']:.4f}, {wrong['high']:.4f}]"
        )
        for kind, one in entry["found_by_kind"].items():
            if len(entry["found_by_kind"]) > 1:
                share = f"{one['share']:.3f} [{one['low']:.3f}, {one['high']:.3f}] {one['total']:5d}"
                print(f"  {kind:40}  {share}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="gz2_kaggle5")
    parser.add_argument("--output", default="runs")
    parser.add_argument("--grid", type=Path, help="folder for a picture per reason")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    reasons = f"curate.filter={{reasons: [{', '.join(REASONS)}]}}"  # all, also "blended"
    overrides = [f"output={args.output}", reasons, *args.overrides]
    curated = CuratedSet.open(str(run_stage("curate", [args.config, *overrides])), verify=False)
    print_rates(json.loads(curated.folder.read("filter.json")))

    config = load(args.config, overrides)
    survey = Plan(config).user_survey()
    galaxies = select_galaxies(config.curate, survey).galaxies
    labels = dict(zip(galaxies["object_id"].to_pylist(), galaxies["label"].to_pylist(), strict=True))
    rejected = pq.read_table(io.BytesIO(curated.folder.read("rejected.parquet"))).to_pylist()
    counts = Counter((row["reason"], labels.get(row["object_id"])) for row in rejected)
    names = curated.class_names
    totals = Counter(labels.values())
    print(f"\n{'rejected of':26}" + "".join(f"{f'{name} {totals[n]}':>18}" for n, name in enumerate(names)))
    for reason in sorted({row["reason"] for row in rejected}):
        print(f"{reason:26}" + "".join(f"{counts[reason, label]:18d}" for label in range(len(names))))
    if args.grid:
        assert isinstance(survey, CatalogSurvey)
        assert isinstance(survey.images, FolderImages)
        args.grid.mkdir(parents=True, exist_ok=True)
        for reason in sorted({row["reason"] for row in rejected}):
            own = [row for row in rejected if row["reason"] == reason and row["detail"].startswith("probability")]
            own.sort(key=lambda row: row["detail"], reverse=True)
            draw(own[:SHOWN], survey.images.root, config, args.grid / f"{reason}.png")


def draw(rows: list[dict[str, Any]], root: str, config: Config, path: Path) -> None:
    """Save the curated part of the rejected pictures, with id and probability."""
    cells = []
    for row in rows:
        original = decode_picture(Path(root, row["source"]).read_bytes())
        cell = Image.fromarray(np.pad(prepare(original, config.curate.crop_fraction, SIDE), [(0, 12), (0, 0), (0, 0)]))
        ImageDraw.Draw(cell).text((1, SIDE), f"{row['object_id'][-7:]} {row['detail'][12:17]}", (255, 255, 255))
        cells.append(np.asarray(cell))
    while len(cells) % COLUMNS:
        cells.append(np.zeros_like(cells[0]))
    lines = [np.concatenate(cells[first : first + COLUMNS], axis=1) for first in range(0, len(cells), COLUMNS)]
    Image.fromarray(np.concatenate(lines)).save(path)
    print(path)


if __name__ == "__main__":
    main()
