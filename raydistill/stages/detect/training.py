"""The Ray task that trains the detector.

Its checkpoint is the state after some steps. Step n draws its fields with
`fold_in(seed, "batch", n)`. So a resumed training has the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import decode_images
from raydistill.artifacts.tensors import pack_tensors, unpack_tensors, write_tensors
from raydistill.errors import DivergenceError
from raydistill.runtime.resources import device_of
from raydistill.seeding import generator
from raydistill.stages.detect.artifact import WEIGHTS
from raydistill.stages.detect.config import Detect
from raydistill.stages.detect.science.coco import boxes_of
from raydistill.stages.detect.science.network import build_detector, to_tensor
from raydistill.storage import Folder, checked

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
    threads, gpus
        Torch threads and GPUs.
    checkpoint_seconds
        Minimum time between two checkpoints.
    """

    folder: str
    fields: tuple[dict[str, Any], ...]
    categories: tuple[str, ...]
    detect: Detect
    threads: int
    gpus: float
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
    torch.set_num_threads(task.threads)
    folder, device, detect = Folder(task.folder), device_of(task.gpus), task.detect
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
    targets = [_target(one, device) for one in task.fields]
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
    files = [folder.read(one["file_name"]) for one in task.fields]
    return decode_images(pa.chunked_array([pa.array(files, pa.large_binary())]), task.detect.fields.side).numpy()


def _target(record: dict[str, Any], device: str) -> dict[str, Tensor]:
    """Return boxes and categories of a field, in the form of torchvision."""
    categories = [one["category_id"] - 1 for one in record["annotations"]]
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
