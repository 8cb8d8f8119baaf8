"""evaluate: what a fresh network learns from the distilled set, and from everything it has to beat, on galaxies nobody trained on.

    subjects (training sets) x protocols x networks x seeds -> [Ray tasks: choose the rate on validation, train, predict the test set]

Every subject meets the same protocols, labels, augmentation and care in its learning rate. The test split is touched here and nowhere
else. A finished fit is kept in `<run>/fits` under the digest of all that determines it: a killed evaluation goes on, and two
evaluations share their baselines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from torch import Tensor

from raydistill.analysis import figures
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.distilled import DistilledSet, SyntheticImages
from raydistill.artifacts.evaluation import RUNS_SCHEMA, SUBJECTS, EvaluationReport, summarise
from raydistill.artifacts.storage import Folder
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.config import Config, Evaluate, plain
from raydistill.core import coreset, metrics
from raydistill.core.networks import Architecture, build, initial_parameters
from raydistill.core.normalise import Normalisation, one_hot
from raydistill.core.training import Training, predict, spread, train
from raydistill.errors import ArtifactIncompatible, DivergenceError, RaydistillError
from raydistill.log import get_logger, progress
from raydistill.pipeline.cluster import attached, device_of, plain_errors, workers_for
from raydistill.pipeline.plan import Place, Plan
from raydistill.pipeline.stage import picture, recorded, skipped
from raydistill.pipeline.tracking import Run, Tracker
from raydistill.seeding import fold_in, generator

log = get_logger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """A training set to be judged. student_lrs: its own learning rates, if it brings any."""

    subject: str
    draw: int
    images_NCHW: Tensor
    targets_NK: Tensor
    student_lrs: Tensor | None = None

    def digest(self) -> str:
        tensors = [self.images_NCHW, self.targets_NK, *([] if self.student_lrs is None else [self.student_lrs])]
        return hashlib.sha256(b"".join(t.cpu().numpy().tobytes() for t in tensors)).hexdigest()


@dataclass(frozen=True)
class Fit:
    """One network to train: on what, how, from which seed. lrs: learning rates to choose from on validation; empty: the set's own."""

    data: TrainingSet
    protocol: str
    training: Training
    lrs: tuple[float, ...]
    architecture: Architecture
    seed: int
    num_classes: int
    image_size: int

    def digest(self, judged_on: str) -> str:
        determined = [
            self.data.digest(),
            plain(self.training),
            self.lrs,
            plain(self.architecture),
            self.seed,
            judged_on,
        ]
        return hashlib.sha256(json.dumps(determined).encode()).hexdigest()


Split = tuple[Tensor, Tensor]  # normalised images, labels


def evaluate(config: Config, tracker: Tracker, parent_run: str | None = None) -> EvaluationReport:
    """Judge the distilled set and its baselines, or open the report that exists."""
    plan = Plan(config)
    place = plan.evaluation
    if not skipped(place):
        curated = CuratedSet.open(plan.curated.folder)
        distilled = DistilledSet.open(plan.judged.folder)
        _check_fit(distilled, curated)
        with attached(config.resources), recorded(plan, place, tracker, parent_run, curated) as run:
            runs = _judge(config, plan, curated, distilled)
            _write(config, place, curated, runs, run)
    return EvaluationReport.open(place.folder)


def _check_fit(distilled: DistilledSet, curated: CuratedSet) -> None:
    """A set can be judged on another survey, if that has the same classes and picture size."""
    where = distilled.folder.uri
    if distilled.class_names != curated.class_names:
        raise ArtifactIncompatible(
            f"classes {', '.join(distilled.class_names)}; the survey has {', '.join(curated.class_names)}",
            where,
            "set curate.classes",
        )
    size = distilled.selected.images_SCHW.shape[-1]
    if size != curated.summary.image_size:
        raise ArtifactIncompatible(
            f"images of {size} px, the survey's have {curated.summary.image_size}",
            where,
            f"set curate.image_size={size}",
        )


def _judge(config: Config, plan: Plan, curated: CuratedSet, distilled: DistilledSet) -> list[dict[str, Any]]:
    """All rows of `runs.parquet`, in a fixed order."""
    # A distilled set is read with its own normalisation, whatever survey it is judged on.
    normalisation = distilled.selected.normalisation
    taught, validation, test = (_split(curated, name, normalisation) for name in ("train", "validation", "test"))
    if not len(test[1]) or not len(validation[1]):
        raise ArtifactIncompatible(
            "the test or validation split is empty", curated.folder.uri, "give curate.split all three parts"
        )
    fits = list(_fits(config, curated, distilled, taught))
    rows = _run_fits(config, plan.root / "fits", fits, validation, test, curated.manifest.content)
    return rows + _experts(plan, config.network, test, curated, distilled)


def _split(curated: CuratedSet, name: Any, normalisation: Normalisation) -> Split:
    loaded = curated.load(name)
    return normalisation.apply(loaded.images_NHWC), loaded.labels_N


# ---- what is trained ----


