"""Define `TrajectoryStore`: the parameters of every expert after each epoch.

If an epoch has more steps than a student can follow, a snapshot is kept after each of several parts
of it (`distillation.snapshots`). Such a snapshot counts as an epoch in this module.

- `expert-0007.npy`: float32 [epochs + 1, P], memory-mapped, so a random (expert, epoch) pair reads
  one row. Each expert has its own file, so no two workers share a writer.
- The dtype is float32 because matching divides by an epoch's displacement, and bfloat16 rounding is
  a large part of that displacement.
- `experts.png`: the experts' accuracies by epoch.
- A store may keep only the two ends, [2, P], and the progress between them in the record. Straight
  trajectories (MCT, arXiv:2406.19827) need no more.

While an expert trains, `partial/` holds one file per snapshot and the state of the last one. A
worker that resumes the expert repeats at most one epoch or part of it.

The store may be committed weeks after its first shard. So each record holds the sha256 of itself
and of its shard, and files under `partial/` carry theirs. A damaged file counts as missing.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import takewhile
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import PARTIAL, Manifest
from raydistill.artifacts.records import read_json
from raydistill.distillation.trajectories import final_parameters, progress
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible
from raydistill.learning.networks import Layout
from raydistill.learning.sgd import FitState
from raydistill.log import get_logger
from raydistill.storage import Folder, checked

KIND = kinds.TRAJECTORIES
SHARD_DIGEST, RECORD_DIGEST = "sha256", "record_sha256"  # keys of a record

log = get_logger(__name__)


def shard(expert: int) -> str:
    """Return the file name of one expert's trajectory."""
    return f"expert-{expert:04d}.npy"


def record(expert: int) -> str:
    """Return the file name of one expert's losses and accuracies per epoch.

    The record also holds the sha256 of the shard and of itself. It is written before the shard.
    """
    return f"expert-{expert:04d}.json"


Count = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class _StoredLayout:
    """The contents of `layout.json`."""

    names: tuple[str, ...]
    shapes: tuple[tuple[Count, ...], ...]
    num_experts: Count
    num_epochs: Count
    ends_only: bool
    steps: tuple[Count, ...] = ()


@dataclass(frozen=True, repr=False)
class TrajectoryStore(Displayed):
    """An opened store: `store(expert, epoch)` returns the parameters after that epoch.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    layout
        Names and shapes of the network's parameters, in the order of the flat vector.
    num_experts
        Number of experts.
    num_epochs
        Number of snapshots after the initial one: the epochs that each expert was trained for, or
        their stored parts.
    ends_only
        Whether the store keeps only the initial and the final parameters (`experts.keep: ends`).
    steps
        SGD steps before each snapshot.
    """

    layout: Layout
    num_experts: int
    num_epochs: int
    ends_only: bool = False
    steps: tuple[int, ...] = ()

    _pictures = "experts.png"

    kind = KIND

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        stored = read_json(folder, "layout.json", _StoredLayout)
        layout = Layout(stored.names, stored.shapes)
        return cls(folder, manifest, layout, stored.num_experts, stored.num_epochs, stored.ends_only, stored.steps)

    def _contents(self) -> str:
        return f"{self.num_experts} experts with {self.layout.num_parameters} parameters, {self.num_epochs + 1} snapshots each"

    def __call__(self, expert: int, epoch: int) -> Tensor:
        """Return the flat parameter vector of an expert after an epoch.

        Parameters
        ----------
        expert
            Number of the expert, from 0.
        epoch
            Number of trained epochs; 0 returns the initial parameters.

        Returns
        -------
        torch.Tensor
            float32 [P], a copy.

        Raises
        ------
        IndexError
            There is no such expert, or it was not trained for so many epochs.
        ArtifactIncompatible
            The store does not keep this epoch.
        ArtifactCorrupt
            The shard has an unexpected shape.
        """
        if not 0 <= expert < self.num_experts:
            raise IndexError(f"the store has experts 0 to {self.num_experts - 1}, not {expert}")
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
        """Return the expert's progress along the line between its ends after each epoch.

        Returns
        -------
        list of float
            beta_0 … beta_T, see `raydistill.distillation.trajectories.progress`.
        """
        return self.history(expert)["progress"] if self.ends_only else progress(self._map(expert))

    def ends(self) -> list[Tensor]:
        """Return the final parameters of each expert: float32 [P] each."""
        return final_parameters(self)

    def history(self, expert: int) -> dict[str, Any]:
        """Return the expert's learning curves.

        Returns
        -------
        dict
            Lists by epoch: `loss` on training images, of the epoch's last part if it has several;
            `accuracy` and `balanced_accuracy` on validation images; `progress` where the store
            keeps only the ends.
        """
        return read_history(self.folder, expert)

    @cached_property
    def _mapped(self) -> dict[int, np.ndarray]:
        return {}

    def _map(self, expert: int) -> np.ndarray:
        """Map a shard: float32 [epochs + 1, P], or [2, P] with `ends_only`.

        A bucket's shard is downloaded first.
        """
        if expert not in self._mapped:
            expected = (2 if self.ends_only else self.num_epochs + 1, self.layout.num_parameters)
            name = shard(expert)
            path = self.folder.local(name, self.manifest.files[name].sha256)
            trajectory = np.load(path, mmap_mode="r", allow_pickle=False)
            if trajectory.shape != expected:
                raise ArtifactCorrupt(
                    f"'{name}' has shape {trajectory.shape}, not {expected}", self.folder.uri, "train it again"
                )
            self._mapped[expert] = trajectory
        return self._mapped[expert]


