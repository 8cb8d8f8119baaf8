"""Pictures to write into files: CIFAR-10 if available, else coloured noise."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def pictures() -> np.ndarray:
    """Return uint8 `[70, 32, 32, 3]`."""
    sample = Path(os.environ.get("RAYDISTILL_DATA", "")) / "cifar10_lossless_sample.parquet"
    if "RAYDISTILL_DATA" in os.environ and sample.is_file():
        stored = pq.read_table(sample, columns=["png"])["png"].slice(0, 70)
        return np.stack([np.asarray(Image.open(io.BytesIO(png.as_py())).convert("RGB")) for png in stored])
    return np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
