"""The Ray task that trains the detector on fields and labelled frames.

Its checkpoint is the state after some steps. Step n draws its pictures with
`fold_in(seed, "batch", n)`. So a resumed training has the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
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
from raydistill.runtime.resources import Processor
from raydistill.seeding import generator
from raydistill.stages.detect.artifact import WEIGHTS
from raydistill.stages.detect.config import Detect
from raydistill.stages.detect.labelled import Frame
from raydistill.stages.detect.network import build_detector, to_tensor
from raydistill.stages.detect.scenes.fields import boxes_of
from raydistill.storage import Folder, checked

STATE = f"{PARTIAL}/state.safetensors"
TRAINED = f"{PARTIAL}/trained.json"  # record of the weights
MAX_NORM = 5.0  # of the gradient
WEIGHT_DECAY = 1e-4
RECORDS = 20  # rows of the history of the loss

_Example = tuple[np.ndarray, np.ndarray, list[int]]  # a picture, its boxes and their categories


@dataclass(frozen=True)
class TrainingTask:
    """The arguments of the training.

    Parameters
    ----------
    folder
        URI of the artifact, which holds the fields.
    fields
        Records of the training fields, with their annotations.
    labelled
        Frames with known sources. With fields and frames, half of a batch is of each. A frame is
        mirrored and turned at random; fields have random orientations already.
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
    labelled: tuple[Frame, ...]
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
    fields = [Frame(folder.read(record["file_name"]), record["annotations"]) for record in task.fields]
    pools = [pool for pool in (_Pool(fields, detect), _Pool(task.labelled, detect, turn=True)) if pool.targets]
    pictures = np.concatenate([pool.pictures_NHWC for pool in pools])
    info = {
        "categories": list(task.categories),
        "side": detect.side,
        "width": detect.width,
        "mean": (pictures.mean(axis=(0, 1, 2)) / 255).tolist(),
        "std": (pictures.std(axis=(0, 1, 2)) / 255).tolist(),
    }
    detector = build_detector(
        len(task.categories), detect.side, detect.width, tuple(info["mean"]), tuple(info["std"]), detect.seed
    ).to(device)
    optimiser = torch.optim.AdamW(detector.parameters(), detect.lr, weight_decay=WEIGHT_DECAY)
    step, history = _load(folder, detector, optimiser)
    saved, losses = time.monotonic(), history.pop("pending", [])
    while step < detect.steps:
        g = generator(detect.seed, "batch", step)
        parts = np.array_split(np.arange(detect.batch_size), len(pools))
        batch = [example for pool, part in zip(pools, parts, strict=True) for example in pool.draw(len(part), g)]
        losses.append(_step(detector, optimiser, batch, device, lr_at(step, detect)))
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


class _Pool:
    """Pictures uint8 `[N, side, side, 3]` with boxes `[S, 4]` and categories `[S]`."""

    def __init__(self, frames: Sequence[Frame], detect: Detect, *, turn: bool = False) -> None:
        files = pa.chunked_array([pa.array([frame.picture for frame in frames], pa.large_binary())])
        self.pictures_NHWC, self.turn = decode_images(files, detect.side).numpy(), turn
        self.targets = [(boxes_of(f.annotations), [a["category_id"] - 1 for a in f.annotations]) for f in frames]

    def draw(self, count: int, g: torch.Generator) -> Iterator[_Example]:
        """Yield random examples, with replacement."""
        for row in torch.randint(len(self.targets), (count,), generator=g).tolist():
            picture, (boxes, categories) = self.pictures_NHWC[row], self.targets[row]
            if self.turn:
                picture, boxes = turned(picture, boxes, int(torch.randint(8, (), generator=g)))
            yield picture, boxes, categories


def turned(picture: np.ndarray, boxes_S4: np.ndarray, symmetry: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a square picture and its boxes in one of eight orientations.

    Parameters
    ----------
    picture : uint8 `[side, side, 3]`
    boxes_S4 : float64 `[S, 4]`
        Left, top, right, bottom [px].
    symmetry
        Quarter turns, counter-clockwise; from 4 on the picture is mirrored first.
    """
    side = len(picture)
    if symmetry >= 4:
        left, top, right, bottom = boxes_S4.T
        picture, boxes_S4 = picture[:, ::-1], np.stack([side - right, top, side - left, bottom], axis=1)
    for _ in range(symmetry % 4):
        left, top, right, bottom = boxes_S4.T
        boxes_S4 = np.stack([top, side - right, bottom, side - left], axis=1)
    return np.rot90(picture, symmetry % 4), boxes_S4


def _step(
    detector: nn.Module, optimiser: torch.optim.Optimizer, batch: Sequence[_Example], device: str, lr: float
) -> float:
    """Take one step, and return the loss."""
    detector.train()
    optimiser.param_groups[0]["lr"] = lr
    pictures = to_tensor(np.stack([picture for picture, _, _ in batch])).to(device)
    targets = [
        {
            "boxes": torch.tensor(boxes, dtype=torch.float32, device=device),
            "labels": torch.tensor(categories, dtype=torch.int64, device=device),
        }
        for _, boxes, categories in batch
    ]
    loss: Tensor = sum(detector(list(pictures), targets).values())
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DivergenceError("the loss is not finite", "detect", f"lower detect.lr (now {lr:g})")
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(detector.parameters(), MAX_NORM)
    optimiser.step()
    return value


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
