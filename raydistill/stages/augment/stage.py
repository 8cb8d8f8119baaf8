"""augment: compare classifiers trained on real, synthetic and distilled galaxies.

    methods x sources x shots x candidates x seeds
        -> [Ray tasks: train, score on validation]      -> partial/fits/, the choice of candidates
        -> [Ray tasks: score on test], chosen fits only -> runs.parquet, trials.parquet, report.json

All classifiers take the same number of steps with the same batch size. A fit depends on its own
description alone, so any number of workers gives the same bits. A killed comparison resumes with
the fits that are missing. The test split is read after all choices are made.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import ray

from raydistill.distillation.cost_model import estimate_steps
from raydistill.learning.metrics import balanced_accuracy
from raydistill.learning.networks import build_network
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import is_complete, resolve, stage_context, tracked_run
from raydistill.seeding import fold_in
from raydistill.stages.augment.artifact import DISTILLED_METHODS, AugmentationReport, augmentation_spec
from raydistill.stages.augment.config import DISTILLED, Augment, Method
from raydistill.stages.augment.inputs import Images, load_split, open_images
from raydistill.stages.augment.report import run_rows, write_report
from raydistill.stages.augment.worker import ALONE, FITS, MIXED, NO_SHOTS, WITH_SOURCE, Common, Fit, FitRunner
from raydistill.tracking.tracker import Run, Tracker

# Choose each method's learning rate, ratio and filter on validation galaxies.

log = get_logger(__name__)


@dataclass(frozen=True)
class Search:
    """A method, source and number of labelled galaxies to choose hyper-parameters for."""

    method: Method
    source: str
    shots: int | None

    def fit(self, lr: float, ratio: float | None = None, min_recognised: float | None = None) -> Fit:
        """Return the first fit with these hyper-parameters."""
        return Fit(self.method, self.source, self.shots, lr=lr, ratio=ratio, min_recognised=min_recognised)


class Choice(NamedTuple):
    """The chosen hyper-parameters, and the trials' mean validation balanced accuracy."""

    fit: Fit
    validation: float

    def fits(self, seeds: int, replicates: int) -> list[Fit]:
        """Return a fit for each seed and replicate."""
        return [replace(self.fit, seed=seed, replicate=number) for seed in range(seeds) for number in range(replicates)]


def plan_searches(options: Augment, sources: Sequence[str]) -> list[Search]:
    """Return a search per method, source and `shots`; omit methods without a source."""
    searches = []
    for method in options.methods:
        shots: tuple[int | None, ...] = (NO_SHOTS,) if method in ALONE else options.shots
        fitting = [name for name in sources if (name == DISTILLED) == (method in DISTILLED_METHODS)]
        names = fitting if method in WITH_SOURCE else [""]
        searches += [Search(method, name, count) for name in names for count in shots]
    return searches


