"""Make a survey of simple pictures, curate it, and read the curated set."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image
from ray_tools import SILENT

from raydistill.config import CatalogSurvey, Config, Curate, Resources, Tracking
from raydistill.galaxies.selection import SPLITS
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate import stage
from raydistill.stages.curate.artifact import CuratedSet

SIZE = 16


def survey_config(output: Path, survey: CatalogSurvey, **curate: Any) -> Config:
    recipe = Curate(**{"classes": "gz2-5", "image_size": SIZE, "split": (0.6, 0.2, 0.2)} | curate)
    return Config(
        name="survey", output=str(output), survey=survey, curate=recipe, resources=Resources(), tracking=Tracking(enabled=False)
    )  # fmt: skip


def curated(output: Path, survey: CatalogSurvey, **curate: Any) -> CuratedSet:
    return stage.curate(Plan(survey_config(output, survey, **curate)), SILENT)


def rejected(curated_set: CuratedSet) -> dict[str, str]:
    """Return object id -> reason of the rejected pictures."""
    rows = pq.read_table(io.BytesIO(curated_set.folder.read("rejected.parquet"))).to_pydict()
    return dict(zip(rows["object_id"], rows["reason"], strict=True))


def rows_of(curated_set: CuratedSet) -> list[dict[str, Any]]:
    return [row for split in SPLITS for row in curated_set.table(split).to_pylist()]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def blob(number: int, size: int = 48) -> np.ndarray:
    """Return a picture, uint8 [size, size, 3]: a Gaussian on noise.

    The number seeds position and colour.
    """
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size]
    cx, cy = size / 2 + rng.uniform(-3, 3, 2)
    light = np.exp(-((x - cx) ** 2 / 40 + (y - cy) ** 2 / rng.uniform(10, 40)))
    return np.clip(rng.normal(12, 3, (size, size, 3)) + 200 * light[..., None] * rng.uniform(0.5, 1, 3), 0, 255).astype(
        np.uint8
    )


def picture(number: int, kind: str = "JPEG", size: int = 48) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(blob(number, size)).save(buffer, kind)
    return buffer.getvalue()


CLASSES = ("round", "in_between", "cigar", "edge_on", "spiral")


def labels(count: int) -> dict[str, str]:
    return {f"g{number:03d}": CLASSES[number % 5] for number in range(count)}
