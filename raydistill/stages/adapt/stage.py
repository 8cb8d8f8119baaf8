"""adapt: train networks on a survey, align them with another, and test on both.

    source + target's pictures -> [Ray tasks: train, score on validation] -> partial/fits/
        -> [Ray tasks: predict test galaxies], chosen fits only
        -> runs.parquet, report.json, adaptation.png, rejected.parquet

A fit depends on its own description alone, so any number of workers gives the same bits. A killed
adaptation resumes with the fits that are missing. Labels of the target train the upper bound and
score the result; nothing else depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import numpy as np
import ray

from raydistill.artifacts.manifest import PARTIAL
from raydistill.distillation.cost_model import estimate_steps
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import build_network
from raydistill.learning.normalise import one_hot
from raydistill.learning.weighted_training import TrainingSet, drawing_probabilities
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime import tasks
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import is_complete, resolve, stage_context, tracked_run
from raydistill.runtime.tasks import map_tasks
from raydistill.seeding import fold_in
from raydistill.stages.adapt.artifact import AdaptationReport, adaptation_spec
from raydistill.stages.adapt.config import Adapt
from raydistill.stages.adapt.opening import SOURCE, Pictures, Surveys, open_surveys, open_training_sets
from raydistill.stages.adapt.report import write_report
from raydistill.stages.adapt.worker import Common, Fit, Method, TrainedFit, describe, predict, train_fit
from raydistill.tracking.tracker import Run, Tracker

# Choose learning rates and the alignment strength, without labels of the target.

log = get_logger(__name__)


def choose_fits(runner: FitRunner, options: Adapt, training_sets: list[str]) -> list[Fit]:
    """Train all candidates, and return the fits to test.

    They are those of each training set and method, over all seeds.

    The rate of a training set is that of its networks without the target. Only the upper bound uses
    labels of the target, also for its rate.
    """
    upper_bound = _best_rate(runner, options, "", "upper_bound")
    chosen = []
    for name in training_sets:
        plain = _best_rate(runner, options, name, "none")
        chosen += [*plain, *_strongest(runner, options, plain)]
    return [*chosen, *upper_bound]


def _best_rate(runner: FitRunner, options: Adapt, training_set: str, method: Method) -> list[Fit]:
    """Return the fits of all seeds at the rate that validates best for the first seed."""
    trials = [Fit(training_set, method, 0, lr) for lr in options.lr_grid]
    scores = [result.validation for result in runner.train(trials, "choosing learning rates")]
    lr = trials[scores.index(max(scores))].lr
    fits = [Fit(training_set, method, seed, lr) for seed in range(options.seeds)]
    runner.train(fits, "training")
    return fits


def _strongest(runner: FitRunner, options: Adapt, plain: list[Fit]) -> list[Fit]:
    """Return the fits of the largest strength that keeps the accuracy on the source."""
    name, lr = plain[0].training_set, plain[0].lr
    least = mean(result.validation for result in runner.train(plain, "training")) - options.max_source_loss
    by_strength = {
        strength: [Fit(name, "adapted", fit.seed, lr, strength) for fit in plain]
        for strength in sorted(options.strengths, reverse=True)
    }
    runner.train([fit for fits in by_strength.values() for fit in fits], "aligning")
    for strength, fits in by_strength.items():
        if mean(result.validation for result in runner.train(fits, "aligning")) >= least:
            log.info("adapt: %s is aligned with strength %g", name, strength)
            return fits
    log.warning(
        "adapt: every strength costs %s more than %g of its accuracy on validation galaxies; %g is taken",
        name, options.max_source_loss, strength,
    )  # fmt: skip
    return fits


def adapt(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> AdaptationReport:
    """Write the report of an adaptation, or open the existing one.

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
        # Sets are checked before Ray starts, but Ray tasks compute features.
        training_sets = {} if plan.config.adapt.features else open_training_sets(plan, surveys)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, surveys.source) as run:
            training_sets = training_sets or open_training_sets(plan, surveys)
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
            predictions = runner.test(predict, fits, tests)
            aligned = [fit for fit in fits if (fit.training_set, fit.method) == (SOURCE, "adapted")]
            aligned = [fit for fit in aligned if not trained[fit].diverged] or aligned
            features = runner.test(describe, aligned, {"matched": tests["matched"]})
            write_report(plan, spec, surveys, trained, tests, predictions, features, run)
    return AdaptationReport.open(spec.folder)


