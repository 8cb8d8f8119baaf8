"""The feed of the generate stage: tasks, windows, and the pictures of each worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from raydistill.diffusion.conditions import ConditionLayout
from raydistill.diffusion.options import GeneratorTraining
from raydistill.stages.curate.feeding import feed
from raydistill.stages.curate.feeding.feed import Feed, Pictures, used_groups
from raydistill.stages.curate.select.conditions import ConditionEncoding, fit_encoding
from raydistill.storage import Folder
from tests.unit.stages.sample_tools import SIZE, write_curated

TRAINING = GeneratorTraining(steps=11, batch_size=8, shards=4)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Return ten pictures, five of each class."""
    curated = write_curated(Folder(str(tmp_path)))
    return Pictures(used_groups(curated, "train"), SIZE, fit_encoding(curated))


def loaded(pictures: Pictures, rank: int, world_size: int, first_step: int = 0) -> list[int]:
    """Return a number for each picture that the tasks of a worker give, in order."""
    feed = Feed(pictures, TRAINING, 1, rank, world_size)
    tasks = [pa.table({"first": [task.start], "last": [task.stop]}) for task in feed.tasks(first_step)]
    columns = [part for task in tasks for part in feed.load(task)]
    return [checksum(image) for part in columns for image in part["image"]]


def checksum(image: np.ndarray) -> int:
    return int(image.astype(np.int64).sum())


@pytest.mark.parametrize("window", [6, 100])
@pytest.mark.parametrize("task", [3, 30])
def test_workers_read_their_shards_in_the_order_of_the_training(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch, window: int, task: int
) -> None:
    monkeypatch.setattr(feed, "WINDOW_BYTES", window * 3 * SIZE**2)
    monkeypatch.setattr(feed, "TASK_BYTES", task * 3 * SIZE**2)
    monkeypatch.setattr(feed, "CHUNK", 3)
    whole = pictures.decode(pa.concat_tables([group.read_used(pictures.encoding) for group in pictures.groups]))
    order = pictures.order(1)
    batches = [order.batch(step, 8).chunk(4) for step in range(TRAINING.steps)]
    sums = [checksum(image) for image in whole.images_NHWC.numpy()]
    for world_size in (1, 2, 4):
        for rank in range(world_size):
            for start in (0, 4):
                expected = [
                    sums[row]
                    for batch in batches[start:]
                    for shard in range(rank, 4, world_size)
                    for row in batch[shard]
                ]
                assert loaded(pictures, rank, world_size, start) == expected


def test_columns_of_ray_data_keep_pictures_and_conditions(pictures: Pictures) -> None:
    for encoding in (pictures.encoding, ConditionEncoding(ConditionLayout())):
        images = Pictures(pictures.groups, SIZE, encoding).choose(4, 0, "some")
        images.conditions.known_BV[1] = False
        back = feed._from_columns(feed._to_columns(images))
        assert torch.equal(back.images_NHWC, images.images_NHWC)
        assert torch.equal(back.conditions.known_BV, images.conditions.known_BV)
        known = images.conditions.known_BV
        assert torch.equal(back.conditions.values_BV[known], images.conditions.values_BV[known])


def test_chosen_pictures_depend_on_the_seed_and_differ(pictures: Pictures) -> None:
    sums = [[checksum(image) for image in pictures.choose(4, seed, "some").images_NHWC.numpy()] for seed in (0, 0, 1)]
    assert sums[0] == sums[1] != sums[2]
    assert len(set(sums[0])) == 4
    assert len(pictures.choose(99, 0, "some").images_NHWC) == len(pictures) == 10
