"""experts: train many networks on the curated set and keep where each of them has been, epoch by epoch.

    board (one actor)  who has which expert; nothing that cannot be read off the folder again
    Ray Train workers  claim an expert -> train it -> write its shard -> claim the next

Expert k depends on `fold_in(seed, "expert", k)` alone: any worker may train it, in any order, on any number of machines. The shards in
the folder are the truth. A lost worker makes Ray Train restart the group; what it had claimed goes back to the board, and its
experts continue after the last epoch that was saved. An expert that fails is tried again, a bounded number of times, and the
rest finish without it.
"""

from __future__ import annotations

import atexit
import os
import threading
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.backend
import ray.train.torch
import torch

from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.trajectories import TrajectoryStore, missing_experts, write_layout
from raydistill.config import Config
from raydistill.core.cost_model import describe, estimate_training
from raydistill.core.diagnostics import check_undertrained
from raydistill.core.networks import build_network
from raydistill.errors import ClusterError, DivergenceError, RaydistillError
from raydistill.log import get_logger, progress
from raydistill.pipeline.experts.coordinator import MAX_ATTEMPTS, Coordinator
from raydistill.pipeline.experts.worker import ExpertTask, train_experts
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.runtime.background import run_in_background
from raydistill.pipeline.runtime.failures import WORKER_FAILURES, one_line, translate_errors
from raydistill.pipeline.runtime.resources import check_memory, choose_num_workers, on_driver_node
from raydistill.pipeline.runtime.signals import preserve_sigint
from raydistill.pipeline.runtime.stages import is_complete, require_votes, resolve, stage_context, tracked_run
from raydistill.pipeline.tracking.tracker import Run, Tracker
from raydistill.storage import Folder, arrow_filesystem

log = get_logger(__name__)

POLL_SECONDS = 0.5
JUDGED = 8  # experts of which it is told whether they were done


