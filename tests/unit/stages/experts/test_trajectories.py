"""A trajectory store has a memory-mapped file per expert; it resumes at any epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from raydistill.artifacts.manifest import commit, identity_of
from raydistill.distillation.trajectories import Straight
from raydistill.errors import ArtifactCorrupt, ArtifactIncompatible
from raydistill.learning.networks import Layout, build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.options import Training
from raydistill.learning.sgd import FitState, init_state
from raydistill.learning.training import fit
from raydistill.stages.experts.artifact import (
    KIND,
    ShardWriter,
    TrajectoryStore,
    missing_experts,
    record,
    shard,
    write_layout,
)
from raydistill.storage import Folder
from tests import zoo
from tests.damage import flipped

LAYOUT = Layout(("weight", "bias"), ((2, 3), (2,)))
EPOCHS = 3


def state(expert: int, epoch: int) -> FitState:
    tensors = (zoo.normal(100 * expert + 10 * epoch + i, 8, dtype=torch.float32) for i in range(3))
    return FitState(epoch, *tensors, float(epoch) / 3)


def write(folder: Folder, num_experts: int = 2) -> None:
    for expert in range(num_experts):
        writer = ShardWriter(folder, expert, range(EPOCHS + 1))
        for epoch in range(EPOCHS + 1):
            writer.save(state(expert, epoch), {"loss": [0.5] * epoch})
        writer.finish({"loss": [0.5] * EPOCHS})
    write_layout(folder, LAYOUT, num_experts, range(EPOCHS + 1))
    finish(folder)


def finish(folder: Folder) -> None:
    commit(folder, kind=KIND, identity=identity_of(KIND, {}, {}, 0), config={}, parents={}, seed=0, uris={})


def test_a_store_returns_every_epoch_of_every_expert(folder: Folder) -> None:
    write(folder)
    store = TrajectoryStore.open(folder)
    assert (store.num_experts, store.num_epochs, store.layout) == (2, EPOCHS, LAYOUT)
    assert store.steps == tuple(range(EPOCHS + 1))
    for expert in range(2):
        for epoch in range(EPOCHS + 1):
            assert torch.equal(store(expert, epoch), state(expert, epoch).average_P)
    assert store.history(1) == {"loss": [0.5] * EPOCHS}


def test_an_expert_or_epoch_out_of_range_is_an_index_error(folder: Folder) -> None:
    write(folder)
    store = TrajectoryStore.open(folder)
    for expert, epoch in ((-1, 0), (2, 0), (0, -1), (0, EPOCHS + 1)):
        with pytest.raises(IndexError, match=r"experts? .*0 to"):
            store(expert, epoch)


def test_returned_parameters_are_writable_copies(folder: Folder) -> None:
    write(folder)
    store = TrajectoryStore.open(folder)
    store(0, 0).zero_()
    assert torch.equal(store(0, 0), state(0, 0).average_P)


def test_writing_twice_is_byte_identical(folder: Folder) -> None:
    write(folder / "one")
    write(folder / "other")
    names = (folder / "one").files()
    assert names == (folder / "other").files()
    assert {"layout.json", "manifest.json", shard(0), record(0), shard(1), record(1)} == set(names)
    for name in names:
        assert (folder / "one").read(name) == (folder / "other").read(name)


def test_shards_are_plain_float32_arrays(folder: Folder) -> None:
    write(folder)
    array = np.load(folder.local(shard(1)), allow_pickle=False)
    assert (array.dtype, array.shape) == (np.float32, (EPOCHS + 1, 8))


def test_resume_without_a_saved_state_returns_none(folder: Folder) -> None:
    assert ShardWriter(folder, 0, range(EPOCHS + 1)).resume() is None


def test_a_writer_resumes_the_state_of_another(folder: Folder) -> None:
    history: dict[str, list[float | None]] = {"loss": [None, 0.1 + 0.2]}
    ShardWriter(folder, 3, range(EPOCHS + 1)).save(state(3, 0), {"loss": [None]})
    ShardWriter(folder, 3, range(EPOCHS + 1)).save(state(3, 1), history)
    ShardWriter(folder, 4, range(EPOCHS + 1)).save(state(4, 0), {})
    saved = ShardWriter(folder, 3, range(EPOCHS + 1)).resume()
    assert saved is not None
    resumed, known = saved
    assert known == history
    assert resumed.done == 1
    assert resumed.loss == state(3, 1).loss
    assert torch.equal(resumed.theta_P, state(3, 1).theta_P)
    assert torch.equal(resumed.momentum_P, state(3, 1).momentum_P)
    assert torch.equal(resumed.average_P, state(3, 1).average_P)


def test_an_expert_stopped_and_resumed_has_the_same_bits(folder: Folder) -> None:
    network = build_network(zoo.NETWORKS["mlp"], zoo.CLASSES, zoo.SIZE)
    images, labels = zoo.stripes(20)
    training = Training(epochs=EPOCHS, batch_size=6, momentum=0.9, augmentation=zoo.AUGMENTATIONS["dihedral"])

    def train(where: Folder, until: int) -> None:
        writer = ShardWriter(where, 0, range(EPOCHS + 1))
        saved = writer.resume()
        start = saved[0] if saved else init_state(initial_parameters(network, 0))
        if not saved:
            writer.save(start, {})
        for reached in fit(network, start, images, one_hot(labels, zoo.CLASSES), training, seed=1):
            writer.save(reached, {})
            if reached.done == until:
                return  # killed
        writer.finish({})

    train(folder / "uninterrupted", 99)
    for until in (1, 2, 99):
        train(folder / "stopped", until)
    assert (folder / "stopped").read(shard(0)) == (folder / "uninterrupted").read(shard(0))
    assert (folder / "stopped").files() == [record(0), shard(0)]


def test_an_expert_is_missing_until_its_shard_is_complete(folder: Folder) -> None:
    assert missing_experts(folder, 2) == [0, 1]
    writer = ShardWriter(folder, 0, range(EPOCHS + 1))
    for epoch in range(EPOCHS + 1):
        writer.save(state(0, epoch), {})
    assert missing_experts(folder, 2) == [0, 1]
    writer.finish({})
    assert missing_experts(folder, 2) == [1]


def test_a_finished_expert_is_recognised_by_its_shard(folder: Folder) -> None:
    """A worker may die after it wrote the shard, or while it removes partial files."""
    writer = ShardWriter(folder, 0, range(EPOCHS + 1))
    assert writer.finished() is None
    for epoch in range(EPOCHS + 1):
        writer.save(state(0, epoch), {})
    assert writer.finished() is None
    writer.finish({"loss": [None, 0.5]})
    writer.save(state(0, 0), {})  # left by an interrupted removal
    assert writer.finished() == {"loss": [None, 0.5]}
    assert folder.files() == [record(0), shard(0)]


def test_an_expert_whose_record_or_shard_is_damaged_is_missing(folder: Folder) -> None:
    for name in (record(0), shard(0)):
        writer = ShardWriter(folder, 0, range(EPOCHS + 1))
        for epoch in range(EPOCHS + 1):
            writer.save(state(0, epoch), {})
        writer.finish({"loss": [None, 0.5]}, ends_only=True)
        intact = folder.read(name)
        assert missing_experts(folder, 1) == []
        for damaged in (b"", intact[:-9], *(flipped(intact, at) for at in range(len(intact)))):
            folder.write(name, damaged)
            assert missing_experts(folder, 1) == [0]
            assert writer.finished() is None
        folder.remove(name)
        assert missing_experts(folder, 1) == [0]
        assert writer.finished() is None


def test_a_shard_needs_all_its_snapshots(folder: Folder) -> None:
    writer = ShardWriter(folder, 0, range(EPOCHS + 1))
    writer.save(state(0, 0), {})
    writer.save(state(0, 2), {})
    with pytest.raises(ArtifactCorrupt, match=r"epoch-0001\.npz' is gone or damaged"):
        writer.finish({})
    assert missing_experts(folder, 1) == [0]


def test_an_expert_whose_shard_was_damaged_is_missing(folder: Folder) -> None:
    writer = ShardWriter(folder, 0, range(EPOCHS + 1))
    for epoch in range(EPOCHS + 1):
        writer.save(state(0, epoch), {})
    writer.finish({})
    before = folder.read(shard(0))
    folder.write(shard(0), flipped(before, -3))
    assert missing_experts(folder, 1) == [0]
    assert writer.finished() is None
    folder.write(shard(0), before)
    assert missing_experts(folder, 1) == []


@pytest.mark.parametrize("name", ["state.npz", "epoch-0001.npz"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_an_expert_with_damaged_partial_files_starts_over(
    folder: Folder, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    writer, name = ShardWriter(folder, 2, range(EPOCHS + 1)), f"partial/expert-0002/{name}"
    for epoch in range(3):
        writer.save(state(2, epoch), {})
    assert writer.resume() is not None
    intact = folder.read(name)
    folder.write(name, {"cut": intact[:-40], "flipped": flipped(intact, len(intact) // 2), "gone": b""}[damage])
    if damage == "gone" and "epoch" in name:
        folder.remove(name)
    with caplog.at_level("WARNING"):
        assert writer.resume() is None
    assert "expert 2: starting over" in caplog.text
    assert folder.files() == []


def test_a_shard_of_another_shape_is_corrupt(folder: Folder) -> None:
    write(folder, num_experts=1)
    store = TrajectoryStore.open(folder)
    with pytest.raises(ArtifactCorrupt, match=r"'expert-0000\.npy' has shape \(4, 8\), not \(6, 8\)"):
        replace(store, num_epochs=5)(0, 0)


def test_straight_trajectories_need_only_the_ends(folder: Folder) -> None:
    write(folder / "all")
    for expert in range(2):
        writer = ShardWriter(folder / "ends", expert, range(EPOCHS + 1))
        for epoch in range(EPOCHS + 1):
            writer.save(state(expert, epoch), {"loss": [0.5] * epoch})
        writer.finish({"loss": [0.5] * EPOCHS}, ends_only=True)
    write_layout(folder / "ends", LAYOUT, 2, range(EPOCHS + 1), ends_only=True)
    commit(folder / "ends", kind=KIND, identity=identity_of(KIND, {}, {}, 0), config={}, parents={}, seed=0, uris={})
    full, ends = (TrajectoryStore.open(folder / name) for name in ("all", "ends"))
    assert np.load((folder / "ends").local(shard(0)), allow_pickle=False).shape == (2, 8)
    for expert in range(2):
        assert ends.progress(expert) == full.progress(expert)
        for epoch in (0, 0.4, 1, 2.9, EPOCHS):
            assert torch.equal(Straight(ends)(expert, epoch), Straight(full)(expert, epoch))
    for theta, expected in zip(ends.ends(), full.ends(), strict=True):
        assert torch.equal(theta, expected)
    with pytest.raises(ArtifactIncompatible, match="only the ends of the experts were kept, and epoch 1 was asked for"):
        ends(0, 1)


def test_a_store_may_leave_snapshots_out(folder: Folder) -> None:
    writer = ShardWriter(folder, 0, [0, 1, 3])
    for part in range(3):
        writer.save(state(0, part), {"loss": [None]})
    assert not folder.exists("partial/expert-0000/epoch-0002.npz")
    resumed = ShardWriter(folder, 0, [0, 1, 3]).resume()
    assert resumed is not None
    assert resumed[0].done == 2
    writer.save(state(0, 3), {"loss": [None]})
    writer.finish({"loss": [None]})
    write_layout(folder, LAYOUT, 1, [0, 75, 225])
    finish(folder)
    store = TrajectoryStore.open(folder)
    assert (store.num_epochs, store.steps) == (2, (0, 75, 225))
    assert torch.equal(store(0, 2), state(0, 3).average_P)
