"""evaluate: train fresh networks on the distilled set and baselines; test them.

    training sets x protocols x networks x seeds
        -> [Ray tasks: train, predict] -> evaluation.json, runs.parquet

All training sets get the same protocols, labels, augmentation and search for a learning rate. No
other stage reads the test split.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from raydistill.artifacts.manifest import Manifest, check_parent
from raydistill.errors import ArtifactIncompatible
from raydistill.galaxies import selection
from raydistill.learning.normalise import AnyNormalisation
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import is_complete, model_of, require_classes, stage_context, tracked_run
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.stages.evaluate.baselines import Baselines
from raydistill.stages.evaluate.classifiers import TrainedClassifier, train_classifier
from raydistill.stages.evaluate.comparison import plan_searches
from raydistill.stages.evaluate.compatibility import check_compatible, independent_galaxies
from raydistill.stages.evaluate.evaluator import Evaluator
from raydistill.stages.evaluate.fits import FIT_CACHE, Split
from raydistill.stages.evaluate.groups import LabelledGroups, load_groups, write_groups
from raydistill.stages.evaluate.report import record_with_model, write_report
from raydistill.stages.evaluate.training_sets import TrainingSets, load_teachers, load_votes
from raydistill.stages.experts.classifier import MODEL_CODE, PictureClassifier
from raydistill.tracking.registry import CLASSIFIER, model_name
from raydistill.tracking.tracker import Run, Tracker


def evaluate(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> EvaluationReport:
    """Evaluate the distilled set and its baselines, or open the existing report.

    Parameters
    ----------
    plan
        Where the artifacts of the run are.
    tracker
        Where the run is recorded.
    parent_run
        MLflow id of the enclosing run, if any.

    Returns
    -------
    EvaluationReport

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
            summary = write_report(config, spec, curated, rows, run)
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
    baselines = Baselines(config, train, num_classes, distilled.stored_per_class, root, cache, evaluated_on)
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
    searches = plan_searches(config, root, training_sets)
    rows = evaluator.evaluate(searches)
    if config.tracking.enabled and config.tracking.models:
        classifiers += train_classifier(evaluator, searches, rows)
    return rows + (evaluator.experts(teachers.store, teachers.architecture) if teachers else [])


def _register(
    run: Run, manifest: Manifest, *, plan: Plan, curated: CuratedSet, distilled: DistilledSet,
    classifiers: list[TrainedClassifier],
) -> None:  # fmt: skip
    """Register the networks trained on the distilled set as picture classifiers."""
    config = plan.config
    name = f"{model_name(config.name, distilled.images_per_class)}_classifier"
    for one in classifiers:
        classifier = PictureClassifier.of_run(
            config.network, config.curate, plan.pictures(), curated, distilled.selected.normalisation, [one.theta_P]
        )
        run.register(
            model_of(
                name,
                CLASSIFIER,
                one.validation,
                manifest,
                plan.evaluation,
                curated,
                config,
                save=classifier.save,
                code=MODEL_CODE,
            )
        )


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
