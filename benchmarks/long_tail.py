"""Compare equal numbers of images a class with numbers by frequency.

    RAYDISTILL_DATA=FOLDER python benchmarks/long_tail.py gz2_kaggle5_ipc10 [--splits 3] [key=value ...]

The survey is as it is: 1,340 spirals and 55 cigars. Both sets have the same number of images, and so
have their baselines. Prints balanced accuracy over the splits of the galaxies with its 95 % interval
(Student's t, corrected as in `splits.py`), by the protocol that is better on validation galaxies; and
completeness and purity of each class by the first protocol. A stopped run resumes when the command is run again.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import product

import numpy as np
from running import shown
from splits import chosen_figures, report_of, test_share

from raydistill import load_config
from raydistill.stages.evaluate.artifact import EvaluationReport
from raydistill.statistics.intervals import mean_interval, paired_difference
from raydistill.text import shown_name, text_table

SHARES = ("equal", "frequency")
SETS = ("distilled", "random_real", "dm")
FIGURES = ("completeness", "purity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--splits", type=int, default=3)
    options, overrides = parser.parse_known_args()
    words = [f"evaluate.baselines=[{','.join(SETS[1:])}]", *overrides]
    network, shared = load_config(options.config, *words).network.name, test_share(options.config, *words)
    reports = {
        share: [
            report_of(options.config, [*words, f"distill.allocation={share}"], split) for split in range(options.splits)
        ]
        for share in SHARES
    }
    rows: list[tuple[str, ...]] = [("trained on", *SHARES, "frequency minus equal")]
    for name in SETS:
        equal, frequency = (
            np.array([chosen_figures(report, network)[name][0] for report in reports[share]]) for share in SHARES
        )
        cells = [shown(mean_interval(one, shared)) for one in (equal, frequency)]
        rows.append((shown_name(name), *cells, shown(paired_difference(frequency, equal, shared), "+")))
    print(text_table(f"{options.config}: balanced accuracy, {options.splits} splits", rows))
    classes = list(reports["equal"][0].summary["distilled"]["per_class"])
    rows = [("class", "set", *(f"{figure}, {share}" for figure in FIGURES for share in SHARES))]
    for label, name in product(classes, SETS[:2]):
        cells = [mean_of(reports[share], name, label, figure) for figure in FIGURES for share in SHARES]
        rows.append((label, shown_name(name), *cells))
    print(text_table("Each class, mean over the splits", rows))


def mean_of(reports: list[EvaluationReport], name: str, label: str, figure: str) -> str:
    """Return a class's figure, mean over the reports in which it is known."""
    values = [report.summary[name]["per_class"][label][figure]["mean"] for report in reports]
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.3f}" if known else "none"


if __name__ == "__main__":
    main()
