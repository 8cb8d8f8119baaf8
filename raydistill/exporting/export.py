"""Export sets of pictures into formats of other programs.

raydistill never reads these copies.

`dd-ranking` writes the arguments of `compute_metrics` in DD-Ranking v0.2.0 (Li et al. 2025,
arXiv:2505.13300):

    images.pt   float32 [S, 3, H, W], normalised, sorted by class             image_tensor=
    labels.pt   hard: int64 [S]                                               hard_labels=
                soft: float32 [S, K], log-probabilities                       soft_labels=
    lr.pt       float32 scalar                                                syn_lr=

- Its losses `sce` and `kl` apply softmax(labels / temperature) to soft labels, so they must be
  logits. Log-probabilities give the probabilities back at temperature 1.
- It trains at one learning rate. A set may have one per start epoch: `lr.pt` holds their mean.
- It reads files of `torch.save`, so these are the only pickles that raydistill writes. They hold
  plain tensors, which `torch.load(..., weights_only=True)` opens.

`png` writes a folder per class (`00000/00000.png`, …), numbered as torchvision's ImageFolder does,
and `labels.csv` with each file's target probabilities. Pixels are clipped to [0, 1] and rounded to
8 bits.

`huggingface` writes the tables of `exporting.huggingface` as Parquet
(`data/train-00000-of-00001.parquet`, …) and the card README.md, so `datasets.load_dataset(FOLDER)`
opens the folder offline. It also takes curated and synthetic sets.

All formats have an `info.json`:

- mean and std of the normalisation (picture = image * std + mean, white is 1), or the name of the
  file that undoes a whitening (docs/artifacts.md),
- class names; of a distilled set also the number of images of each class and student learning rates,
- the content digest of the set.
"""

from __future__ import annotations

import io
import json
import math
from itertools import islice
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from raydistill.artifacts.display import open_artifact
from raydistill.artifacts.manifest import describe_kind
from raydistill.artifacts.tensors import write_normalisation
from raydistill.errors import ArtifactError, ArtifactIncompatible
from raydistill.escaping import csv_text
from raydistill.exporting.dataset_card import dataset_card
from raydistill.exporting.huggingface import ROWS, HubSplit, PictureSet, describe
from raydistill.stages.distill.artifact import DistilledSet, SyntheticImages
from raydistill.stages.distill.counts import places_of
from raydistill.storage import Folder

Form = Literal["dd-ranking", "png", "huggingface"]
SHARD_BYTES = 500_000_000  # the hub advises files of about this size


def open_for_export(uri: str, form: Form) -> PictureSet:
    """Open the set at a path or URI.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible, ArtifactCorrupt
        There is no finished artifact of a kind that the format takes.
    """
    if form != "huggingface":
        return DistilledSet.open(uri)
    artifact = open_artifact(uri)
    if not isinstance(artifact, PictureSet):
        noun = describe_kind(artifact.manifest.kind)[0]
        fix = "give the path of a curated, synthetic or distilled set"
        raise ArtifactIncompatible(f"this is a {noun}, which holds no labelled pictures", uri, fix)
    return artifact


def export(pictures: PictureSet, to: Folder, form: Form) -> None:
    """Write a set into an empty folder; of a distilled set, the selected iterate.

    Raises
    ------
    ArtifactError
        The folder holds files: they would mix with the exported ones.
    ArtifactIncompatible
        The format takes distilled sets only.
    """
    if to.files():
        raise ArtifactError("the folder for the export is not empty", to.uri, "give a new folder")
    if form == "huggingface":
        _write_data_set(pictures, to)
    elif not isinstance(pictures, DistilledSet):
        fix = "export it with --format huggingface, or give a distilled set"
        raise ArtifactIncompatible(f"the format {form} takes distilled sets only", pictures.folder.uri, fix)
    elif form == "dd-ranking":
        _write_tensors(pictures.selected, to)
    else:
        _write_pictures(pictures, to)
    to.write("info.json", json.dumps({"format": form, **_info(pictures, to)}, indent=1).encode())


def _info(pictures: PictureSet, to: Folder) -> dict[str, Any]:
    """Return the contents of `info.json`; write a whitening to a file of its own."""
    content = {f"{pictures.manifest.kind}_set": pictures.manifest.content}
    if not isinstance(pictures, DistilledSet):
        return {
            "class_names": pictures.class_names,
            **write_normalisation(to, pictures.normalisation),
            **content,
        }
    images = pictures.selected
    return {
        "class_names": pictures.class_names,
        "images_per_class": pictures.images_per_class,
        "counts": pictures.counts,
        **write_normalisation(to, images.normalisation),
        "student_lrs": images.student_lrs.tolist(),
        "labels": "soft" if images.soft else "hard",
        **content,
    }


def _write_data_set(pictures: PictureSet, to: Folder) -> None:
    """Write Parquet files batch by batch, then the card that lists them."""
    hub = describe(pictures)
    sizes = {name: _write_split(to, name, split, hub.features.arrow_schema) for name, split in hub.splits.items()}
    to.write("README.md", dataset_card(pictures, hub, sizes).encode())


def _write_split(to: Folder, name: str, split: HubSplit, schema: pa.Schema) -> int:
    """Write the files of a split; return the bytes of its rows in memory."""
    total = math.ceil(split.rows / ROWS)  # batches
    per_shard = max(1, total * SHARD_BYTES // max(split.bytes, SHARD_BYTES))
    shards, batches, size = math.ceil(total / per_shard), split.batches(ROWS), 0
    for shard in range(shards):
        file = f"data/{name}-{shard:05d}-of-{shards:05d}.parquet"
        with to.writing(file) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for batch in islice(batches, per_shard):
                writer.write_table(batch)
                size += batch.nbytes
    return size


def _write_tensors(images: SyntheticImages, to: Folder) -> None:
    tiny = torch.finfo(torch.float32).tiny  # the logarithm of 0 would make every loss infinite
    labels = images.targets_SK.clamp_min(tiny).log() if images.soft else images.targets_SK.argmax(dim=1)
    tensors = {"images": images.images_SCHW, "labels": labels}
    if len(images.student_lrs):
        tensors["lr"] = images.student_lrs.mean()
    for name, tensor in tensors.items():
        to.write(f"{name}.pt", _to_bytes(tensor))


def _to_bytes(tensor: Tensor) -> bytes:
    """Return the bytes of `torch.save`.

    A stream has no file name that would enter the bytes; a clone has no larger storage behind it.
    """
    stream = io.BytesIO()
    torch.save(tensor.detach().cpu().clone(), stream)
    return stream.getvalue()


def _write_pictures(pictures: DistilledSet, to: Folder) -> None:
    class_names, images = pictures.class_names, pictures.selected
    rows: list[list[object]] = [["file", "label", "class", *(f"p_{name}" for name in class_names)]]
    places = zip(*places_of(pictures.counts), strict=True)
    for (label, number), picture, target in zip(places, images.levels(), images.targets_SK.tolist(), strict=True):
        name = f"{label:05d}/{number:05d}.png"
        with to.writing(name) as path:
            Image.fromarray(picture).save(path)
        rows.append([name, label, class_names[label], *target])
    to.write("labels.csv", csv_text(rows).encode())
