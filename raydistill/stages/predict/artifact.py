"""Define `PredictionSet`: the experts' class probabilities of a survey's pictures.

- `data/block-000000.parquet` …: one row per object, in the order of the survey, one row group per
  file. pandas and pyarrow read the folder `data`.
- `summary.json`: class names, counts per predicted class, rejected pictures by reason, how the
  pictures were prepared and the probabilities calibrated.
- `reliability.parquet`, `calibration.png`: probabilities beside frequencies of the curated set's test
  galaxies, before and after calibration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.records import Record
from raydistill.artifacts.tables import read_table
from raydistill.config import Config
from raydistill.errors import ArtifactMissing, ConfigError
from raydistill.galaxies.classes import UNLABELLED
from raydistill.learning.calibration import Calibration, frequencies
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, survey_parts
from raydistill.stages.curate.summary import Levels
from raydistill.stages.predict.blocks import DATA
from raydistill.stages.pretrain.config import EXPERTS
from raydistill.surveys.opening import open_survey
from raydistill.surveys.survey import SurveyPictures

if TYPE_CHECKING:
    import pandas as pd

    from raydistill.stages.predict.quantities import Quantity


KIND = kinds.PREDICTIONS
SUMMARY, RELIABILITY, FIGURE = "summary.json", "reliability.parquet", "calibration.png"

RELIABILITY_SCHEMA = pa.schema(
    [
        ("class_name", pa.string()),
        ("calibrated", pa.bool_()),
        ("count", pa.int64()),  # test galaxies in the bin
        ("probability", pa.float64()),  # their mean probability of the class
        ("frequency", pa.float64()),  # the fraction of them that is of the class
    ]
)


@dataclass(frozen=True)
class CalibrationSummary:
    """The calibration of a set of predictions.

    Attributes
    ----------
    used
        Prior of the experts' training, prior of the survey and temperature, in the order of the
        classes.
    prior_from
        `predict.prior`: "training", "validation", "uniform", "estimated" or "table".
    num_validation
        Number of validation galaxies that fitted the temperature.
    estimated_prior
        Class frequencies that EM estimates from the survey's pictures.
    num_test
        Number of test galaxies behind `test`.
    test
        Figures of the test galaxies, with the validation galaxies' class frequencies as prior:
        {figure: {"before": [value, low, high], "after": …}}. The figures are accuracy, balanced
        accuracy, Brier score, cross entropy, calibration error of the predicted class and of all
        classes. Intervals are those of 95 % over galaxies. Empty without test galaxies.
    """

    used: Calibration
    prior_from: str
    num_validation: int
    estimated_prior: tuple[float, ...]
    num_test: int
    test: dict[str, dict[str, tuple[float, float, float]]]


@dataclass(frozen=True)
class PredictionSummary(Record):
    """The contents of `summary.json`.

    Attributes
    ----------
    survey
        Name of the survey: the last part of its path.
    class_names
        Names of the classes; the index is the label. None without experts.
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
    calibration
        How the probabilities were calibrated; None without experts.
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
    calibration: CalibrationSummary | None
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

    _pictures = FIGURE
    kind = KIND
    _json = ((SUMMARY, PredictionSummary),)

    def _contents(self) -> str:
        of = self.summary
        how = f"in {len(of.class_names)} classes, by {of.num_experts} experts"
        return f"{of.num_pictures} pictures of {of.survey} {how if of.num_experts else 'without classes'}"

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
            Names from `blocks.SCHEMA`; None means all.
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
            Names from `blocks.SCHEMA`; None means all. `features` may need gigabytes.
        """
        return self.table(columns).to_pandas()

    def probabilities(self, prior: Mapping[str, float] | None = None) -> tuple[list[str], np.ndarray]:
        """Return ids and calibrated probabilities of the objects whose picture was used.

        Parameters
        ----------
        prior
            Frequency of each class, in place of that with which the set was written.

        Returns
        -------
        tuple
            N object ids, and float32 [N, K].
        """
        if prior is None:
            return self._usable("probability", len(self.class_names), np.float32)
        if set(prior) != set(self.class_names) or not 0 < sum(prior.values()) < float("inf") or min(prior.values()) < 0:
            raise ValueError(f"prior must give a frequency of at least 0 for each class of {self.class_names}")
        assert self.summary.calibration is not None  # there are classes
        ids, logits_NK = self.logits()
        prior_K = frequencies([prior[name] for name in self.class_names])
        calibration = self.summary.calibration.used.with_prior(prior_K)
        return ids, calibration.apply(logits_NK).astype(np.float32)

    def logits(self) -> tuple[list[str], np.ndarray]:
        """Return the ids, and the logarithms of the experts' mean probabilities.

        They are float32 [N, K] and not calibrated; `raydistill.learning.calibration` has the formula.
        """
        return self._usable("logits", len(self.class_names), np.float32)

    @property
    def reliability(self) -> pd.DataFrame:
        """Return rows of `RELIABILITY_SCHEMA`: probabilities beside frequencies."""
        if not self.class_names:
            return RELIABILITY_SCHEMA.empty_table().to_pandas()
        return read_table(self.folder, RELIABILITY).to_pandas()

    def feature_blocks(self) -> Iterator[tuple[np.ndarray, pa.Array, np.ndarray]]:
        """Yield rows int64 [n], ids, and features float16 [n, F] of usable objects."""
        first, width = 0, self.summary.num_features
        for block in self.blocks(["object_id", "reason", "features"]):
            usable = pc.is_null(block["reason"])
            kept, rows = block.filter(usable).combine_chunks(), first + np.flatnonzero(usable.to_numpy())
            values = kept["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            yield rows, kept["object_id"].combine_chunks(), values.reshape(len(rows), width)
            first += len(block)

    def features(self) -> tuple[list[str], np.ndarray]:
        """Return the ids and features of the objects whose picture was used.

        Returns
        -------
        tuple
            N object ids, and float16 [N, F]; F is 0 if no features were requested.
        """
        return self._usable("features", self.summary.num_features, np.float16)

    def quantities(
        self, table: str, columns: Sequence[str], id_column: str | None = None, seed: int = 0
    ) -> list[Quantity]:
        """Return quantities of a table, predicted for all galaxies with 95 % intervals.

        Parameters
        ----------
        table, columns, id_column, seed
            As of `stages.predict.quantities.predict_quantities`.
        """
        from raydistill.stages.predict.quantities import predict_quantities

        return predict_quantities(self, table, columns, id_column, seed)

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


# The artifact of the predictions for a survey.


def classifies(config: Config) -> bool:
    """Return whether experts predict classes; else pictures get features alone."""
    return config.predict.experts != 0 and config.curate.classes != UNLABELLED


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


def open_predictions(plan: Plan, pictures: SurveyPictures, survey: str | None, *, verify: bool = True) -> PredictionSet:
    """Return the predictions for these pictures, which `survey` names.

    ArtifactMissing if they do not exist.
    """
    spec = spec_of_pictures(plan, pictures)
    try:
        return PredictionSet.open(spec.folder, verify=verify)
    except ArtifactMissing as error:
        predict = " ".join(["raydistill predict CONFIG", *([survey] if survey else [])])
        raise ArtifactMissing("the survey has no predictions yet", spec.folder.uri, f"run '{predict}' first") from error


def _spec(plan: Plan, identity: Mapping[str, Any], parents: Mapping[str, ArtifactSpec]) -> ArtifactSpec:
    own_parents, experts = {kinds.CURATED: plan.curated}, classifies(plan.config)
    if experts:
        own_parents[kinds.TRAJECTORIES] = plan.trajectories
    elif plan.config.features == EXPERTS:
        what = "without classes there are no experts, whose features these would be"
        raise ConfigError(what, "features", "set it to pretrain, or to the folder of an encoder")
    if plan.config.predict.features or not experts:
        own_parents |= {plan.describer.kind: plan.describer}
    # The path of the survey does not matter, but its identity does.
    parts = {"predict": replace(plan.config.predict, survey=None), "pictures": dict(identity)}
    return plan.spec(kinds.PREDICTIONS, parts, {**own_parents, **parents}, 0)
