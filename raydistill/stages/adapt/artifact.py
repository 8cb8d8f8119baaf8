"""Define `AdaptationReport`: gains and costs of an alignment with another survey.

- `runs.parquet`: a row per network, with its figures on test galaxies of both surveys.
- `report.json`: class names, sizes, and for each training set its figures with intervals.
- `reliability.parquet`: bins of the confidence on the target, over the networks of a kind.
- `adaptation.png`: the four accuracies, and the reliability diagram.
- `rejected.parquet`, `rejected.png`: galaxies that the aligned networks reject, in clusters.
- `resolved.json`: precision and compilation of the networks.

A network is trained on a training set (`source`, `source_synthetic` or `distilled`) by a method:

- `none`: without the target;
- `matched`: the same network; the target's pictures are matched with the source's;
- `adapted`: aligned with the target's pictures, without their labels;
- `upper_bound`: trained on the target's labels instead. It is the same for all training sets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raydistill import config as configs
from raydistill import shipped
from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import NAME
from raydistill.artifacts.tables import read_table
from raydistill.config import Config
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, existing_spec
from raydistill.stages.evaluate.report.text import format_figure
from raydistill.storage import Folder
from raydistill.text import sentence, text_table

if TYPE_CHECKING:
    import pandas as pd


KIND = kinds.ADAPTATION
RUNS, REPORT, RELIABILITY, FIGURE = "runs.parquet", "report.json", "reliability.parquet", "adaptation.png"
REJECTED, SHEET = "rejected.parquet", "rejected.png"
METHODS = ("none", "matched", "adapted", "upper_bound")

RUNS_SCHEMA = pa.schema(
    [
        ("training_set", pa.string()),  # "" for the upper bound
        ("method", pa.string()),
        ("seed", pa.int32()),
        ("lr", pa.float64()),
        ("strength", pa.float64()),  # of the alignment; null without one
        ("diverged", pa.bool_()),  # then the figures are those of the initial parameters
        (
            "validation",
            pa.float64(),
        ),  # balanced accuracy on validation galaxies of the source; "upper_bound": of the target
        ("source", pa.float64()),  # balanced accuracy on test galaxies
        ("target", pa.float64()),  # the same, of the classes that the source has
        ("ece", pa.float64()),  # expected calibration error on the target
        ("brier", pa.float64()),  # Brier score on the target
        ("rejection_auroc", pa.float64()),  # of the entropy, for classes that the source lacks; null without one
        ("target_confusion", pa.list_(pa.int64())),  # K * K, row by row: true class, predicted class
    ]
)
REJECTED_SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("class", pa.string()),  # of the target, unknown to the networks
        ("entropy", pa.float64()),  # of the mean probabilities of the aligned networks [nat]
        ("cluster", pa.int32()),  # from 1, the largest first; 0 without one
    ]
)
RELIABILITY_SCHEMA = pa.schema(
    [
        ("training_set", pa.string()),
        ("method", pa.string()),
        ("bin", pa.int32()),
        ("count", pa.int64()),
        ("confidence", pa.float64()),
        ("accuracy", pa.float64()),
    ]
)


@dataclass(frozen=True, repr=False)
class AdaptationReport(Displayed):
    """An opened report of an adaptation.

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
    >>> report = rd.open("runs/demo/adaptation-0123456789ab")  # doctest: +SKIP
    >>> report.figures["source"]["gap_closed"]  # doctest: +SKIP
    """

    summary: dict[str, Any]

    _pictures = "adaptation.png"

    kind = KIND
    _json = ((REPORT, dict[str, Any]),)

    def _contents(self) -> str:
        return "accuracies on source and target, with and without adaptation"

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the figures of each training set.

        - `source`, `source_adapted`: balanced accuracy on the source, {mean, std, n, ci95}; ci95 is
          half the interval for new networks and galaxies.
        - `none`, `matched`, `adapted`, `upper_bound`: the same on the target.
        - `source_loss`, `gap_closed`: {value, low, high} of the difference on the source, and of
          the closed share of the gap; null where there is none.
        - `ece`, `brier`, `rejection_auroc`: by method, {mean, std, n, ci95}.
        """
        return self.summary["training_sets"]

    def table(self) -> pd.DataFrame:
        """Return one row per network, with the columns of `RUNS_SCHEMA`."""
        return read_table(self.folder, RUNS).to_pandas()

    _rows = table

    def rejected(self) -> pd.DataFrame:
        """Return one row per rejected galaxy, with the columns of `REJECTED_SCHEMA`."""
        return read_table(self.folder, REJECTED).to_pandas()

    def reliability(self) -> pd.DataFrame:
        """Return one row per confidence bin, with the columns of `RELIABILITY_SCHEMA`."""
        return read_table(self.folder, RELIABILITY).to_pandas()


# The result of an adaptation as text: accuracies, and the gap that it closes.


