"""evaluate: what a fresh network learns from the distilled set, and from everything it has to beat, on galaxies nobody trained on.

    subjects (training sets) x protocols x networks x seeds -> [Ray tasks: train, predict] -> evaluation.json, runs.parquet

Every subject meets the same protocols, labels, augmentation and care in its learning rate. The test split is touched here and
nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from torch import Tensor

from raydistill.analysis import figures
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.distilled import DistilledSet, SyntheticImages
from raydistill.artifacts.evaluation import RUNS_SCHEMA, SUBJECTS, EvaluationReport, summarise
from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.config import Config, Evaluate
from raydistill.core import metrics
from raydistill.core.architectures import Architecture
from raydistill.core.initial import expert_labels, hard_labels
from raydistill.core.networks import Network, build
from raydistill.core.normalise import AnyNormalisation, one_hot
from raydistill.core.training import predict
from raydistill.errors import ArtifactIncompatible, RaydistillError
from raydistill.log import get_logger
from raydistill.pipeline.baselines import Baselines
from raydistill.pipeline.cluster import attached
from raydistill.pipeline.fits import Contest, Fit, Judge, Split, TrainingSet
from raydistill.pipeline.plan import Place, Plan
from raydistill.pipeline.stage import picture, recorded, skipped
from raydistill.pipeline.tracking import Run, Tracker
from raydistill.seeding import fold_in

log = get_logger(__name__)


def evaluate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> EvaluationReport:
    """Judge the distilled set and its baselines, or open the report that exists."""
    config, place = plan.config, plan.evaluation
    if not skipped(place):
        curated = CuratedSet.open(plan.curated.folder)
        distilled = DistilledSet.open(plan.judged.folder)
        _check_fit(distilled, curated)
        if config.distilled is None:
            check_parent(distilled.manifest, "curated", curated.manifest, distilled.folder.uri)
        with attached(config.resources), recorded(plan, place, tracker, parent_run, curated) as run:
            runs = _judge(plan, curated, distilled)
            _write(config, place, curated, runs, run)
    return EvaluationReport.open(place.folder)


def _check_fit(distilled: DistilledSet, curated: CuratedSet) -> None:
    """A set can be judged on another survey, if that has the same classes and picture size."""
    where = distilled.folder.uri
    if distilled.class_names != curated.class_names:
        raise ArtifactIncompatible(
            f"its classes are {', '.join(distilled.class_names)}, the survey's are {', '.join(curated.class_names)}",
            where,
            "set curate.classes to the classes it was distilled for",
        )
    size = distilled.selected.images_SCHW.shape[-1]
    if size != curated.summary.image_size:
        raise ArtifactIncompatible(
            f"its images have {size} px, the survey's have {curated.summary.image_size}",
            where,
            f"set curate.image_size={size}",
        )
    seen = distilled.seen().intersection(curated.table("test", ["object_id"])["object_id"].to_pylist())
    if seen:
        raise ArtifactIncompatible(
            f"{len(seen)} of the test galaxies taught its experts or chose its images (first: {min(seen)})",
            where,
            "give the curate.split it was distilled with",
        )


def _judge(plan: Plan, curated: CuratedSet, distilled: DistilledSet) -> list[dict[str, Any]]:
    """All rows of `runs.parquet`, in a fixed order."""
    config = plan.config
    # A distilled set is read with its own normalisation, whatever survey it is judged on.
    normalisation = distilled.selected.normalisation
    curated.demand("train", "validation", "test")
    taught, validation, test = (_split(curated, name, normalisation) for name in ("train", "validation", "test"))
    teachers = _teachers(plan, distilled, curated)
    kept, content, num_classes = plan.root / "fits", curated.manifest.content, curated.num_classes
    if normalisation.digest != curated.normalisation.digest:  # then the survey's pixels are others to a network
        content = f"{content} seen through {normalisation.digest}"
    root = fold_in(config.seed, "evaluate")
    baselines = Baselines(config, taught, num_classes, distilled.images_per_class, root, kept, content)
    judge = Judge(kept, config.resources, validation, test, num_classes, content)
    rows = judge.decide(list(_contests(config, root, distilled, baselines, teachers)))
    return rows + (teachers.judged_on(test) if teachers else [])


def _split(curated: CuratedSet, name: Any, normalisation: AnyNormalisation) -> Split:
    loaded = curated.load(name)
    return normalisation.apply(loaded.images_NHWC), loaded.labels_N


# ---- what is trained ----


def _contests(
    config: Config, root: int, distilled: DistilledSet, baselines: Baselines, teachers: _Teachers | None
) -> Iterator[Contest]:
    """Every subject under every protocol and network; then the same networks on all the training data."""
    wanted, taught = config.evaluate, baselines.taught
    architectures = (config.network, *wanted.other_networks)
    seeds = [fold_in(root, "network", number) for number in range(max(wanted.num_networks, wanted.full_data_networks))]
    subjects = list(_small_sets(wanted, distilled, baselines, teachers))
    for name, protocol in wanted.protocols.items():
        for architecture in architectures:
            for sets in subjects:
                size = min(protocol.training.batch_size, len(sets[0].images_NCHW))
                training = replace(protocol.training, batch_size=size)
                own = protocol.learned_lr and sets[0].student_lrs is not None
                fits = (Fit(s, name, training, None, architecture, seed) for s, seed in zip(sets, seeds, strict=False))
                yield Contest(tuple(fits), () if own else protocol.lr_grid)
    if wanted.full_data_networks:
        everything = TrainingSet("full_data", 0, taught[0], one_hot(taught[1], baselines.num_classes))
        chosen = seeds[: wanted.full_data_networks]
        fits = (Fit(everything, "", wanted.full_data, wanted.full_data.lr, config.network, seed) for seed in chosen)
        yield Contest(tuple(fits), ())


def _small_sets(
    wanted: Evaluate, distilled: DistilledSet, baselines: Baselines, teachers: _Teachers | None
) -> Iterator[list[TrainingSet]]:
    """Per subject one training set per network; only random real images are drawn anew for each.

    Where the distilled set has soft labels, its experts label the baselines too: what soft labels bring is not the images' merit.
    """
    num_classes, ipc, count = baselines.num_classes, distilled.images_per_class, wanted.num_networks
    soft = bool((distilled.selected.targets_SK.amax(dim=1) < 1).any())
    if soft and teachers is None:
        log.warning("evaluate: the baselines get hard labels, for the experts that could label them as softly are gone")
    yield [_of("distilled", distilled.selected)] * count
    if distilled.last.iteration != distilled.selected.iteration:
        yield [_of("distilled_last", distilled.last)] * count
    for name in wanted.baselines:
        draws = count if name == "random_real" else 1
        sets = []
        for draw in range(draws):
            images = baselines.images(name, draw)
            if soft and teachers:
                targets = expert_labels(images, num_classes, ipc, teachers.network, teachers.ends).softmax(dim=1)
            else:
                targets = hard_labels(num_classes, ipc)
            sets.append(TrainingSet(name, draw, images, targets))
        yield [sets[i % draws] for i in range(count)]


def _of(subject: str, images: SyntheticImages) -> TrainingSet:
    return TrainingSet(subject, 0, images.images_SCHW, images.targets_SK, images.student_lrs)


@dataclass(frozen=True)
class _Teachers:
    """The experts that taught the distilled set, under whose normalisation they were trained."""

    store: TrajectoryStore
    architecture: Architecture
    network: Network
    num_classes: int

    @cached_property
    def ends(self) -> list[Tensor]:
        """theta_P at the end of each expert's training; read once, however many baselines they label."""
        return self.store.ends()

    def judged_on(self, test: Split) -> list[dict[str, Any]]:
        """A row for each expert; there is nothing to train."""
        images, labels = test
        rows = []
        for expert, theta_P in enumerate(self.ends):
            matrix = metrics.confusion(predict(self.network, theta_P, images), labels, self.num_classes)
            rows.append(
                {
                    "subject": "experts", "protocol": "", "network": self.architecture.name, "draw": 0, "seed": expert, "lr": None,
                    "accuracy": metrics.accuracy(matrix), "balanced_accuracy": metrics.balanced_accuracy(matrix),
                    "confusion": matrix.reshape(-1).tolist(),
                }
            )  # fmt: skip
        return rows


