"""Define `AugmentationReport`: a comparison of classifiers by training set.

They are trained on real, synthetic and distilled galaxies.

- `runs.parquet`: a row per classifier and recorded step, with its counts on test galaxies, and the
  predicted class of each at the last step.
- `galaxies.parquet`: id and class of the test galaxies, in the order of `predicted` of the runs.
- `trials.parquet`: a row per candidate of a learning rate, a ratio or a filter, on validation
  galaxies.
- `report.json`: means with 95 % intervals, and paired differences to every baseline.
- `few_shot.png`, `steps-10.png` …: curves over the labelled galaxies, and over the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from raydistill import config as configs
from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.records import checked, read_json
from raydistill.artifacts.tables import read_table
from raydistill.config import Config
from raydistill.errors import ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, existing_spec
from raydistill.stages.augment.config import DISTILLED, FEATURE_HEAD
from raydistill.storage import Folder
from raydistill.text import shown_name, text_table

if TYPE_CHECKING:
    import pandas as pd


KIND = kinds.AUGMENTATION
RUNS, TRIALS, REPORT = "runs.parquet", "trials.parquet", "report.json"
GALAXIES = "galaxies.parquet"

_FIT = [
    ("method", pa.string()),
    ("source", pa.string()),  # name of the source of added images, or ""
    ("replicate", pa.int32()),  # number of the source's set, from 0
    ("shots", pa.int32()),  # labelled galaxies per class, to train and to choose with; null: all
    ("seed", pa.int32()),
    ("lr", pa.float64()),
    ("ratio", pa.float64()),  # added images drawn for each real one; null for a method without both
    ("min_recognised", pa.float64()),  # threshold of the filter; null: no filter
]
_SCORE = [
    ("validation", pa.float64()),  # balanced accuracy on validation galaxies, `shots` of each class
    ("diverged", pa.bool_()),
]
TRIALS_SCHEMA = pa.schema([*_FIT, *_SCORE])
RUNS_SCHEMA = pa.schema(
    [
        *_FIT,
        ("step", pa.int32()),
        ("images", pa.int32()),  # different training images
        ("loss", pa.float64()),  # mean training loss since the row before
        *_SCORE,
        ("validation_all", pa.float64()),  # balanced accuracy on all validation galaxies
        ("balanced_accuracy", pa.float64()),  # on test galaxies, like all that follows
        ("macro_f1", pa.float64()),
        ("confusion", pa.list_(pa.int64())),  # K * K, row by row: true class, predicted class
        ("predicted", pa.list_(pa.int16())),  # class of each test galaxy; null before the last step
    ]
)
GALAXIES_SCHEMA = pa.schema([("object_id", pa.string()), ("label", pa.int32())])
FIGURES = ("balanced_accuracy", "macro_f1", "rare_f1")


@dataclass(frozen=True)
class _Result:
    """The settings of a result in `report.json`, by seed."""

    shots: int | None
    method: str
    source: str
    lr: list[float]
    ratio: list[float | None]
    min_recognised: list[float | None]


@dataclass(frozen=True)
class _Report:
    """The keys that every `report.json` has."""

    class_names: list[str]
    results: list[_Result]


@dataclass(frozen=True, repr=False)
class AugmentationReport(Displayed):
    """An opened comparison of training sets.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        The contents of `report.json`.

    Examples
    --------
    >>> import raydistill as rd
    >>> report = rd.open("runs/demo/augmentation-0123456789ab")  # doctest: +SKIP
    >>> report.table()[["shots", "method", "macro_f1"]]  # doctest: +SKIP
    """

    summary: dict[str, Any]

    kind = KIND
    _pictures = "few_shot.png"

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        summary = read_json(folder, REPORT, dict[str, Any])
        checked(folder, REPORT, _Report, summary)
        return cls(folder, manifest, summary)

    def _contents(self) -> str:
        return "classifiers by training set, with paired differences"

    @property
    def class_names(self) -> list[str]:
        """Return the class names; the index is the label."""
        return list(self.summary["class_names"])

    @property
    def runs(self) -> pa.Table:
        """Return a row per classifier and recorded step, in the columns of `RUNS_SCHEMA`."""
        return read_table(self.folder, RUNS)

    @property
    def trials(self) -> pa.Table:
        """Return a row per candidate, in the columns of `TRIALS_SCHEMA`."""
        return read_table(self.folder, TRIALS)

    def table(self) -> pd.DataFrame:
        """Return one row per method, source and number of labelled galaxies.

        Returns
        -------
        pandas.DataFrame
            - `shots` ("all" for all labelled galaxies), `method` and `source`.
            - `lr`, `ratio` and `min_recognised`: chosen on validation galaxies, by each seed.
            - `balanced_accuracy` and `macro_f1` on test galaxies, with `_low` and `_high`, the ends
              of the 95 % interval over seeds, replicates and test galaxies.
        """
        import pandas as pd

        rows = [
            _key(entry) | {name: tuple(entry[name]) for name in ("lr", "ratio", "min_recognised")} | _interval(entry)
            for entry in self.summary["results"]
        ]
        return pd.DataFrame(rows)

    _rows = table

    def differences(self, *, all_baselines: bool = False) -> pd.DataFrame:
        """Return paired differences to the baseline that is best on validation galaxies.

        Parameters
        ----------
        all_baselines
            Return the differences to every baseline.

        Returns
        -------
        pandas.DataFrame
            - `shots`, `method`, `source` and `baseline`.
            - `balanced_accuracy` and `macro_f1`: mean difference on test galaxies, with `_low` and
              `_high`, the ends of its 95 % interval.
            - `balanced_accuracy_p` and `macro_f1_p`: p-values adjusted by Holm's method; NaN for a
              baseline.
        """
        import pandas as pd

        rows = [
            _key(entry) | _interval(entry) | {f"{figure}_p": entry[figure].get("p_holm") for figure in FIGURES}
            for entry in self.summary["comparisons"]
            if all_baselines or entry["best_baseline"]
        ]
        return pd.DataFrame(rows)

    def class_differences(self) -> pd.DataFrame:
        """Return each class's paired differences to the best baseline.

        The baseline is the best one on validation galaxies.

        Returns
        -------
        pandas.DataFrame
            One row per method, source, number of labelled galaxies and class. Differences of
            `completeness`, `purity` and `f1`, each with `_low` and `_high`.
        """
        return _class_frame([entry for entry in self.summary["comparisons"] if entry["best_baseline"]])

    def per_class(self) -> pd.DataFrame:
        """Return completeness, purity and F1 of each class, with their intervals.

        Returns
        -------
        pandas.DataFrame
            One row per method, source, number of labelled galaxies and class. `completeness`,
            `purity` and `f1`, each with `_low` and `_high`.
        """
        return _class_frame(self.summary["results"])


def _key(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the first columns of an entry; "baseline" is that of a comparison."""
    key = {"shots": shots_name(entry["shots"]), "method": entry["method"], "source": entry["source"]}
    return key | {"baseline": entry["baseline"]} if "baseline" in entry else key


