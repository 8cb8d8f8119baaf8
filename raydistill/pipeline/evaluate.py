"""evaluate: what a fresh network learns from the distilled set, and from everything it has to beat, on galaxies nobody trained on.

    subjects (training sets) x protocols x networks x seeds -> [Ray tasks: train, predict] -> evaluation.json, runs.parquet

Every subject meets the same protocols, labels, augmentation and care in its learning rate. The test split is touched here and
nowhere else.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
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
from raydistill.artifacts.evaluation import (
    RUNS_SCHEMA,
    SUBJECTS,
    EvaluationReport,
    by_network,
    robust_scores,
    summarise,
    unaugmented,
)
from raydistill.artifacts.manifest import check_parent
from raydistill.artifacts.trajectories import TrajectoryStore
from raydistill.config import Baseline, Config, Evaluate, Protocol
from raydistill.core import metrics
from raydistill.core.architectures import Architecture
from raydistill.core.augment import Augmentation
from raydistill.core.coreset import Coreset
from raydistill.core.effort import Machine, Work, settle, words, work_of_training
from raydistill.core.initial import expert_labels, hard_labels
from raydistill.core.networks import Network, build
from raydistill.core.normalise import AnyNormalisation, one_hot
from raydistill.core.training import Training, predict
from raydistill.errors import ArtifactIncompatible, RaydistillError
from raydistill.log import get_logger
from raydistill.pipeline.baselines import Baselines
from raydistill.pipeline.fits import Contest, Fit, Judge, Rate, Split, TrainingSet
from raydistill.pipeline.plan import Place, Plan
from raydistill.pipeline.stage import begun, picture, recorded, skipped
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
        with begun(config.resources), recorded(plan, place, tracker, parent_run, curated) as run:
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
    votes_NK = _votes(plan, distilled, curated)
    if config.evaluate.scores and distilled.selected.soft and votes_NK is None and teachers is None:
        raise ArtifactIncompatible(
            "its labels are soft, and the experts are gone that could label random real images as softly for the scores",
            distilled.folder.uri,
            "set evaluate.scores=false",
        )
    kept, content, num_classes = plan.root / "fits", curated.manifest.content, curated.num_classes
    if normalisation.digest != curated.normalisation.digest:  # then the survey's pixels are others to a network
        content = f"{content} seen through {normalisation.digest}"
    root = fold_in(config.seed, "evaluate")
    baselines = Baselines(config, taught, num_classes, distilled.images_per_class, root, kept, content)
    judge = Judge(kept, config.resources, validation, test, num_classes, content)
    subjects = _Subjects(config.evaluate, distilled, baselines, teachers, votes_NK)
    rows = judge.decide(_settled(config, list(_contests(config, root, subjects))))
    return rows + (teachers.judged_on(test) if teachers else [])


def _split(curated: CuratedSet, name: Any, normalisation: AnyNormalisation) -> Split:
    loaded = curated.load(name)
    return normalisation.apply(loaded.images_NHWC), loaded.labels_N


# ---- what is trained ----


def _contests(config: Config, root: int, subjects: _Subjects) -> Iterator[Contest]:
    """Every subject under every protocol and network, what the scores want, then the same networks on all the training data."""
    wanted = config.evaluate
    architectures = tuple(dict.fromkeys((config.network, *wanted.other_networks)))
    seeds = [fold_in(root, "network", number) for number in range(max(wanted.num_networks, wanted.full_data_networks))]

    def at_rates(
        lrs: tuple[Rate, ...], sets: Sequence[TrainingSet], name: str, training: Training, architecture: Architecture
    ) -> Contest:
        fits = (Fit(s, name, training, lrs[0], architecture, seed) for s, seed in zip(sets, seeds, strict=False))
        return Contest(tuple(fits), lrs)

    def contest(sets: Sequence[TrainingSet], name: str, protocol: Protocol, architecture: Architecture) -> Contest:
        own = protocol.learned_lr if sets[0].student_lrs is not None else "never"
        lrs = {"only": (None,), "candidate": (None, *protocol.lr_grid), "never": protocol.lr_grid}[own]
        training = protocol.training.seeing_all(len(sets[0].images_NCHW))
        return at_rates(lrs, sets, name, training, architecture)

    small = list(subjects.small())
    for name, protocol in wanted.protocols.items():
        for architecture in architectures:
            for sets in small:
                yield contest(sets, name, protocol, architecture)
    if wanted.scores:
        for sets, name, protocol in subjects.for_scores():
            yield contest(sets, name, protocol, config.network)
    if wanted.full_data_networks:
        sets = [subjects.everything()] * wanted.full_data_networks
        yield at_rates((wanted.full_data.lr,), sets, "", wanted.full_data, config.network)


def _settled(config: Config, contests: list[Contest]) -> list[Contest]:
    """The contests without `auto`: compiled or not, rounded or not, by the work of all networks that one compilation serves: on GPUs
    of one, for there a process ends with its network."""
    machine = Machine.of_workers(config.resources.gpus)
    work: defaultdict[Any, Work] = defaultdict(Work)
    for contest in contests:
        alone = machine.kind == "gpu"
        own = _work(contest, 1 if alone else contest.num_networks)
        work[_alike(contest)] = own if alone else work[_alike(contest)] + own
    told, settled = set(), []
    for contest in contests:
        training = settle(contest.training, work[_alike(contest)], machine)
        if words(training) != words(contest.training) and (line := (_alike(contest), words(training))) not in told:
            told.add(line)
            log.info(
                "evaluate: %s in batches of %d: %s", contest.architecture.name, training.batch_size, words(training)
            )
        settled.append(replace(contest, fits=tuple(replace(fit, training=training) for fit in contest.fits)))
    return settled


def _alike(contest: Contest) -> Any:
    """What a compilation is for."""
    return contest.architecture, contest.training.augmentation, contest.training.batch_size


def _work(contest: Contest, networks: int) -> Work:
    data = contest.fits[0].data
    network = build(contest.architecture, data.targets_NK.shape[1], data.images_NCHW.shape[-1])
    return work_of_training(contest.training, network, data.images_NCHW.shape, networks)


@dataclass(frozen=True)
class _Subjects:
    """The training sets that are compared, one per network; only random real images are drawn anew for each.

    Where the distilled set has soft labels, who labelled it labels the baselines too, the volunteers (`votes_NK`) or its experts: what
    soft labels bring is not the images' merit.
    """

    wanted: Evaluate
    distilled: DistilledSet
    baselines: Baselines
    teachers: _Teachers | None
    votes_NK: Tensor | None

    def small(self) -> Iterator[list[TrainingSet]]:
        """The distilled set and the baselines of its size."""
        count, distilled = self.wanted.num_networks, self.distilled
        if distilled.selected.soft and self.votes_NK is None and self.teachers is None:
            log.warning(
                "evaluate: the baselines get hard labels, for the experts that could label them as softly are gone"
            )
        yield [_of("distilled", distilled.selected)] * count
        if distilled.last.iteration != distilled.selected.iteration:
            yield [_of("distilled_last", distilled.last)] * count
        for name in self.wanted.baselines:
            yield self._baseline(name)

    def for_scores(self) -> Iterator[tuple[list[TrainingSet], str, Protocol]]:
        """What the scores need beside the comparison: the first protocol unaugmented, and hard labels where the set's are soft."""
        name, protocol = next(iter(self.wanted.protocols.items()))
        plain = replace(protocol, training=replace(protocol.training, augmentation=Augmentation()))
        ours, count = _of("distilled", self.distilled.selected), self.wanted.num_networks
        random = self._baseline("random_real")
        if "random_real" not in self.wanted.baselines:
            yield random, name, protocol
        if self.distilled.selected.soft:
            # Its learning rates were learned with its soft labels: these have theirs searched for.
            targets = hard_labels(self.baselines.num_classes, self.distilled.images_per_class)
            yield [TrainingSet("distilled_hard", 0, ours.images_NCHW, targets)] * count, name, protocol
        yield [ours] * count, unaugmented(name), plain
        yield random, unaugmented(name), plain

    def everything(self) -> TrainingSet:
        """All the training data."""
        images, labels = self.baselines.taught
        return TrainingSet("full_data", 0, images, one_hot(labels, self.baselines.num_classes))

    def _baseline(self, name: Baseline) -> list[TrainingSet]:
        count = self.wanted.num_networks
        draws = count if name == "random_real" else 1
        chosen = [self.baselines.images(name, draw) for draw in range(draws)]
        sets = [TrainingSet(name, draw, c.images_SCHW, self._labels(c)) for draw, c in enumerate(chosen)]
        return [sets[i % draws] for i in range(count)]

    def _labels(self, chosen: Coreset) -> Tensor:
        num_classes, ipc, teachers = self.baselines.num_classes, self.distilled.images_per_class, self.teachers
        if self.votes_NK is not None:
            return chosen.mean(self.votes_NK)
        if self.distilled.selected.soft and teachers:
            logits = expert_labels(chosen.images_SCHW, num_classes, ipc, teachers.network, teachers.ends)
            return logits.softmax(dim=1)
        return hard_labels(num_classes, ipc)