def adaptation_report(config: Config, report: AdaptationReport) -> str:
    """Return accuracies, calibration and rejection, and the closed share of the gap."""
    head = ("trained on", "method", "source\n± 95 %", "target\n± 95 %", "ECE", "Brier", "AUROC of\nunseen classes")
    rows = []
    for name, entry in report.figures.items():
        source = {"none": format_figure(entry["source"]), "adapted": format_figure(entry["source_adapted"])}
        for method in METHODS:
            others = (format_figure(entry[column][method]) for column in ("ece", "brier", "rejection_auroc"))
            cells = (source.get(method, ""), format_figure(entry[method]), *others)
            rows.append((name, method, *(cell.replace(" ±", "\n±") for cell in cells)))
    title = f"{report.summary['source']} to {report.summary['target']}: balanced accuracy on test galaxies"
    lines = [text_table(title, [head, *rows])]
    for name, entry in report.figures.items():
        closed, loss = entry["gap_closed"], entry["source_loss"]
        share = "has no gap to close"
        if closed["value"] is not None:
            share = f"closes {closed['value']:.0%} of the gap ({closed['low']:.0%} to {closed['high']:.0%})"
        lost = f"{100 * loss['value']:.1f} points ({100 * loss['low']:.1f} to {100 * loss['high']:.1f})"
        lines.append(sentence(f"{name}: the alignment {share}; on the source it costs {lost}."))
    lines.append(_rejected(report.summary["rejected"]))
    return "\n".join(lines)


def _rejected(found: dict[str, Any]) -> str:
    unseen = ""
    if found["of_unseen"] is not None:
        unseen = (
            f" and {found['of_unseen']:.0%} of those of unseen classes (AUROC of all networks {found['auroc']:.3f})"
        )
    text = f"The aligned networks reject {found['count']} galaxies, {found['of_known']:.0%} of those of known classes{unseen}."
    clusters = [f"{one['count']} ({one['share']:.0%} {one['class']})" for one in found["clusters"]]
    if found["silhouette"] is None:
        return text
    return f"{text} Clusters (silhouette {found['silhouette']:.2f}): {', '.join(clusters)}."


# The artifacts of an adaptation: the sets that it reads, and its report.

TARGET = "target"  # the role of the target among the parents


def target_spec(plan: Plan) -> ArtifactSpec:
    """Return the curated set of `adapt.target`; that of a config need not exist yet.

    The set of a config is looked for in its own output, then in that of the source.

    Raises
    ------
    ConfigError
        No target is given.
    ArtifactMissing, ArtifactIncompatible
        There is no such set, or it is that of the source.
    """
    target = plan.config.adapt.target
    fix = "give the config of another survey, or the folder of its curated set"
    if target is None:
        raise ConfigError("no survey to adapt to is given", "adapt.target", fix)
    if target.endswith((".yaml", ".yml")) or (shipped.find(target) and not Folder(target).exists(NAME)):
        other = configs.load(target)
        spec = Plan(other).curated
        if not spec.exists:  # `output=FOLDER` on the command line is that of both runs
            spec = Plan(replace(other, output=plan.config.output)).curated
    else:
        spec = existing_spec(kinds.CURATED, target, fix)
    if spec.identity == plan.curated.identity:
        raise ArtifactIncompatible("this is the curated set of the source itself", spec.folder.uri, fix)
    return spec


def require_target(plan: Plan) -> None:
    """Raise ArtifactMissing unless the curated set of the target exists."""
    spec = target_spec(plan)
    if not spec.exists:
        what = "there is no curated set of the target here"
        raise ArtifactMissing(
            what, spec.folder.uri, f"run 'raydistill run {plan.config.adapt.target} --to curate' first"
        )


def training_specs(plan: Plan) -> dict[str, list[ArtifactSpec]]:
    """Return the sets beside the source's galaxies for training networks, by kind."""
    options = plan.config.adapt
    specs: dict[str, list[ArtifactSpec]] = {}
    if options.synthetics:
        specs[kinds.SYNTHETIC] = [
            existing_spec(kinds.SYNTHETIC, path, "correct adapt.synthetics") for path in options.synthetics
        ]
    if options.distilled is not None:
        specs[kinds.DISTILLED] = [existing_spec(kinds.DISTILLED, options.distilled, "correct adapt.distilled")]
    return specs


def adaptation_spec(plan: Plan) -> ArtifactSpec:
    """Return the report of the adaptation to `adapt.target`."""
    options = plan.config.adapt
    parents = {kinds.CURATED: plan.curated, TARGET: target_spec(plan)}
    for kind, specs in training_specs(plan).items():
        parents |= {f"{kind}_{number}": spec for number, spec in enumerate(specs, start=1)}
    if options.features:
        parents[plan.describer.kind] = plan.describer
    # Paths of the sets do not matter, but their identities do.
    parts = {
        "adapt": configs.plain(replace(options, target=None, synthetics=(), distilled=None)),
        "sources": configs.sources(options.network),
    }
    return plan.spec(kinds.ADAPTATION, parts, parents, plan.config.seed)
