"""augment: compare classifiers trained on real, synthetic and distilled galaxies.

    methods x sources x shots x seeds x candidates
        -> [Ray tasks: train, classify validation galaxies] -> partial/fits/, each seed's choice
        -> [Ray tasks: classify test galaxies], chosen fits -> runs.parquet, report.json ...

All classifiers take the same number of steps with the same batch size. A fit depends on its own
description alone, so any number of workers gives the same bits. A killed comparison resumes with
the fits that are missing. The test split is read after all choices are made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray

from raydistill.distillation.cost_model import estimate_steps
from raydistill.learning.grids import MAX_ROUNDS, value_beyond
from raydistill.learning.networks import build_network
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.runtime.resources import Processor
from raydistill.runtime.stages import is_complete, resolve, stage_context, tracked_run
from raydistill.seeding import fold_in
from raydistill.simulation.injections.base import contrast_of
from raydistill.stages.augment.artifact import DISTILLED_METHODS, AugmentationReport, augmentation_spec
from raydistill.stages.augment.config import DISTILLED, FEATURE_HEAD, Augment, Method
from raydistill.stages.augment.fits import MIXED, WITH_SOURCE, Fit
from raydistill.stages.augment.inputs import Images, load_split, open_images
from raydistill.stages.augment.report import run_rows, write_report
from raydistill.stages.augment.worker import FITS, Common, FitRunner, TrainedFit
from raydistill.tracking.tracker import Run, Tracker

# Choose each method's learning rate, ratio and filter on validation galaxies.

log = get_logger(__name__)


@dataclass(frozen=True)
class Search:
    """A method, source, number of labels and seed to choose hyper-parameters for."""

    method: Method
    source: str
    shots: int | None
    seed: int

    def fit(self, lr: float, ratio: float | None = None) -> Fit:
        """Return the fit of the first replicate with these hyper-parameters."""
        return Fit(self.method, self.source, self.shots, self.seed, lr=lr, ratio=ratio)


def plan_searches(options: Augment, sources: Sequence[str]) -> list[Search]:
    """Return a search per method, source, `shots` and seed, where a source exists."""
    searches = []
    for method in options.methods:
        fitting = [name for name in sources if (name == DISTILLED) == (method in DISTILLED_METHODS)]
        names = fitting if method in WITH_SOURCE else [""]
        searches += [
            Search(method, name, count, seed)
            for name in names
            for count in options.shots
            for seed in range(options.seeds)
        ]
    return searches


class Chooser:
    """Try each seed's candidates with one network each, and keep the best one.

    Candidates are compared on as many validation galaxies as the fit has labelled ones.

    Attributes
    ----------
    tried
        Every candidate fit, in the order in which they were tried.
    """

    def __init__(self, runner: FitRunner, options: Augment) -> None:
        self._runner, self._options = runner, options
        self.tried: list[Fit] = []

    def choose(self, searches: Sequence[Search]) -> dict[Search, Fit]:
        """Return the chosen fit of each search.

        First comes the learning rate at the ratio that is nearest to 1; then the ratio, and then
        the filter.
        """
        options = self._options
        ratios = sorted(options.ratios, key=lambda ratio: (abs(math.log(ratio)), ratio))
        starts = {
            search: [
                search.fit(lr, ratios[0] if search.method in MIXED else None) for lr in _rates(options, search.method)
            ]
            for search in searches
        }
        chosen = self._best(starts, "choosing learning rates")
        self._warn_of_ends(chosen)
        self._runner.filter_lrs = {
            (search.shots, search.seed): fit.lr for search, fit in chosen.items() if search.method == "oversampling"
        }
        mixed = [search for search in searches if search.method in MIXED]
        chosen |= self._ratios({search: [replace(chosen[search], ratio=ratio) for ratio in ratios] for search in mixed})
        filters = {
            search: [replace(chosen[search], min_recognised=least) for least in _filters(options)]
            for search in mixed
            if search.method == "real_synthetic"
        }
        return chosen | self._best(filters, "choosing filters")

    def _ratios(self, candidates: dict[Search, list[Fit]]) -> dict[Search, Fit]:
        """Return the best candidates; while one is at an end, try one beyond it too."""
        chosen: dict[Search, Fit] = {}
        for _ in range(MAX_ROUNDS):
            chosen |= self._best(candidates, "choosing ratios")
            wider = {}
            for search, fits in candidates.items():
                beyond = value_beyond([fit.ratio for fit in fits if fit.ratio], chosen[search].ratio or 1.0)
                if beyond is not None:
                    wider[search] = [*fits, replace(chosen[search], ratio=beyond)]
            candidates = wider
        if ends := [chosen[search] for search in candidates]:
            what = "augment: the best ratio is at the end of those tried for %d of %d searches (first: %s, ratio %g)"
            log.warning(what, len(ends), len(chosen), ends[0].title, ends[0].ratio)
        return chosen

    def _best(self, candidates: Mapping[Search, Sequence[Fit]], description: str) -> dict[Search, Fit]:
        """Return the best candidate of each search; a tie goes to the first."""
        flat = [fit for fits in candidates.values() for fit in fits]
        self.tried = list(dict.fromkeys([*self.tried, *flat]))
        results = dict(zip(flat, self._runner.train(flat, description), strict=True))
        return {search: max(fits, key=lambda fit: self.score(fit, results[fit])) for search, fits in candidates.items()}

    def score(self, fit: Fit, result: TrainedFit) -> float:
        """Return what the best candidate has most of."""
        return -1.0 if result.diverged else self._runner.validation_accuracy(fit, result.predicted_RV[-1])

    def _warn_of_ends(self, chosen: Mapping[Search, Fit]) -> None:
        grid = sorted(self._options.lr_grid)
        ends = [fit.title for fit in chosen.values() if fit.method != FEATURE_HEAD and fit.lr in (grid[0], grid[-1])]
        if len(grid) > 2 and ends:
            log.warning(
                "augment: the best learning rate is at an end of augment.lr_grid for %d of %d searches (first: %s)",
                len(ends), len(chosen), ends[0],
            )  # fmt: skip


def _rates(options: Augment, method: Method) -> list[float]:
    """Return the candidates for the learning rate, or for a head's regularisation."""
    return sorted(options.head_regularisation if method == FEATURE_HEAD else options.lr_grid)