def _votes(plan: Plan, distilled: DistilledSet, curated: CuratedSet) -> Tensor | None:
    """[N, K] class probabilities of the training galaxies, where the distilled set's labels are votes, or began as votes."""
    made = distilled.manifest.config.get("distill", {})
    if "votes" not in (made.get("labels"), made.get("label_init")):
        return None
    if not curated.has_votes and plan.config.evaluate.scores:
        raise ArtifactIncompatible(
            "its labels are votes, which random real images of this survey do not have, as the scores would want them",
            distilled.folder.uri,
            "set evaluate.scores=false",
        )
    if not curated.has_votes:
        log.warning(
            "evaluate: the baselines cannot have labels of votes, as the distilled set has, for this survey has no votes"
        )
        return None
    return curated.probabilities("train", plan.class_tree)


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
    if config.evaluate.scores:
        summary["distilled"]["scores"] = robust_scores(runs, protocol, network)
        for name, figure in summary["distilled"]["scores"].items():
            known = {part: figure[part] for part in ("score", "low", "high") if figure[part] is not None}
            run.metrics({f"distilled/{name}_{part}": value for part, value in known.items()}, 0)
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
    title = f"{curated.summary.survey}: {len(matrices)} networks trained on the distilled set, summed"
    picture(
        place,
        run,
        "confusion.png",
        lambda path: figures.confusion_matrix(path, np.sum(matrices, axis=0).reshape(k, k), curated.class_names, title),
    )
    picture(place, run, "accuracy.png", lambda path: _accuracy_picture(path, summary, curated, network))
    if config.evaluate.other_networks:
        picture(place, run, "networks.png", lambda path: _network_picture(path, summary, curated, config))


