"""Define `PredictionSet`: the experts' class probabilities of a survey's pictures.

- `data/block-000000.parquet` …: one row per object, in the order of the survey, one row group per
  file. pandas and pyarrow read the folder `data`.
- `summary.json`: class names, counts per predicted class, rejected pictures by reason, and how the
  pictures were prepared.

A block that is finished has a record below `partial/` with its digest and counts. A stage that was
killed skips these blocks when it runs again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.records import Record
from raydistill.artifacts.tables import read_table
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, survey_parts
from raydistill.stages.curate.summary import Levels
from raydistill.storage import Folder, checked
from raydistill.surveys.opening import open_survey
from raydistill.surveys.survey import SurveyPictures

if TYPE_CHECKING:
    import pandas as pd


KIND = kinds.PREDICTIONS
DATA, SUMMARY = "data", "summary.json"

# One row per object. Lists have no fixed size because pyarrow 25 cannot read nulls in a fixed-size
# list: `probability` and `spread` have K values or are null, `features` has F values or is null.
SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("predicted_class", pa.string()),  # the class of the highest mean probability, or null
        ("probability", pa.list_(pa.float32())),  # mean over the experts, by label
        ("spread", pa.list_(pa.float32())),  # standard deviation over the experts, by label
        ("features", pa.list_(pa.float16())),  # input of the last linear layer of the first expert
        ("reason", pa.string()),  # why the picture could not be used, or null
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class PredictionSummary(Record):
    """The contents of `summary.json`.

    Attributes
    ----------
    survey
        Name of the survey: the last part of its path.
    class_names
        Names of the classes; the index is the label.
    num_pictures
        Number of objects, with those whose picture was rejected.
    predicted
        Number of pictures by predicted class.
    rejected
        Number of pictures that could not be used, by reason.
    num_experts
        Number of experts that predicted.
    num_features
        Length of `features`; 0 if they were not requested.
    image_size
        Side of the prepared pictures in pixels.
    crop_fraction
        Side of the central square that was cut out, as a fraction of the picture's shorter side.
    aligned
        Whether every galaxy was turned until its major axis is horizontal.
    levels
        The numbers in place of `value_range: auto`, or of `stretch: auto` and its `minimum`; empty
        if nothing was chosen.
    """

    survey: str
    class_names: tuple[str, ...]
    num_pictures: int
    predicted: dict[str, int]
    rejected: dict[str, int]
    num_experts: int
    num_features: int
    image_size: int
    crop_fraction: float
    aligned: bool
    levels: Levels = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class PredictionSet(Displayed):
    """An opened set of predictions. Methods read the files when they are called.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        Class names, counts, and how the pictures were prepared.

    Examples
    --------
    >>> import raydistill as rd
    >>> predictions = rd.open("runs/demo/predictions-0123456789ab")  # doctest: +SKIP
    >>> predictions.to_pandas(["object_id", "predicted_class"])  # doctest: +SKIP
    """

    summary: PredictionSummary

    kind = KIND
    _json = ((SUMMARY, PredictionSummary),)

    def _contents(self) -> str:
        of = self.summary
        return (
            f"{of.num_pictures} pictures of {of.survey} in {len(of.class_names)} classes, by {of.num_experts} experts"
        )

    def _rows(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({"pictures": self.summary.predicted | self.summary.rejected})

    @property
    def class_names(self) -> list[str]:
        """Return the class names; the index is the label."""
        return list(self.summary.class_names)

    def blocks(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield the blocks in the order of the survey, one in memory at a time.

        Parameters
        ----------
        columns
            Names from `SCHEMA`; None means all.
        """
        for name in sorted(self.manifest.files):
            if name.startswith(f"{DATA}/"):
                yield read_table(self.folder, name, columns)

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Return all rows, in the order of the survey; `columns` as in `blocks`."""
        return pa.concat_tables(self.blocks(columns))

    def to_pandas(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Return one row per object, in the order of the survey.

        Parameters
        ----------
        columns
            Names from `SCHEMA`; None means all. `features` may need gigabytes.
        """
        return self.table(columns).to_pandas()

    def probabilities(self) -> tuple[list[str], np.ndarray]:
        """Return the ids and mean probabilities of the objects whose picture was used.

        Returns
        -------
        tuple
            N object ids, and float32 [N, K].
        """
        return self._usable("probability", len(self.class_names), np.float32)

    def features(self) -> tuple[list[str], np.ndarray]:
        """Return the ids and features of the objects whose picture was used.

        Returns
        -------
        tuple
            N object ids, and float16 [N, F]; F is 0 if no features were requested.
        """
        return self._usable("features", self.summary.num_features, np.float16)

    def _usable(self, column: str, width: int, dtype: type[np.generic]) -> tuple[list[str], np.ndarray]:
        ids: list[str] = []
        parts = [np.empty((0, width), dtype)]
        for block in self.blocks(list(dict.fromkeys(["object_id", "reason", column]))):
            usable = block.filter(pc.is_null(block["reason"]))
            ids += usable["object_id"].to_pylist()
            if width:
                parts.append(
                    usable[column].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
                )
        return ids, np.concatenate(parts) if width else np.empty((len(ids), 0), dtype)


