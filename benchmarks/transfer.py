"""Measure whether sets for heads suit encoders that they were not made for.

    RAYDISTILL_DATA=FOLDER python benchmarks/transfer.py CONFIG [key=value ...] [--scratch] [--numbers 1 2 4 8]

Encoders of the config's survey differ in their seed, and every second one in its form
(`pretrain.members`). A set of one image a class is distilled for the first 1, 2, 4 and 8 of them,
and tested with linear heads on the features of three encoders that no set was made for: one of
another loss (VICReg), one of another form (an AlexNet), and an expert, which knows the labels. Real images of equal number are tested
beside it: those nearest to the mean feature of their class, and class means. `own` is the mean over
the encoders that the set was made for. Differences have 95 % intervals over test galaxies.
`--scratch` also trains networks from scratch on the smallest and on the largest set, on class means,
and on the galaxies nearest to the mean features of all its encoders.
A stopped run resumes when the command is run again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from running import run_stage

from raydistill import load_config
from raydistill.learning.normalise import Normalisation
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.evaluate.artifact import HEAD, UNSEEN, EvaluationReport
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.statistics.resampling import difference
from raydistill.text import shown_name, text_table

FORMS = ("{kind: pooled, widths: [16, 32, 64], groups: 8}", "{kind: convnet, depth: 3, width: 32}")
UNSEEN_ENCODERS = {
    "another loss": ("pretrain.training.loss=vicreg", "pretrain.seed=100", f"pretrain.network={FORMS[0]}"),
    "another form": ("pretrain.seed=101", "pretrain.network={kind: alexnet, width: 32}"),
}
EXPERT = "{kind: convnet, depth: 3, width: 32}"
NETWORKS = "[{kind: convnet, depth: 3, width: 32, norm: none}, {kind: resnet18}, {kind: vit}]"
REAL = ("nearest_feature", "class_mean")
NEAREST = [
    "distill.space={kind: pixels}",
    "distill.iterations=1",
    "distill.validate_every=1",
    "distill.image_step.lr=1e-9",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--numbers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--scratch", action="store_true")
    options, overrides = parser.parse_known_args()
    common = [options.config, "extends=parts/heads", *overrides]
    curated = str(run_stage("run", [*common, "--to", "curate"]))
    unseen = {name: run_stage("pretrain", [*common, *words]) for name, words in UNSEEN_ENCODERS.items()}
    unseen["an expert"] = supervised(common, CuratedSet.open(curated))
    head = ["encoders", "test", "distilled", *(f"minus {shown_name(name)}" for name in REAL), "all galaxies"]
    rows = []
    for number in options.numbers:
        members = ", ".join(FORMS[index % len(FORMS)] for index in range(1, number))
        words = [*common, f"pretrain.network={FORMS[0]}", f"pretrain.members=[{members}]"]
        words += ["distill.objective.encoders=[pretrain]"]
        words += [f"evaluate.encoders=[{', '.join(map(str, unseen.values()))}]", "evaluate.other_networks=[]"]
        words += ["evaluate.baselines=[class_mean]", "evaluate.full_data_networks=0"]
        if options.scratch and number in (min(options.numbers), max(options.numbers)):
            words += ["evaluate.from_scratch=true", f"evaluate.other_networks={NETWORKS}", "evaluate.num_networks=3"]
        run_stage("pretrain", words)
        reports = []
        for more in ([], NEAREST) if "evaluate.from_scratch=true" in words else ([],):  # `init: herding` starts there
            run_stage("distill", [*words, *more])
            report = EvaluationReport.open(str(run_stage("evaluate", [*words, *more])), verify=False)
            reports.append(report.runs.to_pylist())
        labels_N = CuratedSet.open(curated).load("test").labels_N.numpy()
        runs = reports[0]
        for row in reports[-1] if len(reports) > 1 else ():
            if row["subject"] == "distilled" and row["network"] not in (HEAD, UNSEEN):
                runs.append(row | {"subject": "nearest_feature"})
        rows += [(str(number), *row) for row in tested(runs, labels_N, list(unseen))]
    print(text_table(f"{load_config(options.config).name}: heads and networks on test galaxies", [head, *rows]))


def supervised(common: list[str], curated: CuratedSet) -> Path:
    """Return the folder of an encoder with the parameters of an expert."""
    store = TrajectoryStore.open(str(run_stage("experts", [*common, f"network={EXPERT}", "experts.num_experts=1"])))
    config = load_config(*common)
    path = Path(config.output, f"{config.name}-expert.safetensors").absolute()
    named = store.layout.split(store.ends()[0])
    safetensors.torch.save_file({name: values.contiguous() for name, values in named.items()}, path)
    assert isinstance(curated.normalisation, Normalisation)
    mean, std = (", ".join(map(str, values)) for values in curated.normalisation)
    source = f"{{kind: weights, weights: {path}, mean: [{mean}], std: [{std}]}}"
    return run_stage("pretrain", [*common, f"pretrain.network={EXPERT}", f"pretrain.source={source}"])


def tested(rows: list[dict[str, Any]], labels_N: np.ndarray, unseen: list[str]) -> Iterable[tuple[str, ...]]:
    """Yield a row for each kind of test: own encoders, unseen ones, networks."""
    groups = {"own": [row for row in rows if row["network"] == HEAD]}
    for number, name in enumerate(unseen):
        groups[name] = [row for row in rows if row["network"] == UNSEEN and row["seed"] == number]
    for network in sorted({row["network"] for row in rows} - {HEAD, UNSEEN}):
        groups[network] = _best_protocol([row for row in rows if row["network"] == network])
    for name, group in groups.items():
        right = {subject: _right(group, subject, labels_N) for subject in ("distilled", *REAL, "full_data_head")}
        cells = [f"{_balanced(right['distilled'], labels_N):.3f}"]
        for subject in REAL:
            of = difference(right["distilled"], right[subject], labels_N, seed=0)
            cells.append(f"{of.value:+.3f} [{of.low:.3f}, {of.high:.3f}]")
        whole = right["full_data_head"]
        yield name, *cells, f"{_balanced(whole, labels_N):.3f}" if len(whole) else ""


def _best_protocol(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with each subject's protocol that is better on validation."""

    def score(subject: str, protocol: str) -> float:
        values = [row["validation"] for row in rows if (row["subject"], row["protocol"]) == (subject, protocol)]
        return float(np.mean([-1.0 if value is None else value for value in values]))

    best = {
        subject: max({row["protocol"] for row in rows if row["subject"] == subject}, key=lambda p: score(subject, p))
        for subject in {row["subject"] for row in rows}
    }
    return [row for row in rows if row["protocol"] == best[row["subject"]]]


def _right(rows: list[dict[str, Any]], subject: str, labels_N: np.ndarray) -> np.ndarray:
    """Return which test galaxies each network classifies correctly, [S, N]."""
    chosen = [np.array(row["predicted"]) == labels_N for row in rows if row["subject"] == subject]
    return np.stack(chosen) if chosen else np.empty((0, len(labels_N)), bool)


def _balanced(right_SN: np.ndarray, labels_N: np.ndarray) -> float:
    return float(np.mean([right_SN[:, labels_N == label].mean() for label in np.unique(labels_N)]))


if __name__ == "__main__":
    main()
