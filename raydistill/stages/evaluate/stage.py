"""evaluate: train fresh networks on the distilled set and baselines; test them.

    training sets x protocols x networks x seeds
        -> [Ray tasks: train, predict] -> evaluation.json, runs.parquet

All training sets get the same protocols, labels, augmentation and search for a learning rate. No
other stage reads the test split.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from raydistill.artifacts.manifest import COSTS, Manifest, check_parent
from raydistill.config import Config, Protocol
from raydistill.distillation.cost_model import Hardware, WorkEstimate, estimate_training, resolve_auto
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies import selection
from raydistill.learning.architectures import Architecture
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import AnyNormalisation
from raydistill.learning.options import Training
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.cost import cost_of
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import is_complete, model_of, require_classes, stage_context, tracked_run
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.stages.evaluate.baselines import Baselines, Teachers, load_teachers
from raydistill.stages.evaluate.fits import FIT_CACHE, Fit, LearningRate, LrSearch, Split, TrainingSet
from raydistill.stages.evaluate.measures.groups import LabelledGroups, load_groups, write_groups
from raydistill.stages.evaluate.measures.heads import HeadTask, Splits, head_rows
from raydistill.stages.evaluate.report.files import record_with_model, write_report
from raydistill.stages.evaluate.training_sets import TrainingSets, load_votes
from raydistill.stages.evaluate.worker import Evaluator, TrainedClassifier, train_classifier
from raydistill.stages.experts.classify.classifier import MODEL_CODE, PictureClassifier
from raydistill.tracking.registry import CLASSIFIER, model_name
from raydistill.tracking.tracker import Run, Tracker


def evaluate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> EvaluationReport:
    """Evaluate the distilled set and its baselines, or open the existing report.

    Raises
    ------
    ArtifactIncompatible
        If the distilled set does not fit the survey, or was made from its test galaxies.
    """
    config, spec = plan.config, plan.evaluation
    if not is_complete(spec):
        curated = CuratedSet.open(plan.curated.folder)
        distilled = DistilledSet.open(plan.evaluated_set.folder)
        check_compatible(distilled, curated, config.evaluate.protocols)
        independent_N = independent_galaxies(distilled, curated)
        if config.distilled is None:
            check_parent(distilled.manifest, "curated", curated.manifest, distilled.folder.uri)
        classifiers: list[TrainedClassifier] = []
        register = partial(_register, plan=plan, curated=curated, distilled=distilled, classifiers=classifiers)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, curated, on_commit=register) as run:
            groups = load_groups(config.evaluate.groups, curated, independent_N)
            rows = _train_networks(plan, curated, distilled, independent_N, groups, classifiers)
            galaxies = curated.table("test", ["object_id"]).filter(pa.array(independent_N.numpy()))
            summary = write_report(config, spec, curated, galaxies, rows, run)
            record_with_model(run, distilled.manifest.identity, summary, curated)
            write_groups(config, spec.folder, curated, rows, groups)
    return EvaluationReport.open(spec.folder)


def _train_networks(
    plan: Plan,
    curated: CuratedSet,
    distilled: DistilledSet,
    independent_N: Tensor,
    groups: LabelledGroups | None,
    classifiers: list[TrainedClassifier],
) -> list[dict[str, Any]]:
    """Return the rows of `runs.parquet` in fixed order, on independent test galaxies.

    With `tracking.models`, `classifiers` receives a network trained on the distilled set.
    """
    config, num_classes = plan.config, curated.num_classes
    # A distilled set is used with its own normalisation, on any survey.
    normalisation = distilled.selected.normalisation
    require_classes(curated)
    curated.require_splits("train", "validation", "test")
    train, validation, test = (load_split(curated, name, normalisation) for name in ("train", "validation", "test"))
    test = test[0][independent_N], test[1][independent_N]
    teachers = load_teachers(plan, distilled, curated)
    votes_NK = load_votes(plan, distilled, curated)
    if config.evaluate.scores and distilled.selected.soft and votes_NK is None and teachers is None:
        raise ArtifactIncompatible(
            "its labels are soft, and its experts, which would label random images for the scores, are missing",
            distilled.folder.uri,
            "set evaluate.scores=false",
        )
    root = fold_in(config.seed, "evaluate")
    cache, evaluated_on = plan.root / FIT_CACHE, _evaluation_data(curated, normalisation, independent_N)
    baselines = Baselines(
        config, train, distilled.stored_counts, root, cache, evaluated_on, teachers,
        plan.generator.folder if config.evaluate.draws else None, normalisation,
    )  # fmt: skip
    scored_on = evaluated_on if groups is None else f"{evaluated_on} in groups {groups.digest}"
    bins = () if groups is None else groups.columns
    evaluator = Evaluator(
        folder=cache,
        resources=config.resources,
        validation=validation,
        test=test,
        num_classes=num_classes,
        evaluated_on=scored_on,
        groups=bins,
    )
    training_sets = TrainingSets(config.evaluate, distilled, baselines, teachers, votes_NK)
    heads = HeadTask.of(distilled, teachers, plan)
    if heads is None and (config.evaluate.encoders or not config.evaluate.from_scratch):
        what = "there are no heads to evaluate: it was not distilled for heads, or its experts are missing"
        fix = "set evaluate.encoders=[]" if config.evaluate.from_scratch else "set evaluate.from_scratch=true"
        raise ArtifactIncompatible(what, distilled.folder.uri, fix)
    searches = plan_searches(config, root, training_sets) if config.evaluate.from_scratch else []
    rows = evaluator.evaluate(searches) if searches else []
    if searches and config.tracking.registers:
        classifiers += train_classifier(evaluator, searches, rows)
    if teachers is not None:
        rows += evaluator.experts(teachers.store, teachers.architecture)
    if heads is not None:
        rows += head_rows(config.resources, heads, Splits(train, validation, test), list(training_sets.small()))
    _write_costs(plan, distilled, teachers, baselines.cpu_seconds)  # all baselines are made now
    return rows


def _write_costs(
    plan: Plan, distilled: DistilledSet, teachers: Teachers | None, baselines: Mapping[str, float]
) -> None:
    """Write the measured processor time of each training set [s]."""
    made = {"distilled": distilled.folder}
    if teachers is not None:
        made["experts"] = teachers.store.folder
    if plan.config.evaluate.draws:
        made["generator"] = plan.generator.folder
    costs = {name: cost.cpu_seconds for name, folder in made.items() if (cost := cost_of(folder)) is not None}
    plan.evaluation.folder.write(COSTS, json.dumps({**costs, **baselines}, indent=1).encode())


def _register(
    run: Run, manifest: Manifest, *, plan: Plan, curated: CuratedSet, distilled: DistilledSet,
    classifiers: list[TrainedClassifier],
) -> None:  # fmt: skip
    """Register the networks trained on the distilled set as picture classifiers."""
    config = plan.config
    name = f"{model_name(config.name, distilled.images_per_class)}_classifier"
    for trained in classifiers:
        classifier = PictureClassifier.of_run(
            plan, config.networks[0], curated, distilled.selected.normalisation, [trained.theta_P]
        )
        model = model_of(
            name, CLASSIFIER, trained.validation, manifest, plan.evaluation, curated, config, save=classifier.save,
            code=MODEL_CODE,
        )  # fmt: skip
        run.register(model)


def load_split(curated: CuratedSet, name: selection.Split, normalisation: AnyNormalisation) -> Split:
    """Return the normalised images and the labels of a split."""
    loaded = curated.load(name)
    return normalisation.apply(loaded.images_NHWC), loaded.labels_N


def _evaluation_data(curated: CuratedSet, normalisation: AnyNormalisation, independent_N: Tensor) -> str:
    """Return a text that identifies the validation and test images.

    It is part of every cache key, so its wording must not change.
    """
    content = curated.manifest.content
    if normalisation.digest != curated.normalisation.digest:
        content = f"{content} seen through {normalisation.digest}"
    if not independent_N.all():
        content = f"{content} without {(~independent_N).nonzero().flatten().tolist()}"
    return content


# The comparison: its networks, their training sets and their protocols.

log = get_logger(__name__)


def plan_searches(config: Config, root: int, training_sets: TrainingSets) -> list[LrSearch]:
    """Return the searches of an evaluation, with `compile` and `precision` resolved.

    Parameters
    ----------
    config
        The config of the run, with protocols, networks and resources.
    root
        Seed of the evaluation: networks with the same number have the same seed in all searches.
    training_sets
        The training sets to compare.
    """
    return _resolve(config, list(_searches(config, root, training_sets)))


def _searches(config: Config, root: int, training_sets: TrainingSets) -> Iterator[LrSearch]:
    """Yield the searches of the small sets, the scores and all the training data.

    Each small set is trained under every protocol and on every network.
    """
    options = config.evaluate
    num_seeds = max(options.num_networks, options.full_data_networks)
    seeds = [fold_in(root, "network", number) for number in range(num_seeds)]

    def with_lrs(
        lrs: tuple[LearningRate, ...],
        sets: Sequence[TrainingSet],
        name: str,
        training: Training,
        architecture: Architecture,
    ) -> LrSearch:
        fits = (Fit(s, name, training, lrs[0], architecture, seed) for s, seed in zip(sets, seeds, strict=False))
        return LrSearch(tuple(fits), lrs)

    def under(protocol: Protocol, name: str, sets: Sequence[TrainingSet], architecture: Architecture) -> LrSearch:
        learned_lr = protocol.learned_lr if sets[0].student_lrs is not None else "never"
        lrs = {"only": (None,), "candidate": (None, *protocol.lr_grid), "never": protocol.lr_grid}[learned_lr]
        training = protocol.training.with_even_batches(len(sets[0].images_NCHW))
        return with_lrs(lrs, sets, name, training, architecture)

    small = list(training_sets.small())
    for name, protocol in options.protocols.items():
        for architecture in config.networks:
            for sets in small:
                yield under(protocol, name, sets, architecture)
    if options.scores:
        for sets, name, protocol in training_sets.for_scores():
            yield under(protocol, name, sets, config.networks[0])
    if options.full_data_networks:
        sets = [training_sets.full_data()] * options.full_data_networks
        yield with_lrs((options.full_data.lr,), sets, "", options.full_data, config.networks[0])


def _resolve(config: Config, searches: list[LrSearch]) -> list[LrSearch]:
    """Replace `auto` by the work of all networks that share a compilation.

    On GPUs a process ends with its network, so there a compilation serves one network only.
    """
    hardware = Hardware.of_workers(Processor.of(config.resources).gpus)
    shared_work: defaultdict[Any, WorkEstimate] = defaultdict(WorkEstimate)
    for search in searches:
        shared_work[_compilation_key(search)] += _work(search, search.min_networks)
    logged, resolved = set(), []
    for search in searches:
        key = _compilation_key(search)
        arithmetic = resolve_auto(
            search.training, _work(search, 1) if hardware.kind == "gpu" else shared_work[key], hardware
        )
        training = search.training.resolved(arithmetic)
        if training != search.training.resolved() and (key, arithmetic) not in logged:
            logged.add((key, arithmetic))
            log.info("evaluate: %s in batches of %d: %s", search.architecture.name, training.batch_size, arithmetic)
        resolved.append(replace(search, fits=tuple(replace(fit, training=training) for fit in search.fits)))
    return resolved


def _compilation_key(search: LrSearch) -> Any:
    return search.architecture, search.training.augmentation, search.training.batch_size


def _work(search: LrSearch, networks: int) -> WorkEstimate:
    data = search.fits[0].data
    network = build_network(search.architecture, data.targets_NK.shape[1], data.images_NCHW.shape[-1])
    return estimate_training(search.training, network, data.images_NCHW.shape, networks)


# Checks before an evaluation.
#
# They check that the distilled set fits the survey, and find the test galaxies that are independent
# of it.


def check_compatible(distilled: DistilledSet, curated: CuratedSet, protocols: Mapping[str, Protocol]) -> None:
    """Raise ArtifactIncompatible unless classes, image size and alignment agree.

    A set of aligned galaxies also fits a survey that is not aligned, if every protocol rotates its
    images in training.
    """
    where = distilled.folder.uri
    distilled.require(curated.class_names, curated.summary.image_size)
    if distilled.aligned == curated.summary.aligned:
        return
    if not distilled.aligned:
        what = "its galaxies are not aligned to their major axis, the survey's are"
        raise ArtifactIncompatible(what, where, "set curate.align=false")
    for name, protocol in protocols.items():
        if protocol.training.augmentation.largest_tilt < 90:
            raise ArtifactIncompatible(
                f"its galaxies are aligned to their major axis, the survey's are not, and the protocol '{name}' does not turn "
                "them in training",
                where,
                f"set curate.align=true, or evaluate.protocols.{name}.training.augmentation.operations=[dihedral]",
            )
    log.warning("evaluate: the set's galaxies are aligned, the survey's are not; networks are trained on turned images")


def independent_galaxies(distilled: DistilledSet, curated: CuratedSet) -> Tensor:
    """Return a mask of the test galaxies that did not contribute to the distilled set.

    Releases of one survey use different ids: Kaggle renamed its galaxies of Galaxy Zoo 2. So the
    pictures are compared byte for byte as well. Within the curated set it was distilled from, the
    split alone decides.

    Returns
    -------
    Tensor
        bool [N]; False where the set's experts or its selection on validation used the same
        picture.

    Raises
    ------
    ArtifactIncompatible
        If they used a test galaxy under the same id, or every picture of the test split.
    """
    where, test, used = distilled.folder.uri, curated.table("test", ["object_id", "source"]), distilled.seen()
    if shared := set(used["object_id"].to_pylist()).intersection(test["object_id"].to_pylist()):
        raise ArtifactIncompatible(
            f"{len(shared)} of the test galaxies were used to make it (first: {min(shared)})",
            where,
            "set curate.split to the split it was distilled with",
        )
    parent = distilled.manifest.parents.get("curated")
    if parent is not None and parent.identity == curated.manifest.identity:
        return torch.ones(len(test), dtype=torch.bool)
    pictures = pc.struct_field(test["source"], "sha256")
    independent = torch.tensor(pc.invert(pc.is_in(pictures, used["sha256"])).to_pylist(), dtype=torch.bool)
    num_used = int((~independent).sum())
    if num_used and not independent.any():
        what = "the pictures of all test galaxies were used to make it, under other ids"
        raise ArtifactIncompatible(what, where, "evaluate it on other galaxies")
    if num_used:
        what = "evaluate: %d of %d test galaxies were used under another id to make this set, and are left out"
        log.warning(what, num_used, len(independent))
    return independent
