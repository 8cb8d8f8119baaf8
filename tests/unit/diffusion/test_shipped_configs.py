"""Networks of the shipped configs fit their image size and train a step on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from raydistill.api import load_config
from raydistill.diffusion.conditions import ConditionGroup, ConditionLayout, Conditions
from raydistill.diffusion.model import build_generator
from raydistill.diffusion.training import TrainingImages, init_training, train
from raydistill.seeding import generator as seeded

LAYOUT = ConditionLayout((ConditionGroup("class", 2, ("round", "spiral")),))


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("demo_diffusion", (1, 3)),
        ("gz2_generator", (5, 10)),
        pytest.param("gz2_generator_64px", (30, 60), marks=[pytest.mark.slow, pytest.mark.long]),
        pytest.param("gz2_generator_128px", (40, 90), marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def test_network_trains_for_one_step(monkeypatch: pytest.MonkeyPatch, name: str, millions: tuple[int, int]) -> None:
    monkeypatch.setenv("RAYDISTILL_DATA", "data")
    config = load_config(name)
    side = config.curate.image_size
    images_NHWC = torch.randint(256, (4, side, side, 3), generator=seeded(0, "images"), dtype=torch.uint8)
    images = TrainingImages(images_NHWC, Conditions.of(LAYOUT, 4, **{"class": torch.eye(2)[torch.arange(4) % 2]}))
    training = replace(config.generate.training, batch_size=2, shards=1, steps=1, precision="float32")
    state = init_training(build_generator(config.generate.model, LAYOUT, side, 0, images_NHWC), training)
    count = sum(parameter.numel() for parameter in state.model.parameters())
    assert millions[0] < count / 1e6 < millions[1]
    ((after, loss),) = train(state, images, training, 0)
    assert after.step == 1
    assert 0 < loss.mean < 2