def _teachers(plan: Plan, distilled: DistilledSet, curated: CuratedSet) -> _Teachers | None:
    """None, with a warning, where they are gone. A run's own lie beside it, wherever the run folder was moved to."""
    parent = distilled.manifest.parents.get("trajectories")
    if parent is None:
        log.warning("evaluate: the experts are left out (the distilled set does not name any)")
        return None
    own = plan.trajectories
    try:
        store = TrajectoryStore.open(own.folder if own.identity == parent.identity else parent.uri, verify=False)
        check_parent(distilled.manifest, "trajectories", store.manifest, distilled.folder.uri)
    except RaydistillError as error:
        log.warning("evaluate: the experts are left out (%s)", error)
        return None
    architecture = TypeAdapter(Architecture).validate_python(store.manifest.config["network"])
    network = build(architecture, curated.num_classes, curated.summary.image_size)
    return _Teachers(store, architecture, network, curated.num_classes)


# ---- the report ----


def _write(config: Config, place: Place, curated: CuratedSet, runs: list[dict[str, Any]], run: Run) -> None:
    with place.folder.writing("runs.parquet") as path:
        pq.write_table(pa.Table.from_pylist(runs, RUNS_SCHEMA), path)
    protocol = next(iter(config.evaluate.protocols))
    network = config.network.name
    summary = summarise(runs, curated.class_names, protocol, network)
    place.folder.write("evaluation.json", json.dumps(summary, indent=1).encode())
    run.artifact(place.folder.local("evaluation.json"))
    for subject, entry in summary.items():
        mean = entry["balanced_accuracy"]["mean"]
        if mean is not None:
            run.metrics({f"{subject}/balanced_accuracy": mean, f"{subject}/accuracy": entry["accuracy"]["mean"]}, 0)
    headline = ("distilled", protocol, network)
    matrices = [
        np.array(row["confusion"]) for row in runs if (row["subject"], row["protocol"], row["network"]) == headline
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
