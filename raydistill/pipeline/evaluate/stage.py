"""evaluate: what a fresh network learns from the distilled set, and from everything it has to beat, on galaxies nobody trained on.

    subjects (training sets) x protocols x networks x seeds -> [Ray tasks: train, predict] -> evaluation.json, runs.parquet

Every subject meets the same protocols, labels, augmentation and care in its learning rate. The test split is touched here and
nowhere else.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from raydistill.analysis import figures
from raydistill.artifacts.curated import CuratedSet
from raydistill.artifacts.distilled import DistilledSet
from raydistill.artifacts.evaluation import (
    RUNS_SCHEMA,
    SUBJECTS,
    EvaluationReport,
    by_network,
    robust_scores,
    summarise,
    trained_network,
)
from raydistill.artifacts.manifest import check_parent
from raydistill.config import Config, Protocol
from raydistill.core.architectures import Architecture
from raydistill.core.cost_model import Hardware, WorkEstimate, describe, estimate_training, resolve_auto
from raydistill.core.networks import build
from raydistill.core.normalise import AnyNormalisation
from raydistill.core.training import Training
from raydistill.errors import ArtifactIncompatible
from raydistill.log import get_logger
from raydistill.pipeline.evaluate.baselines import Baselines
from raydistill.pipeline.evaluate.evaluator import Evaluator, Fit, LrSearch, Rate, Split, TrainingSet
from raydistill.pipeline.evaluate.training_sets import TrainingSets, load_teachers, load_votes
from raydistill.pipeline.plan import ArtifactSpec, Plan
from raydistill.pipeline.runtime.stages import is_complete, save_figure, stage_context, tracked_run
from raydistill.pipeline.tracking.tracker import Run, Tracker
from raydistill.seeding import fold_in

log = get_logger(__name__)


def evaluate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> EvaluationReport:
    """Judge the distilled set and its baselines, or open the report that exists."""
    config, spec = plan.config, plan.evaluation
    if not is_complete(spec):
        curated = CuratedSet.open(plan.curated.folder)
        distilled = DistilledSet.open(plan.judged.folder)
        _check_fit(distilled, curated)
        unseen = _unseen(distilled, curated)
        if config.distilled is None:
            check_parent(distilled.manifest, "curated", curated.manifest, distilled.folder.uri)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated) as run:
            runs = _judge(plan, curated, distilled, unseen)
            _write(config, spec, curated, runs, run)
    return EvaluationReport.open(spec.folder)


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
    if distilled.aligned != curated.summary.aligned:
        lie = "level" if distilled.aligned else "as they are in the sky"
        raise ArtifactIncompatible(
            f"its galaxies lie {lie}, the survey's do not", where, f"set curate.align={str(distilled.aligned).lower()}"
        )


def _unseen(distilled: DistilledSet, curated: CuratedSet) -> Tensor:
    """[N] False for a test galaxy whose picture, byte for byte, taught the set's experts or chose its images; one whose id did is an error.

    Releases of one survey name a galaxy differently: Kaggle's ids are its own, its pictures part of Galaxy Zoo 2. Within the survey that
    the set was distilled from it is the split that says who judges.
    """
    where, test, seen = distilled.folder.uri, curated.table("test", ["object_id", "source"]), distilled.seen()
    if known := set(seen["object_id"].to_pylist()).intersection(test["object_id"].to_pylist()):
        raise ArtifactIncompatible(
            f"{len(known)} of the test galaxies taught its experts or chose its images (first: {min(known)})",
            where,
            "give the curate.split it was distilled with",
        )
    own = distilled.manifest.parents.get("curated")
    if own is not None and own.identity == curated.manifest.identity:
        return torch.ones(len(test), dtype=torch.bool)
    pictures = pc.struct_field(test["source"], "sha256")
    unseen = torch.tensor(pc.invert(pc.is_in(pictures, seen["sha256"])).to_pylist(), dtype=torch.bool)
    left_out = int((~unseen).sum())
    if left_out and not unseen.any():
        what = "every test galaxy's picture taught its experts or chose its images, under another id"
        raise ArtifactIncompatible(what, where, "judge it on other galaxies")
    if left_out:
        what = "evaluate: %d of %d test galaxies taught this set under another id, and are left out"
        log.warning(what, left_out, len(unseen))
    return unseen


def _judge(plan: Plan, curated: CuratedSet, distilled: DistilledSet, unseen: Tensor) -> list[dict[str, Any]]:
    """All rows of `runs.parquet`, in a fixed order; of the test galaxies those judge that are unseen."""
    config = plan.config
    # A distilled set is read with its own normalisation, whatever survey it is judged on.
    normalisation = distilled.selected.normalisation
    curated.require_splits("train", "validation", "test")
    taught, validation, test = (_split(curated, name, normalisation) for name in ("train", "validation", "test"))
    teachers = load_teachers(plan, distilled, curated)
    votes_NK = load_votes(plan, distilled, curated)
    if config.evaluate.scores and distilled.selected.soft and votes_NK is None and teachers is None:
        raise ArtifactIncompatible(
            "its labels are soft, and the experts are gone that could label random real images as softly for the scores",
            distilled.folder.uri,
            "set evaluate.scores=false",
        )
    test = test[0][unseen], test[1][unseen]
    kept, content, num_classes = plan.root / "fits", curated.manifest.content, curated.num_classes
    if normalisation.digest != curated.normalisation.digest:  # then the survey's pixels are others to a network
        content = f"{content} seen through {normalisation.digest}"
    if not unseen.all():
        content = f"{content} without {(~unseen).nonzero().flatten().tolist()}"
    root = fold_in(config.seed, "evaluate")
    baselines = Baselines(config, taught, num_classes, distilled.images_per_class, root, kept, content)
    judge = Evaluator(kept, config.resources, validation, test, num_classes, content)
    subjects = TrainingSets(config.evaluate, distilled, baselines, teachers, votes_NK)
    rows = judge.decide(_settled(config, list(_contests(config, root, subjects))))
    return rows + (judge.experts(teachers.store, teachers.architecture) if teachers else [])


def _split(curated: CuratedSet, name: Any, normalisation: AnyNormalisation) -> Split:
    loaded = curated.load(name)
    return normalisation.apply(loaded.images_NHWC), loaded.labels_N


# ---- what is trained ----


def _contests(config: Config, root: int, subjects: TrainingSets) -> Iterator[LrSearch]:
    """Every subject under every protocol and network, what the scores want, then the same networks on all the training data."""
    wanted = config.evaluate
    architectures = tuple(dict.fromkeys((config.network, *wanted.other_networks)))
    seeds = [fold_in(root, "network", number) for number in range(max(wanted.num_networks, wanted.full_data_networks))]

    def at_rates(
        lrs: tuple[Rate, ...], sets: Sequence[TrainingSet], name: str, training: Training, architecture: Architecture
    ) -> LrSearch:
        fits = (Fit(s, name, training, lrs[0], architecture, seed) for s, seed in zip(sets, seeds, strict=False))
        return LrSearch(tuple(fits), lrs)

    def contest(sets: Sequence[TrainingSet], name: str, protocol: Protocol, architecture: Architecture) -> LrSearch:
        own = protocol.learned_lr if sets[0].student_lrs is not None else "never"
        lrs = {"only": (None,), "candidate": (None, *protocol.lr_grid), "never": protocol.lr_grid}[own]
        training = protocol.training.with_even_batches(len(sets[0].images_NCHW))
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


def _settled(config: Config, contests: list[LrSearch]) -> list[LrSearch]:
    """The contests without `auto`: compiled or not, rounded or not, by the work of all networks that one compilation serves: on GPUs
    of one, for there a process ends with its network."""
    machine = Hardware.of_workers(config.resources.gpus)
    work: defaultdict[Any, WorkEstimate] = defaultdict(WorkEstimate)
    for contest in contests:
        work[_alike(contest)] += _work(contest, contest.num_networks)
    told, settled = set(), []
    for contest in contests:
        served = _work(contest, 1) if machine.kind == "gpu" else work[_alike(contest)]
        training = resolve_auto(contest.training, served, machine)
        if (
            describe(training) != describe(contest.training)
            and (line := (_alike(contest), describe(training))) not in told
        ):
            told.add(line)
            log.info(
                "evaluate: %s in batches of %d: %s", contest.architecture.name, training.batch_size, describe(training)
            )
        settled.append(replace(contest, fits=tuple(replace(fit, training=training) for fit in contest.fits)))
    return settled


def _alike(contest: LrSearch) -> Any:
    """What a compilation is for."""
    return contest.architecture, contest.training.augmentation, contest.training.batch_size


def _work(contest: LrSearch, networks: int) -> WorkEstimate:
    data = contest.fits[0].data
    network = build(contest.architecture, data.targets_NK.shape[1], data.images_NCHW.shape[-1])
    return estimate_training(contest.training, network, data.images_NCHW.shape, networks)


# ---- the report ----


def _write(config: Config, spec: ArtifactSpec, curated: CuratedSet, runs: list[dict[str, Any]], run: Run) -> None:
    with spec.folder.writing("runs.parquet") as path:
        pq.write_table(pa.Table.from_pylist(runs, RUNS_SCHEMA), path)
    protocol = next(iter(config.evaluate.protocols))
    network = config.network.name
    summary = summarise(runs, curated.class_names, protocol, network)
    if config.evaluate.scores:
        summary["distilled"]["scores"] = robust_scores(runs, protocol, network)
        for name, figure in summary["distilled"]["scores"].items():
            known = {part: figure[part] for part in ("score", "low", "high") if figure[part] is not None}
            run.metrics({f"distilled/{name}_{part}": value for part, value in known.items()}, 0)
    spec.folder.write("evaluation.json", json.dumps(summary, indent=1).encode())
    run.artifact(spec.folder.local("evaluation.json"))
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
    save_figure(
        spec,
        run,
        "confusion.png",
        lambda path: figures.confusion_matrix(path, np.sum(matrices, axis=0).reshape(k, k), curated.class_names, title),
    )
    save_figure(spec, run, "accuracy.png", lambda path: _accuracy_picture(path, summary, curated, network))
    if config.evaluate.other_networks:
        save_figure(spec, run, "networks.png", lambda path: _network_picture(path, summary, curated, config))


def _accuracy_picture(path: Any, summary: dict[str, Any], curated: CuratedSet, network: str) -> None:
    rows = [
        _accuracy_row(subject, trained_network(summary[subject], network), figure)
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
