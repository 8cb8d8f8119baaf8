"""Experts: the same bits whoever trains them and whatever happens meanwhile; finished ones stay; failing ones are told."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from ray_tools import SILENT, below, content, copy_of, killing, tiny

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.manifest import NAME
from raydistill.artifacts.trajectories import ShardWriter, TrajectoryStore, record, shard
from raydistill.core import diagnostics
from raydistill.core.networks import build_network
from raydistill.core.training import init_state
from raydistill.errors import ClusterError, DivergenceError, RaydistillError
from raydistill.pipeline.experts.coordinator import MAX_ATTEMPTS, Coordinator
from raydistill.pipeline.experts.stage import experts
from raydistill.pipeline.plan import Plan
from tests.damage import flipped
from tests.ray.deadly import FAULT, POISON

# Batches of one image make an expert last for a second: long enough for something to happen to it.
LONG = "experts.training.batch_size=1"


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("expert-*"))}


@pytest.fixture(scope="module")
def undisturbed(curated_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Content digest, and digests of the files, of the long experts trained by one worker in one go."""
    config = tiny(
        copy_of(curated_root, tmp_path_factory.mktemp("one"), "survey", "curated"), LONG, "resources.workers=1"
    )
    experts(Plan(config), SILENT)
    return content(Plan(config).trajectories), digests(below(config, "trajectories"))


@pytest.mark.long
def test_two_workers_train_what_one_trains(trained_root: Path, tmp_path: Path) -> None:
    by_two = tiny(trained_root)
    by_one = tiny(copy_of(trained_root, tmp_path, "survey", "curated"), "resources.workers=1")
    experts(Plan(by_one), SILENT)
    assert digests(below(by_one, "trajectories")) == digests(below(by_two, "trajectories"))
    assert content(Plan(by_one).trajectories) == content(Plan(by_two).trajectories)


def test_experts_differ_from_one_another_and_move_every_epoch(trained_root: Path) -> None:
    store = TrajectoryStore.open(below(tiny(trained_root), "trajectories").as_posix())
    starts = [store(expert, 0).numpy() for expert in range(store.num_experts)]
    assert not np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[1], starts[2])
    for expert in range(store.num_experts):
        steps = [float((store(expert, e + 1) - store(expert, e)).norm()) for e in range(store.num_epochs)]
        assert min(steps) > 0, f"expert {expert} stood still: {steps}"
        history = store.history(expert)
        assert [len(values) for values in history.values()] == [store.num_epochs + 1] * 3
        assert history["loss"][0] is None
        assert all(0 <= value <= 1 for value in history["balanced_accuracy"])


@contextmanager
def no_epoch_twice(folder: Path) -> Iterator[dict[Path, tuple[int, int]]]:
    """While the body blocks: the epochs that saved states vouch for, by file. Fails if one of them is written again."""
    done, seen = threading.Event(), dict[Path, tuple[int, int]]()

    def look(state: Path) -> set[Path]:
        again = set()
        with suppress(FileNotFoundError), np.load(state) as saved:  # tidied up meanwhile
            for epoch in range(int(saved["epoch"]) + 1):
                path = state.with_name(f"epoch-{epoch:04d}.npz")
                now = path.stat()
                if seen.setdefault(path, (now.st_ino, now.st_mtime_ns)) != (now.st_ino, now.st_mtime_ns):
                    again.add(path)
        return again

    def watch() -> set[Path]:
        again = set()
        while not done.wait(0.005):
            again.update(*map(look, folder.glob("partial/expert-*/state.npz")))
        return again

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield seen
        finally:
            done.set()
        assert not watching.result(), "an epoch was trained again that had been saved"


