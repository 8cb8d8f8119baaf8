r"""Compare ways to make legible prototypes: accuracy, legibility and stability.

    RAYDISTILL_DATA=FOLDER python benchmarks/legibility.py [--seeds 2] [--iterations 200] \
        [--ways aligned components head] [--side 32] [--output runs/legibility]

Data: `gz2_kaggle5` (Galaxy Zoo 2, five classes, one image per class), with a network of width 32.
The ways (`WAYS`):

published        galaxies in any orientation; each student step applies one random operation of the
                 paper to the images
one symmetry     galaxies in any orientation; each student step applies a random flip or turn to
                 each image
averaged         galaxies in any orientation; each student step averages over all eight flips and
                 turns
unaligned components
                 as one symmetry, and the images are mixtures of 200 principal components
aligned          the major axes of galaxies are level, and each student step applies a random mirror
                 to each image
components       as aligned, and the images are mixtures of 200 principal components of the galaxies
head             as components, distilled for a linear head on the experts' features

The first four share their experts, and so do the others. All sets start from random real galaxies,
and are evaluated on the same galaxies in any orientation: fresh networks train on turned versions, at the rate that is
best on validation galaxies. Measures of the pictures, with real galaxies beside them:

distance         to the nearest training galaxy of the class, any version; over the median of
                 held-out galaxies
fine structure   share of the power above half of the Nyquist frequency; over the median of the
                 class
m = 2            Fourier amplitude of bars and arms (`raydistill.morphology`); over the median of
                 the class
recognised       probability of the class by a network of another kind, trained on real galaxies and
                 never distilled from
stability        correlation of two sets' prototypes of a class, for the version of one that fits
                 best

Versions of a picture are its eight flips and turns. Distance, fine structure and m = 2 of an
aligned set are compared with aligned galaxies. A stopped run resumes when the command is run again:
every distillation is one command. Prints the table. With all ways it also writes
`benchmarks/results/legibility.json` and `docs/images/legibility.png`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from legibility_measures import Galaxies, Pictures, Reference, correlation, versions
from matplotlib.figure import Figure
from running import ROOT, deviation, prepare_experts, run_stage
from torch import Tensor

from raydistill.config import FullDataTraining, Protocol
from raydistill.learning.architectures import AlexNet, ConvNet
from raydistill.learning.augment import Augmentation
from raydistill.learning.ensemble import Ensemble
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import AnyNormalisation, one_hot
from raydistill.learning.training import evaluate, train
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.figures import as_unit_float

RESULTS = ROOT / "benchmarks" / "results" / "legibility.json"
PICTURE = ROOT / "docs" / "images" / "legibility.png"
ALIGNED, UNALIGNED = "gz2_kaggle5", "gz2_kaggle5_unaligned"
COMMON = ["network.width=32", "experts.num_experts=3"]
RECIPE = [
    "distill.init=real", "distill.student_steps=10", "distill.student_lr=0.012", "distill.expert_epochs=2",
    "distill.schedule={kind: fixed, max_start_epoch: 11}", "resources.distill_cpus=1",
]  # fmt: skip
PAPER = "distill.augmentation={operations: [color, crop, cutout, flip, scale, rotate], mode: single}"
COMPONENTS = "distill.space={kind: components}"
WAYS: dict[str, tuple[str, ...]] = {
    "published": (UNALIGNED, PAPER),
    "one symmetry": (UNALIGNED, "distill.average_over=none"),
    "averaged": (UNALIGNED, "distill.average_over=dihedral"),
    "unaligned components": (UNALIGNED, COMPONENTS, "distill.average_over=none"),
    "aligned": (ALIGNED, "distill.average_over=none"),
    "components": (ALIGNED, COMPONENTS),
    "head": (ALIGNED, COMPONENTS, "distill.objective={kind: ridge}"),
}
CLASSIFIER = AlexNet(width=32)
ANY_ANGLE = Augmentation(("rotate", "flip"), max_rotation=180.0, padding="border")
CLASSIFIER_TRAINING = FullDataTraining(epochs=15, augmentation=ANY_ANGLE)
SMALL_TRAINING = replace(Protocol().training, epochs=200, augmentation=ANY_ANGLE)
RATES = (0.003, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--side", type=int, default=32, help="pixels of a picture, a power of two")
    parser.add_argument("--output", default="runs/legibility")
    args = parser.parse_args()
    common = [*COMMON, f"curate.image_size={args.side}", f"network.depth={depth(args.side)}", f"output={args.output}"]
    for config in {WAYS[way][0] for way in args.ways}:
        prepare_experts([config, *common])
    sets: dict[str, list[DistilledSet]] = {way: [] for way in args.ways}
    for seed, way in itertools.product(range(args.seeds), args.ways):
        folder = run_stage("distill", distilling(way, seed, args.iterations, common))
        sets[way].append(DistilledSet.open(str(folder)))
    curated = {config: CuratedSet.open(str(run_stage("curate", [config, *common]))) for config in (UNALIGNED, ALIGNED)}
    torch.set_num_threads(1)
    every = args.ways == [*WAYS] and args.side == 32
    results = {"iterations": args.iterations, "networks": args.networks, **measure(sets, curated, args.networks, every)}
    if every:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(_table(results))


def depth(side: int) -> int:
    """Return the depth of a network whose last features have 4 px."""
    return side.bit_length() - 3


def distilling(way: str, seed: int, iterations: int, common: list[str]) -> list[str]:
    """Return the arguments that distil one set."""
    config, *overrides = WAYS[way]
    length = [f"distill.iterations={iterations}", f"distill.validate_every={iterations}"]
    return [config, *common, *RECIPE, *length, *overrides, f"distill.seed={seed}"]


class Evaluation:
    """Train fresh networks on turned versions of a few pictures, and score them.

    The scores are accuracies on galaxies in any orientation.
    """

    def __init__(self, curated: CuratedSet, networks: int) -> None:
        self._curated, self._networks = curated, networks
        side = curated.summary.image_size
        self._network = build_network(ConvNet(depth=depth(side), width=32), curated.num_classes, side)

    def accuracies(self, sets: list[Tensor], normalisation: AnyNormalisation) -> list[float]:
        """Return the balanced test accuracies of networks, one for each set of pictures.

        A set has one normalised picture per class. The learning rate is the one with the best mean
        accuracy on validation galaxies.
        """
        validation, test = (
            (normalisation.apply(one.images_NHWC), one.labels_N)
            for one in (self._curated.load("validation"), self._curated.load("test"))
        )
        fits = {rate: [self._fit(pictures, rate, seed) for seed, pictures in enumerate(sets)] for rate in RATES}
        scores = {
            rate: statistics.mean(self._score(theta, *validation) for theta in thetas) for rate, thetas in fits.items()
        }
        return [self._score(theta, *test) for theta in fits[max(scores, key=lambda rate: scores[rate])]]

    def of_set(self, distilled: DistilledSet) -> float:
        """Return the mean accuracy of networks trained on a distilled set."""
        chosen = distilled.selected
        return statistics.mean(self.accuracies([chosen.images_SCHW] * self._networks, chosen.normalisation))

    def of_baselines(self) -> dict[str, float]:
        """Return the mean accuracies of random real galaxies and of class means.

        The galaxies are drawn again for each network.
        """
        training, normalisation = self._curated.load("train"), self._curated.normalisation
        by_class = [
            normalisation.apply(training.images_NHWC[training.labels_N == k]) for k in range(self._curated.num_classes)
        ]
        rng = np.random.default_rng(0)
        drawn = [torch.stack([one[rng.integers(len(one))] for one in by_class]) for _ in range(self._networks)]
        means = [torch.stack([one.mean(dim=0) for one in by_class])] * self._networks
        named = {"random real galaxies": drawn, "class means": means}
        return {name: statistics.mean(self.accuracies(sets, normalisation)) for name, sets in named.items()}

    def _fit(self, pictures: Tensor, rate: float, seed: int) -> Tensor:
        start, training = initial_parameters(self._network, seed), replace(SMALL_TRAINING, lr=rate)
        targets = one_hot(torch.arange(len(pictures)), len(pictures))
        return train(self._network, start, pictures, targets, training, seed)

    def _score(self, theta: Tensor, images: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            return evaluate(self._network, theta, images, labels, self._curated.num_classes).balanced_accuracy


def measure(
    sets: dict[str, list[DistilledSet]], curated: dict[str, CuratedSet], networks: int, drawn: bool
) -> dict[str, Any]:
    """Return the measures of all pictures by way, set and class; draw them if wanted."""
    galaxies = {name: _load(curated[config]) for name, config in (("unaligned", UNALIGNED), ("aligned", ALIGNED))}
    unaligned = curated[UNALIGNED]
    evaluation = Evaluation(unaligned, networks)
    classifier = Classifier(unaligned, galaxies["unaligned"])
    references = {name: Reference(one) for name, one in galaxies.items()}
    pictures = {way: [one.selected.pixels().numpy() for one in some] for way, some in sets.items()}
    ways: dict[str, Any] = {}
    for way, some in pictures.items():
        reference = references["aligned" if sets[way][0].aligned else "unaligned"]
        ways[way] = {
            "accuracy": [evaluation.of_set(one) for one in sets[way]],
            **{name: [reference.ratio(name, one) for one in some] for name in reference.medians},
            "inside": {name: sum(reference.inside(name, one) for one in some) for name in reference.medians},
            "prototypes": sum(map(len, some)),
            "recognised": [classifier.probabilities(one).diagonal().tolist() for one in some],
            "outside": [float(((one < 0) | (one > 1)).mean()) for one in some],
            "stability": [correlation(*pair) for pair in itertools.combinations(some, 2)],
        }
    if drawn:
        draw(pictures, galaxies["unaligned"], unaligned.class_names)
    real = {
        "recognised": classifier.recognised,
        **{f"stability, {name}": _of_pairs(one) for name, one in galaxies.items()},
    }
    baselines = evaluation.of_baselines()
    return {
        "classes": unaligned.class_names,
        "classifier": classifier.accuracy,
        "baselines": baselines,
        "real": real,
        "ways": ways,
    }


def _load(curated: CuratedSet) -> Galaxies:
    def by_class(split: Literal["train", "test"]) -> list[Pictures]:
        loaded = curated.load(split)
        pictures = as_unit_float(loaded.images_NHWC.numpy())
        return [pictures[loaded.labels_N.numpy() == label] for label in range(curated.num_classes)]

    return Galaxies(by_class("train"), by_class("test"))


def _of_pairs(galaxies: Galaxies) -> list[float]:
    """Return the mean correlation of pairs of held-out galaxies, for each class."""
    halves = [(one[: len(one) // 2], one[len(one) // 2 : len(one) // 2 * 2]) for one in galaxies.test]
    return [statistics.mean(correlation(*pair)) for pair in halves]


class Classifier:
    """A network of another kind, trained on real galaxies in any orientation.

    `recognised` is the mean probability of the class for held-out galaxies, for each class.
    """

    def __init__(self, curated: CuratedSet, galaxies: Galaxies) -> None:
        training, self._normalisation = curated.load("train"), curated.normalisation
        network = build_network(CLASSIFIER, curated.num_classes, curated.summary.image_size)
        images, targets = (
            self._normalisation.apply(training.images_NHWC),
            one_hot(training.labels_N, curated.num_classes),
        )
        theta = train(network, initial_parameters(network, 0), images, targets, CLASSIFIER_TRAINING, seed=0)
        self._ensemble = Ensemble(network, [theta], features=False)
        tested = [self.probabilities(one) for one in galaxies.test]
        self.recognised = [float(values[:, label].mean()) for label, values in enumerate(tested)]
        self.accuracy = statistics.mean(
            float((values.argmax(axis=1) == label).mean()) for label, values in enumerate(tested)
        )

    def probabilities(self, pictures: Pictures) -> npt.NDArray[np.floating]:
        """Return the probabilities of the classes, mean over the versions; [N, K]."""
        turned = versions(pictures.clip(0, 1)).reshape(-1, *pictures.shape[1:])
        images = self._normalisation.apply(torch.from_numpy(np.rint(turned * 255)).to(torch.uint8))
        of_versions = self._ensemble.predict(images).mean_NK.view(len(pictures), 8, -1)
        mean: npt.NDArray[np.floating] = of_versions.mean(dim=1).numpy()
        return mean


def draw(pictures: dict[str, list[Pictures]], galaxies: Galaxies, names: list[str]) -> None:
    """Draw a row per class: two real galaxies, then prototypes of each way and set."""
    shown = {"real": [np.stack([one[number] for one in galaxies.test]) for number in range(2)], **pictures}
    columns = [(way if number == 0 else "", some) for way, sets in shown.items() for number, some in enumerate(sets)]
    figure = Figure(figsize=(1.1 * len(columns), 1.2 * len(names)))
    axes = figure.subplots(len(names), len(columns), gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    for (row, name), (column, (heading, some)) in itertools.product(enumerate(names), enumerate(columns)):
        cell = axes[row, column]
        cell.imshow(some[row].clip(0, 1), interpolation="nearest")
        cell.set(xticks=[], yticks=[])
        if row == 0:
            cell.set_title(heading.replace(" ", "\n"), loc="left", fontsize=10)
        if column == 0:
            cell.set_ylabel(name.replace("_", " "), fontsize=10)
    figure.savefig(PICTURE, dpi=110, bbox_inches="tight")


def _table(results: dict[str, Any]) -> str:
    """Return the table: means over classes per set, then mean and deviation over sets.

    Means of ratios are geometric.
    """
    lines = [
        "| way | balanced accuracy | distance | fine structure | m = 2 | recognised | outside [0, 1] | stability |",
        "|" + "---|" * 8,
    ]
    for way, values in results["ways"].items():
        ratios = [
            _with_deviation([_geometric(one) for one in values[name]], 2)
            for name in ("distance", "fine structure", "m = 2")
        ]
        recognised = _with_deviation([statistics.mean(one) for one in values["recognised"]], 2)
        stability = (
            _with_deviation([statistics.mean(one) for one in values["stability"]], 2) if values["stability"] else ""
        )
        cells = [
            _with_deviation(values["accuracy"]),
            *ratios,
            recognised,
            f"{statistics.mean(values['outside']):.0%}",
            stability,
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    real = results["real"]
    lines.append(
        f"| held-out galaxies | | 1 | 1 | 1 | {statistics.mean(real['recognised']):.2f} | 0 % | "
        f"{statistics.mean(real['stability, unaligned']):.2f}; aligned {statistics.mean(real['stability, aligned']):.2f} |"
    )
    lines += [f"| {name} | {value:.3f} | | | | | | |" for name, value in results["baselines"].items()]
    lines.append("\nPrototypes within the central 95 % of held-out galaxies of their class:")
    for way, values in results["ways"].items():
        counts = ", ".join(f"{name} {count}" for name, count in values["inside"].items())
        lines.append(f"{way}: {counts}, of {values['prototypes']}")
    lines.append(f"\nThe classifier is right for {results['classifier']:.3f} of the held-out galaxies (balanced).")
    return "\n".join(lines)


def _with_deviation(values: list[float], digits: int = 3) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {deviation(values):.{digits}f}" if len(values) > 1 else f"{mean} (one)"


def _geometric(ratios: list[float | None]) -> float:
    """Return the geometric mean of the ratios that could be measured."""
    return math.exp(statistics.mean(math.log(one) for one in ratios if one is not None))


if __name__ == "__main__":
    main()
