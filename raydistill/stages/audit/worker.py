"""The Ray task of the audit: features and distances of a row group's pictures.

The distances are those to the synthetic pictures.

{block, folder, file, index, label, size, set_number, split, rows, pixels}
    ->  a file, and {block, pictures} for the driver
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.learning.architectures import Architecture
from raydistill.morphology.pictures import QUANTITIES, morphology
from raydistill.runtime.resources import Processor
from raydistill.stages.audit.inputs import AuditedGroup, AuditedSet, Galaxies, Samples
from raydistill.stages.audit.metrics.comparison import FeatureArray, Features
from raydistill.stages.audit.metrics.features import scattering
from raydistill.stages.curate.artifact import BLOCK_FIELDS
from raydistill.stages.experts.classify.ensemble import predict_by_experts
from raydistill.stages.pretrain.describers import Describer, on_device
from raydistill.statistics.copies import RANK
from raydistill.statistics.memorisation import Neighbours, RealNeighbours, num_nearest, picture_distances, shrink
from raydistill.storage import Folder, checked

# `pixels` holds the pictures of a synthetic block, uint8 [n, H, W, 3]; it is null for a row group of
# the curated set, of which `rows` get features and all are compared with the synthetic pictures.
BLOCK = pa.schema([*BLOCK_FIELDS, ("set_number", pa.int64()), ("split", pa.string())])
SHRUNK = "compared.safetensors"  # the pictures with which training pictures are compared, by name
BATCH = 128  # pictures
PROBABILITY, NEAREST, DISTANCE = "probability", "nearest", "distance"  # names in a block's file
FRESH = "distance of held-out pictures"
OF_BOTH, TO_BOTH = "nearest of both generators", "distance of both generators"
NEIGHBOURS = (NEAREST, DISTANCE, FRESH, OF_BOTH, TO_BOTH)


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
    processor
        Torch threads and GPUs of a worker.
    networks
        The networks of the user's config.
    describer
        Gives the features of the space "encoder"; None without it.
    """

    folder: str
    curated: str
    image_size: int
    spaces: tuple[str, ...]
    trajectories: str | None
    nearest: int
    processor: Processor
    networks: tuple[Architecture, ...] = ()
    describer: Describer | None = None

    def __call__(self, block: pa.Table) -> int:
        """Measure one block, write its file, and return how many pictures it has."""
        device = self.processor.enter()
        (row,) = block.to_pylist()
        tensors = {}
        if row["pixels"] is not None:
            shape = (-1, self.image_size, self.image_size, 3)
            images = np.frombuffer(bytearray(row["pixels"]), np.uint8).reshape(shape)
        else:
            group = AuditedGroup(**{field.name: row[field.name] for field in fields(AuditedGroup)})
            images = group.images(self.image_size)
            shrunk, compared = shrink_pixels(images), compared_pictures(self.folder)
            distances = picture_distances(compared["synthetic"], shrunk)
            nearest = Neighbours.of(distances, self.nearest)
            tensors = {NEAREST: torch.tensor(nearest.rows_SK), DISTANCE: torch.tensor(nearest.distances_SK)}
            if group.split == "train":
                fresh = Neighbours.of(picture_distances(compared["held_out"], shrunk), RANK)
                tensors[FRESH] = torch.tensor(fresh.distances_SK)
            if group.split == "train" and "second" in compared:
                both = np.concatenate([distances, picture_distances(compared["second"], shrunk)])
                nearest = Neighbours.of(both, self.nearest)
                tensors |= {OF_BOTH: torch.tensor(nearest.rows_SK), TO_BOTH: torch.tensor(nearest.distances_SK)}
            images = images[np.array(row["rows"], np.int64)]
        checked.write(Folder(self.folder), row["block"], pack_tensors(tensors | self.features(images, device)))
        return int(row["size"])

    def features(self, images_NHWC: npt.NDArray[np.uint8], device: str) -> dict[str, Tensor]:
        """Return features float64 [N, D] by space, and experts' mean probability [N, K]."""
        features, pictures = {}, images_NHWC.astype(np.float32) / 255
        if "scattering" in self.spaces:
            features["scattering"] = torch.tensor(scattering(pictures))
        if "morphology" in self.spaces:
            features["morphology"] = torch.tensor(morphology(pictures))
        if self.describer is not None and len(images_NHWC):
            features["encoder"] = _described(self.describer, device).features(images_NHWC).double()
        if self.trajectories is not None and len(images_NHWC):
            prediction = predict_by_experts(
                self.trajectories, self.curated, device, images_NHWC, features=True, networks=self.networks
            )
            features["experts"] = prediction.features_NF.double().cpu()
            features[PROBABILITY] = prediction.mean_NK.double().cpu()
        return features


