"""The Ray task of the audit: features and distances of a row group's pictures.

The distances are those to the synthetic pictures.

{block, folder, file, index, label, size, set_number, split, rows, pixels}
    ->  a file, and {block, pictures} for the driver
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.learning.architectures import Architecture
from raydistill.morphology.pictures import morphology
from raydistill.runtime.resources import device_of
from raydistill.stages.audit.row_groups import AuditedGroup
from raydistill.stages.audit.science.scattering import scattering
from raydistill.stages.experts.ensemble import load_experts
from raydistill.statistics.memorisation import picture_distances, shrink
from raydistill.statistics.nearest import Neighbours
from raydistill.storage import Folder, checked

# `pixels` holds the pictures of a synthetic block, uint8 [n, H, W, 3]; it is null for a row group of
# the curated set, of which `rows` get features and all are compared with the synthetic pictures.
BLOCK = pa.schema(
    [
        ("block", pa.string()),
        ("folder", pa.string()),
        ("file", pa.string()),
        ("index", pa.int64()),
        ("label", pa.int64()),
        ("size", pa.int64()),
        ("set_number", pa.int64()),
        ("split", pa.string()),
        ("rows", pa.list_(pa.int64())),
        ("pixels", pa.large_binary()),
    ]
)
SHRUNK = "synthetic.safetensors"  # the synthetic pictures with which real ones are compared
BATCH = 128  # pictures
PROBABILITY, NEAREST, DISTANCE = "probability", "nearest", "distance"  # names in a block's file


@dataclass(frozen=True)
class BlockMeasurer:
    """Measure blocks. A worker receives it by pickle, and loads the experts once.

    Attributes
    ----------
    folder
        URI of the folder for the files of finished blocks.
    curated
        URI of the curated set.
    image_size
        Side of the pictures in pixels.
    spaces
        Names of the feature spaces.
    trajectories
        URI of the experts; None if no space needs them.
    nearest
        Number of real pictures of a row group to keep for each synthetic picture.
    threads, gpus
        Torch threads and GPUs of a worker.
    own
        The networks of the user's config.
    """

    folder: str
    curated: str
    image_size: int
    spaces: tuple[str, ...]
    trajectories: str | None
    nearest: int
    threads: int
    gpus: float
    own: tuple[Architecture, ...] = ()

    def __call__(self, block: pa.Table) -> int:
        """Measure one block, write its file, and return how many pictures it has."""
        torch.set_num_threads(self.threads)
        (row,) = block.to_pylist()
        tensors = {}
        if row["pixels"] is not None:
            shape = (-1, self.image_size, self.image_size, 3)
            images = np.frombuffer(bytearray(row["pixels"]), np.uint8).reshape(shape)
        else:
            group = AuditedGroup(**{field.name: row[field.name] for field in fields(AuditedGroup)})
            images = group.images(self.image_size)
            nearest = Neighbours.of(
                picture_distances(_synthetic_pictures(self.folder), shrink_pixels(images)), self.nearest
            )
            tensors = {NEAREST: torch.tensor(nearest.rows_SK), DISTANCE: torch.tensor(nearest.distances_SK)}
            images = images[np.array(row["rows"], np.int64)]
        checked.write(Folder(self.folder), row["block"], pack_tensors(tensors | self.features(images)))
        return int(row["size"])

    def features(self, images_NHWC: npt.NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return features float64 [N, D] by space, and experts' mean probability [N, K]."""
        found, pictures = {}, images_NHWC.astype(np.float32) / 255
        if "scattering" in self.spaces:
            found["scattering"] = torch.tensor(scattering(pictures))
        if "morphology" in self.spaces:
            found["morphology"] = torch.tensor(morphology(pictures))
        if self.trajectories is not None and len(images_NHWC):
            device = device_of(self.gpus)
            ensemble, normalisation = _experts(self.trajectories, self.curated, device, features=True, own=self.own)
            prediction = ensemble.predict(normalisation.apply(torch.tensor(images_NHWC)).to(device))
            found["experts"] = prediction.features_NF.double().cpu()
            found[PROBABILITY] = prediction.mean_NK.double().cpu()
        return found


def shrink_pixels(images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return pictures shrunk as by `memorisation.shrink`.

    `BATCH` pictures at a time are converted to floating-point numbers, which limits memory.
    """
    parts = [shrink(images_NHWC[n : n + BATCH] / 255) for n in range(0, len(images_NHWC), BATCH)]
    return np.concatenate(parts)


@lru_cache(maxsize=1)
def _synthetic_pictures(folder: str) -> npt.NDArray[np.float64]:
    """Return the synthetic pictures, shrunk as `memorisation.shrink` does."""
    packed = checked.require(Folder(folder), SHRUNK)
    pictures: npt.NDArray[np.float64] = unpack_tensors(packed)[0]["pictures"].numpy()
    return pictures


_experts = lru_cache(maxsize=1)(load_experts)
