"""experts: train networks on the curated set; store parameters after every epoch.

    coordinator (one actor)  assigns experts to workers; its state can be rebuilt from the folder
    Ray Train workers        acquire an expert -> train it -> write its shard -> acquire the next

Expert k depends on `fold_in(seed, "expert", k)` alone: any worker may train it, in any order, on
any number of machines. The folder's shards say which experts are finished.

When a worker dies, Ray Train restarts the group. The coordinator assigns its experts again, and
each continues after its last saved epoch. An expert that fails is tried again, a bounded number of
times; the others finish without it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from raydistill.artifacts.manifest import PARTIAL, Manifest
from raydistill.config import Config, Experts, Resources
from raydistill.distillation.cost_model import estimate_training
from raydistill.distillation.diagnostics import Undertrained, check_undertrained
from raydistill.errors import ClusterError, DivergenceError, RaydistillError
from raydistill.figures.drawing import BLUE, CHART_DPI, VERMILION, Target, save, styled
from raydistill.learning.architectures import AnswerNetwork
from raydistill.learning.arithmetic import fill_auto
from raydistill.learning.networks import Network, build_network
from raydistill.learning.options import Training
from raydistill.log import get_logger, progress
from raydistill.pipeline.checks import check_epochs
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import WORKER_FAILURES, one_line, translate_errors
from raydistill.runtime.ray_train import ExitAfterReport, IndependentWorkers
from raydistill.runtime.resources import Processor, check_memory, choose_num_workers, group_options, on_driver_node
from raydistill.runtime.signals import preserve_sigint, run_in_background
from raydistill.runtime.stages import (
    is_complete,
    model_of,
    require_classes,
    require_votes,
    resolve,
    save_figure,
    stage_context,
    tracked_run,
)
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.experts.artifact import TrajectoryStore, missing_experts, read_history, write_layout
from raydistill.stages.experts.classify.classifier import MODEL_CODE, PictureClassifier
from raydistill.stages.experts.classify.ensemble import calibrate, check_prior, ensemble_source, split_logits
from raydistill.stages.experts.coordinator import MAX_ATTEMPTS, Coordinator
from raydistill.stages.experts.targets import check_nuisance, log_counts
from raydistill.stages.experts.worker import ExpertTask, train_experts
from raydistill.storage import Folder, arrow_filesystem
from raydistill.tracking.registry import CLASSIFIER, registered_name
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)

POLL_SECONDS = 0.5
CURVES = "experts.png"
DIAGNOSED = 8  # experts that are checked for being undertrained


def experts(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> TrajectoryStore:
    """Train the missing experts of the plan, and open the store of all of them.

    Raises
    ------
    ConfigError
        If the recipe of `distill` needs more epochs than the experts will store.
    DivergenceError
        If an expert's training diverges in each of its attempts.
    ClusterError
        If workers cannot start, or die too often.
    """
    config, spec = plan.config, plan.trajectories
    if is_complete(spec):
        return TrajectoryStore.open(spec.folder)
    curated = CuratedSet.open(plan.curated.folder)
    require_classes(curated)
    curated.require_splits("train", "validation")
    require_votes(config, curated)
    check_nuisance(plan, curated)
    if config.tracking.registers:  # its classes are wrong before the training, not after it
        check_prior(config, curated)
    if isinstance(plan.expert_network, AnswerNetwork):
        log_counts(curated)
    register = partial(_register, plan=plan, curated=curated)
    with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated, on_commit=register) as run:
        _train_missing(plan, curated, run)
        save_figure(spec, run, CURVES, lambda path: _draw_curves(path, curated, spec.folder, config.experts))
    store = TrajectoryStore.open(spec.folder)
    accuracies = [store.history(expert)["balanced_accuracy"] for expert in range(min(DIAGNOSED, store.num_experts))]
    if finding := check_undertrained(accuracies, config.experts.training):
        log.warning("experts: %s", describe_undertrained(finding, config.experts.training))
    return store


def _draw_curves(path: Path, curated: CuratedSet, folder: Folder, recipe: Experts) -> None:
    accuracies = [read_history(folder, expert)["balanced_accuracy"] for expert in range(recipe.num_experts)]
    expert_curves(path, accuracies, curated.summary.survey)


def _register(run: Run, manifest: Manifest, *, plan: Plan, curated: CuratedSet) -> None:
    """Register the experts as one picture classifier, with `tracking.models`."""
    config, spec = plan.config, plan.trajectories
    if not config.tracking.registers:
        return
    store = TrajectoryStore.open(spec.folder, verify=False)
    count = min(config.predict.experts or store.num_experts, store.num_experts)
    final = [store.history(expert)["balanced_accuracy"][-1] for expert in range(count)]

    def save(folder: Folder) -> None:
        thetas = [store(expert, store.num_epochs) for expert in range(count)]
        PictureClassifier.of_run(plan, plan.expert_network, curated, curated.normalisation, thetas, calibration).save(
            folder
        )

    source = ensemble_source(plan, curated, store, count)
    calibration = calibrate(config, curated, split_logits(config, curated, source, "validation"))
    name, mean = f"{registered_name(config.name)}_experts", sum(final) / count
    run.register(model_of(name, CLASSIFIER, mean, manifest, spec, curated, config, save=save, code=MODEL_CODE))


def describe_undertrained(finding: Undertrained, training: Training) -> str:
    """Return a warning that names the config keys to change."""
    return (
        f"the experts were still learning (balanced accuracy on validation images rose by {finding.rise:.3f} from epoch "
        f"{finding.since} to {finding.end}), and networks trained on distilled images are rarely "
        f"better than the experts: raise experts.training.lr (now {training.lr:g}) or experts.training.epochs (now {training.epochs})"
    )


def _train_missing(plan: Plan, curated: CuratedSet, run: Run) -> None:
    config, folder, resources = plan.config, plan.trajectories.folder, plan.config.resources
    network = build_network(plan.expert_network, curated.num_classes, curated.summary.image_size)
    side, num_train = curated.summary.image_size, curated.summary.num_train
    images = torch.Size((num_train, 3, side, side))
    recipe, snapshots = config.experts, config.experts.snapshots(num_train)
    check_epochs(config, snapshots.num_epochs, snapshots.steps_between)
    training = _resolve_training(config, folder, run, network, images)
    write_layout(folder, network.layout, recipe.num_experts, snapshots.steps, ends_only=recipe.keep == "ends")
    missing = missing_experts(folder, recipe.num_experts)
    if not missing:
        return
    log.info(
        "experts: %d of %d to train, %s, %d parameters, %s",
        len(missing),
        recipe.num_experts,
        plan.expert_network.name,
        network.layout.num_parameters,
        fill_auto(training),
    )
    if snapshots.parts > 1:
        log.info(
            "experts: an epoch has %d steps, and a snapshot is stored every %d; %d in all",
            snapshots.steps_per_epoch,
            snapshots.steps_between,
            len(snapshots.stored),
        )
    seed = fold_in(config.seed, "experts", recipe.seed) if recipe.seed else config.seed
    task = ExpertTask(
        folder.uri, curated.folder.uri, plan.expert_network, recipe, training, snapshots, seed,
        Processor.of(resources), plan.class_tree if recipe.needs_votes else None,
    )  # fmt: skip
    actor: Any = ray.remote(num_cpus=0)(Coordinator).options(scheduling_strategy=on_driver_node())
    coordinator = actor.remote(missing, resources.max_restarts)
    with translate_errors("experts"):
        show = partial(_show_progress, coordinator, len(missing), recipe.training.epochs, run)
        with run_in_background(show, timeout=10):
            workers = choose_num_workers(resources, len(missing))
            check_memory(resources, workers, images.numel() * torch.float32.itemsize, "experts")
            _run_workers(resources, folder, task, coordinator, workers)
        failures: dict[int, RaydistillError] = ray.get(coordinator.failures.remote())
        group_error: RaydistillError | None = ray.get(coordinator.group_error.remote())
    ray.kill(coordinator)  # Ray Train's controller holds a reference to it, as long as this Ray runs
    _raise_error(folder, recipe, failures, group_error)


def _resolve_training(config: Config, folder: Folder, run: Run, network: Network, images: torch.Size) -> Training:
    """Return the training without `auto`.

    The work of all experts is estimated: the bits must not depend on the number of workers.
    """
    recipe = config.experts
    work = estimate_training(recipe.training, network, images, recipe.num_experts)
    arithmetic = resolve(folder, run, recipe.training, work, Processor.of(config.resources))
    return recipe.training.resolved(arithmetic)


def _raise_error(
    folder: Folder, recipe: Experts, failures: dict[int, RaydistillError], group_error: RaydistillError | None
) -> None:
    """Raise the first failure of an expert, or the reason why experts are missing."""
    if failures:
        expert, error = next(iter(failures.items()))
        if not isinstance(error, DivergenceError):
            raise error
        diverged = sum(isinstance(error, DivergenceError) for error in failures.values())
        raise DivergenceError(
            f"{diverged} of {recipe.num_experts} experts diverged {MAX_ATTEMPTS} times (expert {expert}: {error.what})",
            "experts", f"lower experts.training.lr (now {recipe.training.lr:g}); the finished experts are kept",
        )  # fmt: skip
    if missing := missing_experts(folder, recipe.num_experts):
        what, fix = f"experts {missing[:5]} are missing or damaged", "run the same command again; it trains only these"
        raise group_error or ClusterError(what, "experts", fix)


class _ControllerCallback(ExitAfterReport):
    """Run in the process of Ray Train's controller when workers die, and at the end."""

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Report dead workers to the coordinator; stop if no other group may start."""
        if not ray.get(self._coordinator.group_died.remote(list(worker_exceptions))):
            raise RuntimeError("the group of workers died too often")  # `Coordinator.group_error` has the reason


def _run_workers(resources: Resources, folder: Folder, task: ExpertTask, coordinator: Any, workers: int) -> None:
    """Run the worker group to its end; the coordinator keeps all failures."""
    # Typed as base classes, which lack `controller_failure_limit` and a range of workers.
    failure_config: Any = ray.train.FailureConfig
    scaling_config: Any = ray.train.ScalingConfig
    callbacks: Any = [_ControllerCallback(coordinator)]  # typed as callbacks of Tune
    system, path = arrow_filesystem((folder / PARTIAL / "ray").uri)
    trainer = ray.train.torch.TorchTrainer(
        train_experts,
        train_loop_config={"task": task, "coordinator": coordinator},
        torch_config=IndependentWorkers(backend="gloo"),
        scaling_config=scaling_config(
            # The group starts on the available machines; it grows and shrinks with the cluster.
            num_workers=(1, workers) if workers > 1 else 1,
            **group_options(resources),
        ),
        run_config=ray.train.RunConfig(
            # A new name keeps Ray from resuming a finished run: the stage keeps its own state.
            name=f"experts-{uuid.uuid4().hex[:8]}",
            storage_path=path,
            storage_filesystem=system,
            # The coordinator counts groups that died. The limit is for groups that cannot start,
            # for example because a machine has just left.
            failure_config=failure_config(max_failures=-1, controller_failure_limit=resources.max_restarts),
            callbacks=callbacks,
        ),
    )
    try:
        with preserve_sigint():
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        if ray.get(coordinator.failures.remote()) or ray.get(coordinator.group_error.remote()):
            return  # the stage raises it
        raise ClusterError(
            f"no group of workers can start ({one_line(error)})",
            "experts", "run the same command again; finished experts are kept",
        ) from error  # fmt: skip


def _show_progress(coordinator: Any, experts: int, epochs: int, run: Run, done: threading.Event) -> None:
    """Poll the coordinator: show progress, and record finished experts in MLflow."""
    groups = 1
    # The driver's main thread reports the death of the coordinator.
    with suppress(*WORKER_FAILURES), progress(experts * epochs, "training experts", "epochs") as shown:
        while True:
            last = done.wait(POLL_SECONDS)
            state = ray.get(coordinator.progress.remote())
            status = f"{state['finished']} done" if state["groups"] else "starting"
            accuracy = {k: v for k, v in state["figures"].items() if k == "balanced_accuracy"}
            shown.update(state["epochs"] + state["finished"] * epochs, experts=status, **accuracy)
            if state["groups"] > groups:
                groups = state["groups"]
                log.warning("experts: another group of workers started; a worker died, or the cluster has changed")
            for expert, figures in state["finals"]:
                run.metrics({f"expert/{name}": value for name, value in figures.items()}, expert)
            if last:
                return


# Draw the learning curves of the experts.


@styled
def expert_curves(path: Target, accuracies: Sequence[Sequence[float | None]], title: str = "") -> None:
    """Draw the balanced accuracy of each expert after each epoch, and their mean.

    Parameters
    ----------
    accuracies
        For each expert its balanced accuracies on validation images, in [0, 1]: before the first
        epoch, then after each; None where not measured.
    title
        Title of the figure.
    """
    curves_ET = np.array([[np.nan if value is None else value for value in curve] for curve in accuracies])
    epochs = np.arange(curves_ET.shape[1])
    figure = Figure(figsize=(6.4, 3.6), dpi=CHART_DPI, layout="constrained")
    axes = figure.add_subplot()
    faint = max(0.15, 1 / len(curves_ET) ** 0.5)
    for curve_T in curves_ET:
        axes.plot(epochs, curve_T, color=BLUE, linewidth=0.8, alpha=faint)
    axes.plot([], [], color=BLUE, linewidth=0.8, label=f"{len(curves_ET)} experts")
    axes.plot(epochs, curves_ET.mean(axis=0), color=VERMILION, linewidth=2, label="mean")
    axes.set_xlabel("epoch")
    axes.set_ylabel("balanced accuracy on validation images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.grid(axis="y", color="#eceef1", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=8)
    if title:
        axes.set_title(title)
    save(figure, path)
