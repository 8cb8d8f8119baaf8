"""Test labelled frames: documents of COCO, and orientations of a frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raydistill.errors import CatalogError
from raydistill.galaxies.pictures.images import encode_png
from raydistill.runtime.resources import Processor
from raydistill.stages.detect.artifact import WEIGHTS
from raydistill.stages.detect.config import Detect, FieldModel, LabelledFrames
from raydistill.stages.detect.labelled import frames_digest, read_labelled
from raydistill.stages.detect.scenes.fields import boxes_of
from raydistill.stages.detect.training import TrainingTask, train_detector, turned
from tests.unit.stages.detect.galaxies import disk, observed

Document = dict[str, Any]
CATEGORIES = ("round", "star")


def written(folder: Path, change: Callable[[Document], None] = lambda document: None, **labelled: Any) -> Detect:
    """Write six frames for training and three for the test, which `change` spoils."""
    for split, numbers in (("train", range(6)), ("test", range(6, 9))):
        images, annotations = [], []
        for number in numbers:
            row, column = 20 + 3 * number, 40 - 2 * number
            picture = encode_png(observed(disk(64, row, column, 3), number))
            (folder / f"{number}.png").write_bytes(picture)
            images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
            box = [column - 8, row - 8, 16, 16]
            annotations.append({"id": number, "image_id": number, "category_id": 7, "bbox": box, "iscrowd": 0})
        document = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "round"}]}
        if split == "test":
            change(document)
        (folder / f"{split}.json").write_text(json.dumps(document))
    frames = LabelledFrames(train=f"{folder}/train.json", test=f"{folder}/test.json", **labelled)
    return Detect(fields=FieldModel(side=64), labelled=frames, steps=6, batch_size=3)


def test_frames_have_the_categories_of_the_detector(tmp_path: Path) -> None:
    train, test = read_labelled(written(tmp_path), CATEGORIES)
    assert (len(train), len(test)) == (6, 3)
    assert test[0].annotations == [{"category_id": 1, "bbox": [20.0, 30.0, 16.0, 16.0]}]


def test_more_frames_contain_fewer(tmp_path: Path) -> None:
    few, more = (
        {frame.picture for frame in read_labelled(written(tmp_path, limit=limit), CATEGORIES)[0]} for limit in (2, 4)
    )
    assert len(few) == 2 < len(more) == 4
    assert few < more


def test_the_digest_covers_the_pictures(tmp_path: Path) -> None:
    labelled = written(tmp_path).labelled
    assert labelled is not None
    before = frames_digest(labelled)
    (tmp_path / "8.png").write_bytes((tmp_path / "7.png").read_bytes())
    assert frames_digest(labelled) != before


def first(document: Document) -> Document:
    return document["annotations"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), r"'test\.json' cannot be read \(categories: Field required\)"),
        (lambda d: first(d).update(bbox=[1, 2, 3]), r"annotations\.0\.bbox\.3: Field required"),
        (lambda d: first(d).update(bbox=[40, 0, 30, 10]), "a box of image 6 is not within its 64 px"),
        (lambda d: first(d).update(bbox=[0, 0, 0, 10]), "a box of image 6 is not within its 64 px"),
        (lambda d: first(d).update(bbox=[float("nan"), 0, 5, 5]), "annotations|a box of image 6"),
        (lambda d: first(d).update(image_id=99), "an annotation names image 99 and category 7, and one of them"),
        (lambda d: first(d).update(category_id=3), "an annotation names image 6 and category 3, and one of them"),
        (lambda d: d["categories"][0].update(name="lens"), "the detector has no category lens; it has round, star"),
        (lambda d: d["images"].append(d["images"][0]), "two of them with one id or one file"),
        (lambda d: d["images"].append(d["images"][0] | {"id": 9}), "two of them with one id or one file"),
        (lambda d: d["categories"].append({"id": 7, "name": "star"}), "two of its categories have one id"),
        (lambda d: first(d).update(iscrowd=1), "an annotation of image 6 is a crowd, which is not read"),
        (
            lambda d: d["annotations"].extend([first(d)] * 50),
            "image 6 has 51 sources, and the detector finds at most 50",
        ),
        (lambda d: d.update(images=[], annotations=[]), "it has no images"),
        (lambda d: d["images"][0].update(file_name="../6.png"), "is not below the folder of the document"),
        (lambda d: d["images"][0].update(file_name="/etc/hostname"), "is not below the folder of the document"),
        (lambda d: d["images"][0].update(file_name="lost.png"), r"the picture 'lost\.png' is missing"),
        (lambda d: d["images"][0].update(file_name="test.json"), "corrupt"),
        (lambda d: d["images"][0].update(file_name="0.png"), "1 of its pictures are frames of the training too"),
    ],
)
def test_a_document_that_is_not_right_is_rejected(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        read_labelled(written(tmp_path, change), CATEGORIES)


def test_a_frame_of_another_side_and_no_json_are_rejected(tmp_path: Path) -> None:
    detect = written(tmp_path)
    (tmp_path / "7.png").write_bytes(encode_png(np.zeros((48, 64, 3), np.uint8)))
    with pytest.raises(CatalogError, match=r"'7\.png' has 64 x 48 px, and the fields have 64"):
        read_labelled(detect, CATEGORIES)
    (tmp_path / "test.json").write_text("[" * 100_000)
    with pytest.raises(CatalogError, match="it is not JSON"):
        read_labelled(detect, CATEGORIES)


def test_a_link_that_leads_out_of_the_folder_is_rejected(tmp_path: Path) -> None:
    folder, outside = tmp_path / "frames", tmp_path / "outside.png"
    folder.mkdir()
    detect = written(folder)
    (folder / "7.png").rename(outside)
    (folder / "7.png").symlink_to(outside)
    assert detect.labelled is not None
    for read in (lambda: read_labelled(detect, CATEGORIES), lambda: frames_digest(detect.labelled)):
        with pytest.raises(CatalogError, match=r"links lead 1 pictures out of this folder \(first: 7\.png"):
            read()


def test_what_the_detector_could_not_do_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 25 galaxies and stars in the mean, got 40"):
        Detect(fields=FieldModel(galaxies=30, stars=10))
    labelled = written(tmp_path).labelled
    with pytest.raises(ValueError, match="batch_size must be at least 2"):
        Detect(labelled=labelled, batch_size=1)


@pytest.mark.parametrize("symmetry", range(8))
def test_boxes_turn_with_their_frame(symmetry: int) -> None:
    picture, box = np.zeros((12, 12, 3), np.uint8), np.array([[1.0, 2.0, 6.0, 5.0], [8.0, 7.0, 9.0, 11.0]])
    for number, (left, top, right, bottom) in enumerate(box.astype(int), start=1):
        picture[top:bottom, left:right] = number
    result, boxes = turned(picture, box, symmetry)
    for number, (left, top, right, bottom) in enumerate(boxes.astype(int), start=1):
        assert (result == number).sum() == (picture == number).sum()
        assert (result[top:bottom, left:right] == number).all()


def test_a_stopped_training_on_frames_ends_with_the_same_bytes(tmp_path: Path) -> None:
    detect = written(tmp_path)
    frames = tuple(read_labelled(detect, CATEGORIES)[0])
    weights = []
    for stop in (0, 2):
        folder = tmp_path / f"run{stop}"
        folder.mkdir()
        task = TrainingTask(str(folder), (), frames, CATEGORIES, detect, Processor(1, 0), 0.0)
        running = train_detector(task)
        for _ in range(stop):
            next(running)
        running.close()
        list(train_detector(task))
        weights.append((folder / WEIGHTS).read_bytes())
    assert weights[0] == weights[1]
    assert boxes_of(frames[0].annotations).shape == (1, 4)
