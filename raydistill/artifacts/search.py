"""SearchReport: what recipes were tried, how far each came on validation images, and the best as a config.

`trials.parquet` has a row per trial, the best first: its values (JSON, by key of `distill`), the best and the last balanced accuracy on
validation images, the iteration of the best, the iterations done, how it ended and its folder. `best.yaml` is the best as a whole config.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raydistill.artifacts.manifest import Manifest, open_folder
from raydistill.artifacts.tables import read_table
from raydistill.storage import Folder

KIND = "search"
BEST, TRIALS = "best.yaml", "trials.parquet"
TRIALS_SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("values", pa.string()),
        ("best", pa.float64()),
        ("best_iteration", pa.int64()),
        ("last", pa.float64()),
        ("iterations", pa.int64()),
        ("status", pa.string()),  # finished, stopped early, diverged or failed
        ("said", pa.string()),  # the sentence of one that diverged or failed
        ("folder", pa.string()),  # of its distilled set; of a population, the best has one
        ("schedule", pa.string()),  # of a population: JSON, from which iteration on it had which values; else null
    ]
)


def format_values(values: Mapping[str, Any]) -> str:
    """A trial's values in a line."""
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )


@dataclass(frozen=True)
class SearchReport:
    """An opened report."""

    folder: Folder
    manifest: Manifest
    trials: pa.Table

    @staticmethod
    def open(uri: str | Folder, *, verify: bool = True) -> SearchReport:
        """The report at a path or URI; `verify` and errors as of `manifest.opened`."""
        folder, manifest = open_folder(uri, KIND, verify=verify)
        return SearchReport(folder, manifest, read_table(folder, TRIALS))
