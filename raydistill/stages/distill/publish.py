"""The figures and FITS file of a distilled set: grid, atlas, curves, prototypes."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np

from raydistill.artifacts.tables import read_table
from raydistill.artifacts.tensors import WHITENING
from raydistill.config import Config
from raydistill.distillation.segments import OUTCOME
from raydistill.figures.image_grids import Provenance, atlas, image_grid
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import LAST, SELECTED, SyntheticImages, read_images
from raydistill.stages.distill.fits import Card, write_prototypes
from raydistill.stages.distill.history import training_curves
from raydistill.stages.distill.prototypes import class_means, most_confident, nearest_real_means
from raydistill.storage import Folder
from raydistill.tracking.tracker import Run


def draw_grid(folder: Folder, name: str, images: SyntheticImages, class_names: list[str], ipc: int) -> None:
    """Draw the images, one row per class."""
    labels = np.repeat(np.arange(len(class_names)), ipc)
    with folder.writing(name) as path:
        image_grid(images.display().numpy(), labels, class_names, path)


def publish(config: Config, spec: ArtifactSpec, curated: CuratedSet, run: Run) -> None:
    """Write figures, FITS and summary of the selected images, before the manifest."""
    selected, info = read_images(spec.folder, SELECTED)
    ipc, names = config.distill.images_per_class, curated.class_names
    draw_grid(spec.folder, "grid.png", selected, names, ipc)
    run.artifact(spec.folder.local("grid.png"))
    save_figure(spec, run, "atlas.png", partial(_atlas, spec=spec, curated=curated, selected=selected, info=info))
    save_figure(spec, run, "history.png", partial(_history, folder=spec.folder))
    labels = np.repeat(np.arange(len(names)), ipc)
    header: dict[str, Card] = {
        "IPC": ipc,
        "SEED": spec.seed,
        "DIGEST": spec.identity[:16],
        "STRETCH": "as the survey's pictures",
        "SIMULATD": curated.summary.simulated,
        "ALIGNED": curated.summary.aligned,
        "SURVEY": curated.summary.survey,
        "LICENCE": getattr(config.survey, "licence", "") or "unknown",
    }
    if frame := getattr(config.survey, "frame_r90", None):
        header["PIXSCALE"] = frame * curated.summary.crop_fraction / curated.summary.image_size
    with spec.folder.writing("prototypes.fits") as path:
        write_prototypes(path, selected.pixels().numpy(), labels, names, header)
    for name in (SELECTED, LAST, WHITENING, "prototypes.fits"):
        if spec.folder.exists(name):
            run.artifact(spec.folder.local(name))
    spec.folder.write("summary.json", json.dumps({**info, "selected_iteration": selected.iteration}, indent=1).encode())


def _atlas(path: Any, spec: ArtifactSpec, curated: CuratedSet, selected: SyntheticImages, info: dict[str, Any]) -> None:
    train = curated.load("train")
    real, labels = train.images_NHWC.numpy(), train.labels_N.numpy()
    images, ipc, k = selected.display().numpy(), info["images_per_class"], curated.num_classes
    best = most_confident(labels, train.confidence_N, k, 4)
    has_confidence = np.ptp(train.confidence_N) > 0  # constant in a survey of labels without votes
    atlas(
        path,
        curated.class_names,
        [images[label * ipc : (label + 1) * ipc] for label in range(k)],
        class_means(real, labels, k),
        [real[index] for index in best],
        list(nearest_real_means(images[::ipc], real, min(10, len(real)))[:, None]),
        Provenance(curated.summary.survey, spec.identity[:12], ipc, curated.summary.simulated),
        examples="most confident" if has_confidence else "examples",
    )


def _history(path: Any, folder: Folder) -> None:
    rows = read_table(folder, "history.parquet").to_pydict()
    validations = read_table(folder, "validation.parquet").to_pydict()
    by_iteration = dict(zip(validations["iteration"], validations["balanced_accuracy"], strict=True))
    iterations = [0, *rows["iteration"]]  # 0: the initial images have a validation and no record

    def curve(key: str) -> np.ndarray:
        return np.array([np.nan, *rows[key]])

    is_outcome = curve("expert") == OUTCOME
    training_curves(
        path,
        {
            "iteration": np.array(iterations),
            "matching_loss": np.where(is_outcome, np.nan, curve("loss")),
            **({"outcome_loss": np.where(is_outcome, curve("loss"), np.nan)} if is_outcome.any() else {}),
            "next_epoch_loss": curve("next_epoch_loss"),
            "start_epoch": np.where(is_outcome, np.nan, curve("start_epoch")),
            "max_start_epoch": curve("cap") - 1,
            "student_lr": curve("student_lr"),
            "validation_accuracy": np.array([by_iteration.get(i, np.nan) for i in iterations]),
        },
    )