def _class_frame(entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per entry and class."""
    import pandas as pd

    rows = [
        _key(entry) | {"class_name": name} | _interval(figures, tuple(figures))
        for entry in entries
        for name, figures in entry["per_class"].items()
    ]
    return pd.DataFrame(rows)


def _interval(entry: dict[str, Any], figures: tuple[str, ...] = FIGURES) -> dict[str, Any]:
    ends = {"": "mean", "_low": "low", "_high": "high"}
    return {f"{figure}{suffix}": entry[figure][key] for figure in figures for suffix, key in ends.items()}


def shots_name(shots: int | None) -> str:
    """Return a number of labelled galaxies of each class, as text."""
    return "all" if shots is None else str(shots)


# Write a comparison's tables: accuracies, and differences to the best baseline.

HEAD = ("method", "added", "ratio", "filter", "balanced\naccuracy", "difference", "macro-F1", "difference", "Holm's\np")


def augmentation_text(config: Config, report: AugmentationReport) -> str:
    """Return a table per number of labelled galaxies."""
    summary, parts = report.summary, []
    for baseline in summary["baselines"]:
        shots = baseline["shots"]
        galaxies = "all labelled galaxies" if shots is None else f"{shots} labelled galaxies of each class"
        title = (
            f"{summary['survey']}, {galaxies}, {summary['steps']} steps: mean, 95 % interval; "
            f"paired differences to {shown_name(baseline['method'])}, the best baseline on validation galaxies"
        )
        rows = [[cell.replace(" [", "\n[") for cell in row] for row in table_rows(summary, shots)]
        parts.append(text_table(title, [HEAD, *rows]))
    return "\n".join(parts)


def table_rows(summary: dict[str, Any], shots: int | None) -> list[tuple[str, ...]]:
    """Return the rows of the table at one number of labelled galaxies, as text."""
    differences = {
        (row["method"], row["source"]): row
        for row in summary["comparisons"]
        if row["shots"] == shots and row["best_baseline"]
    }
    rows: list[tuple[str, ...]] = []
    for entry in summary["results"]:
        if entry["shots"] == shots:
            other = differences.get((entry["method"], entry["source"]), {})
            rows.append(
                (
                    shown_name(entry["method"]), entry["source"], _values(entry["ratio"]), _values(entry["min_recognised"]),
                    _interval_text(entry["balanced_accuracy"]), _interval_text(other.get("balanced_accuracy"), "+"),
                    _interval_text(entry["macro_f1"]), _interval_text(other.get("macro_f1"), "+"),
                    "" if (p_value := other.get("macro_f1", {}).get("p_holm")) is None else format(p_value, ".3f"),
                )
            )  # fmt: skip
    return rows


def _values(chosen: list[float | None]) -> str:
    """Return what the seeds chose, each value once; "" if they had no choice."""
    values = sorted({value or 0.0 for value in chosen})
    return "" if values == [0.0] else ", ".join(f"{value:g}" if value else "none" for value in values)


def _interval_text(figure: dict[str, Any] | None, sign: str = "") -> str:
    if figure is None or figure["mean"] is None:
        return ""
    mean = format(figure["mean"], f"{sign}.3f")
    return mean if figure["low"] is None else f"{mean} [{figure['low']:{sign}.3f}, {figure['high']:{sign}.3f}]"


# The artifacts of an augmentation: the sets that it reads, and its report.

LABELLED = "labelled"  # the role of the curated set of the labelled galaxies
OWN = "synthetic"  # the name of the run's own synthetic set
SYNTHETIC_METHODS = ("synthetic_only", "real_synthetic")
DISTILLED_METHODS = ("distilled_only", "real_distilled")


def sources_of(plan: Plan) -> dict[str, list[ArtifactSpec]]:
    """Return the sets whose images are added, by the name of their source.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        A path of the config has no finished set of its kind.
    ConfigError
        Two paths of a source hold the same set.
    """
    options = plan.config.augment
    specs: dict[str, list[ArtifactSpec]] = {}
    if set(options.methods) & set(SYNTHETIC_METHODS):
        for name, paths in options.synthetics.items():
            fix = f"correct augment.synthetics.{name}, or run 'raydistill sample CONFIG'"
            specs[name] = [existing_spec(kinds.SYNTHETIC, path, fix) for path in paths]
            if len({spec.identity for spec in specs[name]}) < len(paths):
                what = "two of these paths hold the same set"
                raise ConfigError(what, f"augment.synthetics.{name}", "give each set once")
        if not specs:
            specs[OWN] = [plan.synthetic]
    if options.distilled is not None and set(options.methods) & set(DISTILLED_METHODS):
        specs[DISTILLED] = [existing_spec(kinds.DISTILLED, options.distilled, "correct augment.distilled")]
    return specs


def labelled_spec(plan: Plan) -> ArtifactSpec:
    """Return the curated set of the labelled galaxies, by default the run's own."""
    labelled = plan.config.augment.labelled
    if labelled is None:
        return plan.curated
    return existing_spec(kinds.CURATED, labelled, "correct augment.labelled, or run 'raydistill curate CONFIG'")


def augmentation_spec(plan: Plan) -> ArtifactSpec:
    """Return the report of the comparison."""
    options = plan.config.augment
    parents = {kinds.CURATED: plan.curated}
    for name, specs in sources_of(plan).items():
        parents |= {f"{specs[0].kind}_{name}_{number}": spec for number, spec in enumerate(specs, start=1)}
    if options.labelled is not None:
        parents[LABELLED] = labelled_spec(plan)
    if FEATURE_HEAD in options.methods:
        parents[plan.describer.kind] = plan.describer
    # Paths of the sets do not matter, but their identities do.
    parts = {
        "augment": configs.plain(replace(options, synthetics={}, distilled=None, labelled=None)),
        "sources": configs.sources(options.network),
    }
    return plan.spec(kinds.AUGMENTATION, parts, parents, plan.config.seed)