def shrink_pixels(images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return pictures shrunk as by `memorisation.shrink`.

    `BATCH` pictures at a time are converted to floating-point numbers, which limits memory.
    """
    parts = [shrink(images_NHWC[n : n + BATCH] / 255) for n in range(0, len(images_NHWC), BATCH)]
    return np.concatenate(parts)


@lru_cache(maxsize=1)
def compared_pictures(folder: str) -> dict[str, npt.NDArray[np.float64]]:
    """Return the samples "synthetic", "held_out" and any "second", shrunk."""
    tensors, _ = unpack_tensors(checked.require(Folder(folder), SHRUNK))
    return {name: tensor.numpy() for name, tensor in tensors.items()}


_described: Any = lru_cache(maxsize=1)(on_device)  # the same object keeps the network that it has read


# Divide an audit into blocks, and assemble what the workers measured.

Floats = npt.NDArray[np.float64]
SYNTHETIC_BLOCK = 256  # pictures


@dataclass(frozen=True)
class Blocks:
    """The pictures of an audit, and the samples that are compared.

    Attributes
    ----------
    audited
        The set to audit.
    held_out, training
        The real galaxies.
    searched
        All galaxies on which the generator was trained: those of `training`, then those of further
        curated sets.
    samples
        Rows of the three samples.
    labelled
        Rows of held-out and training galaxies for the test of labels. They include the samples, and
        are more where the synthetic set is small.
    second
        Pictures uint8 [n, H, W, 3] of the second generator, if any.
    halves
        The training galaxies of both generators: those of `training`, then those of the second.
    """

    audited: AuditedSet
    held_out: Galaxies
    training: Galaxies
    searched: Galaxies
    samples: Samples
    labelled: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    second: npt.NDArray[np.uint8] | None = None
    halves: Galaxies | None = None

    @cached_property
    def synthetic_images(self) -> npt.NDArray[np.uint8]:
        """Return the sampled synthetic pictures, uint8 [n, H, W, 3]."""
        return self.audited.images(self.samples.synthetic)

    def tables(self) -> Iterator[pa.Table]:
        """Yield one table of `BLOCK` per block."""
        for first, name in self.synthetic_blocks():
            pixels = self.synthetic_images[first : first + SYNTHETIC_BLOCK]
            yield _table({"block": name, "size": len(pixels), "pixels": pixels.tobytes()})
        for galaxies, rows in ((self.searched, self.labelled[1]), (self.held_out, self.labelled[0])):
            for number, group in enumerate(galaxies.groups):
                inside = galaxies.rows_in(number, rows).tolist()
                yield _table({"block": file_name(group.name), "rows": inside, **asdict(group)})
        for group in [] if self.halves is None else self.halves.groups:
            if group.set_number:  # those of the first half are above
                yield _table({"block": file_name(group.name), "rows": [], **asdict(group)})

    def synthetic_blocks(self) -> list[tuple[int, str]]:
        """Return the first picture and the file of each block of synthetic pictures."""
        firsts = range(0, len(self.samples), SYNTHETIC_BLOCK)
        return [(first, file_name(f"synthetic-{number:05d}")) for number, first in enumerate(firsts)]


@dataclass(frozen=True)
class Measured:
    """The contents of all blocks.

    Attributes
    ----------
    synthetic, held_out, training
        Features of the three samples.
    labelled
        Features of the held-out and training galaxies of `Blocks.labelled`.
    neighbours
        Nearest real pictures of each synthetic picture, for the test: training and held-out
        pictures of one survey.
    nearest
        Nearest real pictures, with those of `Blocks.searched` as training pictures.
    probabilities
        The experts' mean class probabilities of the three samples, float64 [n, K] each; None
        without experts.
    fresh_HK
        Distances of the held-out sample to its nearest pictures of `Blocks.searched`.
    halves
        Nearest pictures of both training halves, of both generators' pictures.
    """

    synthetic: Features
    held_out: Features
    training: Features
    labelled: tuple[Features, Features]
    neighbours: RealNeighbours
    nearest: RealNeighbours
    probabilities: tuple[Floats, Floats, Floats] | None
    fresh_HK: Floats
    halves: RealNeighbours | None = None


def file_name(name: str) -> str:
    """Return the file of a block, below the folder of unfinished work."""
    return f"blocks/{name}.safetensors"


def read_measured(folder: Folder, blocks: Blocks, spaces: tuple[str, ...], class_names: tuple[str, ...]) -> Measured:
    """Return the contents of all blocks' files, one of which is in memory at a time."""
    synthetic = _Parts(spaces)
    for _, name in blocks.synthetic_blocks():
        synthetic.add(unpack_tensors(checked.require(folder, name))[0])
    held_out, of_held_out, _ = _read_galaxies(folder, blocks, blocks.held_out, spaces)
    training, of_training, of_searched = _read_galaxies(folder, blocks, blocks.searched, spaces)
    fresh = [
        unpack_tensors(checked.require(folder, file_name(group.name)))[0][FRESH] for group in blocks.searched.groups
    ]
    samples, (held_out_rows, training_rows) = blocks.samples, blocks.labelled
    labels = (
        None if blocks.audited.labels_N is None else blocks.audited.labels_N[samples.synthetic],
        blocks.held_out.labels_N[held_out_rows],
        blocks.training.labels_N[training_rows],
    )
    parts = (synthetic, held_out, training)
    first, *labelled = (part.features(labels_N, class_names) for part, labels_N in zip(parts, labels, strict=True))
    chosen = (
        np.arange(len(samples)),
        np.searchsorted(held_out_rows, samples.held_out),
        np.searchsorted(training_rows, samples.training),
    )
    seen = [part.joined(PROBABILITY)[rows] for part, rows in zip(parts, chosen, strict=True) if "experts" in spaces]
    return Measured(
        synthetic=first,
        held_out=labelled[0].take(chosen[1]),
        training=labelled[1].take(chosen[2]),
        labelled=(labelled[0], labelled[1]),
        neighbours=RealNeighbours(of_training, of_held_out, len(blocks.training), len(blocks.held_out)),
        nearest=RealNeighbours(of_searched, of_held_out, len(blocks.searched), len(blocks.held_out)),
        probabilities=(seen[0], seen[1], seen[2]) if seen else None,
        fresh_HK=np.concatenate([tensor.numpy() for tensor in fresh], axis=1),
        halves=_read_halves(folder, blocks),
    )


def _read_galaxies(
    folder: Folder, blocks: Blocks, galaxies: Galaxies, spaces: tuple[str, ...]
) -> tuple[_Parts, Neighbours, Neighbours]:
    """Return the features and the nearest pictures of a sample.

    The nearest pictures are those in the config's own set, then those in all sets.
    """
    count = num_nearest(len(blocks.training), len(blocks.held_out))
    parts, of_config, nearest = (
        _Parts(spaces),
        Neighbours.none(len(blocks.samples)),
        Neighbours.none(len(blocks.samples)),
    )
    for first, group in zip(galaxies.firsts, galaxies.groups, strict=False):
        tensors, _ = unpack_tensors(checked.require(folder, file_name(group.name)))
        parts.add(tensors)
        block = Neighbours(tensors[NEAREST].numpy() + first, tensors[DISTANCE].numpy())
        nearest = nearest.merged(block, count)
        if group.set_number == 0:
            of_config = nearest
    return parts, of_config, nearest


def _read_halves(folder: Folder, blocks: Blocks) -> RealNeighbours | None:
    """Return the nearest pictures of both halves, with the rows of their half."""
    if blocks.second is None or blocks.halves is None:
        return None
    first_size, size = len(blocks.training), len(blocks.halves)
    halves = [Neighbours.none(len(blocks.samples) + len(blocks.second)) for _ in range(2)]
    for first, group in zip(blocks.halves.firsts, blocks.halves.groups, strict=False):
        tensors, _ = unpack_tensors(checked.require(folder, file_name(group.name)))
        rows_SK = tensors[OF_BOTH].numpy() + first - first_size * group.set_number
        block = Neighbours(rows_SK, tensors[TO_BOTH].numpy())
        halves[group.set_number] = halves[group.set_number].merged(block, num_nearest(first_size, size - first_size))
    return RealNeighbours(halves[0], halves[1], first_size, size - first_size)


class _Parts:
    """Collect the features of the blocks of one sample."""

    def __init__(self, spaces: tuple[str, ...]) -> None:
        self.spaces = spaces
        self.tensors: list[dict[str, Tensor]] = []

    def add(self, tensors: dict[str, Tensor]) -> None:
        self.tensors.append({name: value for name, value in tensors.items() if name not in NEIGHBOURS})

    def joined(self, name: str) -> Floats:
        return np.concatenate([tensors[name].numpy() for tensors in self.tensors if name in tensors])

    def features(self, labels_N: npt.NDArray[np.int64] | None, class_names: tuple[str, ...]) -> Features:
        quantities = {"morphology": QUANTITIES}
        spaces = {name: FeatureArray(self.joined(name), quantities.get(name, ())) for name in self.spaces}
        return Features(spaces, labels_N, class_names)


def _table(row: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist([row], BLOCK)