def _runner(
    plan: Plan, spec: ArtifactSpec, run: Run, surveys: Surveys, training_sets: dict[str, TrainingSet]
) -> FitRunner:
    options, source, processor = plan.config.adapt, surveys.source, Processor.of(plan.config.resources)
    size = training_sets[SOURCE].images_NCHW.shape[-1]
    training = replace(options.training, augmentation=Augmentation()) if options.features else options.training
    network = build_network(options.network, source.num_classes, size)
    fits = (len(training_sets) + 1) * (len(options.lr_grid) + options.seeds)
    steps = options.training.steps * (1 if processor.gpus else fits)  # on GPUs a process ends with its task
    work = estimate_steps(network, size, training.batch_size, steps)
    arithmetic = resolve(spec.folder, run, training, work, processor)
    log.info("adapt: %s, batches of %d, %d steps: %s", options.network.name, training.batch_size,
             training.steps, arithmetic)  # fmt: skip
    labelled = surveys.target_pictures("train", "channels").known()
    targets = one_hot(labelled.labels, source.num_classes)
    upper_bound = TrainingSet(labelled.images, targets, drawing_probabilities(labelled.labels))
    unlabelled = surveys.target_pictures("train", options.matching).images
    common = Common(
        architecture=options.network,
        num_classes=source.num_classes,
        image_size=size,
        training=training.resolved(arithmetic),
        alignment=options.alignment,
        root=fold_in(plan.config.seed, "adapt"),
        processor=processor,
    )
    validation = {
        "source": surveys.source_pictures("validation"),
        "target": surveys.target_pictures("validation", "channels").known(),
    }
    return FitRunner(
        folder=spec.folder / FITS,
        resources=plan.config.resources,
        common=common,
        training_sets={
            name: ray.put(training_set) for name, training_set in {**training_sets, "": upper_bound}.items()
        },
        unlabelled=ray.put(unlabelled),
        validation={name: ray.put(block) for name, block in validation.items()},
    )


# Train the fits of an adaptation, and predict with them, as Ray tasks.

FITS = f"{PARTIAL}/fits"


@dataclass(kw_only=True)
class FitRunner(tasks.FitRunner[Fit, TrainedFit]):
    """Train networks on the source, and align them with the target.

    Parameters
    ----------
    common
        What all fits share.
    training_sets
        Training sets by name, in Ray's object store; "" is that of the upper bound.
    unlabelled
        Images of the target, in Ray's object store.
    validation
        Validation galaxies of the source, and of the target for the upper bound, in Ray's object
        store.
    """

    stage, task, result = "adapt", train_fit, TrainedFit
    common: Common
    training_sets: Mapping[str, Any]
    unlabelled: Any
    validation: Mapping[str, Any]

    def arguments(self, fit: Fit) -> tuple[Any, ...]:
        unlabelled = self.unlabelled if fit.method == "adapted" else None
        survey = "target" if fit.method == "upper_bound" else "source"
        return self.training_sets[fit.training_set], unlabelled, self.validation[survey], fit, self.common

    def shown(self, fit: Fit, result: TrainedFit) -> dict[str, Any]:
        return {"training_set": fit.title, "validation": result.validation}

    def test(
        self, task: Callable[..., np.ndarray], fits: Sequence[Fit], pictures: Mapping[str, Pictures]
    ) -> dict[tuple[Fit, str], np.ndarray]:
        """Return `predict` or `describe` of each fit for each of some sets of pictures."""
        stored = {name: ray.put(block.images) for name, block in pictures.items()}
        items = [(fit, name) for fit in fits for name in pictures]

        def arguments(item: tuple[Fit, str]) -> tuple[Any, ...]:
            return self.results([item[0]])[0].theta_P, stored[item[1]], self.common

        results = map_tasks(task, items, arguments, self.resources, "adapt", "testing", "predictions")
        return dict(zip(items, results, strict=True))
