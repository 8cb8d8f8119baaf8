"""Test the experts stage: bits, restarts, failures, and coordinator without Ray."""

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

from raydistill.artifacts.manifest import NAME
from raydistill.artifacts.tables import read_table
from raydistill.distillation import diagnostics
from raydistill.errors import ClusterError, DivergenceError, RaydistillError
from raydistill.learning.networks import build_network
from raydistill.learning.sgd import init_state
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.stage import distill
from raydistill.stages.experts.artifact import ShardWriter, TrajectoryStore, record, shard
from raydistill.stages.experts.coordinator import MAX_ATTEMPTS, Coordinator
from raydistill.stages.experts.stage import describe_undertrained, experts
from tests.damage import flipped
from tests.private_ray import training_here
from tests.ray.deadly import FAULT, POISON

# Batches of one image make an expert train for a second: long enough to kill its worker.
LONG = "experts.training.batch_size=1"


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("expert-*"))}


@pytest.fixture(scope="module")
def undisturbed(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Return the content and file digests of long experts from one undisturbed worker."""
    config = tiny(copy_of(tiny_root, tmp_path_factory.mktemp("one"), "survey", "curated"), LONG, "resources.workers=1")
    experts(Plan(config), SILENT)
    return content(Plan(config).trajectories), digests(below(config, "trajectories"))


@pytest.mark.long
def test_two_workers_give_the_bits_of_one_worker(tiny_root: Path, tmp_path: Path) -> None:
    two_workers = tiny(tiny_root)
    one_worker = tiny(copy_of(tiny_root, tmp_path, "survey", "curated"), "resources.workers=1")
    experts(Plan(one_worker), SILENT)
    assert digests(below(one_worker, "trajectories")) == digests(below(two_workers, "trajectories"))
    assert content(Plan(one_worker).trajectories) == content(Plan(two_workers).trajectories)


def test_parts_of_long_epochs_are_stored_and_distilled(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated")
    config = tiny(
        root, "experts.training.epochs=2", "experts.snapshot_steps=2", "experts.max_snapshots=3", "experts.num_experts=1",
        "distill.schedule={kind: loss-weighted}", "distill.iterations=3", "distill.expert_epochs=1",
    )  # fmt: skip
    with training_here():
        store = experts(Plan(config), SILENT)
    first, second, *_, last = store.steps[1:]
    assert first <= 2 < second
    assert store.num_epochs == len(store.steps) - 1 <= 3
    num_images = sum(entry.train for entry in CuratedSet.open(str(below(config, "curated"))).summary.classes)
    assert last == 2 * config.experts.training.steps_per_epoch(num_images)
    assert len(store.history(0)["balanced_accuracy"]) == 3  # by whole epoch
    rows = read_table(distill(Plan(config), SILENT).folder, "history.parquet").to_pylist()
    assert max(row["start_epoch"] for row in rows) <= store.num_epochs - 1


def test_experts_differ_and_change_every_epoch(tiny_root: Path) -> None:
    store = TrajectoryStore.open(below(tiny(tiny_root), "trajectories").as_posix())
    starts = [store(expert, 0).numpy() for expert in range(store.num_experts)]
    assert not np.array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[1], starts[2])
    for expert in range(store.num_experts):
        steps = [float((store(expert, e + 1) - store(expert, e)).norm()) for e in range(store.num_epochs)]
        assert min(steps) > 0, f"expert {expert} did not change: {steps}"
        history = store.history(expert)
        assert [len(values) for values in history.values()] == [store.num_epochs + 1] * 3
        assert history["loss"][0] is None
        assert all(0 <= value <= 1 for value in history["balanced_accuracy"])


@contextmanager
def no_saved_epoch_rewritten(folder: Path) -> Iterator[dict[Path, tuple[int, int]]]:
    """Fail if an epoch file of a saved state is written again while the body runs.

    Yields path -> (inode, modification time) of the files seen so far.
    """
    done, seen = threading.Event(), dict[Path, tuple[int, int]]()

    def rewritten(state: Path) -> set[Path]:
        paths = set()
        with suppress(FileNotFoundError), np.load(state) as saved:  # removed meanwhile
            for epoch in range(int(saved["epoch"]) + 1):
                path = state.with_name(f"epoch-{epoch:04d}.npz")
                stat = path.stat()
                if seen.setdefault(path, (stat.st_ino, stat.st_mtime_ns)) != (stat.st_ino, stat.st_mtime_ns):
                    paths.add(path)
        return paths

    def watch() -> set[Path]:
        paths = set()
        while not done.wait(0.005):
            paths.update(*map(rewritten, folder.glob("partial/expert-*/state.npz")))
        return paths

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield seen
        finally:
            done.set()
        assert not watcher.result(), "a saved epoch was trained again"


@pytest.mark.long
def test_three_workers_of_which_one_is_killed_give_the_bits_of_one_worker(
    tiny_root: Path, undisturbed: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    config = tiny(copy_of(tiny_root, tmp_path, "survey", "curated"), LONG, "resources.workers=3", "resources.cpus=0.5")
    folder = below(config, "trajectories")
    first_epochs = [folder / "partial" / f"expert-{k:04d}" / "epoch-0001.npz" for k in range(3)]
    with (
        no_saved_epoch_rewritten(folder) as seen,
        killing("RayTrainWorker", lambda: any(path in seen for path in first_epochs)),
    ):
        experts(Plan(config), SILENT)
    assert digests(folder) == undisturbed[1]
    assert content(Plan(config).trajectories) == undisturbed[0]
    assert not (folder / "partial").exists(), "unfinished files became part of the artifact"


@pytest.mark.long
def test_finished_shard_is_never_written_again(
    tiny_root: Path, undisturbed: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    """Stop the first attempt when expert 0 is finished; another may have saved epochs."""
    root = copy_of(tiny_root, tmp_path, "survey", "curated")
    config = tiny(root, LONG, "resources.workers=1")
    folder = below(config, "trajectories")
    with (
        killing("RayTrainWorker", lambda: (folder / shard(0)).exists()),
        pytest.raises(ClusterError, match=r"died with experts \[[01]\], and 0 restarts"),
    ):
        experts(Plan(tiny(root, LONG, "resources.workers=1", "resources.max_restarts=0")), SILENT)
    assert not (folder / NAME).exists(), "a stage that failed left a manifest"
    before = {name: (folder / name).stat() for name in (shard(0), record(0))}
    experts(Plan(config), SILENT)
    for name, old in before.items():
        new = (folder / name).stat()
        assert (new.st_ino, new.st_mtime_ns) == (old.st_ino, old.st_mtime_ns), f"{name} was written again"
    assert digests(folder) == undisturbed[1]


@pytest.mark.long
def test_shard_damaged_before_the_stage_ended_is_trained_again(
    tiny_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "STILL_LEARNING", -1.0)  # such small experts hardly learn
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories")
    plan = Plan(tiny(root))
    folder = below(tiny(root), "trajectories")
    expected, before = digests(folder), {name: (folder / name).stat().st_mtime_ns for name in (shard(0), shard(2))}
    (folder / NAME).unlink()
    (folder / shard(1)).write_bytes(flipped((folder / shard(1)).read_bytes(), -3))
    store = experts(plan, SILENT)
    assert digests(folder) == expected
    accuracies = [store.history(expert)["balanced_accuracy"] for expert in range(store.num_experts)]
    finding = diagnostics.check_undertrained(accuracies, plan.config.experts.training)
    assert finding is not None
    assert f"experts: {describe_undertrained(finding, plan.config.experts.training)}" in caplog.messages
    assert {name: (folder / name).stat().st_mtime_ns for name in before} == before, "other experts were trained again"


@pytest.mark.long
def test_diverging_experts_raise_one_error_with_a_fix(tiny_root: Path, tmp_path: Path) -> None:
    root = copy_of(tiny_root, tmp_path, "survey", "curated")
    config = tiny(root, "experts.training.lr=1e30", "resources.workers=2")
    with pytest.raises(DivergenceError) as caught:
        experts(Plan(config), SILENT)
    message = str(caught.value)
    assert f"3 of 3 experts diverged {MAX_ATTEMPTS} times" in message
    assert "lower experts.training.lr" in message
    assert caught.value.exit_code == 4
    assert not (below(config, "trajectories") / NAME).exists()


@pytest.mark.long
def test_expert_that_always_raises_is_named_and_the_others_finish(tiny_root: Path, tmp_path: Path) -> None:
    plan = poisoned(tiny_root, tmp_path, FAULT, restarts=0)
    with pytest.raises(RaydistillError, match=f"expert 1 failed {MAX_ATTEMPTS} times .*a persistent fault"):
        experts(plan, SILENT)
    assert_all_but_expert_1_finished(plan)


@pytest.mark.long
def test_expert_that_kills_its_worker_is_named_and_the_others_finish(tiny_root: Path, tmp_path: Path) -> None:
    """Let an expert kill worker and group three times, after another has finished.

    Without that progress the group is at fault, which is an error of its own.
    """
    plan = poisoned(tiny_root, tmp_path, POISON, restarts=2, after=f"tiny/trajectories-*/{shard(0)}")
    with pytest.raises(ClusterError, match="the worker of expert 1 died, and 2 restarts in a row"):
        experts(plan, SILENT)
    assert_all_but_expert_1_finished(plan)


def poisoned(tiny_root: Path, tmp_path: Path, poison: float, restarts: int, after: str = "") -> Plan:
    """Return a plan whose expert 1 has a saved state on which `Deadly` fails.

    The state is from before the first epoch. `Deadly` fails once a file below `tmp_path` matches
    `after`.
    """
    config = tiny(
        copy_of(tiny_root, tmp_path, "survey", "curated"),
        f"network={{kind: custom, factory: 'tests.ray.deadly:deadly', options: {{root: '{tmp_path}', after: '{after}'}}}}",
        "evaluate.baselines=[random_real]",
        "resources.workers=2",
        f"resources.max_restarts={restarts}",
    )
    plan = Plan(config)
    summary = CuratedSet.open(plan.curated.folder).summary
    size = build_network(config.network, len(summary.classes), summary.image_size).layout.num_parameters
    nothing: list[float | None] = [None]
    history = {"loss": nothing, "accuracy": nothing, "balanced_accuracy": nothing}
    ShardWriter(plan.trajectories.folder, 1, range(9)).save(init_state(torch.full((size,), poison)), history)
    return plan


def assert_all_but_expert_1_finished(plan: Plan) -> None:
    folder = plan.trajectories.folder
    assert [folder.exists(shard(k)) for k in range(3)] == [True, False, True]
    assert not folder.exists(NAME)


# The coordinator, without Ray.


def test_restarted_worker_trains_the_expert_of_the_dead_one() -> None:
    coordinator = Coordinator([0, 1, 2, 3], 3)
    for rank in (0, 1):
        coordinator.register(rank, 2)
    assert [coordinator.acquire(0), coordinator.acquire(1)] == [0, 1]
    coordinator.finished(0, {"accuracy": 0.5})
    assert coordinator.acquire(0) == 2
    coordinator.register(0, 2)  # rank 0 died with expert 2; rank 1 continues expert 1
    assert [coordinator.acquire(0), coordinator.acquire(0), coordinator.acquire(0)] == [3, 2, None]


def restart_group(coordinator: Coordinator, ranks: int, dead: Collection[int] | None = None) -> list[int | None]:
    """Let ranks, by default all, die and restart the group; return what each acquires.

    The list is empty if no other group may start.
    """
    if not coordinator.group_died(range(ranks) if dead is None else dead):
        return []
    for rank in range(ranks):
        coordinator.register(rank, ranks)
    return [coordinator.acquire(rank) for rank in range(ranks)]


def test_expert_whose_worker_dies_too_often_is_given_up() -> None:
    """Three workers: expert 4 kills its worker while 5 is training; 6 and 7 finish."""
    coordinator = Coordinator([4, 5, 6, 7], max_restarts=2)
    for rank in range(3):
        coordinator.register(rank, 3)
    assert [coordinator.acquire(rank) for rank in range(3)] == [4, 5, 6]
    coordinator.epoch(5, 1, {})
    coordinator.finished(6, {})
    assert coordinator.acquire(2) == 7
    coordinator.finished(7, {})
    acquired: list[int | None] = [4, 5, None]
    for _ in range(2):
        acquired = restart_group(coordinator, 3, [acquired.index(4)])  # before 5 finishes another epoch
        assert set(acquired) == {4, 5, None}
    assert set(restart_group(coordinator, 3, [acquired.index(4)])) == {5, None}, (
        "expert 4 was not given up after three deaths"
    )
    assert isinstance(coordinator.failures()[4], ClusterError)
    assert "the worker of expert 4 died, and 2 restarts in a row" in str(coordinator.failures()[4])
    coordinator.finished(5, {})
    assert (coordinator.acquire(0), coordinator.group_error()) == (None, None)


def test_only_groups_that_die_without_progress_end_the_training() -> None:
    coordinator = Coordinator([0, 1, 2, 3], max_restarts=2)
    for epoch in range(1, 10):
        (acquired,) = restart_group(coordinator, 1)
        coordinator.epoch(acquired, epoch, {})
    for size in (2, 3, 4):  # a cluster that grows restarts the group; no worker died
        for rank in range(size):
            coordinator.register(rank, size)
        for rank in range(size):
            coordinator.epoch(coordinator.acquire(rank), 10, {})
    for _ in range(2):
        assert restart_group(coordinator, 4)
        assert coordinator.group_error() is None
    assert not restart_group(coordinator, 4)
    assert "the group of workers died with experts [0, 1, 2, 3], and 2 restarts in a row" in str(
        coordinator.group_error()
    )


def test_smaller_group_trains_the_experts_of_ranks_beyond_it() -> None:
    coordinator = Coordinator([0, 1, 2], 3)
    for rank in range(3):
        coordinator.acquire(rank)
    coordinator.register(0, 1)  # one of three workers is left
    acquired = {coordinator.acquire(0) for _ in range(3)}
    assert acquired == {0, 1, 2}
    assert coordinator.acquire(0) is None


def test_ranks_of_a_larger_dead_group_do_not_count_as_others() -> None:
    """One of three workers has no more experts; its machine leaves, and two continue."""
    coordinator = Coordinator([5, 6], 3)
    for rank in range(3):
        coordinator.register(rank, 3)
    assert [coordinator.acquire(rank) for rank in range(3)] == [5, 6, None]
    assert coordinator.group_died([2])
    for rank in range(2):
        coordinator.register(rank, 2)
    first, other = coordinator.acquire(0), coordinator.acquire(1)
    coordinator.failed(first, "a launch failure")
    assert coordinator.acquire(0) is None, "the other rank, which is healthy, should train it"
    coordinator.finished(other, {})
    assert coordinator.acquire(1) == first


def test_failed_expert_is_tried_again_last_and_then_given_up() -> None:
    coordinator = Coordinator([7, 8, 9], 3)
    order = []
    while (expert := coordinator.acquire(0)) is not None:
        order.append(expert)
        if expert == 7:
            coordinator.failed(expert, f"attempt {order.count(7)}")
        else:
            coordinator.finished(expert, {"accuracy": expert / 10})
    assert order == [7, 8, 9, *[7] * (MAX_ATTEMPTS - 1)]
    assert coordinator.failures() == {7: f"attempt {MAX_ATTEMPTS}"}
    progress = coordinator.progress()
    assert progress["finished"] == 2
    assert progress["finals"] == [(8, {"accuracy": 0.8}), (9, {"accuracy": 0.9})]
    assert coordinator.progress()["finals"] == [], "a finished expert was reported twice"


def test_worker_whose_experts_all_fail_leaves_them_to_the_others() -> None:
    coordinator = Coordinator([0, 1, 2, 3], 3)
    for rank in (0, 1):
        coordinator.register(rank, 2)
    assert coordinator.acquire(1) == 0
    while (expert := coordinator.acquire(0)) is not None:  # a GPU that fails at once, while the other one trains
        coordinator.failed(expert, "a launch failure")
    assert coordinator.failures() == {}
    coordinator.finished(0, {})
    while (expert := coordinator.acquire(1)) is not None:
        coordinator.finished(expert, {})
    assert coordinator.progress()["finished"] == 4
    assert coordinator.failures() == {}


def test_expert_that_fails_on_the_only_worker_is_tried_there_again() -> None:
    coordinator = Coordinator([0], 3)
    for rank in (0, 1):
        coordinator.register(rank, 2)
    assert (coordinator.acquire(0), coordinator.acquire(1)) == (0, None)
    coordinator.failed(0, "first")
    assert coordinator.acquire(0) == 0
    coordinator.failed(0, "second")
    assert (coordinator.acquire(0), coordinator.failures()) == (None, {0: "second"})


def test_epoch_counts_once_if_an_expert_restarts() -> None:
    coordinator = Coordinator([0, 1], 3)
    coordinator.epoch(0, 1, {"loss": 2.0})
    coordinator.epoch(0, 2, {"loss": 1.0})
    coordinator.epoch(1, 1, {"loss": 3.0})
    coordinator.epoch(0, 2, {"loss": 1.0})  # trained again after a restart
    assert coordinator.progress()["epochs"] == 3
    assert coordinator.progress()["figures"] == {"loss": 1.0}
    coordinator.finished(1, {})  # its last epochs may not have been reported
    progress = coordinator.progress()
    assert (progress["epochs"], progress["finished"]) == (2, 1)


def test_controller_exits_although_its_shutdown_hooks_hang() -> None:
    hang = "import ctypes; c = ctypes.CDLL(None); c.on_exit(c.pause, None)"
    done = "from raydistill.stages.experts.stage import _ControllerCallback; _ControllerCallback(None).after_report(None, [], None)"
    subprocess.run([sys.executable, "-c", f"{hang}; {done}"], check=True, timeout=60)
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", hang], check=True, timeout=3)
