"""Read synthetic images of another project as a distilled set.

A YAML file says where the tensors are, and how they were normalised:

    images: images_best.pt         # [S, C, H, W]; or a .npz or .npy file, or a folder of a folder per class
    labels: labels_best.pt         # [S] classes or [S, K] probabilities; none for a folder
    mean: [0.1, 0.09, 0.07]        # picture = tensor * std + mean, white is 1
    std: [0.14, 0.12, 0.1]
    lr: 0.01                       # learned rate, if there is one

A folder has a folder of each class, named like the classes or by numbers. `normalised: false` in
place of `mean` and `std`: the tensors are pictures, in [0, 1] or of 8 bits. A part of a file is
named after a colon: `results.pt:data.0.0`, `set.npz:images`. Files of torch are read as tensors
alone (`weights_only`). Classes are in the order of the config's.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from pydantic import ConfigDict
from torch import Tensor

from raydistill.artifacts import kinds
from raydistill.artifacts.manifest import commit, exists
from raydistill.artifacts.records import checked
from raydistill.errors import ArtifactCorrupt, CatalogError, listed
from raydistill.galaxies.pictures.images import decode_picture
from raydistill.learning.normalise import AnyNormalisation, Normalisation, one_hot
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import SEEN, SELECTED, DistilledSet, SyntheticImages, write_images
from raydistill.stages.distill.counts import header_of
from raydistill.storage import Folder
from raydistill.storage.filesystems import check_no_device
from raydistill.storage.yaml_limits import read_yaml

FIX = "see docs/how-to/share.md, 'Sets of other projects'"
MAX_BYTES = 2**31  # of a file
MAX_PICTURES = 100_000
ROUNDING = 1e-3  # of the sum of probabilities
LEAST_STD, BRIGHTEST = 1e-3, 3.0  # of a channel, and the median pixel; white is 1


@dataclass(frozen=True)
class _Table:
    """The contents of the YAML file."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    images: str
    labels: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    normalised: bool = True
    lr: float | None = None


def opened_set(path: str, plan: Plan) -> DistilledSet:
    """Return the set of a YAML file, for the classes of a config.

    Raises
    ------
    CatalogError
        A file is missing or damaged, a value does not fit, or a class has no image.
    """
    curated = CuratedSet.open(plan.curated.folder)
    table, where = read_description(Path(path)), Path(path).parent
    images, labels = _tensors(table, where, path, curated.class_names)
    if not (torch.isfinite(images).all() and torch.isfinite(labels).all()):
        raise CatalogError("its images or labels have values that are not finite", path, "remove them")
    targets = _targets(labels, curated.num_classes, path)
    if images.dim() != 4 or len(images) != len(targets) or images.shape[1] != 3 or images.shape[-1] != images.shape[-2]:
        what = f"its images have the shape {tuple(images.shape)}, and its labels {tuple(labels.shape)}"
        raise CatalogError(what, path, "give square images [S, 3, H, W], and labels [S] or [S, K]")
    order = targets.argmax(dim=1).argsort(stable=True)
    counts = targets.argmax(dim=1).bincount(minlength=curated.num_classes).tolist()
    is_soft = bool((targets.amax(dim=1) < 1).any())  # the largest may belong to another class
    if is_soft and len(set(counts)) > 1 and len(targets) % curated.num_classes == 0:
        order, counts = torch.arange(len(targets)), [len(targets) // curated.num_classes] * curated.num_classes
    if not all(counts):
        what = f"its classes have {', '.join(map(str, counts))} images"
        raise CatalogError(what, path, "give a set with an image of each class")
    normalisation: AnyNormalisation = curated.normalisation
    if table.normalised:
        normalisation = _normalisation(table, images, path)
    else:
        images = _normalised_pictures(images, normalisation, path)
    if table.lr is not None and not 0 < table.lr < math.inf:
        raise CatalogError(f"its learned rate is {table.lr:g}", path, "give a positive lr, or none")
    rates = torch.tensor([] if table.lr is None else [table.lr])
    made = SyntheticImages(images[order].contiguous(), targets[order].contiguous(), rates, normalisation, 0)
    return _written(made, curated, counts, plan)


def _written(made: SyntheticImages, curated: CuratedSet, counts: list[int], plan: Plan) -> DistilledSet:
    """Write the set into the folder of the run, once, and open it."""
    parts = (made.images_SCHW, made.targets_SK, made.student_lrs)
    digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts))
    digest.update(f"{curated.manifest.content} {made.normalisation.digest}".encode())
    folder = plan.root / f"foreign-{digest.hexdigest()[:12]}"
    if not exists(folder):
        info = {"class_names": curated.class_names, **header_of(counts), "aligned": curated.summary.aligned}
        write_images(folder, SELECTED, made, info)
        with folder.writing(SEEN) as to:  # it is not known which galaxies it has seen
            pq.write_table(pa.table({"object_id": pa.array([], pa.string()), "sha256": pa.array([], pa.string())}), to)
        commit(folder, kind=kinds.DISTILLED, identity=digest.hexdigest(), config={}, parents={}, seed=0, uris={})
    return DistilledSet.open(folder)


