"""DistilledSet: the synthetic images, and all that is needed to use them elsewhere.

`images.safetensors` is the iterate chosen on validation images, `images-last.safetensors` the last one. Both hold `images`
(float32 [classes * ipc, 3, H, W], normalised), `targets` ([classes * ipc, K] probabilities), `student_lrs`, and the `mean` and
`std` that undo the normalisation. Whitened images name `whitening.safetensors` instead, which lies beside them and holds the
transform and its inverse. `history.parquet` has a row per piece of an iteration, `validation.parquet` one per validation, and
`seen.parquet` one per galaxy that taught the experts or chose the iterate: none of them may judge the set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from raydistill.artifacts.manifest import Manifest, opened
from raydistill.artifacts.tables import read_table
from raydistill.artifacts.tensors import WHITENING, read_tensors, read_whitening, write_tensors, write_whitening
from raydistill.core.normalise import AnyNormalisation, Normalisation, Whitening
from raydistill.errors import ArtifactCorrupt
from raydistill.storage import Folder

if TYPE_CHECKING:
    from astropy.io.fits import HDUList

KIND = "distilled"
SELECTED, LAST = "images.safetensors", "images-last.safetensors"
SEEN = "seen.parquet"
PROTOTYPES = "prototypes.fits"


@dataclass(frozen=True)
class SyntheticImages:
    """One iterate. images_SCHW normalised float32, sorted by class; targets_SK probabilities; student_lrs by start epoch."""

    images_SCHW: Tensor
    targets_SK: Tensor
    student_lrs: Tensor
    normalisation: AnyNormalisation
    iteration: int

    @property
    def soft(self) -> bool:
        """Whether any image is of more than one class."""
        return bool((self.targets_SK.amax(dim=1) < 1).any())

    def display(self) -> Tensor:
        """float32 [S, H, W, 3] in [0, 1]: what a person looks at."""
        return self.pixels().clamp(0, 1)

    def pixels(self) -> Tensor:
        """float32 [S, H, W, 3] in which black is 0 and white 1, and an image may be darker or brighter: what a person measures."""
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
    aligned: bool  # its galaxies lie level

    @staticmethod
    def open(uri: str | Folder, *, verify: bool = True) -> DistilledSet:
        """The distilled set at a path or URI; `verify` and errors as of `manifest.opened`."""
        folder, manifest = opened(uri, KIND, verify=verify)
        selected, info = read_images(folder, SELECTED)
        last, _ = read_images(folder, LAST)
        last = replace(last, normalisation=selected.normalisation)  # a run has one, and a whitening is large
        aligned = info.get("aligned", False)
        return DistilledSet(folder, manifest, selected, last, info["class_names"], info["images_per_class"], aligned)

    @property
    def images(self) -> Tensor:
        """float32 [S, 3, H, W] in [0, 1], sorted by class: the selected images as a person sees them."""
        return self.selected.display().permute(0, 3, 1, 2)

    @property
    def normalised_images(self) -> Tensor:
        """float32 [S, 3, H, W]: the selected images as a network sees them."""
        return self.selected.images_SCHW

    @property
    def labels(self) -> Tensor:
        """int64 [S]: the class of each image, an index into `class_names`."""
        return torch.arange(len(self.class_names)).repeat_interleave(self.images_per_class)

    def to_torch(self) -> TensorDataset:
        """Return the set as a network is trained on it.

        Returns
        -------
        torch.utils.data.TensorDataset
            Of pairs (image, target): float32 [3, H, W], normalised, and float32 [K], the
            probability of each class (one-hot where labels are hard).
        """
        return TensorDataset(self.selected.images_SCHW, self.selected.targets_SK)

    def to_fits(self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> HDUList:
        """Return the prototypes as a FITS file in memory; with `path`, also write it there.

        One image extension per prototype, [3, H, W] in the pictures' own brightness: an
        arcsinh-stretched RGB, of which no photometry can be made.

        Raises
        ------
        OSError
            `path` exists and `overwrite` is false.
        """
        from astropy.io import fits

        with self.folder.open(PROTOTYPES) as stream:
            hdus = fits.HDUList.fromstring(stream.read())
        if path is not None:
            hdus.writeto(path, overwrite=overwrite)
        return hdus

    def seen(self) -> pa.Table:
        """`object_id` and picture (`sha256` of its file) of the galaxies that must not judge this set."""
        return read_table(self.folder, SEEN)


def write_images(folder: Folder, name: str, images: SyntheticImages, info: dict[str, Any]) -> None:
    """`info` travels in the file's header as JSON: class names, images per class, and whatever else explains them."""
    undo = write_normalisation(folder, images.normalisation)
    write_tensors(
        folder,
        name,
        {"images": images.images_SCHW, "targets": images.targets_SK, "student_lrs": images.student_lrs},
        {**info, **undo, "iteration": images.iteration},
    )


def write_normalisation(folder: Folder, normalisation: AnyNormalisation) -> dict[str, Any]:
    """What a header says of it. A whitening goes into a file of its own: its matrices are larger than most sets of images."""
    if isinstance(normalisation, Whitening):
        write_whitening(folder, normalisation)
        return {"whitening": WHITENING}
    return {"mean": normalisation.mean_C, "std": normalisation.std_C}


def write_seen(folder: Folder, galaxies: pa.Table) -> None:
    """Note the galaxies that taught the experts or chose the iterate, given as rows of a curated set."""
    pictures = pc.struct_field(galaxies["source"], "sha256")
    table = pa.table({"object_id": galaxies["object_id"], "sha256": pictures}).sort_by("object_id")
    with folder.writing(SEEN) as path:
        pq.write_table(table, path)


def read_images(folder: Folder, name: str) -> tuple[SyntheticImages, dict[str, Any]]:
    tensors, info = read_tensors(folder, name)
    try:
        normalisation = (
            read_whitening(folder) if "whitening" in info else Normalisation(tuple(info["mean"]), tuple(info["std"]))
        )
        images = SyntheticImages(
            tensors["images"], tensors["targets"], tensors["student_lrs"], normalisation, info["iteration"]
        )
    except KeyError as error:
        raise ArtifactCorrupt(f"'{name}' lacks {error}", folder.uri, "write it again") from error
    return images, info
