"""The files of an evaluation: `runs.parquet`, `evaluation.json` and the charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.artifacts.tables import write_rows
from raydistill.config import Config
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.evaluate.artifact import (
    GALAXIES_SCHEMA,
    HEAD,
    RUNS_SCHEMA,
    accuracy_rows,
    by_network,
    class_rows,
    headline,
    robust_scores,
    summarise,
    trained_network,
)
from raydistill.stages.evaluate.report import charts
from raydistill.text import shown_name
from raydistill.tracking.tracker import Run


def write_report(
    config: Config, spec: ArtifactSpec, curated: CuratedSet, galaxies: pa.Table, rows: list[dict[str, Any]], run: Run
) -> dict[str, Any]:
    """Write all rows and figures, send means to MLflow, and return `evaluation.json`.

    `galaxies` are the test galaxies, with the columns of `GALAXIES_SCHEMA`.
    """
    write_rows(spec.folder, "galaxies.parquet", galaxies.to_pylist(), GALAXIES_SCHEMA)
    with spec.folder.writing("runs.parquet") as path:
        pq.write_table(pa.Table.from_pylist(rows, RUNS_SCHEMA), path)
    protocol, network = headline(rows, *config.headline)
    summary = summarise(rows, galaxies["label"].to_numpy(), curated.class_names, protocol, network)
    if config.evaluate.scores:
        for name in ("distilled", *config.evaluate.baselines):
            summary[name]["scores"] = robust_scores(rows, *config.headline, name)
        for name, score in summary["distilled"]["scores"].items():
            numbers = {part: score[part] for part in ("score", "low", "high") if score[part] is not None}
            run.metrics({f"distilled/{name}_{part}": value for part, value in numbers.items()}, 0)
    spec.folder.write("evaluation.json", json.dumps(summary, indent=1).encode())
    run.artifact(spec.folder.local("evaluation.json"))
    shown = {shown_name(name): entry for name, entry in summary.items()}
    run.table("accuracies", accuracy_rows(shown))
    run.table("classes", class_rows(shown))
    for name, entry in shown.items():
        mean = entry["balanced_accuracy"]["mean"]
        if mean is not None:
            run.metrics({f"{name}/balanced_accuracy": mean, f"{name}/accuracy": entry["accuracy"]["mean"]}, 0)
    main = ("distilled", protocol, network)
    matrices = [np.array(row["confusion"]) for row in rows if (row["subject"], row["protocol"], row["network"]) == main]
    what = "heads" if protocol == HEAD else "networks"
    save_figure(spec, run, "confusion.png", lambda path: _draw_confusion(path, matrices, curated, what))
    save_figure(spec, run, "accuracy.png", lambda path: _draw_accuracy(path, summary, curated, network))
    if len(config.trained_networks) > 1:
        save_figure(spec, run, "networks.png", lambda path: _draw_networks(path, summary, curated, config))
    return summary


def record_with_model(run: Run, identity: str, summary: dict[str, Any], curated: CuratedSet) -> None:
    """Record test accuracies with the registered model of a distilled set."""
    means = {f"test/{name}": summary["distilled"][name]["mean"] for name in ("balanced_accuracy", "accuracy")}
    known = {name: mean for name, mean in means.items() if mean is not None}
    run.test_metrics(identity, known, (curated.summary.survey, curated.manifest.content))


def _draw_confusion(path: Path, matrices: list[np.ndarray], curated: CuratedSet, what: str) -> None:
    total_KK = np.sum(matrices, axis=0).reshape(curated.num_classes, curated.num_classes)
    title = f"{curated.summary.survey}: {len(matrices)} {what} trained on the distilled set, summed"
    charts.confusion_matrix(path, total_KK, curated.class_names, title)


def _draw_accuracy(path: Path, summary: dict[str, Any], curated: CuratedSet, network: str) -> None:
    rows = [
        _accuracy_row(name, trained_network(summary[name], network), mean)
        for name in summary
        if (mean := summary[name]["balanced_accuracy"])["mean"] is not None
    ]
    charts.accuracy_table(path, rows, curated.summary.survey, 1 / curated.num_classes)


def _draw_networks(path: Path, summary: dict[str, Any], curated: CuratedSet, config: Config) -> None:
    accuracies = by_network(summary, config.headline[0])
    rows = [
        _accuracy_row(name, network.name, mean)
        for name, means in accuracies.items()
        for network in config.networks
        if (mean := means.get(network.name)) and mean["mean"] is not None
    ]
    title = f"{curated.summary.survey}: accuracy of other networks trained on the same images"
    charts.network_matrix(path, rows, title, 1 / curated.num_classes)


def _accuracy_row(training_set: str, network: str, accuracy: dict[str, Any]) -> charts.AccuracyRow:
    ci95 = float("nan") if accuracy["ci95"] is None else accuracy["ci95"]
    return charts.AccuracyRow(training_set, accuracy["mean"], ci95, network)
