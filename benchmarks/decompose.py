r"""Compare test galaxies' groups for experts with and without `experts.decompose`.

    python benchmarks/decompose.py [CONFIG] [--nuisance petro_r90] [--penalty 1] [--weight 1] \
        [--distil] [key=value ...]

Both runs share the survey, the seeds and the initial parameters, so expert k is compared with
expert k. The table has balanced accuracy, the completeness of the worst group (class and bin of
size or redshift) and the slope of p(true class) with the nuisance at fixed true class: the mean
over experts, and the paired difference with its 95 % interval (Student's t). The worst group is the
worst one of each expert. With --distil both are also distilled, and networks trained on the
prototypes are compared by `evaluate.groups`; those differences are not paired. CONFIG is simulated9
unless given.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch
from running import run_stage

from raydistill.config import GroupOptions, load
from raydistill.learning import metrics
from raydistill.learning.networks import build_network
from raydistill.learning.training import predict_logits
from raydistill.pipeline.plan import Plan
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.evaluate.measures.groups import counts, load_groups, measure
from raydistill.stages.experts.artifact import TrajectoryStore


def figures(arguments: list[str], options: GroupOptions) -> dict[str, list[float]]:
    """Return the figures of each expert on the test galaxies, by name."""
    store = TrajectoryStore.open(str(run_stage("experts", arguments)), verify=False)
    config = load(arguments[0], arguments[1:])
    curated = CuratedSet.open(Plan(config).curated.folder, verify=False)
    images, labels = curated.to_torch("test").tensors
    groups = load_groups(options, curated, torch.ones(len(labels), dtype=torch.bool))
    assert groups is not None
    network = build_network(config.network, curated.num_classes, curated.summary.image_size)
    found: dict[str, list[float]] = {}
    for theta_P in store.ends():
        probabilities = predict_logits(network, theta_P, images).detach().double().softmax(dim=1).numpy()
        predicted = torch.from_numpy(probabilities.argmax(axis=1))
        confusion = metrics.confusion(predicted, labels, curated.num_classes)
        found.setdefault("balanced accuracy", []).append(metrics.balanced_accuracy(confusion))
        for one in groups.columns:
            measured = measure(one, probabilities, groups.labels_N)
            total = counts(one, groups.labels_N, curated.num_classes)
            large = total >= options.min_galaxies
            share = np.array(measured["correct"])[large] / total[large]
            found.setdefault(f"worst group, {one.column}", []).append(float(share.min()))
            found.setdefault(f"slope, {one.column}", []).append(measured["slope"])
    return found


def show(summary: dict[str, Any]) -> str:
    return f"{summary['mean']:+.3f} ± {summary['ci95'] or float('nan'):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="simulated9")
    parser.add_argument("--nuisance", default="petro_r90")
    parser.add_argument("--penalty", type=float, default=1.0)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--columns", nargs="+", default=["petro_r90", "redshift"])
    parser.add_argument("--distil", action="store_true")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    options = GroupOptions(columns=tuple(args.columns))
    decompose = f"experts.decompose={{nuisance: {args.nuisance}, weight: {args.weight}, penalty: {args.penalty}}}"
    runs = {"plain": [args.config, *args.overrides], "decomposed": [args.config, *args.overrides, decompose]}
    for stage in ("simulate", "curate"):
        if stage == "curate" or Plan(load(args.config, args.overrides)).survey is not None:
            run_stage(stage, runs["plain"])
    plain, decomposed = (figures(arguments, options) for arguments in runs.values())
    print(f"{len(plain['balanced accuracy'])} experts{'':20}{'plain':>18}{'decomposed':>18}{'paired difference':>20}")
    for name in plain:
        pairs = metrics.summarise([after - before for before, after in zip(plain[name], decomposed[name], strict=True)])
        columns = (metrics.summarise(plain[name]), metrics.summarise(decomposed[name]), pairs)
        print(f"{name:29}" + "".join(f"{show(one):>19}" for one in columns))
    if args.distil:
        groups = f"evaluate.groups={{columns: [{', '.join(args.columns)}]}}"
        for name, arguments in runs.items():
            run_stage("distill", arguments)
            folder = run_stage("evaluate", [*arguments, groups])
            summary = json.loads((folder / "evaluation.json").read_text())["distilled"]["balanced_accuracy"]
            print(f"prototypes, {name}: balanced accuracy {show(summary)}")
            for column, entry in json.loads((folder / "groups.json").read_text())["distilled"].items():
                worst = entry["worst"]
                place = f"{worst['class']}, {column} {worst['low_edge']:.3g} to {worst['high_edge']:.3g}, {worst['galaxies']} galaxies"
                print(f"  worst group {show(worst['completeness'])} ({place}); slope {show(entry['slope'])}")


if __name__ == "__main__":
    main()
