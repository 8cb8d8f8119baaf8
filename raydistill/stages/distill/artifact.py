"""Define `DistilledSet`: the synthetic images and all that is needed to use them.

- `images.safetensors`: the iterate selected on validation images. `images-last.safetensors`: the
  last one; `images-initial.safetensors`: the first one. They hold `images` (float32 [S, 3, H, W],
  normalised), `targets` ([S, K] probabilities), `student_lrs`, and the `mean` and `std` that undo
  the normalisation.
- `whitening.safetensors`: the whitening and its inverse; the header of whitened images names it.
- `history.parquet`: a row per segment of an iteration. `validation.parquet`: a row per validation.
- `prototypes.fits`: the selected images as FITS, see `stages.distill.report`.
- `frames/iteration-000010.png`: all images after an iteration, a row per class, in 8 bits. Rows of
  classes with fewer images than others end in black.
- `seen.parquet`: a row per galaxy that was used to train the experts or to select the iterate. An
  evaluation excludes these galaxies.

S = number of images, K = number of classes.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import Manifest
from raydistill.artifacts.records import checked, read_json
from raydistill.artifacts.tables import read_table
from raydistill.artifacts.tensors import read_normalisation, read_tensors, write_normalisation, write_tensors
from raydistill.distillation.coreset import classes_of
from raydistill.distillation.residual import Residual, residual_of
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible, ArtifactMissing, listed
from raydistill.galaxies.pictures.images import encode_png
from raydistill.learning.normalise import AnyNormalisation
from raydistill.stages.distill.card import CARD, Card
from raydistill.stages.distill.counts import counts_of, first_rows, mosaic, places_of
from raydistill.storage import Folder

if TYPE_CHECKING:
    from astropy.io.fits import HDUList
    from datasets import Dataset

KIND = kinds.DISTILLED
SELECTED, LAST, INITIAL = "images.safetensors", "images-last.safetensors", "images-initial.safetensors"
SEEN = "seen.parquet"
PROTOTYPES = "prototypes.fits"
FRAME = re.compile(r"frames/iteration-(\d+)\.png")


@dataclass(frozen=True, repr=False)
class SyntheticImages:
    """One iterate of a distillation.

    Attributes
    ----------
    images_SCHW
        float32 [S, 3, H, W], normalised, sorted by class.
    targets_SK
        float32 [S, K], the probability of each class (one-hot where labels are hard).
    student_lrs
        float32, the learned learning rates: one, or one per start epoch.
    normalisation
        The map from pixels to network input, and its inverse.
    iteration
        The distillation iteration after which the images were saved.
    """

    images_SCHW: Tensor
    targets_SK: Tensor
    student_lrs: Tensor
    normalisation: AnyNormalisation
    iteration: int

    def __repr__(self) -> str:
        return f"<SyntheticImages: {tuple(self.images_SCHW.shape)}, after iteration {self.iteration}>"

    @property
    def soft(self) -> bool:
        """Return whether any image has more than one class with non-zero probability."""
        return bool((self.targets_SK.amax(dim=1) < 1).any())

    def display(self) -> Tensor:
        """Return the images for display: float32 [S, H, W, 3], clipped to [0, 1]."""
        return self.pixels().clamp(0, 1)

    def levels(self) -> np.ndarray:
        """Return the images as files store them: uint8 [S, H, W, 3], rounded."""
        levels: np.ndarray = np.rint(self.display().numpy() * 255).astype(np.uint8)
        return levels

    def pixels(self) -> Tensor:
        """Return the images for measurements: float32 [S, H, W, 3], not clipped.

        Black is 0 and white 1.
        """
        return self.normalisation.invert(self.images_SCHW)


@dataclass(frozen=True)
class _Header:
    """The entries of the header of `images.safetensors` that describe the set."""

    class_names: list[str]
    images_per_class: int
    counts: tuple[int, ...] = ()
    aligned: bool = False


@dataclass(frozen=True, repr=False)
class DistilledSet(Displayed):
    """An opened distilled set.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    selected
        The iterate selected on validation images.
    last
        The last iterate.
    class_names
        Names of the K classes; the index is the label.
    counts
        Number of images of each class.
    aligned
        Whether the galaxies were turned until their major axis is horizontal.

    Examples
    --------
    >>> import raydistill as rd
    >>> prototypes = rd.open("runs/demo/distilled-0123456789ab")  # doctest: +SKIP
    >>> prototypes.images.shape  # doctest: +SKIP
    torch.Size([9, 3, 32, 32])
    """

    selected: SyntheticImages
    last: SyntheticImages
    class_names: list[str]
    counts: tuple[int, ...]
    aligned: bool

    _pictures = "grid.png"

    kind = KIND

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        selected, info = read_images(folder, SELECTED)
        last = selected  # a released set has the selected images alone
        if LAST in manifest.files:
            last, _ = read_images(folder, LAST)
            last = replace(last, normalisation=selected.normalisation)  # share one object: a whitening is large
        header = checked(folder, SELECTED, _Header, info)
        names, parts = header.class_names, (selected, last)
        counts = counts_of(vars(header))
        shape = (sum(counts), len(counts))
        fits = all(len(part.images_SCHW) == shape[0] and part.targets_SK.shape == shape for part in parts)
        if not fits or len(names) != len(counts) or min(counts, default=0) < 1:
            what = f"it has not {_listed(counts)} images of its {len(names)} classes"
            raise ArtifactCorrupt(what, folder.uri, "remove the folder and run 'raydistill distill CONFIG' again")
        return cls(folder, manifest, selected, last, names, counts, header.aligned)

    def _contents(self) -> str:
        num_images, _, height, width = self.selected.images_SCHW.shape
        return f"{num_images} distilled images of {len(self.class_names)} classes, {height} x {width} pixels"

    @cached_property
    def card(self) -> Card | None:
        """Return the card of a released set; None of any other set."""
        return read_json(self.folder, CARD, Card) if CARD in self.manifest.files else None

    @cached_property
    def initial(self) -> SyntheticImages:
        """Return the images before the first iteration; a released set has none."""
        self._require_file(INITIAL)
        return read_images(self.folder, INITIAL)[0]

    def residual(self, *others: DistilledSet, last: bool = False) -> Residual:
        """Return what the distillation added to the initial images.

        Parameters
        ----------
        others
            Further sets of the same classes and size, best from disjoint galaxies; their mean is
            returned, with its signal-to-noise. Prototypes are compared in the pose in which they are.
        last
            Take the last iterate in place of the one selected on validation images, which may be the
            initial images themselves.

        Returns
        -------
        Residual
        """
        for other in others:
            other.require(self.class_names, self.selected.images_SCHW.shape[-1])
            if other.counts != self.counts:
                what = f"its classes have {_listed(other.counts)} images, those of the first set {_listed(self.counts)}"
                raise ArtifactIncompatible(what, other.folder.uri, "compare sets with equally many images")
        ends = [(made.last if last else made.selected, made.initial) for made in (self, *others)]
        sets = [end.pixels() - initial.pixels() for end, initial in ends]
        return residual_of(np.stack([residual.double().numpy() for residual in sets]))

    @property
    def images_per_class(self) -> int:
        """Return the mean number of images of a class, rounded down."""
        return sum(self.counts) // len(self.counts)

    @property
    def first_rows(self) -> list[int]:
        """Return the row of the first image of each class."""
        return first_rows(self.counts)

    @property
    def stored_counts(self) -> tuple[int, ...]:
        """Return the number of stored images of each class.

        It is less than `counts` if the stored images are tiles.
        """
        factor: int = self.manifest.config.get("distill", {}).get("multi_formation", 1)
        return tuple(count // factor**2 for count in self.counts)

    @property
    def images(self) -> Tensor:
        """Return the selected images for display: float32 [S, 3, H, W] in [0, 1].

        They are sorted by class.
        """
        return self.selected.display().permute(0, 3, 1, 2)

    @property
    def normalised_images(self) -> Tensor:
        """Return the selected images as network input: float32 [S, 3, H, W].

        They are sorted by class.
        """
        return self.selected.images_SCHW

    @property
    def labels(self) -> Tensor:
        """Return the class of each image: int64 [S], indices into `class_names`."""
        return classes_of(self.counts)

    def to_torch(self) -> TensorDataset:
        """Return the training data for a network.

        Returns
        -------
        torch.utils.data.TensorDataset
            Pairs (image, target). The image is float32 [3, H, W], normalised. The target is
            float32 [K], the probability of each class (one-hot where labels are hard).
        """
        return TensorDataset(self.selected.images_SCHW, self.selected.targets_SK)

    def to_huggingface(self) -> Dataset:
        """Return the selected images as a Hugging Face `Dataset` (extra `huggingface`).

        Returns
        -------
        datasets.Dataset
            `pixel_values` [3, H, W] and `target` [K] are the pairs of `to_torch`. `image` shows the
            picture, and `label` is its class.
        """
        from raydistill.exporting.huggingface import TRAIN, to_dataset_dict

        return to_dataset_dict(self)[TRAIN]

    def to_fits(self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> HDUList:
        """Return the prototypes as a FITS file in memory; with `path`, also write it.

        Parameters
        ----------
        path
            File to write; None writes nothing.
        overwrite
            Replace an existing file.

        Returns
        -------
        astropy.io.fits.HDUList
            One image extension per prototype: float32 [3, H, W], black 0 and white 1.

        Raises
        ------
        OSError
            `path` exists and `overwrite` is false.

        Notes
        -----
        The pictures are arcsinh-stretched RGB composites: photometry on them is not meaningful.
        """
        from astropy.io import fits

        self._require_file(PROTOTYPES)
        with self.folder.open(PROTOTYPES) as stream:
            hdus = fits.HDUList.fromstring(stream.read())
        if path is not None:
            hdus.writeto(path, overwrite=overwrite)
        return hdus

    def _require_file(self, name: str) -> None:
        if name not in self.manifest.files:
            what = f"'{name}' is no part of a released set"
            raise ArtifactMissing(what, self.folder.uri, "distil the set with the config of its card")

    def require(self, class_names: list[str], image_size: int) -> None:
        """Raise ArtifactIncompatible unless the set has these classes and this image size."""
        where = self.folder.uri
        if self.class_names != class_names:
            what = f"its classes are {', '.join(self.class_names)}, the survey's are {', '.join(class_names)}"
            raise ArtifactIncompatible(what, where, "set curate.classes to the classes it was distilled for")
        size = self.selected.images_SCHW.shape[-1]
        if size != image_size:
            what = f"its images have {size} px, the survey's have {image_size}"
            raise ArtifactIncompatible(what, where, f"set curate.image_size={size}")

    def frames(self) -> dict[int, np.ndarray]:
        """Return the images during the distillation, by iteration.

        Returns
        -------
        dict of int to numpy.ndarray
            uint8 [S, H, W, 3], sorted by class.
        """
        rows, columns, places = len(self.counts), max(self.counts), places_of(self.counts)
        frames = {}
        for name in sorted(self.manifest.files):
            if match := FRAME.fullmatch(name):
                picture = np.asarray(Image.open(io.BytesIO(self.folder.read(name)), formats=["PNG"]))
                tiles = picture.reshape(rows, picture.shape[0] // rows, columns, picture.shape[1] // columns, 3)
                frames[int(match[1])] = tiles.swapaxes(1, 2)[places]
        return frames

    def seen(self) -> pa.Table:
        """Return the galaxies that an evaluation of this set must exclude.

        Returns
        -------
        pyarrow.Table
            Columns `object_id`, and `sha256` of the picture's original file.
        """
        return read_table(self.folder, SEEN)


def _listed(counts: Sequence[int]) -> str:
    return listed([str(count) for count in counts])


def write_images(folder: Folder, name: str, images: SyntheticImages, info: dict[str, Any]) -> None:
    """Write an iterate; `info` (class names, …) goes into the header as JSON."""
    inverse = write_normalisation(folder, images.normalisation)
    write_tensors(
        folder,
        name,
        {"images": images.images_SCHW, "targets": images.targets_SK, "student_lrs": images.student_lrs},
        {**info, **inverse, "iteration": images.iteration},
    )


def write_frame(folder: Folder, images: SyntheticImages, counts: Sequence[int]) -> None:
    """Write the images after an iteration as one picture, a row per class."""
    folder.write(f"frames/iteration-{images.iteration:06d}.png", encode_png(mosaic(images.levels(), counts)))


def read_images(folder: Folder, name: str) -> tuple[SyntheticImages, dict[str, Any]]:
    """Return an iterate and the JSON data of its header.

    Raise ArtifactCorrupt where an entry is missing.
    """
    tensors, info = read_tensors(folder, name)
    try:
        images = SyntheticImages(
            tensors["images"],
            tensors["targets"],
            tensors["student_lrs"],
            read_normalisation(folder, info),
            info["iteration"],
        )
    except (KeyError, TypeError) as error:
        raise ArtifactCorrupt(f"'{name}' lacks {error}", folder.uri, "write it again") from error
    return images, info