class Chooser:
    """Try candidates with a few seeds, and keep those best on validation galaxies.

    Attributes
    ----------
    tried
        Every candidate fit, in the order in which they were tried.
    """

    def __init__(self, runner: FitRunner, options: Augment) -> None:
        self._runner, self._options = runner, options
        self.tried: list[Fit] = []

    def choose(self, searches: Sequence[Search]) -> dict[Search, Choice]:
        """Return the choice of each search.

        First comes the learning rate at a ratio of 1, or the nearest candidate; then the ratio, and
        then the filter.
        """
        options = self._options
        middle = min(options.ratios, key=lambda ratio: (abs(ratio - 1), ratio))
        starts = {
            search: [search.fit(lr, middle if search.method in MIXED else None) for lr in sorted(options.lr_grid)]
            for search in searches
        }
        chosen = self._best(starts, "choosing learning rates")
        self._warn_of_ends(chosen)
        self._runner.filter_lrs = {
            search.shots: choice.fit.lr for search, choice in chosen.items() if search.method == "oversampling"
        }
        mixed = {search: choice.fit for search, choice in chosen.items() if search.method in MIXED}
        ratios = {
            search: [replace(fit, ratio=ratio) for ratio in sorted(options.ratios)] for search, fit in mixed.items()
        }
        chosen |= self._best(ratios, "choosing ratios")
        filters = {
            search: [replace(chosen[search].fit, min_recognised=least) for least in _filters(options)]
            for search in mixed
            if search.method == "real_synthetic"
        }
        return chosen | self._best(filters, "choosing filters")

    def _best(self, candidates: Mapping[Search, Sequence[Fit]], description: str) -> dict[Search, Choice]:
        """Return the best candidate of each search; a tie goes to the first."""
        trials = {
            fit: [replace(fit, seed=seed) for seed in range(self._options.trials)]
            for fits in candidates.values()
            for fit in fits
        }
        flat = [fit for fits in trials.values() for fit in fits]
        self.tried += [fit for fit in flat if fit not in set(self.tried)]
        results = dict(zip(flat, self._runner.train(flat, description), strict=True))
        scores = {
            fit: statistics.mean(
                -1.0 if results[t].diverged else balanced_accuracy(results[t].confusion_RKK[-1]) for t in tries
            )
            for fit, tries in trials.items()
        }
        return {
            search: Choice(best, scores[best])
            for search, fits in candidates.items()
            for best in [max(fits, key=lambda fit: scores[fit])]
        }

    def _warn_of_ends(self, chosen: Mapping[Search, Choice]) -> None:
        grid = sorted(self._options.lr_grid)
        ends = [choice.fit.title for choice in chosen.values() if choice.fit.lr in (grid[0], grid[-1])]
        if len(grid) > 2 and ends:
            log.warning(
                "augment: the best learning rate is at an end of augment.lr_grid for %d of %d searches (first: %s)",
                len(ends), len(chosen), ends[0],
            )  # fmt: skip


def _filters(options: Augment) -> list[float | None]:
    """Return the candidates, no filter first."""
    return sorted(options.min_recognised, key=lambda least: least or 0.0)


def trial_rows(fits: Sequence[Fit], runner: FitRunner) -> list[dict[str, Any]]:
    """Return a row per candidate fit, with its validation balanced accuracy."""
    results = runner.train(fits, "reading")
    return [
        fit.labels() | {"validation": balanced_accuracy(result.confusion_RKK[-1]), "diverged": result.diverged}
        for fit, result in zip(fits, results, strict=True)
    ]


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
    options = plan.config.augment
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
    write_report(plan.config, augmentation_spec(plan), images, rows, tried, run)


def _runner(plan: Plan, images: Images, run: Run, searches: list[Search]) -> FitRunner:
    config = plan.config
    options, size, processor = config.augment, images.curated.summary.image_size, Processor.of(config.resources)
    network = build_network(options.network, images.curated.num_classes, size)
    fits = sum(len(options.lr_grid) * options.trials + options.seeds for _ in searches)
    steps = options.training.steps * (1 if processor.gpus else fits)  # on GPUs a process ends with its task
    work = estimate_steps(network, size, options.training.batch_size, steps)
    folder = augmentation_spec(plan).folder
    arithmetic = resolve(folder, run, options.training, work, processor)
    log.info("augment: %s, batches of %d, %d steps: %s", options.network.name, options.training.batch_size,
             options.training.steps, arithmetic)  # fmt: skip
    common = Common(
        architecture=options.network,
        normalisation=images.curated.normalisation,
        num_classes=images.curated.num_classes,
        image_size=size,
        recorded=options.recorded,
        root=fold_in(config.seed, "augment"),
        processor=processor,
    )
    labelled = "generator_labels" in options.methods
    return FitRunner(
        folder=folder / FITS,
        resources=config.resources,
        options=options,
        training=options.training.resolved(arithmetic),
        common=common,
        real=ray.put(images.real),
        votes=ray.put(images.votes(plan)) if labelled else None,
        validation=ray.put(images.validation),
        sources={name: [ray.put(pool) for pool in pools] for name, pools in images.sources.items()},
    )
