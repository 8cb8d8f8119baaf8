"""Choose learning rates and the alignment strength, without labels of the target."""

from __future__ import annotations

from statistics import mean

from raydistill.log import get_logger
from raydistill.stages.adapt.config import Adapt
from raydistill.stages.adapt.fits import Fit, Method
from raydistill.stages.adapt.runner import FitRunner

log = get_logger(__name__)


def choose_fits(runner: FitRunner, options: Adapt, training_sets: list[str]) -> list[Fit]:
    """Train all candidates, and return the fits to test.

    They are those of each training set and method, over all seeds.

    The rate of a training set is that of its networks without the target. Only the ceiling uses
    labels of the target, also for its rate.
    """
    ceiling = _best_rate(runner, options, "", "ceiling")
    chosen = []
    for name in training_sets:
        plain = _best_rate(runner, options, name, "none")
        chosen += [*plain, *_strongest(runner, options, plain)]
    return [*chosen, *ceiling]


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
