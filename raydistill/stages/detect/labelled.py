"""Read frames with known sources, in the format of COCO.

https://cocodataset.org/#format-data
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from raydistill.artifacts.records import checked
from raydistill.errors import ArtifactCorrupt, CatalogError, listed
from raydistill.galaxies.pictures.files import check_links
from raydistill.galaxies.pictures.images import decode_picture, encode_png
from raydistill.seeding import fold_in
from raydistill.stages.detect.config import MAX_DETECTIONS, Detect, LabelledFrames
from raydistill.storage import Folder


@dataclass(frozen=True)
class _Image:
    id: int
    file_name: str


@dataclass(frozen=True)
class _Annotation:
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0


@dataclass(frozen=True)
class _Category:
    id: int
    name: str


@dataclass(frozen=True)
class _Document:
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass(frozen=True)
class Frame:
    """A frame: its PNG file, and its sources as annotations `{category_id, bbox}`.

    Category n + 1 is the detector's category number n. `file_name` is that of a COCO document.
    """

    picture: bytes
    annotations: list[dict[str, Any]]
    file_name: str = ""


def frames_digest(labelled: LabelledFrames) -> str:
    """Return the digest of both documents and of the pictures that they name."""
    digest = hashlib.sha256()
    for path in (labelled.train, labelled.test):
        folder, data, document = _read(path)
        digest.update(data)
        for image in document.images:
            digest.update(_picture(folder, image, path))
    return digest.hexdigest()


def read_labelled(detect: Detect, categories: Sequence[str]) -> tuple[list[Frame], list[Frame]]:
    """Return the frames of the training, at most `limit`, and those of the test.

    Parameters
    ----------
    detect
        Its `labelled` frames, side and seed.
    categories
        The categories of the detector.

    Raises
    ------
    CatalogError
        A document is not COCO; a picture is missing, damaged or of another side; a category is
        unknown; a box lies outside its frame; or a picture is for training and for the test.
    """
    labelled = detect.labelled
    assert labelled is not None
    train, test = (_frames(path, detect.side, categories) for path in (labelled.train, labelled.test))
    if twice := {frame.picture for frame in train} & {frame.picture for frame in test}:
        what = f"{len(twice)} of its pictures are frames of the training too"
        raise CatalogError(what, labelled.test, "give other frames for the test")
    order = np.random.default_rng(fold_in(detect.seed, "labelled")).permutation(len(train))
    return [train[index] for index in order[: labelled.limit]], test


def _read(path: str) -> tuple[Folder, bytes, _Document]:
    """Return the folder of a COCO document, its bytes and its contents."""
    folder, name = Folder.holding(path)
    if not folder.exists(name):
        raise CatalogError("there is no such COCO document", path, "check detect.labelled")
    data = folder.read(name)
    try:
        document = checked(folder, name, _Document, json.loads(data))
    except (ArtifactCorrupt, ValueError, RecursionError) as error:
        reason = error.what if isinstance(error, ArtifactCorrupt) else "it is not JSON"
        fix = "give a JSON file with images, annotations and categories, as COCO defines them"
        raise CatalogError(reason, path, fix) from error
    names = [image.file_name for image in document.images]
    for file_name in names:
        parts = PurePosixPath(file_name).parts
        if not parts or ".." in parts or PurePosixPath(file_name).is_absolute() or "\\" in file_name:
            what = f"the picture '{file_name}' is not below the folder of the document"
            raise CatalogError(what, path, "move the pictures there")
    check_links(folder.uri, names, "copy the pictures into the folder of the document")
    return folder, data, document


def _picture(folder: Folder, image: _Image, path: str) -> bytes:
    """Return the file of a picture, which lies below the folder of its document."""
    if not folder.exists(image.file_name):
        raise CatalogError(f"the picture '{image.file_name}' is missing", path, "put it beside the document")
    return folder.read(image.file_name)


def _frames(path: str, side: int, categories: Sequence[str]) -> list[Frame]:
    """Return all frames of a document."""
    folder, _, document = _read(path)
    numbers = {name: number for number, name in enumerate(categories, start=1)}
    known = {category.id: category.name for category in document.categories}
    if len(known) < len(document.categories):
        raise CatalogError("two of its categories have one id", path, "give each category an id of its own")
    if unknown := sorted(set(known.values()) - set(numbers)):
        what = f"the detector has no category {listed(unknown)}; it has {listed(list(categories), 12)}"
        raise CatalogError(what, path, "rename the category, or give a synthetic set of these classes")
    sources: dict[int, list[dict[str, Any]]] = {image.id: [] for image in document.images}
    files = {image.file_name for image in document.images}
    if not sources or min(len(sources), len(files)) < len(document.images):
        what = "it has no images, or two of them with one id or one file"
        raise CatalogError(what, path, "give each image an id and a file of its own")
    for annotation in document.annotations:
        left, top, width, height = annotation.bbox
        if annotation.image_id not in sources or annotation.category_id not in known:
            what = f"an annotation names image {annotation.image_id} and category {annotation.category_id}"
            raise CatalogError(f"{what}, and one of them is not there", path, "correct the annotation")
        ends = (left, top, left + width, top + height)
        if not (all(map(math.isfinite, ends)) and width > 0 < height and min(ends) >= -1 and max(ends) <= side + 1):
            what = f"a box of image {annotation.image_id} is not within its {side} px: {list(annotation.bbox)}"
            raise CatalogError(what, path, "give boxes as [left, top, width, height] in pixels")
        if annotation.iscrowd:
            what = f"an annotation of image {annotation.image_id} is a crowd, which is not read"
            raise CatalogError(what, path, "give each source a box, or leave the image out")
        category = numbers[known[annotation.category_id]]
        sources[annotation.image_id].append({"category_id": category, "bbox": [left, top, width, height]})
    for number, boxes in sources.items():
        if len(boxes) > MAX_DETECTIONS:
            what = f"image {number} has {len(boxes)} sources, and the detector finds at most {MAX_DETECTIONS}"
            raise CatalogError(what, path, "cut it into smaller frames")
    return [Frame(_square(folder, image, side, path), sources[image.id], image.file_name) for image in document.images]


def _square(folder: Folder, image: _Image, side: int, path: str) -> bytes:
    """Return a picture as a PNG file; CatalogError if it has another side."""
    pixels = decode_picture(_picture(folder, image, path), f"{folder.uri}/{image.file_name}")
    if pixels.shape[:2] != (side, side):
        height, width = pixels.shape[:2]
        what = f"the picture '{image.file_name}' has {width} x {height} px, and the fields have {side}"
        raise CatalogError(what, path, "set detect.fields.side, or cut the frames into squares")
    return encode_png(pixels)
