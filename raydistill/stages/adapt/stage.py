"""adapt: train networks on a survey, align them with another, and test on both.

    source + target's pictures -> [Ray tasks: train, score on validation] -> partial/fits/
        -> [Ray tasks: predict test galaxies], chosen fits only
        -> runs.parquet, report.json, adaptation.png

A fit depends on its own description alone, so the number of workers changes no bit. A killed
adaptation resumes with the fits that are missing. Labels of the target train the ceiling and score
the result; nothing else depends on them.
"""

from __future__ import annotations

import ray

from raydistill.distillation.cost_model import estimate_steps
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import one_hot
from raydistill.learning.weighted_training import TrainingSet, drawing_probabilities
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import is_complete, resolve, stage_context, tracked_run
from raydistill.seeding import fold_in
from raydistill.stages.adapt.artifact import AdaptationReport
from raydistill.stages.adapt.choosing import choose_fits
from raydistill.stages.adapt.opening import Surveys, open_surveys, open_training_sets
from raydistill.stages.adapt.report import write_report
from raydistill.stages.adapt.runner import FITS, FitRunner
from raydistill.stages.adapt.specs import adaptation_spec
from raydistill.stages.adapt.worker import Common
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)


def adapt(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> AdaptationReport:
    """Write the report of an adaptation, or open the existing one.

    Parameters
    ----------
    plan
        Where the source and its sets are.
    tracker
        Where the run is recorded.
    parent_run
        MLflow id of the enclosing run, if any.

    Returns
    -------
    AdaptationReport

    Raises
    ------
    ArtifactMissing
        A curated set, or a set of the config, does not exist.
    ArtifactIncompatible
        The surveys or sets do not fit together.
    ConfigError
        The classes of the target do not match those of the source.
    """
    spec = adaptation_spec(plan)
    if not is_complete(spec):
        surveys = open_surveys(plan)
        training_sets = open_training_sets(plan, surveys)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, surveys.source) as run:
            runner = _runner(plan, spec, run, surveys, training_sets)
            fits = choose_fits(runner, plan.config.adapt, list(training_sets))
            trained = dict(zip(fits, runner.train(fits, "training"), strict=True))
            if diverged := [fit for fit, result in trained.items() if result.diverged]:
                what = "adapt: %d of %d networks diverged and keep their initial parameters (first: %s)"
                log.warning(what, len(diverged), len(trained), diverged[0].title)
            tests = {
                "source": surveys.source_pictures("test"),
                "target": surveys.target_pictures("test", "none"),
                "matched": surveys.target_pictures("test", plan.config.adapt.matching),
                "own": surveys.target_pictures("test", "channels"),
            }
            predictions = runner.predict(fits, tests)
            write_report(plan, spec, surveys, trained, tests, predictions, run)
    return AdaptationReport.open(spec.folder)


def _runner(
    plan: Plan, spec: ArtifactSpec, run: Run, surveys: Surveys, training_sets: dict[str, TrainingSet]
) -> FitRunner:
    options, resources, source = plan.config.adapt, plan.config.resources, surveys.source
    size = source.summary.image_size
    network = build_network(options.network, source.num_classes, size)
    fits = (len(training_sets) + 1) * (len(options.lr_grid) + options.seeds)
    steps = options.training.steps * (1 if resources.gpus else fits)  # on GPUs a process ends with its task
    work = estimate_steps(network, size, options.training.batch_size, steps)
    arithmetic = resolve(spec.folder, run, options.training, work, resources.gpus, resources.worker_threads)
    log.info("adapt: %s, batches of %d, %d steps: %s", options.network.name, options.training.batch_size,
             options.training.steps, arithmetic)  # fmt: skip
    labelled = surveys.target_pictures("train", "channels").known()
    targets = one_hot(labelled.labels, source.num_classes)
    ceiling = TrainingSet(labelled.images, targets, drawing_probabilities(labelled.labels))
    unlabelled = surveys.target_pictures("train", options.matching).images
    common = Common(
        architecture=options.network,
        num_classes=source.num_classes,
        image_size=size,
        training=options.training.resolved(arithmetic),
        alignment=options.alignment,
        root=fold_in(plan.config.seed, "adapt"),
        threads=resources.worker_threads,
        gpus=resources.gpus,
    )
    validation = {
        "source": surveys.source_pictures("validation"),
        "target": surveys.target_pictures("validation", "channels").known(),
    }
    return FitRunner(
        folder=spec.folder / FITS,
        resources=resources,
        common=common,
        training_sets={name: ray.put(one) for name, one in {**training_sets, "": ceiling}.items()},
        unlabelled=ray.put(unlabelled),
        validation={name: ray.put(one) for name, one in validation.items()},
    )