def _filters(options: Augment) -> list[float | None]:
    """Return the candidates, no filter first."""
    return sorted(options.min_recognised, key=lambda least: least or 0.0)


def trial_rows(fits: Sequence[Fit], runner: FitRunner) -> list[dict[str, Any]]:
    """Return a row per candidate fit, with its validation balanced accuracy."""
    results = runner.train(fits, "reading")
    return [
        asdict(fit)
        | {"validation": runner.validation_accuracy(fit, result.predicted_RV[-1]), "diverged": result.diverged}
        for fit, result in zip(fits, results, strict=True)
    ]


def augment(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> AugmentationReport:
    """Write the comparison of training sets, or open the existing one.

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


def _compare(plan: Plan, images: Images, run: Run) -> None:
    """Choose, train, test and write the report."""
    options = plan.config.augment
    searches = plan_searches(options, list(images.sources))
    runner = build_runner(plan, images, run, searches)
    chooser = Chooser(runner, options)
    replicates = {name: len(pools) for name, pools in images.sources.items()}
    fits = [
        replace(fit, replicate=number)
        for search, fit in chooser.choose(searches).items()
        for number in range(replicates.get(search.source, 1))
    ]
    trained = dict(zip(fits, runner.train(fits, "training"), strict=True))
    if diverged := [fit for fit, result in trained.items() if result.diverged]:
        what = "augment: %d of %d classifiers diverged and keep their initial parameters (first: %s)"
        log.warning(what, len(diverged), len(trained), diverged[0].title)
    rows = run_rows(runner, trained, load_split(images.curated, "test"))
    tried = trial_rows(chooser.tried, runner)
    write_report(plan.config, augmentation_spec(plan), images, rows, tried, run)


def build_runner(plan: Plan, images: Images, run: Run, searches: Sequence[Search]) -> FitRunner:
    """Return the runner of a comparison's fits, for a running Ray."""
    config = plan.config
    options, size, processor = config.augment, images.curated.summary.image_size, Processor.of(config.resources)
    network = build_network(options.network, images.curated.num_classes, size)
    fits = len(options.lr_grid) * len(searches)
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
        contrast=contrast_of(config.survey),
    )
    labelled = "generator_labels" in options.methods
    describe = images.described(plan) if images.describer is not None else None
    described = None if describe is None else (ray.put(describe(images.real)), ray.put(describe(images.validation)))
    return FitRunner(
        folder=folder / FITS,
        resources=config.resources,
        options=options,
        training=options.training.resolved(arithmetic),
        common=common,
        real=ray.put(images.real),
        votes=ray.put(images.votes(plan)) if labelled else None,
        validation=ray.put(images.validation),
        labels_V=images.validation.labels_N,
        sources={name: [ray.put(pool) for pool in pools] for name, pools in images.sources.items()},
        described=described,
        describe=describe,
    )
