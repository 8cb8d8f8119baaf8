"""Warn of classes that are too small to distil or to evaluate."""

from __future__ import annotations

from collections.abc import Mapping

from raydistill.log import get_logger

log = get_logger(__name__)

# An accuracy that n galaxies measure has a standard error of at most .5 / √n. Below `FEW_TEST`
# galaxies it may exceed this limit, and a difference between two methods may be chance.
MAX_STANDARD_ERROR = 0.15
FEW_TEST = 12  # the smallest n with .5 / √n <= MAX_STANDARD_ERROR
SHOWN = 10  # names in a warning


def warn_of_few_test(counts: Mapping[str, int]) -> None:
    """Warn of classes of uncertain accuracy; `counts` are test galaxies by class."""
    if few := {name: count for name, count in counts.items() if count < FEW_TEST}:
        what = (
            "curate: too few test galaxies to evaluate a class: %s; with fewer than %d, the standard error of its accuracy "
            "may exceed %g (.5/√n); add galaxies, merge classes, or enlarge the test part of curate.split"
        )
        log.warning(what, _show(few), FEW_TEST, MAX_STANDARD_ERROR)


def warn_of_few_training(counts: Mapping[str, int], images_per_class: int, stage: str) -> None:
    """Warn of classes with fewer training galaxies than distilled images."""
    if few := {name: count for name, count in counts.items() if 0 < count < images_per_class}:
        what = (
            "%s: fewer training galaxies than distill.images_per_class=%d: %s; initial images and baselines repeat them; "
            "add galaxies, merge classes, or lower it"
        )
        log.warning(what, stage, images_per_class, _show(few))


def _show(counts: Mapping[str, int]) -> str:
    """Return names with their counts, the smallest first."""
    ordered = sorted(counts.items(), key=lambda entry: entry[1])
    shown = ", ".join(f"{name} ({count})" for name, count in ordered[:SHOWN])
    return shown if len(ordered) <= SHOWN else f"{shown} and {len(ordered) - SHOWN} more"
