"""Define `SimilarSheet`: the galaxies of a survey that are most like some of them.

- `neighbours.parquet`: their ids and similarities, the nearest first.
- `sheet.html`, `sheet.png`: their pictures below those that were given.
- `similar.json`: the search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.records import Record
from raydistill.artifacts.tables import read_table
from raydistill.config import Config
from raydistill.errors import ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.stages.predict.artifact import predictions_of
from raydistill.text import text_table

if TYPE_CHECKING:
    import pandas as pd

KIND = kinds.SIMILAR
NEIGHBOURS, SHEET, PICTURE, SUMMARY = "neighbours.parquet", "sheet.html", "sheet.png", "similar.json"
SHOWN = 10  # rows of the printed table

NEIGHBOURS_SCHEMA = pa.schema(
    [
        ("rank", pa.int64()),  # from 1
        ("object_id", pa.string()),
        ("similarity", pa.float32()),  # cosine to the query, at most 1
        ("path", pa.string()),  # of its picture, if that is a file of its own
    ]
)


@dataclass(frozen=True)
class SimilarSummary(Record):
    """The contents of `similar.json`.

    Attributes
    ----------
    survey
        Name of the survey.
    more, less
        Ids of the galaxies that the result is to be like, and unlike.
    described_by
        "experts", or the folder of the encoder.
    num_objects
        Number of galaxies that were searched.
    num_features
        Number of features.
    num_neighbours
        Number of galaxies on the sheet, without those given.
    """

    survey: str
    more: tuple[str, ...]
    less: tuple[str, ...]
    described_by: str
    num_objects: int
    num_features: int
    num_neighbours: int


@dataclass(frozen=True, repr=False)
class SimilarSheet(Displayed):
    """The galaxies most like some of a survey; methods read files when called.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        The search.

    Examples
    --------
    >>> import raydistill as rd
    >>> sheet = rd.similar(rd.load_config("demo", "similar.more=sim-000003"))  # doctest: +SKIP
    >>> sheet.table().object_id  # doctest: +SKIP
    """

    summary: SimilarSummary

    kind = KIND
    _json = ((SUMMARY, SimilarSummary),)
    _pictures = PICTURE

    def _contents(self) -> str:
        of = self.summary
        like = ", ".join(of.more) + (f", unlike {', '.join(of.less)}" if of.less else "")
        return f"{of.num_neighbours} of {of.num_objects} galaxies of {of.survey} that are like {like}"

    def table(self) -> pd.DataFrame:
        """Return a row per galaxy, in the columns of `NEIGHBOURS_SCHEMA`."""
        return read_table(self.folder, NEIGHBOURS).to_pandas()


def similar_spec(plan: Plan) -> ArtifactSpec:
    """Return the sheet of the galaxies of the config.

    ConfigError if it names none.
    """
    similar = plan.config.similar
    if not similar.ids("more"):
        raise ConfigError("it names no galaxy", "similar.more", "give the id of a galaxy: raydistill similar CONFIG ID")
    if not plan.config.predict.features:
        raise ConfigError("without features there is nothing to compare", "predict.features", "leave it out")
    parents = {
        kinds.CURATED: plan.curated,
        kinds.PREDICTIONS: predictions_of(plan, plan.config.searched(similar.survey)),
    }
    return plan.spec(KIND, {"similar": replace(similar, survey=None)}, parents, 0)


def similar_text(config: Config, sheet: SimilarSheet) -> str:
    """Return the first rows as text."""
    of, table = sheet.summary, read_table(sheet.folder, NEIGHBOURS).slice(0, SHOWN).to_pylist()
    rows = [(str(row["rank"]), row["object_id"], f"{row['similarity']:.3f}") for row in table]
    title = f"Nearest of {of.num_objects} galaxies of {of.survey}, by {of.num_features} features"
    return text_table(title, [("rank", "id", "similarity"), *rows])
