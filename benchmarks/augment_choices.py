"""Compare rules by which `raydistill augment` may choose its settings.

    RAYDISTILL_DATA=FOLDER python benchmarks/augment_choices.py CONFIG [key=value ...]

All rules use the same networks, except those that only one of them tries:

- `few labels` is the rule of the command: each seed chooses for itself, with as many validation
  labels of a class as it has labels to train with.
- `all labels`: the same with all validation labels.
- `all labels, seed 0`: all seeds have what seed 0 chooses with all validation labels.
- `fixed`: no choice; the ratio is 1.

The first table has the balanced accuracy on test galaxies. In the second, accuracies are means over
the methods: on all validation galaxies, and on test galaxies with the difference to `few labels`
(95 % interval over seeds and test galaxies). Leave out the filter: augment.min_recognised=[null].
`raydistill augment` with the same words finds the trained networks afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

import raydistill as rd
from raydistill.learning import metrics
from raydistill.pipeline.plan import Plan
from raydistill.runtime.stages import stage_context
from raydistill.stages.augment.fits import MIXED, Fit
from raydistill.stages.augment.inputs import load_split, open_images
from raydistill.stages.augment.stage import Chooser, Search, build_runner, plan_searches
from raydistill.stages.augment.worker import FitRunner, TrainedFit
from raydistill.statistics.crossed import crossed_mean
from raydistill.text import shown_name, text_table
from raydistill.tracking.tracker import Run

FEW = "few labels"


class AllLabels(Chooser):
    """Choose with all validation labels."""

    def score(self, fit: Fit, result: TrainedFit) -> float:
        return super().score(replace(fit, shots=None), result)


def choices(runner: FitRunner, searches: list[Search], lrs: tuple[float, ...]) -> dict[str, dict[Search, Fit]]:
    """Return what each rule chooses."""
    rules = {FEW: Chooser(runner, runner.options), "all labels": AllLabels(runner, runner.options)}
    chosen = {name: rule.choose(searches) for name, rule in rules.items()}
    first = {(s.method, s.source, s.shots): fit for s, fit in chosen["all labels"].items() if s.seed == 0}
    chosen["all labels, seed 0"] = {
        s: replace(first[s.method, s.source, s.shots], seed=s.seed) for s in searches
    }  # fmt: skip
    for lr in lrs:
        chosen[f"fixed, rate {lr:g}"] = {s: s.fit(lr, 1.0 if s.method in MIXED else None) for s in searches}
    for name, rule in rules.items():
        print(f"{name}: {len({runner.key(fit) for fit in [*rule.tried, *chosen[name].values()]})} networks")
    return chosen


def print_tables(runner: FitRunner, chosen: Mapping[str, Mapping[Search, Fit]], plan: Plan) -> None:
    fits = list(dict.fromkeys(fit for by_search in chosen.values() for fit in by_search.values()))
    trained = dict(zip(fits, runner.train(fits, "training"), strict=True))
    test = load_split(open_images(plan).curated, "test")
    tested = {fit: predicted[-1] == test.labels_N.numpy() for fit, predicted in runner.test(fits, test).items()}
    labels_N, names, shots = test.labels_N.numpy(), list(chosen), runner.options.shots
    subjects = list(dict.fromkeys((s.method, s.source, s.shots) for s in chosen[FEW]))

    def right(rule: str, subject: tuple[str, str, int | None]) -> np.ndarray:
        """Return whether each seed's network is right about each test galaxy, [S, N]."""
        return np.array(
            [tested[fit] for s, fit in chosen[rule].items() if (s.method, s.source, s.shots) == subject], float
        )

    rows = [
        (
            shown_name(subject[0]),
            subject[1],
            str(subject[2]),
            *(f"{balanced(right(name, subject), labels_N):.3f}" for name in names),
        )
        for subject in subjects
    ]
    print(text_table("Balanced accuracy on test galaxies", [("method", "added", "labels", *names), *rows]))
    rows = []
    for count in shots:
        means = {name: np.mean([right(name, s) for s in subjects if s[2] == count], axis=0) for name in names}
        for name in names:
            validation = np.mean([
                metrics.balanced_accuracy(runner.confusion(trained[fit].predicted_RV[-1], runner.labels_V))
                for search, fit in chosen[name].items() if search.shots == count
            ])  # fmt: skip
            result = crossed_mean(means[name] - means[FEW], labels_N)
            rows.append((str(count), name, f"{validation:.3f}", f"{balanced(means[name], labels_N):.3f}",
                         "" if name == FEW else f"{result.mean:+.3f} [{result.low:+.3f}, {result.high:+.3f}]"))  # fmt: skip
    print(text_table("Means over the methods", [("labels", "rule", "validation", "test", f"minus {FEW}"), *rows]))


def balanced(right_SN: np.ndarray, labels_N: np.ndarray) -> float:
    return float(np.mean([right_SN[:, labels_N == label].mean() for label in np.unique(labels_N)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    options, overrides = parser.parse_known_args()
    rd.setup_logging()
    plan = Plan(rd.load_config(options.config, *overrides))
    images, augment = open_images(plan), plan.config.augment
    searches = plan_searches(augment, list(images.sources))
    with stage_context(plan):
        runner = build_runner(plan, images, Run(), searches)
        print_tables(runner, choices(runner, searches, augment.lr_grid), plan)


if __name__ == "__main__":
    main()