def write_layout(
    folder: Folder, layout: Layout, num_experts: int, steps: Sequence[int], *, ends_only: bool = False
) -> None:
    """Write `layout.json`. steps: SGD steps before each snapshot."""
    stored = _StoredLayout(**asdict(layout), num_experts=num_experts, num_epochs=len(steps) - 1, ends_only=ends_only,
                           steps=tuple(steps))  # fmt: skip
    folder.write("layout.json", json.dumps(asdict(stored), indent=1).encode())


def read_history(folder: Folder, expert: int) -> dict[str, Any]:
    """Return the learning curves of a finished expert, see `TrajectoryStore.history`."""
    return _without_digests(json.loads(folder.read(record(expert))))


def missing_experts(folder: Folder, num_experts: int) -> list[int]:
    """Return the experts whose shard or record is missing or damaged."""
    present = set(folder.files())
    return [k for k in range(num_experts) if not {shard(k), record(k)} <= present or _intact_record(folder, k) is None]


def _intact_record(folder: Folder, expert: int) -> dict[str, Any] | None:
    """Return the record, or None where it or the shard differs from its digest."""
    with suppress(ValueError):
        raw: dict[str, Any] = json.loads(folder.read(record(expert)))
        history = _without_digests(raw)
        if raw.get(RECORD_DIGEST) == _digest(history) and raw.get(SHARD_DIGEST) == folder.sha256(shard(expert)):
            return history
    log.warning("%s: expert %d is damaged and is trained again", folder, expert)
    return None


def _without_digests(record: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in record.items() if name not in (SHARD_DIGEST, RECORD_DIGEST)}


def _digest(history: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(history, sort_keys=True).encode()).hexdigest()


class ShardWriter:
    """Write one expert's trajectory; training can resume after every part of an epoch.

    `stored` has the numbers of the parts to store, ascending; see `distillation.snapshots`.
    """

    def __init__(self, folder: Folder, expert: int, stored: Sequence[int]) -> None:
        self._folder, self._expert, self._stored = folder, expert, stored
        self._partial = f"{PARTIAL}/expert-{expert:04d}"

    def finished(self) -> dict[str, list[float | None]] | None:
        """Return the record of a finished expert and remove its partial files; else None."""
        if not all(map(self._folder.exists, (shard(self._expert), record(self._expert)))):
            return None
        if (history := _intact_record(self._folder, self._expert)) is not None:
            self._folder.remove(self._partial)
        return history

    def resume(self) -> tuple[FitState, dict[str, list[float | None]]] | None:
        """Return the last saved state and the record up to it, or None.

        A state is discarded if it or a snapshot before it is missing or damaged.
        """
        if not self._folder.exists(f"{self._partial}/state.npz"):
            return None
        packed = checked.read(self._folder, f"{self._partial}/state.npz")
        saved = {} if packed is None else _unpack(packed)
        needed = takewhile(lambda epoch: epoch <= saved["epoch"], self._stored) if saved else ()
        if not saved or not all(checked.is_intact(self._folder, self._snapshot(epoch)) for epoch in needed):
            log.warning("expert %d: starting over: its state or a snapshot is missing or damaged", self._expert)
            self._folder.remove(self._partial)
            return None
        theta_P, momentum_P, average_P = (torch.from_numpy(saved[name]) for name in ("theta", "momentum", "average"))
        state = FitState(int(saved["epoch"]), theta_P, momentum_P, average_P, float(saved["loss"]))
        return state, json.loads(str(saved["record"]))

    def save(self, state: FitState, history: dict[str, list[float | None]], num_parameters: int | None = None) -> None:
        """Write the snapshot of this part if it is stored, then the state.

        A state needs all its snapshots. `num_parameters` is the number of leading parameters that
        the trajectory keeps; None: all.
        """
        theta, momentum, average = (
            p.cpu().numpy().astype(np.float32) for p in (state.theta_P, state.momentum_P, state.average_P)
        )
        if state.done in self._stored:
            self._save(self._snapshot(state.done), average=average[:num_parameters])
        arrays = {"theta": theta, "momentum": momentum, "average": average}
        numbers = {"epoch": state.done, "loss": state.loss, "record": json.dumps(history)}
        self._save(f"{self._partial}/state.npz", **arrays, **numbers)

    def finish(self, history: dict[str, list[float | None]], *, ends_only: bool = False) -> None:
        """Join the snapshots into the shard and remove the partial files."""
        snapshots = [checked.require(self._folder, self._snapshot(part)) for part in self._stored]
        path = np.stack([_unpack(packed)["average"] for packed in snapshots])
        if ends_only:
            history = {**history, "progress": [*progress(path)]}
            path = path[[0, -1]]
        joined = io.BytesIO()
        np.save(joined, path, allow_pickle=False)
        digests = {SHARD_DIGEST: hashlib.sha256(joined.getbuffer()).hexdigest(), RECORD_DIGEST: _digest(history)}
        self._folder.write(record(self._expert), json.dumps(history | digests).encode())
        self._folder.write(shard(self._expert), joined.getvalue())
        self._folder.remove(self._partial)

    def _save(self, name: str, **arrays: Any) -> None:
        packed = io.BytesIO()
        np.savez(packed, **arrays)
        checked.write(self._folder, name, packed.getvalue())

    def _snapshot(self, part: int) -> str:
        return f"{self._partial}/epoch-{part:04d}.npz"


def _unpack(packed: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(packed), allow_pickle=False) as saved:
        return {key: saved[key] for key in saved.files}