def read_description(path: Path) -> _Table:
    """Return the contents of the YAML file; CatalogError if it is of another form."""
    try:
        values = read_yaml(path.read_text())
        return checked(Folder(str(path.parent)), path.name, _Table, values)
    except OSError:
        raise CatalogError("there is no such file", str(path), "check the path") from None
    except ArtifactCorrupt as error:
        raise CatalogError(f"it does not describe a set of images: {error.what}", str(path), FIX) from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, RecursionError) as error:
        raise CatalogError("it does not describe a set of images", str(path), FIX) from error


def _tensors(table: _Table, where: Path, path: str, class_names: list[str]) -> tuple[Tensor, Tensor]:
    """Return images and labels as files have them."""
    folder = where / table.images
    if folder.is_dir():
        return _of_folder(folder, path, class_names)
    if table.labels is None:
        raise CatalogError("it names no labels", path, "give labels, or a folder with a folder per class")
    return _of_file(where, table.images, path), _of_file(where, table.labels, path)


def _of_folder(folder: Path, path: str, class_names: list[str]) -> tuple[Tensor, Tensor]:
    names = [one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")]
    if set(names) == set(class_names):
        names = class_names
    elif len(names) == len(class_names) and all(name.isdecimal() for name in names):
        names = sorted(names, key=int)
    else:
        what = f"the folders of its pictures are {listed(sorted(names))}, and the classes {listed(class_names)}"
        raise CatalogError(what, path, "name a folder after each class, or number them from 0 in their order")
    files = [
        (label, file)
        for label, name in enumerate(names)
        for file in sorted((folder / name).iterdir())
        if not file.name.startswith(".")
    ]
    if not 0 < len(files) <= MAX_PICTURES:
        what = f"its folder has {len(files)} pictures"
        raise CatalogError(what, path, f"give 1 to {MAX_PICTURES}")
    pictures = []
    for _, file in files:
        check_no_device(str(file), path)
        pictures.append(decode_picture(file.read_bytes(), str(file)))
    if len({picture.shape for picture in pictures}) > 1:
        raise CatalogError("its folder has pictures of several sizes", path, "give pictures of one size")
    return torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2), torch.tensor([label for label, _ in files])


def _of_file(where: Path, name: str, path: str) -> Tensor:
    """Return a tensor of a file; a part of it is named after a colon."""
    name, _, part = name.partition(":")
    file = where / name
    check_no_device(str(file), path)
    try:
        size = file.stat().st_size
        if zipfile.is_zipfile(file):  # also a file of torch
            with zipfile.ZipFile(file) as members:
                size = sum(member.file_size for member in members.infolist())
        if size > MAX_BYTES:
            raise CatalogError(f"'{name}' has more than 2 GB", path, "give a smaller file")
        if file.suffix in (".npz", ".npy"):
            value: Any = np.load(file, allow_pickle=False)
        else:
            value = torch.load(io.BytesIO(file.read_bytes()), map_location="cpu", weights_only=True)
        for key in part.split(".") if part else ():
            value = value[int(key) if isinstance(value, list | tuple) else key]
        if isinstance(value, Mapping) and value:
            what = f"'{name}' holds {listed(list(map(str, value)))}"
            raise CatalogError(what, path, f"name one of them after a colon, such as {name}:{next(iter(value))}")
        return _plain(value, name, path)
    except FileNotFoundError:
        raise CatalogError(f"there is no file '{name}'", path, "check the path") from None
    except CatalogError:
        raise
    except Exception as error:  # torch, numpy and pickle raise errors of many kinds
        what = f"'{name}' is no tensor" if not part else f"'{name}' has no tensor at '{part}'"
        raise CatalogError(what, path, "give a file of torch.save or numpy, which holds tensors alone") from error