@dataclass(frozen=True)
class BlockRecord:
    """The record of a finished block.

    Attributes
    ----------
    num_rows
        Number of objects.
    predicted
        Number of pictures by predicted class.
    rejected
        Number of pictures that could not be used, by reason.
    first_rejected
        Object id and detail of the first one, or None.
    num_features
        Length of the features.
    levels
        Counts of dark, flat and saturated pictures, for a warning at the end.
    """

    num_rows: int
    predicted: dict[str, int]
    rejected: dict[str, int]
    first_rejected: tuple[str, str] | None
    num_features: int
    levels: dict[str, float] = field(default_factory=dict)


def block_name(index: int) -> str:
    """Return the file name of a block."""
    return f"{DATA}/block-{index:06d}.parquet"


def write_block(folder: Folder, index: int, rows: pa.Table, levels: dict[str, float] | None = None) -> BlockRecord:
    """Write a block's rows of schema `SCHEMA`, then its record with these `levels`."""
    with folder.writing(block_name(index)) as path:
        pq.write_table(rows.combine_chunks(), path, compression="zstd", row_group_size=max(1, len(rows)))
    rejected = rows.filter(pc.is_valid(rows["reason"])).select(["object_id", "detail"]).slice(0, 1).to_pylist()
    lengths = pc.list_value_length(rows["features"])
    record = BlockRecord(
        len(rows), _counts(rows["predicted_class"]), _counts(rows["reason"]),
        (rejected[0]["object_id"], rejected[0]["detail"] or "") if rejected else None,
        pc.max(lengths).as_py() or 0, levels or {},
    )  # fmt: skip
    checked.record(folder, _record_name(index), {block_name(index): folder.sha256(block_name(index))}, asdict(record))
    return record


def read_record(folder: Folder, index: int, num_rows: int) -> BlockRecord | None:
    """Return the record of a finished, intact block of `num_rows` rows, else None."""
    values = checked.recorded(folder, _record_name(index))
    if values is None or values["num_rows"] != num_rows:
        return None
    first = values["first_rejected"]
    return BlockRecord(**values | {"first_rejected": tuple(first) if first else None})


def _record_name(index: int) -> str:
    return f"{PARTIAL}/block-{index:06d}.json"


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column.drop_null()).to_pylist()}


# The artifact of the predictions for a survey.


def predictions_spec(plan: Plan) -> ArtifactSpec:
    """Return the experts' predictions for `predict.survey`.

    The survey of the config itself need not exist yet.
    """
    if plan.config.predict.survey is not None:
        return spec_of_pictures(plan, open_survey(plan, plan.config.predict.survey))
    parents = {} if plan.survey is None else {kinds.SURVEY: plan.survey}
    return _spec(plan, survey_parts(plan.config.survey)[0], parents)


def predictions_of(plan: Plan, survey: str | None) -> ArtifactSpec:
    """Return the experts' predictions for another survey than `predict.survey`."""
    predict = replace(plan.config.predict, survey=survey)
    return predictions_spec(Plan(replace(plan.config, predict=predict)))


def spec_of_pictures(plan: Plan, pictures: SurveyPictures) -> ArtifactSpec:
    """Return the experts' predictions for these pictures."""
    return _spec(plan, pictures.identity, pictures.parents)


def _spec(plan: Plan, identity: Mapping[str, Any], parents: Mapping[str, ArtifactSpec]) -> ArtifactSpec:
    own_parents = {kinds.CURATED: plan.curated, kinds.TRAJECTORIES: plan.trajectories}
    # The path of the survey does not matter, but its identity does.
    parts = {"predict": replace(plan.config.predict, survey=None), "pictures": dict(identity)}
    return plan.spec(kinds.PREDICTIONS, parts, {**own_parents, **parents}, 0)
