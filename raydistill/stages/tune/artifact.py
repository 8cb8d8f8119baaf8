"""Define `SearchReport`: the trials of a recipe search and the best recipe.

- `trials.parquet`: a row per trial, the best first.
- `best.yaml`: the best recipe as a complete config.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.tables import read_table
from raydistill.config import Config
from raydistill.storage import Folder
from raydistill.text import text_table

if TYPE_CHECKING:
    import pandas as pd


KIND = kinds.SEARCH
BEST, TRIALS = "best.yaml", "trials.parquet"
TRIALS_SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("values", pa.string()),  # JSON, by key of `distill`
        ("best", pa.float64()),  # balanced accuracy on validation images
        ("best_iteration", pa.int64()),
        ("last", pa.float64()),  # balanced accuracy on validation images
        ("iterations", pa.int64()),
        ("status", pa.string()),  # finished, stopped early, diverged or failed
        ("said", pa.string()),  # error message of a trial that diverged or failed
        ("folder", pa.string()),  # of its distilled set; in a population only the best has one
        ("schedule", pa.string()),  # in a population: JSON, values by the iteration from which they apply; else null
    ]
)


def format_values(values: Mapping[str, Any]) -> str:
    """Return a trial's values as one line of text."""
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )


@dataclass(frozen=True, repr=False)
class SearchReport(Displayed):
    """An opened search.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    trials
        One row per trial, the best first, with the columns of `TRIALS_SCHEMA`.
    """

    trials: pa.Table

    _pictures = "parallel.png"

    kind = KIND

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        return cls(folder, manifest, read_table(folder, TRIALS))

    def _contents(self) -> str:
        return f"{len(self.trials)} trials"

    def _rows(self) -> pd.DataFrame:
        return self.trials.to_pandas()


SHOWN_TRIALS = 10


def search_report(config: Config, report: SearchReport) -> str:
    """Return the best recipes of a search."""
    head = ("trial", "validation", "at", "of", "", "values of distill")
    rows = [
        (t["trial"], f"{t['best']:.3f}", str(t["best_iteration"]), str(t["iterations"]), t["status"],
         format_values(json.loads(t["values"])).replace(" ", "\n"))
        for t in report.trials.slice(0, SHOWN_TRIALS).to_pylist()
    ]  # fmt: skip
    return text_table(f"the best of {len(report.trials)} recipes, by accuracy on validation images", [head, *rows])
