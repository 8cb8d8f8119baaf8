"""Measure the accuracy of whole runs over seeds: the tables of docs/results.md.

    RAYDISTILL_DATA=FOLDER python benchmarks/accuracy.py gz2_kaggle5 gz2_kaggle5_ipc10 [--seeds 3] [--set KEY=VALUE] [--parallel 2] \
        [--output runs]

Runs `raydistill run` for each config and distilling seed, on the same curated set and experts.
`--parallel` sets are distilled at once, each on its share of the cores: small steps gain little from a second thread.
The first seed also trains all baselines, other networks, and networks on all the data.
Fresh networks are evaluated by balanced accuracy on test galaxies, under each protocol of the config.
A stopped run resumes when the command is run again. The rows of `benchmarks/results/accuracy.json` are updated and printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any, get_args

from running import ROOT, balanced_accuracy, deviation, distill_sets, prepare_experts, run_all_stages, share_of_cores

from raydistill.config import Baseline

RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
SMALL_SETS = get_args(Baseline)  # with as many images as the distilled set
WITH_ALL = [f"evaluate.baselines=[{', '.join(SMALL_SETS)}]"]
ONLY_DISTILLED = ["evaluate.baselines=[]", "evaluate.full_data_networks=0", "evaluate.other_networks=[]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--output", default="runs")
    args = parser.parse_args()
    common = {config: [config, f"output={args.output}", *args.overrides] for config in args.configs}
    _distill(args, common)
    rows: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for config in args.configs:
        reports = []
        for seed in range(args.seeds):
            reports.append(
                run_all_stages([*common[config], f"distill.seed={seed}", *(ONLY_DISTILLED if seed else WITH_ALL)])
            )
            print(f"{config}, seed {seed}: {balanced_accuracy(reports[-1], 'distilled'):.3f}", flush=True)
        rows[" ".join([config, *args.overrides])] = _row(reports)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    _print_table(rows)


def _distill(args: argparse.Namespace, common: dict[str, list[str]]) -> None:
    """Distil all sets, several at once."""
    for arguments in common.values():
        prepare_experts(arguments)
    sets = [
        [*arguments, f"distill.seed={seed}", share_of_cores(args.parallel)]
        for arguments in common.values()
        for seed in range(args.seeds)
    ]
    for arguments, folder in zip(sets, distill_sets(sets, args.parallel), strict=True):
        print(f"{arguments[0]}, {arguments[-2]}: {folder}", flush=True)


def _row(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the accuracies by protocol: all seeds of the distilled sets, the first seed of the rest."""
    first = reports[0]
    distilled = [_by_protocol(report, "distilled") for report in reports]
    last = [_by_protocol(report, "distilled_last") for report in reports if "distilled_last" in report]
    return {
        "distilled": {protocol: [seed[protocol] for seed in distilled] for protocol in distilled[0]},
        "distilled_last": {protocol: [seed[protocol] for seed in last] for protocol in distilled[0]},
        **{name: _by_protocol(first, name) for name in SMALL_SETS if name in first},
        **{name: balanced_accuracy(first, name) for name in ("experts", "full_data") if name in first},
        "other_networks": {
            f"{pair['protocol']}, {pair['network']}": pair["balanced_accuracy"]["mean"]
            for pair in first["distilled"]["all"]
            if pair["network"] != _architecture(first)
        },
    }


def _by_protocol(report: dict[str, Any], training_set: str) -> dict[str, float]:
    pairs = [pair for pair in report[training_set]["all"] if pair["network"] == _architecture(report)]
    return {pair["protocol"]: pair["balanced_accuracy"]["mean"] for pair in pairs}


def _architecture(report: dict[str, Any]) -> str:
    """Return the architecture of the experts."""
    return str(report["experts"]["all"][0]["network"])


def _print_table(rows: dict[str, Any]) -> None:
    print(
        "\n| config | protocol | distilled, mean and deviation of the seeds | random real | class mean | best of equal size | experts "
        "| all data | of the experts | of all data |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for config, row in rows.items():
        for protocol, seeds in row["distilled"].items():
            mean = statistics.mean(seeds)
            baselines = {name: row[name][protocol] for name in SMALL_SETS if name in row}
            best = max(baselines, key=lambda name: baselines[name])
            cells = [
                f"`{config}`",
                protocol,
                f"**{mean:.3f}** ± {deviation(seeds):.3f} ({len(seeds)})",
                *(f"{baselines[name]:.3f}" if name in baselines else "" for name in ("random_real", "class_mean")),
                f"{baselines[best]:.3f} ({best})",
                *(f"{row[name]:.3f}" if name in row else "" for name in ("experts", "full_data")),
                *(f"{mean / row[name]:.0%}" if name in row else "" for name in ("experts", "full_data")),
            ]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