@pytest.mark.long
def test_three_workers_and_one_killed_in_the_middle_give_the_bits_of_one_worker(
    curated_root: Path, undisturbed: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    config = tiny(
        copy_of(curated_root, tmp_path, "survey", "curated"), LONG, "resources.workers=3", "resources.cpus=0.5"
    )
    folder = below(config, "trajectories")
    begun = [folder / "partial" / f"expert-{k:04d}" / "epoch-0001.npz" for k in range(3)]
    with no_epoch_twice(folder) as epochs, killing("RayTrainWorker", lambda: any(path in epochs for path in begun)):
        experts(Plan(config), SILENT)
    assert digests(folder) == undisturbed[1]
    assert content(Plan(config).trajectories) == undisturbed[0]
    assert not (folder / "partial").exists(), "work in progress became part of the artifact"


@pytest.mark.long
def test_a_finished_shard_is_never_written_again(
    curated_root: Path, undisturbed: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    """A stage that was stopped with expert 1 finished, and one of another's epochs saved."""
    root = copy_of(curated_root, tmp_path, "survey", "curated")
    config = tiny(root, LONG, "resources.workers=1")
    folder = below(config, "trajectories")
    with (
        killing("RayTrainWorker", lambda: (folder / shard(0)).exists()),
        pytest.raises(ClusterError, match=r"lost with experts \[[01]\], and 0 restarts"),
    ):
        experts(Plan(tiny(root, LONG, "resources.workers=1", "resources.max_restarts=0")), SILENT)
    assert not (folder / NAME).exists(), "a stage that failed left a manifest"
    before = {name: (folder / name).stat() for name in (shard(0), record(0))}
    experts(Plan(config), SILENT)
    for name, was in before.items():
        now = (folder / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (was.st_ino, was.st_mtime_ns), f"{name} was written again"
    assert digests(folder) == undisturbed[1]


def test_a_shard_damaged_before_the_stage_ended_is_trained_again(
    trained_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "STILL_LEARNING", -1.0)  # experts as small as these hardly learn
    root = copy_of(trained_root, tmp_path, "survey", "curated", "trajectories")
    plan = Plan(tiny(root))
    folder = below(tiny(root), "trajectories")
    whole, before = digests(folder), {name: (folder / name).stat().st_mtime_ns for name in (shard(0), shard(2))}
    (folder / NAME).unlink()
    (folder / shard(1)).write_bytes(flipped((folder / shard(1)).read_bytes(), -3))
    store = experts(plan, SILENT)
    assert digests(folder) == whole
    accuracies = [store.history(expert)["balanced_accuracy"] for expert in range(store.num_experts)]
    assert f"experts: {diagnostics.check_undertrained(accuracies, plan.config.experts.training)}" in caplog.messages
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before, "the others were trained again"


@pytest.mark.long
def test_experts_that_diverge_end_the_stage_with_a_sentence(curated_root: Path, tmp_path: Path) -> None:
    root = copy_of(curated_root, tmp_path, "survey", "curated")
    config = tiny(root, "experts.training.lr=1e30", "resources.workers=2")
    with pytest.raises(DivergenceError) as caught:
        experts(Plan(config), SILENT)
    sentence = str(caught.value)
    assert f"3 of 3 experts diverged {MAX_ATTEMPTS} times" in sentence
    assert "lower experts.training.lr" in sentence
    assert caught.value.exit_code == 4
    assert not (below(config, "trajectories") / NAME).exists()


@pytest.mark.long
def test_an_expert_that_always_raises_is_named_and_the_rest_finish(curated_root: Path, tmp_path: Path) -> None:
    plan = poisoned(curated_root, tmp_path, FAULT, restarts=0)
    with pytest.raises(RaydistillError, match=f"expert 1 failed {MAX_ATTEMPTS} times .*a fault that comes again"):
        experts(plan, SILENT)
    assert_all_but_expert_1_finished(plan)


@pytest.mark.long
def test_an_expert_that_kills_its_worker_is_named_and_the_rest_finish(curated_root: Path, tmp_path: Path) -> None:
    """Its worker and with it the group are lost three times, and each time the others have come on."""
    plan = poisoned(curated_root, tmp_path, POISON, restarts=2)
    with pytest.raises(ClusterError, match="expert 1 was lost with its worker, and 2 restarts in a row"):
        experts(plan, SILENT)
    assert_all_but_expert_1_finished(plan)


def poisoned(curated_root: Path, tmp_path: Path, poison: float, restarts: int) -> Plan:
    """Expert 1 was stopped before its first epoch, with parameters that no network of `deadly` stands."""
    config = tiny(
        copy_of(curated_root, tmp_path, "survey", "curated"),
        "network={kind: custom, factory: 'tests.ray.deadly:deadly'}",
        "evaluate.baselines=[random_real]",
        "resources.workers=2",
        f"resources.max_restarts={restarts}",
    )
    plan = Plan(config)
    summary = CuratedSet.open(plan.curated.folder).summary
    size = build_network(config.network, len(summary.classes), summary.image_size).layout.num_parameters
    nothing: list[float | None] = [None]
    history = {"loss": nothing, "accuracy": nothing, "balanced_accuracy": nothing}
    ShardWriter(plan.trajectories.folder, 1).save(init_state(torch.full((size,), poison)), history)
    return plan


def assert_all_but_expert_1_finished(plan: Plan) -> None:
    folder = plan.trajectories.folder
    assert [folder.exists(shard(k)) for k in range(3)] == [True, False, True]
    assert not folder.exists(NAME)


# The board, without Ray: one poisoned expert does not hold up the rest, and nothing that was claimed is lost.


def test_a_worker_that_comes_back_finds_what_it_had_claimed() -> None:
    coordinator = Coordinator([0, 1, 2, 3], 3)
    for rank in (0, 1):
        coordinator.join(rank, 2)
    assert [coordinator.claim(0), coordinator.claim(1)] == [0, 1]
    coordinator.finished(0, {"accuracy": 0.5})
    assert coordinator.claim(0) == 2
    coordinator.join(0, 2)  # rank 0 was lost with expert 2; rank 1 goes on with expert 1
    assert [coordinator.claim(0), coordinator.claim(0), coordinator.claim(0)] == [3, 2, None]


def lost_and_back(coordinator: Coordinator, ranks: int, dead: Collection[int] | None = None) -> list[int | None]:
    """What each rank of a group claims that is lost, by the death of some or all, and started again."""
    if not coordinator.lost(range(ranks) if dead is None else dead):
        return []
    for rank in range(ranks):
        coordinator.join(rank, ranks)
    return [coordinator.claim(rank) for rank in range(ranks)]


def test_an_expert_that_takes_its_worker_with_it_is_named_and_the_rest_finish() -> None:
    """Three workers: 4 is deadly, 5 is in the middle of its epochs whenever that happens, 6 and 7 finish."""
    coordinator = Coordinator([4, 5, 6, 7], max_restarts=2)
    for rank in range(3):
        coordinator.join(rank, 3)
    assert [coordinator.claim(rank) for rank in range(3)] == [4, 5, 6]
    coordinator.epoch(5, 1, {})
    coordinator.finished(6, {})
    assert coordinator.claim(2) == 7
    coordinator.finished(7, {})
    claimed: list[int | None] = [4, 5, None]
    for _ in range(2):
        claimed = lost_and_back(coordinator, 3, [claimed.index(4)])  # too soon for 5 to come on
        assert set(claimed) == {4, 5, None}
    assert set(lost_and_back(coordinator, 3, [claimed.index(4)])) == {5, None}, "the third loss of 4 was one too many"
    assert isinstance(coordinator.failures()[4], ClusterError)
    assert "expert 4 was lost with its worker, and 2 restarts in a row" in str(coordinator.failures()[4])
    coordinator.finished(5, {})
    assert (coordinator.claim(0), coordinator.trouble()) == (None, None)


def test_groups_that_are_lost_in_vain_end_the_work_and_others_do_not() -> None:
    coordinator = Coordinator([0, 1, 2, 3], max_restarts=2)
    for epoch in range(1, 10):
        (claimed,) = lost_and_back(coordinator, 1)
        coordinator.epoch(claimed, epoch, {})
    for size in (2, 3, 4):  # a cluster that grows starts the group anew, and nobody was lost
        for rank in range(size):
            coordinator.join(rank, size)
        for rank in range(size):
            coordinator.epoch(coordinator.claim(rank), 10, {})
    for _ in range(2):
        assert lost_and_back(coordinator, 4)
        assert coordinator.trouble() is None
    assert not lost_and_back(coordinator, 4)
    assert "the group of workers was lost with experts [0, 1, 2, 3], and 2 restarts in a row" in str(
        coordinator.trouble()
    )


def test_a_smaller_group_takes_over_from_ranks_beyond_it() -> None:
    coordinator = Coordinator([0, 1, 2], 3)
    for rank in range(3):
        coordinator.claim(rank)
    coordinator.join(0, 1)  # of three workers one is left
    claimed = {coordinator.claim(0) for _ in range(3)}
    assert claimed == {0, 1, 2}
    assert coordinator.claim(0) is None


def test_ranks_of_a_larger_group_that_is_gone_are_no_others() -> None:
    """Of three workers one has run out of work and left; then its machine goes, and two go on."""
    coordinator = Coordinator([5, 6], 3)
    for rank in range(3):
        coordinator.join(rank, 3)
    assert [coordinator.claim(rank) for rank in range(3)] == [5, 6, None]
    assert coordinator.lost([2])
    for rank in range(2):
        coordinator.join(rank, 2)
    first, other = coordinator.claim(0), coordinator.claim(1)
    coordinator.failed(first, "a launch failure")
    assert coordinator.claim(0) is None, "left to the other rank, which is healthy"
    coordinator.finished(other, {})
    assert coordinator.claim(1) == first


def test_a_poisoned_expert_is_tried_again_last_and_then_given_up() -> None:
    coordinator = Coordinator([7, 8, 9], 3)
    order = []
    while (expert := coordinator.claim(0)) is not None:
        order.append(expert)
        if expert == 7:
            coordinator.failed(expert, f"attempt {order.count(7)}")
        else:
            coordinator.finished(expert, {"accuracy": expert / 10})
    assert order == [7, 8, 9, *[7] * (MAX_ATTEMPTS - 1)]
    assert coordinator.failures() == {7: f"attempt {MAX_ATTEMPTS}"}
    news = coordinator.news()
    assert news["finished"] == 2
    assert news["finals"] == [(8, {"accuracy": 0.8}), (9, {"accuracy": 0.9})]
    assert coordinator.news()["finals"] == [], "a final was told twice"


def test_a_worker_whose_every_expert_fails_leaves_them_to_the_others() -> None:
    coordinator = Coordinator([0, 1, 2, 3], 3)
    for rank in (0, 1):
        coordinator.join(rank, 2)
    assert coordinator.claim(1) == 0
    while (expert := coordinator.claim(0)) is not None:  # a GPU that fails at once, while the other trains
        coordinator.failed(expert, "a launch failure")
    assert coordinator.failures() == {}
    coordinator.finished(0, {})
    while (expert := coordinator.claim(1)) is not None:
        coordinator.finished(expert, {})
    assert coordinator.news()["finished"] == 4
    assert coordinator.failures() == {}


def test_an_expert_that_fails_on_the_last_worker_is_tried_there_again() -> None:
    coordinator = Coordinator([0], 3)
    for rank in (0, 1):
        coordinator.join(rank, 2)
    assert (coordinator.claim(0), coordinator.claim(1)) == (0, None)
    coordinator.failed(0, "first")
    assert coordinator.claim(0) == 0
    coordinator.failed(0, "second")
    assert (coordinator.claim(0), coordinator.failures()) == (None, {0: "second"})


def test_epochs_count_once_however_often_an_expert_starts() -> None:
    coordinator = Coordinator([0, 1], 3)
    coordinator.epoch(0, 1, {"loss": 2.0})
    coordinator.epoch(0, 2, {"loss": 1.0})
    coordinator.epoch(1, 1, {"loss": 3.0})
    coordinator.epoch(0, 2, {"loss": 1.0})  # after a restart, the epoch that was in flight
    assert coordinator.news()["epochs"] == 3
    assert coordinator.news()["figures"] == {"loss": 1.0}


def test_a_controller_whose_work_is_done_ends_although_its_last_duties_hang() -> None:
    hung = "import ctypes; c = ctypes.CDLL(None); c.on_exit(c.pause, None)"
    done = "from raydistill.pipeline.experts.stage import _Controlling; _Controlling(None).after_report(None, [], None)"
    subprocess.run([sys.executable, "-c", f"{hung}; {done}"], check=True, timeout=60)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", hung], check=True, timeout=3)
