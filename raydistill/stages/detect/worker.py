"""The Ray tasks of the detect stage: make fields, train, and find sources."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import decode_images
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors, write_tensors
from raydistill.errors import DivergenceError
from raydistill.galaxies.pictures.images import encode_png
from raydistill.morphology.structure import box_of, find_sources
from raydistill.runtime.resources import Processor
from raydistill.seeding import fold_in, generator
from raydistill.simulation.injections.base import to_light
from raydistill.stages.detect.artifact import WEIGHTS, read_detector
from raydistill.stages.detect.config import Detect, FieldModel
from raydistill.stages.detect.network import build_detector, detect, to_tensor
from raydistill.stages.detect.scenes.fields import STAR, Field, Sky, annotation, boxes_of, make_field
from raydistill.stages.detect.scenes.pictures import FieldSplit, Stamps
from raydistill.storage import Folder, checked

# FieldMaker: {block, split, first, count}  ->  PNG files, a JSON file
# SourceFinder: {block, picture}            ->  a JSON file


@dataclass(frozen=True)
class FieldMaker:
    """Make the fields of a block. A field depends on its split and number alone.

    Parameters
    ----------
    folder
        URI of the artifact.
    stamps
        Galaxies of the split.
    origins
        Real galaxy of each picture, by id; it is missing where there is none.
    skies
        Skies of real frames.
    detect
        Fields and seed.
    star
        Category of stars.
    """

    folder: str
    stamps: Stamps
    origins: dict[str, str]
    skies: tuple[Sky, ...]
    detect: Detect
    star: int

    def __call__(self, block: pa.Table) -> int:
        """Make the fields of one block; its JSON file is written last."""
        (row,) = block.to_pylist()
        records = [self._make(row["split"], number) for number in range(row["first"], row["first"] + row["count"])]
        digests = {record["file_name"]: record["sha256"] for record in records}
        checked.record(Folder(self.folder), row["block"], digests, {"records": records})
        return len(records)

    def _make(self, split: FieldSplit, number: int) -> dict[str, Any]:
        rng = np.random.default_rng(fold_in(self.detect.seed, "field", split, number))
        sky = self.skies[int(rng.integers(len(self.skies)))]
        field = make_field(self.stamps, sky, self.detect.fields, rng)
        name, text = f"fields/{split}/{number:06d}.png", {"Software": "raydistill", "Comment": "synthetic field"}
        png = encode_png(field.picture, text)
        Folder(self.folder).write(name, png)
        side = self.detect.fields.side
        return {
            "file_name": name,
            "width": side,
            "height": side,
            "sha256": hashlib.sha256(png).hexdigest(),
            "annotations": self._annotations(field),
        }

    def _annotations(self, field: Field) -> list[dict[str, Any]]:
        return [
            annotation(
                source.mask,
                box_of(source.mask),
                self.star if source.label == STAR else source.label + 1,
                {"origin": source.name, "galaxy": self.origins.get(source.name), "scale": source.scale},
            )
            for source in field.sources
        ]


@dataclass(frozen=True)
class SourceFinder:
    """Find the sources in a block's pictures with the detector and with photutils.

    Parameters
    ----------
    folder
        URI of the artifact.
    model
        Threshold of photutils.
    processor
        Torch threads and GPUs of a worker.
    """

    folder: str
    model: FieldModel
    processor: Processor

    def __call__(self, block: pa.Table) -> int:
        """Find the sources of one block, and write them to its JSON file."""
        device = self.processor.enter()
        name = block["block"][0].as_py()
        pictures_NHWC = decode_images(block["picture"], self.model.side).numpy()
        detections = detect(_detector(self.folder, device), pictures_NHWC)
        records = [
            {
                "boxes": source.boxes_D4.round(2).tolist(),
                "scores": source.scores_D.round(5).tolist(),
                "categories": source.categories_D.tolist(),
                "annotations": reference(picture, self.model),
            }
            for source, picture in zip(detections, pictures_NHWC, strict=True)
        ]
        checked.record(Folder(self.folder), name, {}, {"records": records})
        return len(records)


def reference(picture: np.ndarray, model: FieldModel) -> list[dict[str, Any]]:
    """Return photutils' sources in a picture, uint8 `[H, W, 3]`, as annotations.

    Their category is 0.
    """
    labels = find_sources(to_light(picture, model.contrast), model.sigmas, model.min_area)
    masks = [labels == number for number in np.unique(labels[labels > 0])]
    return [annotation(mask, box_of(mask), 0, {}) for mask in masks]


@lru_cache(maxsize=1)
def _detector(folder: str, device: str) -> nn.Module:
    return read_detector(Folder(folder)).to(device)


# The Ray task that trains the detector.
#
# Its checkpoint is the state after some steps. Step n draws its fields with
# `fold_in(seed, "batch", n)`. So a resumed training has the same bits.

STATE = f"{PARTIAL}/state.safetensors"
TRAINED = f"{PARTIAL}/trained.json"  # record of the weights
MAX_NORM = 5.0  # of the gradient
WEIGHT_DECAY = 1e-4
RECORDS = 20  # rows of the history of the loss


@dataclass(frozen=True)
class TrainingTask:
    """The arguments of the training.

    Parameters
    ----------
    folder
        URI of the artifact, which holds the fields.
    fields
        Records of the training fields, with their annotations.
    categories
        Names of the categories; id n + 1 is number n.
    detect
        Hyper-parameters and seed.
    processor
        Torch threads and GPUs.
    checkpoint_seconds
        Minimum time between two checkpoints.
    """

    folder: str
    fields: tuple[dict[str, Any], ...]
    categories: tuple[str, ...]
    detect: Detect
    processor: Processor
    checkpoint_seconds: float


def train_detector(task: TrainingTask) -> Iterator[tuple[int, float]]:
    """Train the detector from its last checkpoint, if any, and write its weights.

    Yields
    ------
    int, float
        Steps so far, and the mean loss since the last record.

    Raises
    ------
    DivergenceError
        If the loss is not finite.
    """
    folder, device, detect = Folder(task.folder), task.processor.enter(), task.detect
    pictures = _read_fields(folder, task)
    info = {
        "categories": list(task.categories),
        "side": detect.fields.side,
        "width": detect.width,
        "mean": (pictures.mean(axis=(0, 1, 2)) / 255).tolist(),
        "std": (pictures.std(axis=(0, 1, 2)) / 255).tolist(),
    }
    detector = build_detector(
        len(task.categories), detect.fields.side, detect.width, tuple(info["mean"]), tuple(info["std"]), detect.seed
    ).to(device)
    optimiser = torch.optim.AdamW(detector.parameters(), detect.lr, weight_decay=WEIGHT_DECAY)
    targets = [_target(record, device) for record in task.fields]
    step, history = _load(folder, detector, optimiser)
    saved, losses = time.monotonic(), history.pop("pending", [])
    while step < detect.steps:
        g = generator(detect.seed, "batch", step)
        batch = torch.randint(len(targets), (detect.batch_size,), generator=g).tolist()
        images = to_tensor(pictures[batch]).to(device)
        losses.append(_step(detector, optimiser, images, [targets[n] for n in batch], lr_at(step, detect)))
        step += 1
        if step % max(1, detect.steps // RECORDS) == 0 or step == detect.steps:
            history["rows"].append([step, float(np.mean(losses))])
            losses = []
            yield step, history["rows"][-1][1]
        if time.monotonic() - saved > task.checkpoint_seconds:
            _save(folder, detector, optimiser, step, history | {"pending": losses})
            saved = time.monotonic()
    write_tensors(folder, WEIGHTS, detector.state_dict(), info | {"history": history["rows"]})
    checked.record(folder, TRAINED, {WEIGHTS: folder.sha256(WEIGHTS)})


def lr_at(step: int, detect: Detect) -> float:
    """Return the learning rate of a step, from 0: a linear rise, then a cosine."""
    share = (step + 1) / detect.steps
    return detect.lr * min(1.0, 10 * share) * 0.5 * (1 + math.cos(math.pi * step / detect.steps))


def _step(
    detector: nn.Module, optimiser: torch.optim.Optimizer, pictures: Tensor, targets: list[dict[str, Tensor]], lr: float
) -> float:
    """Take one step, and return the loss."""
    detector.train()
    optimiser.param_groups[0]["lr"] = lr
    loss: Tensor = sum(detector(list(pictures), targets).values())
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DivergenceError("the loss is not finite", "detect", f"lower detect.lr (now {lr:g})")
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(detector.parameters(), MAX_NORM)
    optimiser.step()
    return value


def _read_fields(folder: Folder, task: TrainingTask) -> np.ndarray:
    """Return the pictures of the training fields, uint8 `[N, side, side, 3]`."""
    files = [folder.read(record["file_name"]) for record in task.fields]
    return decode_images(pa.chunked_array([pa.array(files, pa.large_binary())]), task.detect.fields.side).numpy()


def _target(record: dict[str, Any], device: str) -> dict[str, Tensor]:
    """Return boxes and categories of a field, in the form of torchvision."""
    categories = [annotation["category_id"] - 1 for annotation in record["annotations"]]
    return {
        "boxes": torch.tensor(boxes_of(record), dtype=torch.float32, device=device),
        "labels": torch.tensor(categories, dtype=torch.int64, device=device),
    }


def _save(folder: Folder, detector: nn.Module, optimiser: torch.optim.Optimizer, step: int, history: Any) -> None:
    tensors = {f"model.{name}": value for name, value in detector.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    checked.write(folder, STATE, pack_tensors(tensors, {"step": step, "history": history}))


def _load(folder: Folder, detector: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, Any]:
    """Load the last checkpoint, and return its step and history.

    A damaged checkpoint counts as none.
    """
    data = checked.read(folder, STATE)
    if data is None:
        return 0, {"rows": []}
    tensors, info = unpack_tensors(data)
    detector.load_state_dict({n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return info["step"], info["history"]
