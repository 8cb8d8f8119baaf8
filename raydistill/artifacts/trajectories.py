"""TrajectoryStore: where every expert has been, epoch by epoch.

`expert-0007.npy` is float32 [epochs + 1, P], memory-mapped, so a random (expert, epoch) pair costs one row and not the file.
float32 because matching divides by an epoch's displacement, and bfloat16 rounding is a good part of it. One file per expert: no
two workers ever share a writer.

A store may keep the two ends alone, [2, P], with the progress between them in the record: all that straight trajectories need (MCT,
arXiv:2406.19827), at 2 / (epochs + 1) of the size.

While an expert trains, each finished epoch is a file of its own under `partial/`, with the momentum of the last one: whoever
takes the expert over loses at most the epoch in flight. Weeks may pass before the store is sealed, so its pieces are checked from the
first: the record of a shard has the digests of both, and what lies under `partial/` the checksums of zip files. A damaged piece is as good
as none.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydistill.artifacts.manifest import PARTIAL, Manifest, opened
from raydistill.core.networks import Layout
from raydistill.core.training import FitState
from raydistill.core.trajectories import progress
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ArtifactMissing
from raydistill.log import get_logger
from raydistill.storage import Folder

KIND = "trajectories"
OF_SHARD, OF_RECORD = "sha256", "record_sha256"  # in a record

log = get_logger(__name__)


def shard(expert: int) -> str:
    """File name of one expert's trajectory."""
    return f"expert-{expert:04d}.npy"


def record(expert: int) -> str:
    """File name of one expert's accuracies and losses per epoch, with the sha256 of its shard and of the record itself; written before
    the shard, so that has one."""
    return f"expert-{expert:04d}.json"


@dataclass(frozen=True)
class TrajectoryStore:
    """An opened store; `store(expert, epoch)` is theta_P after that epoch (0: the initial parameters)."""

    folder: Folder
    manifest: Manifest
    layout: Layout
    num_experts: int
    num_epochs: int
    ends_only: bool = False

    @staticmethod
    def open(uri: str | Folder, *, verify: bool = True) -> TrajectoryStore:
        """The store at a path or URI; `verify` and errors as of `manifest.opened`."""
        folder, manifest = opened(uri, KIND, verify=verify)
        raw = json.loads(folder.read("layout.json"))
        layout = Layout(tuple(raw["names"]), tuple(tuple(shape) for shape in raw["shapes"]))
        return TrajectoryStore(folder, manifest, layout, raw["num_experts"], raw["num_epochs"], raw["ends_only"])

    def __call__(self, expert: int, epoch: int) -> Tensor:
        """theta_P, float32, of its own memory. IndexError for an epoch that was not trained, ArtifactIncompatible for one that was
        not kept, ArtifactCorrupt for a shard of another shape."""
        if not 0 <= epoch <= self.num_epochs:
            raise IndexError(f"experts have epochs 0 to {self.num_epochs}, not {epoch}")
        if self.ends_only:
            if epoch not in (0, self.num_epochs):
                raise ArtifactIncompatible(
                    f"only the ends of the experts were kept, and epoch {epoch} was asked for", self.folder.uri,
                    "distill with distill.trajectories=straight, or train experts with experts.keep=all",
                )  # fmt: skip
            epoch = min(epoch, 1)
        return torch.from_numpy(np.array(self._map(expert)[epoch]))

    def progress(self, expert: int) -> list[float]:
        """beta_0 ... beta_T of `core.trajectories`: how far along the line between its ends the expert was after each epoch."""
        return self.history(expert)["progress"] if self.ends_only else progress(self._map(expert))

    def ends(self) -> list[Tensor]:
        """theta_P at the end of each expert's training."""
        return [self(expert, self.num_epochs) for expert in range(self.num_experts)]

    def history(self, expert: int) -> dict[str, Any]:
        """{loss: [...], accuracy: [...], balanced_accuracy: [...]} by epoch, the last two on validation images; of ends `progress`, too."""
        return _without_digests(json.loads(self.folder.read(record(expert))))

    @cached_property
    def _mapped(self) -> dict[int, np.ndarray]:
        return {}

    def _map(self, expert: int) -> np.ndarray:
        """A shard, float32 [epochs + 1, P]; from a bucket only those come that are asked for."""
        if expert not in self._mapped:
            expected = (2 if self.ends_only else self.num_epochs + 1, self.layout.num_parameters)
            name = shard(expert)
            path = self.folder.local(name, self.manifest.files[name]["sha256"])
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.shape != expected:
                raise ArtifactCorrupt(
                    f"'{name}' has shape {found.shape}, not {expected}", self.folder.uri, "train it again"
                )
            self._mapped[expert] = found
        return self._mapped[expert]