def _accuracy_picture(path: Any, summary: dict[str, Any], curated: CuratedSet, network: str) -> None:
    rows = [
        _accuracy_row(subject, network, figure)
        for subject in SUBJECTS
        if subject in summary and (figure := summary[subject]["balanced_accuracy"])["mean"] is not None
    ]
    figures.accuracy_table(path, rows, curated.summary.survey, 1 / curated.num_classes)


def _network_picture(path: Any, summary: dict[str, Any], curated: CuratedSet, config: Config) -> None:
    networks, found = network_names(config), by_network(summary, next(iter(config.evaluate.protocols)))
    rows = [
        _accuracy_row(subject, network, figure)
        for subject in SUBJECTS
        for network in networks
        if (figure := found.get(subject, {}).get(network)) and figure["mean"] is not None
    ]
    title = f"{curated.summary.survey}: what other networks learn from the same images"
    figures.network_matrix(path, rows, title, 1 / curated.num_classes)


def _accuracy_row(subject: str, network: str, figure: dict[str, Any]) -> figures.AccuracyRow:
    ci95 = float("nan") if figure["ci95"] is None else figure["ci95"]
    return figures.AccuracyRow(subject, figure["mean"], ci95, network)


def network_names(config: Config) -> list[str]:
    """The experts' own first."""
    return list(dict.fromkeys(one.name for one in (config.network, *config.evaluate.other_networks)))