def _fits(config: Config, curated: CuratedSet, distilled: DistilledSet, taught: Split) -> Iterator[Fit]:
    wanted, k, size = config.evaluate, curated.num_classes, curated.summary.image_size
    architectures = wanted.networks or (config.network,)
    root = fold_in(config.seed, "evaluate")
    for name, protocol in wanted.protocols.items():
        for architecture in architectures:
            for data, number in _small_sets(wanted, distilled, taught, k, root):
                training = replace(
                    protocol.training, batch_size=min(protocol.training.batch_size, len(data.images_NCHW))
                )
                lrs = () if protocol.learned_lr and data.student_lrs is not None else protocol.lr_grid
                yield Fit(data, name, training, lrs, architecture, fold_in(root, "network", number), k, size)
    everything = TrainingSet("full_data", 0, taught[0], one_hot(taught[1], k))
    for number in range(wanted.full_data_networks):
        seed = fold_in(root, "network", number)
        yield Fit(everything, "", wanted.full_data, (wanted.full_data.lr,), architectures[0], seed, k, size)


def _small_sets(
    wanted: Evaluate, distilled: DistilledSet, taught: Split, num_classes: int, root: int
) -> Iterator[tuple[TrainingSet, int]]:
    """Each small training set with the number of the network to train on it; random sets are drawn anew for every network."""
    ipc = distilled.images_per_class
    hard = one_hot(torch.arange(num_classes).repeat_interleave(ipc), num_classes)
    for number in range(wanted.num_networks):
        yield _of("distilled", distilled.selected), number
        if distilled.last.iteration != distilled.selected.iteration:
            yield _of("distilled_last", distilled.last), number
    for baseline in wanted.baselines:
        draws = wanted.num_networks if baseline == "random_real" else 1
        sets = [_baseline(baseline, taught, num_classes, ipc, generator(root, baseline, draw)) for draw in range(draws)]
        for number in range(wanted.num_networks):
            yield TrainingSet(baseline, number % draws, sets[number % draws], hard), number


def _baseline(name: str, taught: Split, num_classes: int, ipc: int, g: torch.Generator) -> Tensor:
    if name == "random_real":
        return coreset.random_real(*taught, num_classes, ipc, g)
    if name == "class_mean":
        return coreset.class_mean(*taught, num_classes, ipc, g)
    return (coreset.k_center if name == "k_center" else coreset.herding)(*taught, num_classes, ipc)


def _of(subject: str, images: SyntheticImages) -> TrainingSet:
    return TrainingSet(subject, 0, images.images_SCHW, images.targets_SK, images.student_lrs)


# ---- training them, in Ray ----


def _run_fits(
    config: Config, kept: Folder, fits: list[Fit], validation: Split, test: Split, judged_on: str
) -> list[dict[str, Any]]:
    resources = config.resources
    digests = [one.digest(judged_on) for one in fits]
    rows: dict[str, dict[str, Any]] = {
        d: json.loads(kept.read(f"{d}.json")) for d in set(digests) if kept.exists(f"{d}.json")
    }
    missing = {d: one for d, one in zip(digests, fits, strict=True) if d not in rows}
    workers = workers_for(resources, max(1, len(missing)))
    task = ray.remote(_train).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=resources.max_restarts
    )
    splits = ray.put((validation, test))
    queue = list(missing.items())[::-1]
    running: dict[Any, str] = {}
    with progress(len(fits), "evaluating", "networks", start=len(fits) - len(missing)) as shown, plain_errors():
        while queue or running:
            while queue and len(running) < workers:
                digest, one = queue.pop()
                running[task.remote(one, splits, resources.worker_threads, resources.gpus)] = digest
            (ready,), _ = ray.wait(list(running), num_returns=1)
            digest, row = running.pop(ready), ray.get(ready)
            kept.write(f"{digest}.json", json.dumps(row).encode())
            rows[digest] = row
            shown.advance(subject=missing[digest].data.subject, accuracy=row["balanced_accuracy"])
    return [_labels(one) | rows[digest] for digest, one in zip(digests, fits, strict=True)]


def _labels(one: Fit) -> dict[str, Any]:
    """What a row says of its fit; not part of what is kept, for other evaluations may name it otherwise."""
    number = one.data.draw
    return {"subject": one.data.subject, "protocol": one.protocol, "network": one.architecture.name, "draw": number}


def _train(one: Fit, splits: tuple[Split, Split], threads: int, gpus: float) -> dict[str, Any]:
    """Choose the learning rate on validation images if there is a choice, train, predict the test images once."""
    torch.set_num_threads(threads)
    device = device_of(gpus)
    validation, test = (tuple(t.to(device) for t in split) for split in splits)
    candidates = [_fitted(one, lr, validation, device) for lr in one.lrs or (None,)]
    # Without a choice the validation figure decides nothing.
    _, lr, theta_P, network = max(candidates, key=lambda candidate: candidate[0])
    matrix = metrics.confusion(predict(network, theta_P, test[0]), test[1], one.num_classes)
    return {
        "seed": one.seed % 2**31,
        "lr": float("nan") if lr is None else lr,
        "accuracy": metrics.accuracy(matrix),
        "balanced_accuracy": metrics.balanced_accuracy(matrix),
        "confusion": matrix.reshape(-1).tolist(),
    }


