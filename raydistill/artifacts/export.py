"""A distilled set in the forms that other programs read: copies, from which nothing here ever reads back.

`dd-ranking` is what the demos of DD-Ranking v0.2.0 (Li et al. 2025, arXiv:2505.13300) load and hand to `compute_metrics`:

    images.pt   float32 [S, 3, H, W], normalised, sorted by class             image_tensor=
    labels.pt   hard: int64 [S]                                               hard_labels=
                soft: float32 [S, K], log-probabilities                       soft_labels=
    lr.pt       float32 scalar                                                syn_lr=

Its losses `sce` and `kl` pass soft labels through softmax(labels / temperature), so they must be logits: logarithms give our
probabilities back at temperature 1. It trains at one rate where a set may have one per start epoch: their mean is written, and all of
them in info.json. The package reads tensors that `torch.save` wrote, so these are the only files of ours that are pickled; they hold
plain tensors, which `torch.load(..., weights_only=True)` opens.

`png` is a folder per class (`00000/00000.png`, …: torchvision's ImageFolder numbers them as we do) and labels.csv with each file's
target probabilities. Its pixels are cut to [0, 1] and rounded to 8 bits, which no normalised image is.

Both have info.json: mean and std of the normalisation (picture = image * std + mean, white is 1; or the name of the file beside
it that undoes a whitening, see docs/artifacts.md), class names, images per class,
student learning rates, and which distilled set it was.
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
    """Write the selected iterate of a distilled set into an empty folder. ArtifactError where the folder holds files."""
    if to.files():  # theirs and ours could not be told apart
        raise ArtifactError("the folder for the export is not empty", to.uri, "give a new folder")
    images = distilled.selected
    write: dict[Form, Callable[[SyntheticImages, list[str], Folder], None]] = {"dd-ranking": _tensors, "png": _pictures}
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


def _tensors(images: SyntheticImages, class_names: list[str], to: Folder) -> None:
    tiny = torch.finfo(torch.float32).tiny  # the logarithm of 0 would make every loss infinite
    labels = images.targets_SK.clamp_min(tiny).log() if images.soft else images.targets_SK.argmax(dim=1)
    for name, tensor in (("images", images.images_SCHW), ("labels", labels), ("lr", images.student_lrs.mean())):
        to.write(f"{name}.pt", _saved(tensor))


def _saved(tensor: Tensor) -> bytes:
    """As `torch.save` has it; a stream has no name that could enter the bytes, and a clone no larger storage."""
    stream = io.BytesIO()
    torch.save(tensor.detach().cpu().clone(), stream)
    return stream.getvalue()


def _pictures(images: SyntheticImages, class_names: list[str], to: Folder) -> None:
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
