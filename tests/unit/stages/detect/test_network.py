"""Test the detector: what it can learn, which boxes it keeps, its random weights."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from raydistill.errors import ConfigError
from raydistill.stages.detect.measures import average_precision, match
from raydistill.stages.detect.network import build_detector, detect, import_detection, suppress, to_tensor
from tests.unit.stages.detect.galaxies import disk, observed

MEAN, STD = (0.1, 0.1, 0.1), (0.2, 0.2, 0.2)


def test_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    overlap = torch.tensor([[1.0, 0.7, 0.0, 0.2], [0.7, 1.0, 0.0, 0.6], [0.0, 0.0, 1.0, 0.5], [0.2, 0.6, 0.5, 1.0]])
    assert suppress(overlap, 0.5).tolist() == [0, 2, 3]
    assert suppress(overlap, 0.1).tolist() == [0, 2]
    assert suppress(torch.zeros(0, 0), 0.5).tolist() == []


def test_pictures_that_must_not_be_written_to_become_tensors() -> None:
    pictures = np.full((1, 2, 2, 3), 255, np.uint8)
    pictures[0, 0, 1] = (0, 51, 102)
    pictures.flags.writeable = False
    tensor = to_tensor(pictures)
    assert tensor.shape == (1, 3, 2, 2)
    assert tensor[0, :, 0, 1].tolist() == pytest.approx([0, 0.2, 0.4])


def test_equal_seeds_give_equal_weights_and_leave_the_global_state() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (build_detector(2, 64, 32, MEAN, STD, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_detector_learns_a_few_fields_by_heart() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(16, 48, (6, 2))
    pictures = np.stack([observed(disk(64, row, column, 3), n) for n, (row, column) in enumerate(places)])
    boxes = [[column - 8, row - 8, column + 8, row + 8] for row, column in places]
    targets = [
        {"boxes": torch.tensor([box], dtype=torch.float32), "labels": torch.tensor([n % 2])}
        for n, box in enumerate(boxes)
    ]
    detector = build_detector(2, 64, 32, MEAN, STD, 0)

    def precision() -> float:
        result = detect(detector, pictures)
        return average_precision(
            [match(d.boxes_D4, d.scores_D, np.array([box])) for d, box in zip(result, boxes, strict=True)]
        )

    assert precision() < 0.5
    optimiser = torch.optim.AdamW(detector.parameters(), 3e-3)
    detector.train()
    for _ in range(80):
        optimiser.zero_grad()
        sum(detector(list(to_tensor(pictures)), targets).values()).backward()
        optimiser.step()
    assert precision() > 0.95
    for picture in detect(detector, pictures):
        assert (np.diff(picture.scores_D) <= 0).all()
        assert (picture.boxes_D4 >= 0).all()
        assert (picture.boxes_D4 <= 64).all()


def test_a_missing_torchvision_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models.detection", None)
    with pytest.raises(ConfigError, match=r"a detector needs torchvision; install the extra"):
        import_detection()
