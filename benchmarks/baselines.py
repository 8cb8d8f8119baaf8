"""Compare trajectory matching with every baseline, on splits of several surveys.

    RAYDISTILL_DATA=FOLDER python benchmarks/baselines.py CONFIG ... [--splits 3] [--with key=value ...] [--draw]

Each CONFIG is a survey and a number of images per class. All sets get the labels, the augmentation and
the search for a learning rate of the distilled one; networks have width 32. Matching of gradients has
its paper's settings for this number of images, and fewer iterations. Each finished split goes into
`benchmarks/results/baselines.json`, so a stopped run goes on when the command is run again, and
configs may be run one by one. Prints a table for each config: mean over the splits with its 95 %
interval (Student's t, corrected as in `splits.py`), the distilled set minus the other one, and the
mean processor time to make the set, that of the experts beside it where a method needs them. `--draw` draws accuracy against this time
from the file.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import defaultdict
from typing import Any

from matplotlib.figure import Figure
from running import ROOT, shown
from splits import chosen_figures, compared, difference, report_of, test_share

from raydistill import load_config
from raydistill.exporting.release import changes_of
from raydistill.log import duration
from raydistill.text import shown_name, text_table

RESULTS, PICTURE = ROOT / "benchmarks" / "results" / "baselines.json", ROOT / "docs" / "images" / "baselines.png"
BASELINES = (
    "random_real", "random_soft", "class_mean", "cluster_mean", "k_center", "herding", "moderate", "el2n", "el2n_window",
    "forgetting", "rded", "dm", "ncfm", "dsa", "idc",
)  # fmt: skip
COMMON = (
    "network.width=32", "distill.iterations=150", "distill.validate_every=75", "evaluate.other_networks=[]",
    "evaluate.full_data_networks=0", "evaluate.dm.iterations=500", "evaluate.ncfm.iterations=500",
    "evaluate.dsa.iterations=300", "evaluate.idc.iterations=300", "evaluate.idc.steps_per_network=30",
    f"evaluate.baselines=[{','.join(BASELINES)}]",
)  # fmt: skip
SEVERAL = (
    "evaluate.dsa.steps_per_network=10",
    "evaluate.dsa.network_epochs=50",
)  # images per class: DSA trains networks
BY_EXPERTS = ("distilled", "distilled_last", "random_soft", "moderate", "el2n", "el2n_window", "forgetting", "rded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--with", dest="overrides", nargs="+", default=[], metavar="key=value")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for config in options.configs:
        setting = " ".join([config, *changes_of(options.overrides)])
        splits = results.setdefault(setting, {})
        for split in range(options.splits):
            if str(split) not in splits:
                splits[str(split)] = measured(config, [*COMMON, *options.overrides], split)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        rows = table(list(splits.values()), test_share(config, *options.overrides))
        print(text_table(f"{setting}: {len(splits)} splits", rows))
    if options.draw:
        draw(results)


def measured(config: str, overrides: list[str], split: int) -> dict[str, dict[str, float]]:
    """Return balanced accuracy and processor time [s] of each training set on a split."""
    loaded = load_config(config, *overrides)
    if loaded.distill.images_per_class > 1:
        overrides = [*SEVERAL, *overrides]
    report = report_of(config, overrides, split)
    costs = report.cpu_seconds
    return {
        name: {
            "accuracy": mean,
            "cpu_seconds": costs.get(name.removesuffix("_last"), 0.0),  # choosing rows takes no time worth measuring
            "experts": costs.get("experts", 0.0),
        }
        for name, (mean, _) in chosen_figures(report, loaded.network.name).items()
    }


def table(splits: list[dict[str, dict[str, Any]]], shared: float) -> list[tuple[str, ...]]:
    """Return the rows of a config, the best set first."""
    rows: list[tuple[str, ...]] = [
        ("trained on", "balanced accuracy", "distilled minus it", "made in", "and its experts")
    ]
    for row in compared([{name: of["accuracy"] for name, of in split.items()} for split in splits], shared):
        made, experts = (
            duration(statistics.mean(split[row.name][which] for split in splits))
            for which in ("cpu_seconds", "experts")
        )
        by_experts = experts if row.name in BY_EXPERTS else ""
        rows.append((shown_name(row.name), shown(row.accuracy), difference(row), made, by_experts))
    return rows


def draw(results: dict[str, dict[str, dict[str, dict[str, float]]]]) -> None:
    """Draw accuracy against processor time, a panel for each config, two in a row."""
    rows = math.ceil(len(results) / 2)
    figure = Figure(figsize=(11, 4 * rows), layout="constrained")
    for axes, (config, splits) in zip(figure.subplots(rows, 2, squeeze=False).flat, results.items(), strict=False):
        names_of = defaultdict(list)  # k-centre and herding choose the same single image
        for name in next(iter(splits.values())):
            of = [split[name] for split in splits.values() if name in split]
            seconds = statistics.mean(one["cpu_seconds"] + (one["experts"] if name in BY_EXPERTS else 0) for one in of)
            names_of[statistics.mean(one["accuracy"] for one in of), max(seconds, 0.5)].append(name)
        for (accuracy, seconds), names in names_of.items():
            left = seconds > 1 and any(t > seconds and abs(level - accuracy) < 0.012 for level, t in names_of)
            above = [level - accuracy for level, t in names_of if t == seconds and 0 < abs(level - accuracy) < 0.012]
            place = (-5 if left else 5, (-8 if above[0] > 0 else 4) if above else -2)
            axes.plot(seconds, accuracy, "o", color="C1" if "distilled" in names else "C0")
            axes.annotate(
                ", ".join(map(shown_name, names)), (seconds, accuracy), xytext=place,
                textcoords="offset points", fontsize=8, ha="right" if left else "left",
            )  # fmt: skip
        axes.set(xscale="log", xlabel="processor time [s], with experts", ylabel="balanced accuracy", title=config)
        axes.set_xlim(right=3 * axes.get_xlim()[1])
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
