"""Choose each method's learning rate, ratio and filter on validation galaxies."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from raydistill.learning.metrics import balanced_accuracy
from raydistill.log import get_logger
from raydistill.stages.augment.config import DISTILLED, Augment, Method
from raydistill.stages.augment.fits import ALONE, MIXED, NO_SHOTS, WITH_SOURCE, Fit
from raydistill.stages.augment.runner import FitRunner
from raydistill.stages.augment.specs import DISTILLED_METHODS

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
        own = fitting if method in WITH_SOURCE else [""]
        searches += [Search(method, name, count) for name in own for count in shots]
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
