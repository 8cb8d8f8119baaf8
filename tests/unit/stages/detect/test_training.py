"""Test the training of a detector without Ray.

Test checkpoints, the learning rate, and a loss that is not finite.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raydistill.errors import DivergenceError
from raydistill.galaxies.pictures.images import encode_png
from raydistill.morphology.structure import Box
from raydistill.runtime.resources import Processor
from raydistill.stages.detect.artifact import WEIGHTS
from raydistill.stages.detect.config import Detect, FieldModel
from raydistill.stages.detect.scenes.fields import annotation
from raydistill.stages.detect.training import STATE, TrainingTask, lr_at, train_detector
from raydistill.storage import Folder
from tests.unit.stages.detect.galaxies import disk, observed

DETECT = Detect(fields=FieldModel(side=64), steps=12, batch_size=2)


def task(folder: Path, detect: Detect = DETECT, seconds: float = 0.0) -> TrainingTask:
    """Return a training on four fields, one of which has no source."""
    records: list[dict[str, Any]] = []
    mask = np.zeros((64, 64), np.bool_)
    mask[24:40, 24:40] = True
    for number in range(4):
        name = f"fields/train/{number}.png"
        picture = observed(disk(64, 32, 32, 3) * (number > 0), number)
        Folder(folder).write(name, encode_png(picture))
        boxes = [annotation(mask, Box(24, 24, 40, 40), 1 + number % 2, {})] if number else []
        records.append({"file_name": name, "annotations": boxes})
    return TrainingTask(str(folder), tuple(records), (), ("galaxy", "star"), detect, Processor(1, 0), seconds)


def test_a_training_that_stops_anywhere_ends_with_the_same_bytes(tmp_path: Path) -> None:
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    steps = list(train_detector(task(calm)))
    assert [step for step, _ in steps] == list(range(1, 13))
    for count in (3, 4):
        running = train_detector(task(stopped))
        resumed = [next(running) for _ in range(count)]
        running.close()
        assert (stopped / STATE).exists()
        assert not (stopped / WEIGHTS).exists()
    rest = list(train_detector(task(stopped)))
    assert resumed[0][0] > 1, "it started again"
    assert rest[-1] == steps[-1]
    assert (stopped / WEIGHTS).read_bytes() == (calm / WEIGHTS).read_bytes()


def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path) -> None:
    calm, damaged = tmp_path / "calm", tmp_path / "damaged"
    list(train_detector(task(calm, seconds=1e9)))
    running = train_detector(task(damaged))
    for _ in range(3):
        next(running)
    running.close()
    data = bytearray((damaged / STATE).read_bytes())
    data[-1] ^= 1
    (damaged / STATE).write_bytes(data)
    assert next(train_detector(task(damaged)))[0] == 1
    list(train_detector(task(damaged, seconds=1e9)))
    assert (damaged / WEIGHTS).read_bytes() == (calm / WEIGHTS).read_bytes()


def test_the_learning_rate_rises_and_falls() -> None:
    detect = Detect(steps=100, lr=1.0)
    rates = [lr_at(step, detect) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(1, abs=0.03)
    assert rates.index(max(rates)) == 9
    assert rates[-1] < 0.001


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match=r"the loss is not finite; lower detect\.lr"):
        list(train_detector(task(tmp_path, Detect(fields=FieldModel(side=64), steps=30, batch_size=2, lr=1e30))))