def experts(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> TrajectoryStore:
    """Train the experts that are missing; the store of all of them."""
    config, spec = plan.config, plan.trajectories
    if is_complete(spec):
        return TrajectoryStore.open(spec.folder)
    curated = CuratedSet.open(plan.curated.folder)
    curated.require_splits("train", "validation")
    require_votes(config, curated)
    with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
        _train_all(plan, curated, run)
    store = TrajectoryStore.open(spec.folder)
    some = range(min(JUDGED, store.num_experts))
    if sentence := check_undertrained(
        [store.history(expert)["balanced_accuracy"] for expert in some], config.experts.training
    ):
        log.warning("experts: %s", sentence)
    return store


def _train_all(plan: Plan, curated: CuratedSet, run: Run) -> None:
    config, folder = plan.config, plan.trajectories.folder
    wanted = config.experts
    network = build_network(config.network, curated.num_classes, curated.summary.image_size)
    side, taught = curated.summary.image_size, sum(entry.train for entry in curated.summary.classes)
    images = torch.Size((taught, 3, side, side))
    # The work of all experts, for a choice that depends on the number of workers would make the bits depend on it.
    work = estimate_training(wanted.training, network, images, wanted.num_experts)
    training = resolve(folder, run, wanted.training, work, config.resources.gpus, config.resources.worker_threads)
    wanted = replace(wanted, training=training)
    write_layout(folder, network.layout, wanted.num_experts, wanted.training.epochs, ends_only=wanted.keep == "ends")
    missing = missing_experts(folder, wanted.num_experts)
    if not missing:
        return
    log.info(
        "experts: %d of %d to train, %s, %d parameters, %s",
        len(missing),
        wanted.num_experts,
        config.network.name,
        network.layout.num_parameters,
        describe(training),
    )
    resources = config.resources
    job = ExpertTask(
        folder.uri, curated.folder.uri, config.network, wanted, config.seed, resources.worker_threads, resources.gpus,
        plan.class_tree if wanted.targets == "votes" else None,
    )  # fmt: skip
    coordinator: Any = ray.remote(num_cpus=0)(Coordinator).options(scheduling_strategy=on_driver_node())
    coordinator = coordinator.remote(missing, resources.max_restarts)
    with translate_errors("experts"):
        with run_in_background(partial(_show, coordinator, len(missing) * wanted.training.epochs, run), timeout=10):
            workers = choose_num_workers(resources, len(missing))
            check_memory(resources, workers, images.numel() * torch.float32.itemsize, "experts")
            _fit(config, folder, job, coordinator, workers)
        failures: dict[int, RaydistillError] = ray.get(coordinator.failures.remote())
        trouble: RaydistillError | None = ray.get(coordinator.trouble.remote())
    ray.kill(coordinator)  # Ray Train's controller, which stays as long as this Ray does, holds on to it
    if failures:
        expert, error = next(iter(failures.items()))
        if not isinstance(error, DivergenceError):
            raise error
        raise DivergenceError(
            f"{len(failures)} of {wanted.num_experts} experts diverged {MAX_ATTEMPTS} times (expert {expert}: {error.what})",
            "experts", f"lower experts.training.lr (now {wanted.training.lr:g}); the finished experts are kept",
        )  # fmt: skip
    if left := missing_experts(folder, wanted.num_experts):
        again = "run the same command again; it trains only these"
        raise trouble or ClusterError(f"experts {left[:5]} were not finished, or have been damaged", "experts", again)


class _NoProcessGroup(ray.train.backend.Backend):
    """Start workers without a process group, whose store torch lets listen on all interfaces."""

    share_cuda_visible_devices = True  # as Ray's own backend of torch


class _Independent(ray.train.torch.TorchConfig):
    """Configure workers that share nothing."""

    @property
    def backend_cls(self) -> type[ray.train.backend.Backend]:
        return _NoProcessGroup


class _Controlling(ray.train.UserCallback):
    """What the controller of Ray Train does for us, in its own process."""

    def __init__(self, coordinator: Any) -> None:
        self._board = coordinator

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Tell the board of a loss of the group. What this raises ends the training: `Board.trouble` says why."""
        if not ray.get(self._board.lost.remote(list(worker_exceptions))):
            raise RuntimeError("lost in vain")

    def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
        """All is done. The process is to end before Ray's own code of its end, in which one of twelve hung for good, with 400 MB (Ray
        2.60.0; docs/log.md, 2026-11-25)."""
        atexit.register(os._exit, 0)


def _fit(config: Config, folder: Folder, job: ExpertTask, coordinator: Any, workers: int) -> None:
    resources = config.resources
    # Both are typed as their ancestors, which know neither the second limit nor a number of workers that changes.
    failure_config: Any = ray.train.FailureConfig
    scaling_config: Any = ray.train.ScalingConfig
    # The board counts lost groups. One that cannot be started, for a machine of it was lost just now, counts against the second.
    failures = failure_config(max_failures=-1, controller_failure_limit=resources.max_restarts)
    callbacks: Any = [_Controlling(coordinator)]  # and typed as those of Tune
    system, path = arrow_filesystem((folder / PARTIAL / "ray").uri)
    trainer = ray.train.torch.TorchTrainer(
        train_experts,
        train_loop_config={"job": job, "board": coordinator},
        torch_config=_Independent(backend="gloo"),
        scaling_config=scaling_config(
            # Begins with the machines that are there, grows with the cluster, and goes on with those that a lost one leaves.
            num_workers=(1, workers) if workers > 1 else 1,
            use_gpu=resources.gpus > 0,
            resources_per_worker={"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            # A finished name would resume from its end; the folder is our own memory, so every attempt is a new name.
            name=f"experts-{uuid.uuid4().hex[:8]}",
            storage_path=path,
            storage_filesystem=system,
            failure_config=failures,
            callbacks=callbacks,
        ),
    )
    try:
        with preserve_sigint():
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        if ray.get(coordinator.failures.remote()) or ray.get(coordinator.trouble.remote()):
            return  # which the stage raises
        raise ClusterError(
            f"no group of workers can be started ({one_line(error)})",
            "experts", "run the same command again; finished experts are kept",
        ) from error  # fmt: skip


def _show(coordinator: Any, total: int, run: Run, done: threading.Event) -> None:
    """Poll the board: a progress bar, and a point in MLflow for every finished expert."""
    groups = 1
    # Of a board that is lost the driver's own thread tells.
    with suppress(*WORKER_FAILURES), progress(total, "training experts", "epochs") as shown:
        while True:
            last = done.wait(POLL_SECONDS)
            state = ray.get(coordinator.news.remote())
            shown.update(state["epochs"], experts=f"{state['finished']} done", **state["figures"])
            if state["groups"] > groups:
                groups = state["groups"]
                log.warning("experts: another group of workers; one was lost, or the cluster has changed")
            for expert, figures in state["finals"]:
                run.metrics({f"expert/{name}": value for name, value in figures.items()}, expert)
            if last:
                return
