"""Predict quantities of a table from the stored features.

The table knows a quantity, such as a redshift or a size, for some galaxies. A random fifth of these
calibrates the intervals and another fifth tests them; `learning.regression` is fitted to the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy import stats

from raydistill.errors import ArtifactError, ArtifactIncompatible, CatalogError
from raydistill.figures.drawing import BLUE, CHART_DPI, FAINT, Target, save, styled, wrapped
from raydistill.galaxies.tables.expressions import evaluate_rows
from raydistill.learning.regression import Regression
from raydistill.pipeline.specs import file_digest
from raydistill.seeding import fold_in
from raydistill.statistics.intervals import Interval, known
from raydistill.storage import Folder

if TYPE_CHECKING:
    import pandas as pd

    from raydistill.stages.predict.artifact import PredictionSet

Floats = npt.NDArray[np.float64]

FIT, CALIBRATION, TEST, UNKNOWN = "fit", "calibration", "test", ""
MAX_SHOWN = 1000  # test galaxies in the picture


@dataclass(frozen=True)
class Quantity:
    """A predicted quantity.

    Attributes
    ----------
    name
        Column or expression of the table.
    rows
        A row for each galaxy with features: object_id, value, low, high (95 % interval), known (NaN
        if unknown), part ("fit", "calibration", "test", or "" if unknown).
    coverage
        Share of the test galaxies whose interval holds the known value, with its interval.
    explained
        Share of the variance of the test galaxies that is explained (R^2); NaN if all their values are
        the same.
    error
        Median absolute error of the test galaxies.
    width
        Median width of their intervals.
    """

    name: str
    rows: pd.DataFrame
    coverage: Interval
    explained: float
    error: float
    width: float


def predict_quantities(
    predictions: PredictionSet, table: str, columns: Sequence[str], id_column: str | None = None, seed: int = 0
) -> list[Quantity]:
    """Return quantities of all galaxies with features.

    Parameters
    ----------
    predictions
        Holds the features.
    table
        A table of any format with the known values.
    columns
        Its columns, or expressions of them such as "log10(petroR90_r)".
    id_column
        Its column of object ids. None: objid, or the first one.
    seed
        Divides the galaxies of known value.

    Raises
    ------
    ArtifactIncompatible
        The predictions hold no features.
    CatalogError, ConfigError
        The table cannot be read, or too few of its values are known.
    """
    ids, features_ND = predictions.features()
    if not features_ND.shape[1]:
        fix = "predict with predict.features=true"
        raise ArtifactIncompatible("it holds no features", predictions.folder.uri, fix)
    table_ids, values = evaluate_rows(table, columns, id_column, "--column", "--id")
    features = features_ND.astype(np.float64)
    return [
        _predict(name, ids, features, dict(zip(table_ids, column.tolist(), strict=True)), table, seed)
        for name, column in zip(columns, values, strict=True)
    ]


def _predict(
    name: str, ids: list[str], features_ND: Floats, known: dict[str, object], table: str, seed: int
) -> Quantity:
    import pandas as pd

    try:
        if any(isinstance(value, bool) for value in known.values()):
            raise ValueError("yes or no")
        known_N = pd.to_numeric(pd.Series([known.get(key, np.nan) for key in ids]).astype(object)).to_numpy(float)
    except (TypeError, ValueError) as error:
        raise CatalogError(f"'{name}' holds no numbers", table, "leave it out") from error
    known_N = np.where(np.isfinite(known_N), known_N, np.nan)  # log10(0) is unknown
    rows = np.flatnonzero(np.isfinite(known_N))
    order = np.random.default_rng(fold_in(seed, "quantity", name)).permutation(len(rows))
    parts_N = np.full(len(ids), UNKNOWN, dtype="<U11")
    parts_N[rows] = np.where(order % 5 == 0, CALIBRATION, np.where(order % 5 == 1, TEST, FIT))
    used = np.flatnonzero(np.isin(parts_N, (FIT, CALIBRATION)))
    try:
        model = Regression.fit(features_ND[used], known_N[used], parts_N[used] == CALIBRATION, fold_in(seed, "folds"))
    except ValueError as error:
        what = f"'{name}' is known of {len(rows)} of the {len(ids)} galaxies with features: {error}"
        raise CatalogError(what, table, "check the ids and the values of the table") from error
    value_N, low_N, high_N = model(features_ND)
    test = parts_N == TEST
    errors, truth = value_N[test] - known_N[test], known_N[test]
    held = int(((low_N[test] <= truth) & (truth <= high_N[test])).sum())
    ends = stats.binomtest(held, int(test.sum())).proportion_ci()
    explained = 1 - float((errors**2).mean() / truth.var()) if truth.var() else math.nan
    columns = {"object_id": ids, "value": value_N, "low": low_N, "high": high_N, "known": known_N, "part": parts_N}
    return Quantity(
        name, pd.DataFrame(columns),
        Interval(held / int(test.sum()), float(ends.low), float(ends.high)),
        explained, float(np.median(np.abs(errors))),
        float(np.median(high_N[test] - low_N[test])),
    )  # fmt: skip


def write_quantities(
    predictions: PredictionSet, table: str, columns: Sequence[str], id_column: str | None, seed: int, folder: Folder
) -> list[tuple[str, str]]:
    """Write a table of each quantity, figures and a picture; return a line for each.

    `quantity-0.parquet` … have the rows of `Quantity`, and `quantities.json` its figures.
    """
    if folder.files():
        raise ArtifactError("the folder for the quantities is not empty", folder.uri, "give a new folder")
    found = predict_quantities(predictions, table, columns, id_column, seed)
    for number, quantity in enumerate(found):
        with folder.writing(f"quantity-{number}.parquet") as path:
            quantity.rows.to_parquet(path, index=False)
    figures = [
        {
            "name": of.name,
            "coverage": of.coverage,
            "explained": known(of.explained),
            "error": of.error,
            "width": of.width,
        }
        for of in found
    ]
    source = {"predictions": predictions.manifest.content, "table_sha256": file_digest(table, "table", "TABLE")}
    folder.write("quantities.json", json.dumps({"quantities": figures, **source}, indent=2).encode())
    with folder.writing("quantities.png") as path:
        draw_quantities(path, found)
    return [
        (
            of.name,
            f"known of {of.rows['known'].notna().sum()} of {len(of.rows)} galaxies; "
            f"{100 * of.coverage.value:.1f} % of {(of.rows['part'] == TEST).sum()} test galaxies lie in their 95 % interval "
            f"[{100 * of.coverage.low:.1f}, {100 * of.coverage.high:.1f}]; R² {of.explained:.2f}, median error {of.error:.3g}",
        )
        for of in found
    ]


@styled
def draw_quantities(path: Target, quantities: Sequence[Quantity]) -> None:
    """Draw the predicted values of test galaxies over the known ones, with intervals.

    Parameters
    ----------
    quantities
        Of one set of predictions.
    """
    figure = Figure(figsize=(3.6 * len(quantities), 3.8), dpi=CHART_DPI, layout="constrained")
    for number, quantity in enumerate(quantities):
        axes = figure.add_subplot(1, len(quantities), number + 1)
        rows = quantity.rows[quantity.rows["part"] == TEST].iloc[:MAX_SHOWN]
        half = (rows["high"] - rows["low"]) / 2
        axes.errorbar(
            rows["known"], rows["value"], yerr=half, fmt=".", markersize=2.5, elinewidth=0.3, color=BLUE, alpha=0.6
        )
        axes.axline((float(rows["known"].median()), float(rows["known"].median())), slope=1, color=FAINT, linewidth=1)
        held, explained = quantity.coverage.value, quantity.explained
        axes.set_title(
            f"{wrapped(quantity.name, 30)}\n{100 * held:.0f} % in their interval, R² {explained:.2f}", fontsize=8
        )
        axes.set_xlabel("known")
        axes.set_ylabel("predicted, with 95 % interval" if number == 0 else "predicted")
    save(figure, path)
