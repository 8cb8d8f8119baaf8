"""DistilledSet: the synthetic images, and all that is needed to use them elsewhere.

`images.safetensors` is the iterate chosen on validation images, `images-last.safetensors` the last one. Both hold `images`
(float32 [classes * ipc, 3, H, W], normalised), `targets` ([classes * ipc, K] probabilities), `student_lrs`, and the `mean` and
`std` that undo the normalisation. `history.parquet` has a row per iteration, `validation.parquet` one per validation, and
`seen.parquet` one per galaxy that taught the experts or chose the iterate: none of them may judge the set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
from torch import Tensor

from raydistill.artifacts.manifest import Manifest, open_manifest
from raydistill.artifacts.storage import Folder
from raydistill.core.normalise import Normalisation
from raydistill.errors import ArtifactCorrupt

KIND = "distilled"
SELECTED, LAST = "images.safetensors", "images-last.safetensors"
SEEN = "seen.parquet"


@dataclass(frozen=True)
class SyntheticImages:
    """One iterate. images_SCHW normalised float32, sorted by class; targets_SK probabilities; student_lrs by start epoch."""

    images_SCHW: Tensor
    targets_SK: Tensor
    student_lrs: Tensor
    normalisation: Normalisation
    iteration: int

    @property
    def soft(self) -> bool:
        """Whether any image is of more than one class."""
        return bool((self.targets_SK.amax(dim=1) < 1).any())

    def display(self) -> Tensor:
        """float32 [S, H, W, 3] in [0, 1]: what a person looks at."""
        return self.normalisation.invert(self.images_SCHW)


@dataclass(frozen=True)
class DistilledSet:
    """An opened distilled set."""

    folder: Folder
    manifest: Manifest
    selected: SyntheticImages
    last: SyntheticImages
    class_names: list[str]
    images_per_class: int

    @staticmethod
    def open(uri: str | Folder, *, verify: bool = True) -> DistilledSet:
        folder = uri if isinstance(uri, Folder) else Folder(uri)
        manifest = open_manifest(folder, KIND, verify=verify)
        selected, info = read_images(folder, SELECTED)
        last, _ = read_images(folder, LAST)
        return DistilledSet(folder, manifest, selected, last, info["class_names"], info["images_per_class"])

    def seen(self) -> set[str]:
        """Object ids of the galaxies that must not judge this set."""
        with self.folder.open(SEEN) as stream:
            return set(pq.read_table(stream)["object_id"].to_pylist())


def write_images(folder: Folder, name: str, images: SyntheticImages, info: dict[str, Any]) -> None:
    """`info` travels in the file's header as JSON: class names, images per class, and whatever else explains them."""
    write_tensors(
        folder,
        name,
        {"images": images.images_SCHW, "targets": images.targets_SK, "student_lrs": images.student_lrs},
        {**info, "mean": images.normalisation.mean_C, "std": images.normalisation.std_C, "iteration": images.iteration},
    )


def write_seen(folder: Folder, object_ids: Iterable[str]) -> None:
    """Note the galaxies that taught the experts or chose the iterate."""
    with folder.writing(SEEN) as path:
        pq.write_table(pa.table({"object_id": pa.array(sorted(object_ids), pa.string())}), path)


def read_images(folder: Folder, name: str) -> tuple[SyntheticImages, dict[str, Any]]:
    tensors, info = read_tensors(folder, name)
    try:
        normalisation = Normalisation(tuple(info["mean"]), tuple(info["std"]))
        images = SyntheticImages(
            tensors["images"], tensors["targets"], tensors["student_lrs"], normalisation, info["iteration"]
        )
    except KeyError as error:
        raise ArtifactCorrupt(f"'{name}' lacks {error}", folder.uri, "write it again") from error
    return images, info


def write_tensors(folder: Folder, name: str, tensors: dict[str, Tensor], info: dict[str, Any]) -> None:
    """A safetensors file with `info` as JSON under one metadata key (several keys come in no fixed order)."""
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    folder.write(name, safetensors.torch.save(plain, {"raydistill": json.dumps(info, sort_keys=True)}))


def read_tensors(folder: Folder, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `write_tensors`. ArtifactCorrupt for anything else."""
    data = folder.read(name)
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return tensors, json.loads(header["__metadata__"]["raydistill"])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ArtifactCorrupt(
            f"'{name}' is not a whole safetensors file of raydistill", folder.uri, "write it again"
        ) from error
