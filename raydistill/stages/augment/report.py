"""Files of a comparison: `runs.parquet`, `trials.parquet`, `report.json`, figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from raydistill.artifacts.tables import write_rows
from raydistill.config import Config
from raydistill.figures.drawing import (
    BLUE,
    CHART_DPI,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    VERMILION,
    Target,
    save,
    styled,
)
from raydistill.learning import metrics
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.stages.augment.artifact import (
    GALAXIES,
    GALAXIES_SCHEMA,
    REPORT,
    RUNS,
    RUNS_SCHEMA,
    TRIALS,
    TRIALS_SCHEMA,
    shots_name,
)
from raydistill.stages.augment.fits import Fit
from raydistill.stages.augment.inputs import Images, Pool
from raydistill.stages.augment.summary import CHOSEN, summarise
from raydistill.stages.augment.worker import FitRunner, TrainedFit
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.text import shown_name
from raydistill.tracking.tracker import Run

FEW_SHOT = "few_shot.png"
Rows = list[dict[str, Any]]


def run_rows(runner: FitRunner, trained: Mapping[Fit, TrainedFit], test: Pool) -> list[dict[str, Any]]:
    """Return a row per fit and recorded step, in the columns of `RUNS_SCHEMA`."""
    rows, tested, recorded = [], runner.test(list(trained), test), runner.common.recorded
    for fit, result in trained.items():
        for number, step in enumerate(recorded):
            confusion_KK = runner.confusion(tested[fit][number], test.labels_N)
            rows.append(
                asdict(fit)
                | {
                    "step": step,
                    "images": result.images,
                    "loss": float(result.loss_R[number]),
                    "validation": runner.validation_accuracy(fit, result.predicted_RV[number]),
                    "validation_all": runner.validation_accuracy(replace(fit, shots=None), result.predicted_RV[number]),
                    "balanced_accuracy": metrics.balanced_accuracy(confusion_KK),
                    "macro_f1": metrics.macro_f1(confusion_KK),
                    "confusion": confusion_KK.reshape(-1).tolist(),
                    "predicted": tested[fit][number] if step == recorded[-1] else None,
                    "diverged": result.diverged,
                }
            )
    return rows


def write_report(config: Config, spec: ArtifactSpec, images: Images, rows: Rows, tried: Rows, run: Run) -> None:
    """Write the tables, the summary and the figures; send the means to MLflow."""
    write_rows(spec.folder, RUNS, rows, RUNS_SCHEMA)
    write_rows(spec.folder, TRIALS, tried, TRIALS_SCHEMA)
    curated = images.curated
    galaxies = curated.table("test", ["object_id"])
    write_rows(spec.folder, GALAXIES, galaxies.to_pylist(), GALAXIES_SCHEMA)
    summary = {
        "survey": curated.summary.survey,
        "simulated": curated.summary.simulated,
        "class_names": curated.class_names,
        "labelled": _labelled(images.real, curated, config.augment.shots),
        "validation": _labelled(images.validation, curated, config.augment.shots),
        "test": [entry.test for entry in curated.summary.classes],
        "steps": config.augment.training.steps,
        "batch_size": config.augment.training.batch_size,
        "recorded": list(config.augment.recorded),
        "seeds": config.augment.seeds,
        "sources": {name: [len(pool) for pool in pools] for name, pools in images.sources.items()},
        **summarise(rows, galaxies["label"].to_numpy(), curated.class_names, config.augment.shots),
    }
    spec.folder.write(REPORT, json.dumps(summary, indent=1).encode())
    run.artifact(spec.folder.local(REPORT))
    for entry in summary["results"]:
        parts = (shown_name(entry["method"]), entry["source"], shots_name(entry["shots"]))
        name = "/".join(part for part in parts if part)
        run.metrics({f"{name}/{figure}": entry[figure]["mean"] for figure in ("balanced_accuracy", "macro_f1")}, 0)
    save_figure(spec, run, FEW_SHOT, partial(few_shot_curves, summary=summary))
    for shots in config.augment.shots:
        draw = partial(step_curves, summary=summary, rows=rows, shots=shots)
        save_figure(spec, run, f"steps-{shots_name(shots)}.png", draw)


def _labelled(pool: Pool, curated: CuratedSet, shots: tuple[int | None, ...]) -> dict[str, list[int]]:
    """Return the number of labelled galaxies of each class, by shots."""
    counts_K = torch.bincount(pool.labels_N, minlength=curated.num_classes).tolist()
    return {shots_name(count): [n if count is None else min(n, count) for n in counts_K] for count in shots}


# Draw training sets' accuracies over labelled galaxies and over optimiser steps.

# Each group of methods has one colour, so that a crowded figure can be read.
COLOURS = {
    "real_synthetic": VERMILION, "synthetic_only": PURPLE, "real_distilled": GREEN, "distilled_only": GREEN,
    "generator_labels": INK, "head": BLUE, "real_recombined": BLUE,
}  # fmt: skip
DASHED = ("synthetic_only", "distilled_only", "generator_labels")
MARKERS = {
    "flips": "o",
    "oversampling": "s",
    "class_balanced": "D",
    "focal": "v",
    "mixup": "^",
    "cutmix": "P",
    "real": "x",
}
PANELS = (("balanced_accuracy", "balanced accuracy"), ("macro_f1", "macro-F1"))


@styled
def few_shot_curves(path: Target, summary: Mapping[str, Any]) -> None:
    """Draw test accuracies over the number of labelled galaxies of each class.

    Parameters
    ----------
    summary
        The contents of `report.json`.
    """
    shots = [entry["shots"] for entry in summary["baselines"]]
    figure, panels = _panels(summary, "test galaxies, mean and 95 % interval over seeds, sets and galaxies")
    for axes, (name, label) in zip(panels, PANELS, strict=True):
        for series in _series(summary["results"]):
            entries = {entry["shots"]: entry[name] for entry in series}
            points = [entries[count] for count in shots if count in entries]
            _draw(axes, list(range(len(points))), points, series[0])
        axes.set_xticks(range(len(shots)), ["all" if count is None else str(count) for count in shots])
        axes.set_xlabel("labelled galaxies of each class")
        axes.set_ylabel(label)
    _finish(figure, panels)
    save(figure, path)


@styled
def step_curves(path: Target, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], shots: int | None) -> None:
    """Draw test accuracies over optimiser steps, at one number of labelled galaxies.

    Parameters
    ----------
    summary
        The contents of `report.json`.
    rows
        Rows of `runs.parquet`.
    shots
        Labelled galaxies of each class; None: all.
    """
    title = f"{'all' if shots is None else shots} labelled galaxies of each class, test galaxies, mean over seeds"
    figure, panels = _panels(summary, title)
    shown = [entry for entry in summary["results"] if entry["shots"] == shots and entry["source"] != CHOSEN]
    for axes, (name, label) in zip(panels, PANELS, strict=True):
        for entry in shown:
            key = (entry["method"], entry["source"], entry["shots"])
            curve = [row for row in rows if (row["method"], row["source"], row["shots"]) == key]
            means = [float(np.mean([row[name] for row in curve if row["step"] == s])) for s in summary["recorded"]]
            _draw(axes, summary["recorded"], [{"mean": mean, "low": None} for mean in means], entry)
        if len(summary["recorded"]) > 1:
            axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(summary["recorded"], [str(step) for step in summary["recorded"]])
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel(label)
    _finish(figure, panels)
    save(figure, path)


def _panels(summary: Mapping[str, Any], title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9.2, 4.6), dpi=CHART_DPI, layout="constrained")
    panels = [figure.add_subplot(1, len(PANELS), number + 1) for number in range(len(PANELS))]
    kind = "simulated survey" if summary["simulated"] else "survey"
    figure.suptitle(f"{summary['survey']} ({kind}): {title}", fontsize=9, fontweight="bold")
    return figure, panels


def _series(results: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the results by method and source, without the repeated chosen source."""
    names = dict.fromkeys((e["method"], e["source"]) for e in results if e["source"] != CHOSEN)
    return [[e for e in results if (e["method"], e["source"]) == name] for name in names]


def _draw(axes: Axes, x: Sequence[float], points: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> None:
    method, source = entry["method"], entry["source"]
    baseline = method in MARKERS
    colour = COLOURS.get(method, FAINT if method == "real" else BLUE)
    means = [point["mean"] for point in points]
    added = f" ({source})" if source and source != "distilled" else ""
    axes.plot(
        x, means, color=colour, marker=MARKERS.get(method, "."), markersize=4 if baseline else 6,
        linewidth=0.8 if baseline else 1.6, linestyle="--" if method in DASHED else "-",
        label=shown_name(method).replace("_", " ") + added,
    )  # fmt: skip
    if all(point["low"] is not None for point in points) and not baseline:
        low, high = ([point[end] for point in points] for end in ("low", "high"))
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)


def _finish(figure: Figure, panels: Sequence[Axes]) -> None:
    for axes in panels:
        axes.grid(axis="y", color="#eceef1", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
