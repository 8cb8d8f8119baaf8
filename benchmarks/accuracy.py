"""What whole runs of configs reach, over seeds: the README's table.

    RAYDISTILL_DATA=FOLDER python benchmarks/accuracy.py gz2_kaggle5 gz2_kaggle5_ipc10 [--seeds 3] [--set KEY=VALUE] [--parallel 2] \
        [--output runs]

`raydistill run` of each config and distilling seed, on the same curated set and experts; `--parallel` sets are distilled at once, each on
its share of the cores (small steps gain little from a second thread). Baselines, other networks and networks on all the data are
trained beside the first seed only. Fresh networks judge by balanced accuracy on test galaxies. A stopped run goes on where it was. Rows go
to `benchmarks/results/accuracy.json`, where those of other configs stay, and all are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

from running import ROOT, balanced_accuracy, deviation, evaluated, made, share_of_cores, with_experts

from raydistill.config.tree import Baseline

RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
SMALL_SETS = get_args(Baseline)  # of as many images as the distilled set
ONLY_DISTILLED = ["evaluate.baselines=[]", "evaluate.full_data_networks=0", "evaluate.other_networks=[]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--output", default="runs")
    given = parser.parse_args()
    common = {config: [config, f"output={given.output}", *given.overrides] for config in given.configs}
    _distill(given, common)
    rows: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for config in given.configs:
        reports = []
        for seed in range(given.seeds):
            reports.append(evaluated([*common[config], f"distill.seed={seed}", *(ONLY_DISTILLED if seed else [])]))
            print(f"{config}, seed {seed}: {balanced_accuracy(reports[-1], 'distilled'):.3f}", flush=True)
        rows[config] = _row(reports) | {"overrides": given.overrides}
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    _show(rows)


def _distill(given: argparse.Namespace, common: dict[str, list[str]]) -> None:
    """All sets, several at once."""
    for words in common.values():
        with_experts(words)
    with ThreadPoolExecutor(given.parallel) as pool:
        sets = [
            [*words, f"distill.seed={seed}", share_of_cores(given.parallel)]
            for words in common.values()
            for seed in range(given.seeds)
        ]
        for words, folder in zip(sets, pool.map(lambda words: made("distill", words), sets), strict=True):
            print(f"{words[0]}, {words[-2]}: {folder}", flush=True)


def _row(reports: list[dict[str, Any]]) -> dict[str, Any]:
    first = reports[0]
    return {
        "distilled": [balanced_accuracy(report, "distilled") for report in reports],  # of each seed
        "protocols": [_by_protocol(report) for report in reports],
        "last": [balanced_accuracy(report, "distilled_last") for report in reports if "distilled_last" in report],
        **{name: first[name]["balanced_accuracy"] for name in (*SMALL_SETS, "experts", "full_data") if name in first},
    }


def _by_protocol(report: dict[str, Any]) -> dict[str, float]:
    """Of the distilled set, under each protocol and on each network."""
    return {
        f"{pair['protocol']}, {pair['network']}": pair["balanced_accuracy"]["mean"]
        for pair in report["distilled"]["all"]
    }


def _show(rows: dict[str, Any]) -> None:
    print(
        "\n| config | distilled, mean and deviation of the seeds | random real | class mean | best of equal size | experts | all data "
        "| of the experts | of all data |\n|---|---|---|---|---|---|---|---|---|"
    )
    for config, row in rows.items():
        mean = statistics.mean(row["distilled"])
        best = max((name for name in SMALL_SETS if name in row), key=lambda name: float(row[name]["mean"]))
        cells = [
            f"`{config}`",
            f"**{mean:.3f}** ± {deviation(row['distilled']):.3f} ({len(row['distilled'])})",
            *(_figure(row.get(name)) for name in ("random_real", "class_mean")),
            f"{_figure(row[best])} ({best})",
            *(_figure(row.get(name)) for name in ("experts", "full_data")),
            *(f"{mean / row[name]['mean']:.0%}" if name in row else "" for name in ("experts", "full_data")),
        ]
        print(f"| {' | '.join(cells)} |")


def _figure(of: dict[str, float] | None) -> str:
    return f"{of['mean']:.3f}" if of else ""


if __name__ == "__main__":
    main()