def _plain(value: Any, name: str, path: str) -> Tensor:
    """Return a tensor as float32, uint8 or int64."""
    tensor = torch.as_tensor(value).detach().clone()
    if (
        tensor.layout != torch.strided
        or tensor.is_quantized
        or tensor.is_complex()
        or tensor.is_meta
        or not tensor.numel()
    ):
        raise CatalogError(f"'{name}' is no dense tensor of real numbers", path, "save one with torch.save or numpy")
    return tensor.float() if tensor.is_floating_point() else tensor if tensor.dtype == torch.uint8 else tensor.long()


def _targets(labels: Tensor, num_classes: int, path: str) -> Tensor:
    """Return probabilities [S, K] of labels [S] or [S, K]."""
    what, fix = (
        f"its labels of shape {tuple(labels.shape)} do not fit {num_classes} classes",
        "give classes [S] as whole numbers from 0, or probabilities [S, K]",
    )
    if labels.dim() == 1 and not labels.is_floating_point():
        low, high = int(labels.min()), int(labels.max())
        if low >= 0 and high < num_classes:
            return one_hot(labels.long(), num_classes)
        what = f"its labels are {low} to {high}, and its {num_classes} classes 0 to {num_classes - 1}"
    elif labels.dim() == 2 and labels.shape[1] == num_classes:
        values = labels.float()
        near_S = ((values.sum(dim=1) - 1).abs() < ROUNDING) & (values.amin(dim=1) > -ROUNDING)
        if near_S.all():
            shares = values.clamp(min=0)
            return shares / shares.sum(dim=1, keepdim=True) if (values < 0).any() else values
        if (values < 0).any() and not near_S.any():
            return values.softmax(dim=1)  # logits
        what = "its labels are neither probabilities, whose sum is 1, nor logits, some of which are negative"
        fix = "divide votes by their sum, or take a constant from logits"
    raise CatalogError(what, path, fix)


def _normalisation(table: _Table, images: Tensor, path: str) -> Normalisation:
    """Return the mean and std of a table, if images can have been normalised by them."""
    mean, std = table.mean or (), table.std or ()
    if not len(mean) == len(std) == 3 or not all(
        0 <= m <= 1 and LEAST_STD <= s <= 1 for m, s in zip(mean, std, strict=True)
    ):
        what = f"it does not say how its images were normalised: a mean of 0 to 1 and a std of {LEAST_STD:g} to 1 for each channel"
        raise CatalogError(what, path, "give mean and std as shares of white, or normalised: false for pictures")
    if not images.is_floating_point():
        what = "it gives mean and std, and its images are whole numbers, as pictures have them"
        raise CatalogError(what, path, "give normalised: false, or the tensors that networks were trained on")
    if images.min() >= 0 and images.max() <= 1:
        what = "it gives mean and std, and its images lie in [0, 1], as pictures do"
        raise CatalogError(what, path, "give normalised: false, or the tensors that networks were trained on")
    normalisation = Normalisation(mean, std)
    middle = float(normalisation.invert(images).median())
    if not abs(middle) <= BRIGHTEST:
        what = f"with its mean and std the median of its pixels is {middle:.3g} times white"
        raise CatalogError(what, path, "give those that its images were normalised by, as shares of white")
    return normalisation


def _normalised_pictures(images: Tensor, normalisation: AnyNormalisation, path: str) -> Tensor:
    """Return network input for pictures of 8 bits or in [0, 1]."""
    low, high = float(images.min()), float(images.max())
    if images.is_floating_point() and low >= 0 and high <= 1:
        images = images * 255
    elif not 0 <= low <= high <= 255 or (images != images.round()).any():
        what = f"its values lie in [{low:.3g}, {high:.3g}], so they are no pictures of 8 bits or in [0, 1]"
        fix = "divide them by white" if low >= 0 else "give mean and std in place of normalised: false"
        raise CatalogError(what, path, fix)
    return normalisation.apply(images.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous())
