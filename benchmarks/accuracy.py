"""Measure whole runs over seeds: the first table of docs/results-one-split.md.

    RAYDISTILL_DATA=FOLDER python benchmarks/accuracy.py gz2_kaggle5 gz2_kaggle5_ipc10 [--seeds 3] [--set KEY=VALUE] [--parallel 2] \
        [--output runs] [--save-sets FOLDER] [--gpus FRACTION]
    RAYDISTILL_DATA=FOLDER python benchmarks/accuracy.py --sets FOLDER [--gpus FRACTION]

Runs `raydistill run` for each config and distilling seed, on the same curated set and experts.
`--save-sets` copies the distilled sets of each row into a folder. `--sets` measures every row of
such a folder again from its images alone: it distils nothing and needs no experts. `--parallel` sets
are distilled at once, each on its share of the cores: small steps gain little from a second thread.
With `--gpus`, each worker and distilling process takes that fraction of a GPU.
The first seed also trains all baselines, other networks, and networks on all the data.

Fresh networks are evaluated by balanced accuracy on test galaxies, under each protocol of the
config. A further row has for each training set the protocol that is better on validation galaxies.
A stopped run resumes when the command is run again. The rows of `benchmarks/results/accuracy.json`
are updated and printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

from running import (
    ROOT,
    balanced_accuracy,
    deviation,
    distill_sets,
    prepare_experts,
    run_stage,
    share_of_cores,
)

from raydistill.config import Baseline, load
from raydistill.stages.evaluate.artifact import EvaluationReport

RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
ROW_FILE = "row.json"
CHOSEN = "better on validation"
WITHOUT_PROTOCOL = ("experts", "full_data")
SMALL_SETS = get_args(Baseline)  # with as many images as the distilled set
MATCHED_SETS = ("dm", "ncfm")  # their images are no real ones
WITH_ALL = [f"evaluate.baselines=[{', '.join(SMALL_SETS)}]"]
ONLY_DISTILLED = ["evaluate.baselines=[]", "evaluate.full_data_networks=0", "evaluate.other_networks=[]"]


class Row(NamedTuple):
    """A row of the table: a config and the overrides of `--set`."""

    config: str
    overrides: list[str]

    @property
    def name(self) -> str:
        return " ".join([self.config, *self.overrides])

    def arguments(self, given: argparse.Namespace) -> list[str]:
        """Return the arguments of the row's commands."""
        gpus = [f"resources.gpus={given.gpus}", f"resources.distill_gpus={given.gpus}"] if given.gpus else []
        return [self.config, f"output={given.output}", *gpus, *self.overrides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--output", default="runs")
    parser.add_argument("--gpus", type=float, default=0.0, metavar="FRACTION")
    parser.add_argument("--save-sets", type=Path, metavar="FOLDER")
    parser.add_argument("--sets", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if bool(args.configs) == bool(args.sets):
        parser.error("name configs, or a folder of distilled sets with --sets")
    if args.sets and (args.overrides or args.save_sets):
        parser.error("--sets measures the rows of its folder; leave out --set and --save-sets")
    if args.sets:
        named = [(row, [f"distilled={path.resolve()}" for path in sets]) for row, sets in _saved_rows(args.sets)]
    else:
        named = [
            (Row(config, args.overrides), [f"distill.seed={seed}" for seed in range(args.seeds)])
            for config in args.configs
        ]
        _distill([row for row, _ in named], args)
    rows: dict[str, Any] = {}
    for row, sets in named:
        accuracies = _accuracies(row, _evaluate(row, sets, args))
        rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}  # another command may have added rows
        rows[row.name] = rows.get(row.name, {}) | accuracies  # saved sets lack their experts
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print_table(rows)


def _distill(rows: list[Row], args: argparse.Namespace) -> None:
    """Distil all sets, several at once."""
    common = [row.arguments(args) for row in rows]
    for arguments in common:
        prepare_experts(arguments)
    sets = [
        [*arguments, f"distill.seed={seed}", share_of_cores(args.parallel)]
        for arguments in common
        for seed in range(args.seeds)
    ]
    owners = [(row, seed) for row in rows for seed in range(args.seeds)]
    for (row, seed), folder in zip(owners, distill_sets(sets, args.parallel), strict=True):
        print(f"{row.name}, seed {seed}: {folder}", flush=True)
        if args.save_sets:
            _save(row, seed, folder, args.save_sets)


def _evaluate(row: Row, sets: list[str], args: argparse.Namespace) -> list[EvaluationReport]:
    """Run the remaining stages for each set, and open the reports.

    sets: the override that names each set, `distill.seed` or `distilled`.
    """
    reports = []
    for seed, chosen in enumerate(sets):
        evaluated = ONLY_DISTILLED if seed else WITH_ALL
        reports.append(EvaluationReport.open(str(run_stage("run", [*row.arguments(args), chosen, *evaluated]))))
        print(f"{row.name}, seed {seed}: {balanced_accuracy(reports[-1].summary, 'distilled'):.3f}", flush=True)
    return reports


def _save(row: Row, seed: int, distilled: Path, folder: Path) -> None:
    """Copy a distilled set to FOLDER/ROW/SEED, and write which row it belongs to."""
    own = folder / row.name.replace("/", "_").replace(" ", "_")
    shutil.copytree(distilled, own / str(seed), dirs_exist_ok=True)
    (own / ROW_FILE).write_text(json.dumps(row._asdict(), indent=1) + "\n")


def _saved_rows(folder: Path) -> Iterator[tuple[Row, list[Path]]]:
    """Yield the rows of a folder and their sets; SystemExit if there are none."""
    found = sorted(folder.glob(f"*/{ROW_FILE}"))
    if not found:
        raise SystemExit(f"{folder}: no distilled sets; write some with --save-sets")
    for file in found:
        sets = sorted((path for path in file.parent.iterdir() if path.is_dir()), key=lambda path: int(path.name))
        yield Row(**json.loads(file.read_text())), sets


def _accuracies(row: Row, reports: list[EvaluationReport]) -> dict[str, Any]:
    """Return accuracies by protocol: every seed if distilled, else the first seed."""
    network = load(row.config, row.overrides).network.name
    first = reports[0]
    distilled = [_by_protocol(report, "distilled", network) for report in reports]
    last = [_by_protocol(report, "distilled_last", network) for report in reports]
    return {
        "distilled": {protocol: [seed[protocol] for seed in distilled] for protocol in distilled[0]},
        "distilled_last": {protocol: [seed[protocol] for seed in last if seed] for protocol in distilled[0]},
        **{name: _by_protocol(first, name, network) for name in SMALL_SETS if name in first.summary},
        **{name: balanced_accuracy(first.summary, name) for name in WITHOUT_PROTOCOL if name in first.summary},
        "other_networks": {
            f"{pair['protocol']}, {pair['network']}": pair["balanced_accuracy"]["mean"]
            for pair in first.summary["distilled"]["all"]
            if pair["network"] != network
        },
    }


def _by_protocol(report: EvaluationReport, training_set: str, network: str) -> dict[str, float]:
    """Return the accuracy of each protocol, and of the best on validation galaxies."""
    pairs = report.summary[training_set]["all"] if training_set in report.summary else []
    means = {pair["protocol"]: pair["balanced_accuracy"]["mean"] for pair in pairs if pair["network"] == network}
    return means | {CHOSEN: report.chosen(network)[training_set]["balanced_accuracy"]["mean"]} if means else {}


def print_table(rows: dict[str, Any]) -> None:
    """Print a line for each row and protocol; cells without a result are empty."""
    titles = (
        "config", "protocol", "distilled, mean and deviation of the seeds", "random real", "class mean",
        "best of real images and means", "dm", "ncfm", "experts", "all data", "of the experts", "of all data",
    )  # fmt: skip
    print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for config, row in rows.items():
        for protocol, seeds in row["distilled"].items():
            mean = statistics.mean(seeds)
            baselines = {name: row[name][protocol] for name in SMALL_SETS if protocol in row.get(name, {})}
            real = {name: value for name, value in baselines.items() if name not in MATCHED_SETS}
            best = max(real, key=lambda name: real[name], default=None)
            cells = [
                f"`{config}`",
                protocol,
                f"**{mean:.3f}** ± {deviation(seeds):.3f} ({len(seeds)})",
                *(f"{baselines[name]:.3f}" if name in baselines else "" for name in ("random_real", "class_mean")),
                f"{real[best]:.3f} ({best})" if best else "",
                *(f"{baselines[name]:.3f}" if name in baselines else "" for name in MATCHED_SETS),
                *(f"{row[name]:.3f}" if name in row else "" for name in WITHOUT_PROTOCOL),
                *(f"{mean / row[name]:.0%}" if name in row else "" for name in WITHOUT_PROTOCOL),
            ]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