def _fitted(one: Fit, lr: float | None, validation: Any, device: str) -> tuple[float, float | None, Tensor, Any]:
    """(validation balanced accuracy, lr, parameters, network) after training; a diverged training is as bad as can be."""
    network = build(one.architecture, one.num_classes, one.image_size)
    theta_P = initial_parameters(network, fold_in(one.seed, "initial")).to(device)
    training = one.training if lr is None else replace(one.training, lr=lr)
    lr_in = spread(one.data.student_lrs, training) if lr is None and one.data.student_lrs is not None else None
    data = (one.data.images_NCHW.to(device), one.data.targets_NK.to(device))
    try:
        theta_P = train(network, theta_P, *data, training, fold_in(one.seed, "training"), lr_in)
    except DivergenceError:
        return -1.0, lr, theta_P, network
    matrix = metrics.confusion(predict(network, theta_P, validation[0]), validation[1], one.num_classes)
    return metrics.balanced_accuracy(matrix), lr, theta_P, network


def _experts(
    plan: Plan, architecture: Architecture, test: Split, curated: CuratedSet, distilled: DistilledSet
) -> list[dict[str, Any]]:
    """The experts that taught the distilled set, on this test set; nothing to train. Left out, with a warning, when they are gone."""
    parent = distilled.manifest.parents.get("trajectories")
    try:
        store = TrajectoryStore.open(parent.uri if parent else plan.trajectories.folder, verify=False)
        network = build(architecture, curated.num_classes, curated.summary.image_size)
        if network.layout != store.layout:
            raise ArtifactIncompatible("another network than the config's", store.folder.uri, "set network")
    except RaydistillError as error:
        log.warning("evaluate: the experts are left out (%s)", error)
        return []
    # Experts were trained under their own survey's statistics, which are the distilled set's.
    rows = []
    for expert in range(store.num_experts):
        matrix = metrics.confusion(
            predict(network, store(expert, store.num_epochs), test[0]), test[1], curated.num_classes
        )
        rows.append(
            {
                "subject": "experts", "protocol": "", "network": architecture.name, "draw": 0, "seed": expert, "lr": float("nan"),
                "accuracy": metrics.accuracy(matrix), "balanced_accuracy": metrics.balanced_accuracy(matrix),
                "confusion": matrix.reshape(-1).tolist(),
            }
        )  # fmt: skip
    return rows


# ---- the report ----


def _write(config: Config, place: Place, curated: CuratedSet, runs: list[dict[str, Any]], run: Run) -> None:
    with place.folder.writing("runs.parquet") as path:
        pq.write_table(pa.Table.from_pylist(runs, RUNS_SCHEMA), path)
    protocol = next(iter(config.evaluate.protocols))
    network = (config.evaluate.networks or (config.network,))[0].name
    summary = summarise(runs, curated.class_names, protocol, network)
    place.folder.write("evaluation.json", json.dumps(summary, indent=1).encode())
    run.artifact(place.folder.local("evaluation.json"))
    for subject, entry in summary.items():
        mean = entry["balanced_accuracy"]["mean"]
        if mean is not None:
            run.metrics({f"{subject}/balanced_accuracy": mean, f"{subject}/accuracy": entry["accuracy"]["mean"]}, 0)
    matrices = [
        np.array(row["confusion"]) for row in runs if row["subject"] == "distilled" and row["protocol"] == protocol
    ]
    k = curated.num_classes
    title = f"{curated.summary.survey}: networks trained on the distilled set"
    picture(
        place,
        run,
        "confusion.png",
        lambda path: figures.confusion_matrix(path, np.sum(matrices, axis=0).reshape(k, k), curated.class_names, title),
    )
    picture(place, run, "accuracy.png", lambda path: _accuracy_picture(path, summary, curated, network))


def _accuracy_picture(path: Any, summary: dict[str, Any], curated: CuratedSet, network: str) -> None:
    rows = [
        figures.AccuracyRow(
            subject, figure["mean"], figure["ci95"] if figure["ci95"] is not None else float("nan"), network
        )
        for subject in SUBJECTS
        if subject in summary and (figure := summary[subject]["balanced_accuracy"])["mean"] is not None
    ]
    figures.accuracy_table(path, rows, curated.summary.survey, 1 / curated.num_classes)


def table(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """(subject, balanced accuracy, accuracy) for people, best first among the small sets."""

    def shown(figure: dict[str, Any]) -> str:
        ci = "" if figure["ci95"] is None else f" ± {figure['ci95']:.3f}"
        return "-" if figure["mean"] is None else f"{figure['mean']:.3f}{ci}"

    return [
        (subject, shown(report.summary[subject]["balanced_accuracy"]), shown(report.summary[subject]["accuracy"]))
        for subject in SUBJECTS
        if subject in report.summary
    ]
