"""augment: compare classifiers trained on real, synthetic and distilled galaxies.

    methods x sources x shots x candidates x seeds
        -> [Ray tasks: train, score on validation]      -> partial/fits/, the choice of candidates
        -> [Ray tasks: score on test], chosen fits only -> runs.parquet, trials.parquet, report.json

All classifiers take the same number of steps with the same batch size. A fit depends on its own
description alone, so the number of workers changes no bit. A killed comparison resumes with the
fits that are missing. The test split is read after all choices are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import ray

from raydistill.distillation.cost_model import estimate_steps
from raydistill.learning.networks import build_network
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import is_complete, resolve, stage_context, tracked_run
from raydistill.seeding import fold_in
from raydistill.stages.augment.artifact import AugmentationReport
from raydistill.stages.augment.choosing import Choice, Chooser, Search, plan_searches, trial_rows
from raydistill.stages.augment.fits import Fit
from raydistill.stages.augment.opening import Images, load_split, open_images
from raydistill.stages.augment.report import run_rows, write_report
from raydistill.stages.augment.runner import FITS, FitRunner
from raydistill.stages.augment.specs import augmentation_spec
from raydistill.stages.augment.worker import Common
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)


def augment(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> AugmentationReport:
    """Write the comparison of training sets, or open the existing one.

    Parameters
    ----------
    plan
        Where the curated set and the sources are.
    tracker
        Where the run is recorded.
    parent_run
        MLflow id of the enclosing run, if any.

    Returns
    -------
    AugmentationReport

    Raises
    ------
    ArtifactMissing
        The curated set or a set of the config does not exist.
    ArtifactIncompatible
        A set does not fit the survey, or was made from its validation or test galaxies.
    """
    spec = augmentation_spec(plan)
    if not is_complete(spec):
        images = open_images(plan)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, images.curated) as run:
            _compare(plan, images, run)
    return AugmentationReport.open(spec.folder)


@dataclass(frozen=True)
class Comparison:
    """All searches with their choices, and the fits that are tested.

    Attributes
    ----------
    choices
        The chosen hyper-parameters of each search.
    fits
        The fits of each search, over seeds and replicates.
    """

    choices: dict[Search, Choice]
    fits: dict[Search, list[Fit]]

    @property
    def all_fits(self) -> list[Fit]:
        """Return the fits of all searches, in their order."""
        return [fit for fits in self.fits.values() for fit in fits]


def _compare(plan: Plan, images: Images, run: Run) -> None:
    """Choose, train, test and write the report."""
    options, folder = plan.config.augment, augmentation_spec(plan).folder
    searches = plan_searches(options, list(images.sources))
    runner = _runner(plan, images, run, searches)
    chooser = Chooser(runner, options)
    choices = chooser.choose(searches)
    replicates = {name: len(pools) for name, pools in images.sources.items()}
    fits = {search: choice.fits(options.seeds, replicates.get(search.source, 1)) for search, choice in choices.items()}
    compared = Comparison(choices, fits)
    # A filter needs the classifiers without one.
    for unfiltered in (True, False):
        part = [fit for fit in compared.all_fits if (fit.min_recognised is None) == unfiltered]
        runner.train(part, "training")
    trained = dict(zip(compared.all_fits, runner.train(compared.all_fits, "reading"), strict=True))
    if diverged := [fit for fit, result in trained.items() if result.diverged]:
        what = "augment: %d of %d classifiers diverged and keep their initial parameters (first: %s)"
        log.warning(what, len(diverged), len(trained), diverged[0].title)
    tested = runner.test(compared.all_fits, load_split(images.curated, "test"))
    rows = run_rows(trained, tested, options.recorded)
    tried = trial_rows(chooser.tried, runner)
    write_report(plan.config, folder, images, rows, tried, run)


def _runner(plan: Plan, images: Images, run: Run, searches: list[Search]) -> FitRunner:
    config = plan.config
    options, resources, size = config.augment, config.resources, images.curated.summary.image_size
    network = build_network(options.network, images.curated.num_classes, size)
    fits = sum(len(options.lr_grid) * options.trials + options.seeds for _ in searches)
    steps = options.training.steps * (1 if resources.gpus else fits)  # on GPUs a process ends with its task
    work = estimate_steps(network, size, options.training.batch_size, steps)
    folder = augmentation_spec(plan).folder
    arithmetic = resolve(folder, run, options.training, work, resources.gpus, resources.worker_threads)
    log.info("augment: %s, batches of %d, %d steps: %s", options.network.name, options.training.batch_size,
             options.training.steps, arithmetic)  # fmt: skip
    common = Common(
        architecture=options.network,
        normalisation=images.curated.normalisation,
        num_classes=images.curated.num_classes,
        image_size=size,
        recorded=options.recorded,
        root=fold_in(config.seed, "augment"),
        threads=resources.worker_threads,
        gpus=resources.gpus,
    )
    labelled = "generator_labels" in options.methods
    return FitRunner(
        folder=folder / FITS,
        resources=resources,
        options=options,
        training=options.training.resolved(arithmetic),
        common=common,
        real=ray.put(images.real),
        votes=ray.put(images.votes(plan)) if labelled else None,
        validation=ray.put(images.validation),
        sources={name: [ray.put(pool) for pool in pools] for name, pools in images.sources.items()},
    )
