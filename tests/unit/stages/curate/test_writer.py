"""Test the summary and the list of rejected pictures, written without a cluster."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from raydistill.config import CatalogSurvey, Config, Curate
from raydistill.datasets.folder import ImageFolder
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.sources import FolderImages
from raydistill.stages.curate.artifact import NEAR_DUPLICATES
from raydistill.stages.curate.decoding import decode_row, to_table
from raydistill.stages.curate.select.selection import select_galaxies
from raydistill.stages.curate.summary import Summary, format_levels
from raydistill.stages.curate.writer import CuratedWriter
from raydistill.storage import Folder
from raydistill.surveys.levels import chosen_levels, resolve_levels
from raydistill.surveys.survey import Preparation

COUNT = 20


def survey(root: Path, bits: int) -> CatalogSurvey:
    """Write grey pictures that use `bits` bits; the first has full contrast.

    Pictures of 8 bits are stored in 8 bits, others in 16 bits.
    """
    (root / "images").mkdir()
    for number in range(COUNT):
        y, x = np.mgrid[:32, :32]
        light = np.exp(-((x - 15.5) ** 2 + (y - 15.5) ** 2) / 40 / (1 + number / 10))
        values = np.rint(light / light.max() * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
        Image.fromarray(values).save(root / "images" / f"{number}.png")
    (root / "labels.csv").write_text("id,class\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(COUNT)))
    images = FolderImages(str(root / "images"), pattern="{id}.png")
    return CatalogSurvey(catalog=str(root / "labels.csv"), images=images)


def write(
    root: Path, survey_: CatalogSurvey | ImageFolder, **curate: Any
) -> tuple[Summary, dict[str, Any], list[dict[str, Any]]]:
    """Return the summary, the content of its file, and the rows of rejected.parquet."""
    recipe = Curate(**{"classes": ("a", "b"), "image_size": 16, "crop_fraction": 1.0} | curate)
    config = Config(name="x", survey=survey_, curate=recipe)
    selection = select_galaxies(config.curate, survey_)
    configured = survey_ if isinstance(survey_, ImageFolder) else survey_.images
    images = resolve_levels(configured, selection.galaxies)
    folder = Folder(root / "curated")
    writer = CuratedWriter(folder, selection, Preparation.of(config.curate, images), None)
    ranks, paths = (selection.galaxies[name].to_pylist() for name in ("rank", "path"))
    rows = [
        decode_row(rank, f"{configured.root}/{path}", path, images, config.curate)
        for rank, path in zip(ranks, paths, strict=True)
    ]
    writer.add(to_table(rows))
    writer.close()
    summary = writer.write_summary(config, chosen_levels(configured, images))
    rejected = pq.read_table(io.BytesIO(folder.read("rejected.parquet"))).to_pylist()
    return summary, json.loads(folder.read("summary.json")), rejected


def test_summary_keeps_the_range_that_was_chosen(tmp_path):
    summary, stored, _ = write(tmp_path, survey(tmp_path, 12))
    assert summary.levels == stored["levels"] == {"value_range": [0, 4095]}
    assert format_levels(summary.levels) == "value_range=[0, 4095]"


def test_summary_of_usual_pictures_has_no_levels(tmp_path):
    for bits in (8, 16):
        (tmp_path / str(bits)).mkdir()
        summary, stored, _ = write(tmp_path / str(bits), survey(tmp_path / str(bits), bits))
        assert summary.levels == stored["levels"] == {}


def test_summary_keeps_the_stretch_that_was_chosen():
    configured = FitsImages("bands", stretch="auto")
    resolved = FitsImages("bands", stretch=0.125, minimum=(0.5, 1.0, 20.0))
    levels = chosen_levels(configured, resolved)
    assert levels == {"stretch": 0.125, "minimum": [0.5, 1.0, 20.0]}
    assert format_levels(levels) == "stretch=0.125, minimum=[0.5, 1, 20]"
    assert not chosen_levels(resolved, resolved)


def test_list_of_rejected_pictures_names_the_path_that_was_tried(tmp_path):
    catalog = survey(tmp_path, 8)
    (tmp_path / "images" / "3.png").rename(tmp_path / "images" / "3.gif")
    (tmp_path / "images" / "4.png").write_bytes(b"no picture")
    _, _, rejected = write(tmp_path, catalog)
    assert [(row["object_id"], row["source"], row["reason"]) for row in rejected] == [
        ("3", "3.png", "missing"),
        ("4", "4.png", "corrupt"),
    ]


def test_altered_copies_of_training_pictures_are_listed_and_kept(tmp_path, caplog):
    pixels = np.random.default_rng(0).integers(0, 200, (60, 32, 32, 3)).astype(float)
    pixels[[41, 45]] = 1.1 * pixels[[1, 5]]
    for number, picture in enumerate(pixels):
        path = tmp_path / "set" / ("train" if number < 40 else "test") / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(picture).astype(np.uint8)).save(path)
    survey = ImageFolder(root=str(tmp_path / "set"))
    summary, stored, rejected = write(tmp_path, survey, image_size=32, min_picture_size=8)
    rows = pq.read_table(tmp_path / "curated" / NEAR_DUPLICATES).to_pylist()
    assert [(row["object_id"], row["other_id"]) for row in rows] == [
        ("test/b/41.png", "train/b/1.png"),
        ("test/b/45.png", "train/b/5.png"),
    ]
    assert stored["near_duplicates"] == summary.near_duplicates
    assert sum(summary.near_duplicates.values()) == 2
    assert summary.duplicates == {}
    assert rejected == []
    assert sum(entry.test for entry in summary.classes) == 20
    assert "look at the pairs, and remove copies from the survey" in caplog.text
