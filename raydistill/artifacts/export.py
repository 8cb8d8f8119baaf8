"""Export a distilled set into formats of other programs; raydistill never reads these copies.

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

Both formats have an `info.json`:

- mean and std of the normalisation (picture = image * std + mean, white is 1), or the name of the
  file that undoes a whitening (docs/artifacts.md),
- class names, images per class and student learning rates,
- the content digest of the distilled set.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raydistill.artifacts.distilled import DistilledSet, SyntheticImages, write_normalisation
from raydistill.errors import ArtifactError
from raydistill.storage import Folder

Form = Literal["dd-ranking", "png"]


def export(distilled: DistilledSet, to: Folder, form: Form) -> None:
    """Write the selected iterate of a distilled set into an empty folder.

    Raises
    ------
    ArtifactError
        The folder holds files: they would mix with the exported ones.
    """
    if to.files():
        raise ArtifactError("the folder for the export is not empty", to.uri, "give a new folder")
    images = distilled.selected
    write: dict[Form, Callable[[SyntheticImages, list[str], Folder], None]] = {
        "dd-ranking": _write_tensors,
        "png": _write_pictures,
    }
    write[form](images, distilled.class_names, to)
    info = {
        "format": form,
        "class_names": distilled.class_names,
        "images_per_class": distilled.images_per_class,
        **write_normalisation(to, images.normalisation),
        "student_lrs": images.student_lrs.tolist(),
        "labels": "soft" if images.soft else "hard",
        "distilled_set": distilled.manifest.content,
    }
    to.write("info.json", json.dumps(info, indent=1).encode())


def _write_tensors(images: SyntheticImages, class_names: list[str], to: Folder) -> None:
    tiny = torch.finfo(torch.float32).tiny  # the logarithm of 0 would make every loss infinite
    labels = images.targets_SK.clamp_min(tiny).log() if images.soft else images.targets_SK.argmax(dim=1)
    for name, tensor in (("images", images.images_SCHW), ("labels", labels), ("lr", images.student_lrs.mean())):
        to.write(f"{name}.pt", _to_bytes(tensor))


def _to_bytes(tensor: Tensor) -> bytes:
    """Return the bytes of `torch.save`.

    A stream has no file name that would enter the bytes; a clone has no larger storage behind it.
    """
    stream = io.BytesIO()
    torch.save(tensor.detach().cpu().clone(), stream)
    return stream.getvalue()


def _write_pictures(images: SyntheticImages, class_names: list[str], to: Folder) -> None:
    pixels_SHWC = np.rint(images.display().numpy() * 255).astype(np.uint8)
    table = io.StringIO(newline="")
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["file", "label", "class", *(f"p_{name}" for name in class_names)])
    ipc = len(pixels_SHWC) // len(class_names)
    for number, (picture, target) in enumerate(zip(pixels_SHWC, images.targets_SK.tolist(), strict=True)):
        label = number // ipc
        name = f"{label:05d}/{number % ipc:05d}.png"
        with to.writing(name) as path:
            Image.fromarray(picture).save(path)
        rows.writerow([name, label, class_names[label], *target])
    to.write("labels.csv", table.getvalue().encode())