def write_layout(folder: Folder, layout: Layout, num_experts: int, num_epochs: int, *, ends_only: bool = False) -> None:
    description = {**asdict(layout), "num_experts": num_experts, "num_epochs": num_epochs, "ends_only": ends_only}
    folder.write("layout.json", json.dumps(description, indent=1).encode())


def missing_experts(folder: Folder, num_experts: int) -> list[int]:
    """Experts whose shard and record are not there, or not as they were written."""
    present = set(folder.files())
    return [k for k in range(num_experts) if not {shard(k), record(k)} <= present or _whole_record(folder, k) is None]


def _whole_record(folder: Folder, expert: int) -> dict[str, Any] | None:
    """What the record says, where it and the shard are as they were written."""
    try:
        found: dict[str, Any] = json.loads(folder.read(record(expert)))
    except ValueError:
        return None
    history = _without_digests(found)
    whole = found.get(OF_RECORD) == _digest(history) and found.get(OF_SHARD) == folder.sha256(shard(expert))
    return history if whole else None


def _without_digests(record: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in record.items() if name not in (OF_SHARD, OF_RECORD)}


def _digest(history: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(history, sort_keys=True).encode()).hexdigest()


class ShardWriter:
    """Writes one expert's trajectory, resumable at every epoch."""

    def __init__(self, folder: Folder, expert: int) -> None:
        self._folder, self._expert = folder, expert
        self._partial = f"{PARTIAL}/expert-{expert:04d}"

    def finished(self) -> dict[str, list[float | None]] | None:
        """The record of an expert whose shard is there and whole, tidied up after; None for one that is not."""
        if not all(map(self._folder.exists, (shard(self._expert), record(self._expert)))):
            return None
        if (history := _whole_record(self._folder, self._expert)) is not None:
            self._folder.remove(self._partial)
        return history

    def resume(self) -> tuple[FitState, dict[str, list[float | None]]] | None:
        """The last saved state and the record so far, or None if there is none, or not all that it implies: then it is cleared away."""
        if not self._folder.exists(f"{self._partial}/state.npz"):
            return None
        try:
            saved = self._load("state.npz")
            epoch, theta, momentum, average = int(saved["epoch"]), saved["theta"], saved["momentum"], saved["average"]
            for earlier in range(epoch + 1):
                self._load(_snapshot(earlier))
        except (ArtifactCorrupt, ArtifactMissing) as error:
            log.warning("expert %d begins anew: %s", self._expert, error.what)
            self._folder.remove(self._partial)
            return None
        theta_P, momentum_P, average_P = (torch.from_numpy(array) for array in (theta, momentum, average))
        state = FitState(epoch, theta_P, momentum_P, average_P, float(saved["loss"]))
        return state, json.loads(str(saved["record"]))

    def save(self, state: FitState, history: dict[str, list[float | None]]) -> None:
        """Keep the snapshot of this epoch, then the state to resume from (in this order: a state implies its snapshots)."""
        theta, momentum, average = (
            p.cpu().numpy().astype(np.float32) for p in (state.theta_P, state.momentum_P, state.average_P)
        )
        self._save(_snapshot(state.epoch), average=average)
        self._save(
            "state.npz", epoch=state.epoch, theta=theta, momentum=momentum, average=average, loss=state.loss, record=json.dumps(history)
        )  # fmt: skip

    def finish(self, num_epochs: int, history: dict[str, list[float | None]], *, ends_only: bool = False) -> None:
        """Join the snapshots into the shard and drop the partial files."""
        path = np.stack([self._load(_snapshot(epoch))["average"] for epoch in range(num_epochs + 1)])
        if ends_only:
            history = {**history, "progress": [*progress(path)]}
            path = path[[0, -1]]
        joined = io.BytesIO()
        np.save(joined, path, allow_pickle=False)
        digests = {OF_SHARD: hashlib.sha256(joined.getbuffer()).hexdigest(), OF_RECORD: _digest(history)}
        self._folder.write(record(self._expert), json.dumps(history | digests).encode())
        self._folder.write(shard(self._expert), joined.getvalue())
        self._folder.remove(self._partial)

    def _save(self, name: str, **arrays: Any) -> None:
        packed = io.BytesIO()
        np.savez(packed, **arrays)
        self._folder.write(f"{self._partial}/{name}", packed.getvalue())

    def _load(self, name: str) -> dict[str, np.ndarray]:
        """ArtifactMissing or ArtifactCorrupt unless it is there, with the checksums that it was written with."""
        packed = self._folder.read(f"{self._partial}/{name}")
        try:
            with np.load(io.BytesIO(packed), allow_pickle=False) as saved:
                return {key: saved[key] for key in saved.files}
        except Exception as error:  # numpy and zipfile have many for files that are not whole
            raise ArtifactCorrupt(
                f"'{self._partial}/{name}' is damaged", self._folder.uri, "run the same command again"
            ) from error


def _snapshot(epoch: int) -> str:
    return f"epoch-{epoch:04d}.npz"
