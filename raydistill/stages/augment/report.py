"""Files of a comparison: `runs.parquet`, `trials.parquet`, `report.json`, figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from raydistill.artifacts.tables import write_rows
from raydistill.config import Config
from raydistill.learning import metrics
from raydistill.stages.augment import figures
from raydistill.stages.augment.artifact import REPORT, RUNS, RUNS_SCHEMA, TRIALS, TRIALS_SCHEMA
from raydistill.stages.augment.fits import Fit
from raydistill.stages.augment.opening import Images
from raydistill.stages.augment.summary import summarise
from raydistill.stages.augment.worker import TrainedFit
from raydistill.storage import Folder
from raydistill.text import shown_name
from raydistill.tracking.tracker import Run

FEW_SHOT = "few_shot.png"


def run_rows(
    trained: Mapping[Fit, TrainedFit], tested: Mapping[Fit, np.ndarray], recorded: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Return a row per fit and recorded step, in the columns of `RUNS_SCHEMA`."""
    rows = []
    for fit, result in trained.items():
        for number, step in enumerate(recorded):
            confusion_KK = tested[fit][number]
            rows.append(
                fit.labels()
                | {
                    "step": step,
                    "images": result.images,
                    "loss": float(result.loss_R[number]),
                    "validation": metrics.balanced_accuracy(result.confusion_RKK[number]),
                    "balanced_accuracy": metrics.balanced_accuracy(confusion_KK),
                    "macro_f1": metrics.macro_f1(confusion_KK),
                    "confusion": confusion_KK.reshape(-1).tolist(),
                    "diverged": result.diverged,
                }
            )
    return rows


def write_report(
    config: Config, folder: Folder, images: Images, rows: list[dict[str, Any]], tried: list[dict[str, Any]], run: Run
) -> None:
    """Write the tables, the summary and the figures; send the means to MLflow."""
    write_rows(folder, RUNS, rows, RUNS_SCHEMA)
    write_rows(folder, TRIALS, tried, TRIALS_SCHEMA)
    curated = images.curated
    summary = {
        "survey": curated.summary.survey,
        "simulated": curated.summary.simulated,
        "class_names": curated.class_names,
        "labelled": _labelled(images, config.augment.shots),
        "test": [entry.test for entry in curated.summary.classes],
        "steps": config.augment.training.steps,
        "batch_size": config.augment.training.batch_size,
        "recorded": list(config.augment.recorded),
        "seeds": config.augment.seeds,
        "sources": {name: [len(pool) for pool in pools] for name, pools in images.sources.items()},
        **summarise(rows, curated.class_names, config.augment.shots),
    }
    folder.write(REPORT, json.dumps(summary, indent=1).encode())
    run.artifact(folder.local(REPORT))
    for entry in summary["results"]:
        name = "/".join(part for part in (shown_name(entry["method"]), entry["source"], _shots(entry["shots"])) if part)
        run.metrics({f"{name}/{figure}": entry[figure]["mean"] for figure in ("balanced_accuracy", "macro_f1")}, 0)
    with folder.writing(FEW_SHOT) as path:
        figures.few_shot_curves(path, summary)
    run.artifact(folder.local(FEW_SHOT))
    for shots in config.augment.shots:
        name = f"steps-{_shots(shots)}.png"
        with folder.writing(name) as path:
            figures.step_curves(path, summary, rows, shots)
        run.artifact(folder.local(name))


def _labelled(images: Images, shots: tuple[int | None, ...]) -> dict[str, list[int]]:
    """Return the number of labelled galaxies of each class, by shots."""
    counts_K = torch.bincount(images.real.labels_N, minlength=images.curated.num_classes).tolist()
    return {_shots(count): [n if count is None else min(n, count) for n in counts_K] for count in shots}


def _shots(shots: int | None) -> str:
    return "all" if shots is None else str(shots)
