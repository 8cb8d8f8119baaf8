"""Describe pictures by features of the first expert, an encoder, or a table.

`open_describer` returns what `features` of the config names. Whatever uses features asks it: predict,
hunt, similar, augment, and the condition "embedding" of a generator.

Shapes: N pictures, F features, K components.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from raydistill.artifacts.tensors import read_tensors, write_tensors
from raydistill.config import Resources
from raydistill.learning.components import axes_above_rounding
from raydistill.log import get_logger
from raydistill.runtime.resources import Processor
from raydistill.runtime.tasks import map_tasks
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.classify.embedding import open_expert
from raydistill.stages.pretrain.artifact import TABLE, EncoderArtifact, EncoderDescriber, no_picture
from raydistill.stages.pretrain.config import EXPERTS
from raydistill.storage import Folder

if TYPE_CHECKING:
    from raydistill.pipeline.plan import Plan

log = get_logger(__name__)

EMBEDDING = "embedding.safetensors"
PICTURES_OF_A_TASK = 512


class Describer(Protocol):
    """Gives the features of pictures; it reads its files when it is first used."""

    def features(self, images_NHWC: np.ndarray | Tensor) -> Tensor:
        """Return the features float32 [N, F] of uint8 pictures, on the CPU."""
        ...


@dataclass(frozen=True)
class TableDescriber:
    """The features that a table has for the objects of a survey.

    Parameters
    ----------
    uri
        Folder of the encoder.
    """

    uri: str

    @cached_property
    def _table(self) -> pa.Table:
        return pa.ipc.open_file(pa.memory_map(str(Folder(self.uri).local(TABLE)))).read_all()  # needs no memory

    def known(self, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Return whether the table has a row for each of N ids, bool [N]."""
        return pc.is_in(ids, self._table["object_id"]).to_numpy(zero_copy_only=False)

    def lookup(self, ids: pa.Array | pa.ChunkedArray) -> Tensor:
        """Return the features float32 [N, F] of known ids."""
        rows = self._table["features"].take(pc.index_in(ids, self._table["object_id"])).combine_chunks()
        values = rows.flatten().to_numpy(zero_copy_only=False)
        return torch.from_numpy(values.astype(np.float32).reshape(len(ids), -1))

    def features(self, images_NHWC: np.ndarray | Tensor) -> Tensor:
        """Raise ArtifactIncompatible: the table has no features of other pictures."""
        raise no_picture(self.uri)

    def __getstate__(self) -> dict[str, object]:
        """Return the folder alone: another process reads the table itself."""
        return {"uri": self.uri}


def open_describer(plan: Plan, curated: CuratedSet) -> Describer:
    """Return what `features` of the config names.

    Raises
    ------
    ArtifactMissing, ArtifactCorrupt
        The experts, or the encoder, do not exist or are damaged.
    ArtifactIncompatible
        They were made for other pictures.
    """
    if plan.config.features == EXPERTS:
        return open_expert(plan, curated)
    artifact = EncoderArtifact.open(plan.describer.folder)
    check_pictures(artifact, curated)
    if artifact.summary.source == "embeddings":
        return TableDescriber(artifact.folder.uri)
    architecture = None
    if artifact.summary.source != "onnx":
        architecture = artifact.architecture(plan.config.pretrain.networks)
    return EncoderDescriber(artifact.folder.uri, artifact.summary, architecture)


def check_pictures(artifact: EncoderArtifact, curated: CuratedSet) -> None:
    """Raise ArtifactIncompatible for another size; warn of other pictures."""
    theirs, ours = artifact.summary, curated.summary
    if theirs.source == "embeddings":
        return
    artifact.require_size(ours.image_size)
    for key in ("crop_fraction", "aligned"):
        if getattr(theirs, key) != getattr(ours, key):
            what = "features: the encoder saw pictures with %s %s, and these have %s; its features may be worse"
            log.warning(what, key, getattr(theirs, key), getattr(ours, key))
    artifact.warn_of_other_set(curated.manifest, "features")


@dataclass(frozen=True)
class Embedder:
    """The map from pictures to embeddings, a generator's condition.

    The first principal components of the features, each divided by its standard deviation
    (representation-guided diffusion; Graikos et al. 2023, arXiv:2312.07330). A sample with the
    embedding of a real galaxy is a variation of it.

    Parameters
    ----------
    describer
        Gives the features.
    mean_F
        Mean of the features of training pictures.
    axes_KF
        Principal axes, each divided by the standard deviation along it.
    """

    describer: Describer
    mean_F: Tensor
    axes_KF: Tensor

    @classmethod
    def fit(cls, describer: Describer, images_NHWC: Tensor, size: int) -> Embedder:
        """Return the map to `size` components of the features of these pictures.

        Components beyond the rank of the features are 0.
        """
        features_NF = describer.features(images_NHWC).double()
        mean_F = features_NF.mean(dim=0)
        axes_KF, variances_K = axes_above_rounding(features_NF - mean_F, size)
        padded_KF = torch.zeros(size, len(mean_F), dtype=torch.float64)
        padded_KF[: len(axes_KF)] = axes_KF / variances_K[:, None].sqrt()
        return cls(describer, mean_F.float(), padded_KF.float())

    def apply(self, images_NHWC: np.ndarray | Tensor) -> np.ndarray:
        """Return the embeddings float32 [N, K] of uint8 pictures [N, H, W, 3].

        Pictures are embedded one by one: the last bits of a product depend on its number of rows,
        and the number of workers decides which pictures are read together.
        """
        one_by_one = [
            self.axes_KF @ (self.describer.features(images_NHWC[n : n + 1])[0] - self.mean_F)
            for n in range(len(images_NHWC))
        ]
        return torch.stack(one_by_one).numpy() if one_by_one else np.empty((0, len(self.axes_KF)), np.float32)

    def write(self, folder: Folder) -> None:
        """Write the map into the folder of a generator; the describer stays where it is."""
        write_tensors(folder, EMBEDDING, {"mean": self.mean_F, "axes": self.axes_KF}, {})

    @classmethod
    def read(cls, describer: Describer, folder: Folder) -> Embedder:
        """Return the map in the folder of a generator."""
        tensors, _ = read_tensors(folder, EMBEDDING)
        return cls(describer, tensors["mean"], tensors["axes"])


def describe(describer: Describer, ids: pa.Array | pa.ChunkedArray, images_NHWC: np.ndarray | Tensor) -> Tensor:
    """Return the features float32 [N, F] of objects and their pictures."""
    return describer.lookup(ids) if isinstance(describer, TableDescriber) else describer.features(images_NHWC)


def on_device(describer: Describer, device: str) -> Describer:
    """Return the same, computed on a device where it is a network."""
    return replace(describer, device=device) if isinstance(describer, EncoderDescriber) else describer


def describe_pictures(
    describer: Describer, images_NHWC: Tensor, resources: Resources, stage: str, doing: str
) -> Tensor:
    """Return the features float32 [N, F] of pictures, computed by Ray tasks."""
    parts, processor = images_NHWC.split(PICTURES_OF_A_TASK), Processor.of(resources)
    done = map_tasks(
        _features, parts, lambda part: (describer, part, processor), resources, stage, doing, "pictures",
        [len(part) for part in parts],
    )  # fmt: skip
    return torch.cat(done)


def _features(describer: Describer, images_NHWC: Tensor, processor: Processor) -> Tensor:
    """Return the features of pictures: a Ray task."""
    return on_device(describer, processor.enter()).features(images_NHWC)
