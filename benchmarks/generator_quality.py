"""Measure how good trained generators of real galaxies are, side by side.

    python benchmarks/generator_quality.py GENERATOR [GENERATOR ...] [--images 400] [--guidance 1 2] [--grid FILE.png]

GENERATOR is a folder of `raydistill generate`. Each one samples pictures with the classes of held-out galaxies. They are
compared with these galaxies; the floor compares training galaxies of the same classes with them. One thread, without Ray.

flux, colours  Wasserstein distances, over their floor (`raydistill.stages.audit.science`).
Fréchet, KID   squared distances of scattering coefficients, over their floor; KID over the upper end of the floor's range.
accuracy       share of pictures whose class a classifier of real galaxies recognises, real and sampled.
copies         share of samples that are nearer to a training picture than to a held-out one, and the floor.
votes          correlation of requested fractions with those that a regression predicts from the picture, real and sampled,
               for each answer; only where a set of the generator has votes.

Prints a table and writes `benchmarks/results/generator_quality.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from running import ROOT

from raydistill.artifacts.tables import decode_images
from raydistill.config import FullDataTraining
from raydistill.diffusion.conditions import Conditions
from raydistill.diffusion.model import to_pixels
from raydistill.diffusion.options import Sampling
from raydistill.diffusion.sampling import sample
from raydistill.figures.image_grids import image_grid
from raydistill.galaxies.trees import GZ2
from raydistill.learning.architectures import ConvNet
from raydistill.learning.augment import Augmentation
from raydistill.learning.ensemble import Ensemble
from raydistill.learning.metrics import balanced_accuracy, confusion
from raydistill.learning.networks import build_network, initial_parameters
from raydistill.learning.normalise import one_hot
from raydistill.learning.sgd import init_state
from raydistill.learning.training import fit
from raydistill.morphology.pictures import QUANTITIES, morphology
from raydistill.seeding import generator as seeded
from raydistill.stages.audit.metrics.comparison import FeatureArray, Features, compare
from raydistill.stages.audit.metrics.features import scattering
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.select.conditions import votes_of
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.statistics.memorisation import RealNeighbours, memorisation, picture_distances, shrink

RESULTS = ROOT / "benchmarks" / "results" / "generator_quality.json"
NETWORK, NETWORKS = ConvNet(depth=3, width=32), 1
TRAINING = FullDataTraining(augmentation=Augmentation(("mirror",)))
RIDGE = 30.0  # of the regression of votes, in units of standardised features
VOTE_REPEATS = 2  # samples per galaxy with votes
ANSWERS = {
    "smooth": "t01_smooth_or_features_a01_smooth",
    "edge-on": "t02_edgeon_a04_yes",
    "bar": "t03_bar_a06_bar",
    "spiral": "t04_spiral_a08_spiral",
    "obvious bulge": "t05_bulge_prominence_a12_obvious",
    "odd": "t06_odd_a14_yes",
    "round": "t07_rounded_a16_completely_round",
    "cigar": "t07_rounded_a18_cigar_shaped",
}
METRICS = {
    "flux": ("wasserstein", "flux"),
    "red/green": ("wasserstein", "colour_red_green"),
    "green/blue": ("wasserstein", "colour_green_blue"),
    "Fréchet": ("frechet", "scattering"),
    "KID": ("kernel", "scattering"),
}


class Galaxies(NamedTuple):
    """Pictures uint8 [N, H, W, 3], labels int64 [N] and votes float32 [N, 37].

    The votes are fractions; NaN where unknown.
    """

    images: np.ndarray
    labels: np.ndarray
    votes: np.ndarray

    def take(self, rows: np.ndarray) -> Galaxies:
        return Galaxies(self.images[rows], self.labels[rows], self.votes[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generators", nargs="+")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="sample in bfloat16")
    parser.add_argument("--grid", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    artifacts = [GeneratorArtifact.open(folder) for folder in args.generators]
    parents = artifacts[0].manifest.parents
    sets = [CuratedSet.open(parents[role].uri) for role in sorted(parents) if role.startswith("curated")]
    judge = Judge(sets, args.images, args.seed)
    rows = [judge.measure_real()]
    for artifact in artifacts:
        for guidance in args.guidance:
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
                rows.append(judge.measure(artifact, Sampling(steps=args.steps, guidance=guidance), args.grid))
            print(json.dumps(rows[-1]), flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print(_table(rows))


class Judge:
    """Held-out and training galaxies, a classifier and a regression of votes.

    Both models learnt from real galaxies.
    """

    def __init__(self, sets: list[CuratedSet], num_images: int, seed: int) -> None:
        self.main, self.seed = sets[0], seed
        train, held_out = _load(self.main, "train"), _load(self.main, "test")
        rng = np.random.default_rng(seed)
        self.real = held_out.take(np.sort(rng.permutation(len(held_out.labels))[:num_images]))
        self.others = train.take(_alike(train.labels, self.real.labels, rng))
        self.trained_on = np.concatenate([_load(one, "train").images for one in sets])
        self.held_out = held_out
        self.features = {name: self._features(one) for name, one in (("real", self.real), ("others", self.others))}
        self.classifier = self._classifier(train)
        with_votes = [one for one in sets if not np.isnan(_load(one, "train").votes).all()]
        self.regression = Regression(self, with_votes[0]) if with_votes else None
        classes = confusion(
            torch.tensor(self.classes(self.real.images)), torch.tensor(self.real.labels), self.num_classes
        )
        self.real_accuracy = (
            float((self.classes(self.real.images) == self.real.labels).mean()),
            balanced_accuracy(classes),
        )

    @property
    def num_classes(self) -> int:
        return self.main.num_classes

    def _features(self, galaxies: Galaxies) -> Any:
        pictures = galaxies.images.astype(np.float32) / 255
        shapes = FeatureArray(morphology(pictures), QUANTITIES)
        spaces = {"scattering": FeatureArray(scattering(pictures)), "morphology": shapes}
        return Features(spaces, galaxies.labels, tuple(self.main.class_names))

    def _classifier(self, train: Galaxies) -> Ensemble:
        network = build_network(NETWORK, self.num_classes, self.main.summary.image_size)
        pixels = self.main.normalisation.apply(torch.tensor(train.images))
        targets = one_hot(torch.tensor(train.labels), self.num_classes)
        trained = []
        for number in range(NETWORKS):
            *_, last = fit(network, init_state(initial_parameters(network, number)), pixels, targets, TRAINING, number)
            trained.append(last.theta_P)
        return Ensemble(network, trained, features=True)

    def predict(self, images: np.ndarray) -> Any:
        """Return probabilities and features of pictures."""
        return self.classifier.predict(self.main.normalisation.apply(torch.tensor(images)))

    def classes(self, images: np.ndarray) -> np.ndarray:
        return self.predict(images).mean_NK.argmax(dim=1).numpy()

    def measure_real(self) -> dict[str, Any]:
        row: dict[str, Any] = {"name": "real", "accuracy": self.real_accuracy[0], "balanced": self.real_accuracy[1]}
        if self.regression is not None:
            row["votes"] = self.regression.correlations(self.regression.held_out.images, 1)
        return row

    def measure(self, artifact: GeneratorArtifact, sampling: Sampling, grid: Path | None) -> dict[str, Any]:
        """Return the figures of one generator."""
        encoding = artifact.encoding
        images = self._sample(artifact, encoding.encode(len(self.real.labels), labels_N=self.real.labels), sampling)
        synthetic = Galaxies(images, self.real.labels, self.real.votes)
        findings = compare(self.features["real"], self._features(synthetic), self.features["others"], self.seed, 99)
        found = {(one.metric, one.feature): one for one in findings}
        row: dict[str, Any] = {"name": f"{artifact.summary.model.network.kind}, guidance {sampling.guidance:g}"}
        for name, key in METRICS.items():  # the mean of KID is 0 for equal distributions
            row[name] = found[key].value / (found[key].floor_high if name == "KID" else found[key].floor)
        row["significant"] = [f"{one.metric} {one.feature}" for one in findings if one.significant]
        row["flux bias"] = float(images.mean() / self.real.images.mean()) - 1
        classes = self.classes(images)
        row["accuracy"] = float((classes == self.real.labels).mean())
        table = confusion(torch.tensor(classes), torch.tensor(self.real.labels), self.num_classes)
        row["balanced"] = balanced_accuracy(table)
        row["accuracy by class"] = dict(
            zip(self.main.class_names, (np.diag(table) / table.sum(axis=1)).round(3).tolist(), strict=True)
        )
        copies = self._copies(images)
        row["copies"], row["copies floor"] = copies.value, copies.floor
        if self.regression is not None:
            votes = np.repeat(self.regression.held_out.votes, VOTE_REPEATS, axis=0)
            own = self._sample(artifact, encoding.encode(len(votes), votes_NA=votes), sampling)
            row["votes"] = self.regression.correlations(own, VOTE_REPEATS)
        if grid is not None:
            name = f"{artifact.summary.model.network.kind}-{sampling.guidance:g}"
            draw(self.real, images, self.main.class_names, grid.with_stem(f"{grid.stem}-{name}"))
            np.save(grid.with_name(f"{grid.stem}-{name}.npy"), images)
        return row

    def _sample(self, artifact: GeneratorArtifact, conditions: Conditions, sampling: Sampling) -> np.ndarray:
        size = artifact.summary.image_size
        noise = torch.randn(len(conditions), 3, size, size, generator=seeded(self.seed, "quality"))
        model = artifact.load()
        parts = [
            to_pixels(sample(model, conditions[first : first + 50], noise[first : first + 50], sampling))
            for first in range(0, len(conditions), 50)
        ]
        return np.concatenate(parts)

    def _copies(self, images: np.ndarray) -> Any:
        real = np.concatenate([self.trained_on, self.held_out.images])
        distances = picture_distances(shrink(images / 255), shrink(real / 255))
        neighbours = RealNeighbours.of(distances, len(self.trained_on))
        return next(one for one in memorisation({"pixels": neighbours}) if one.metric == "nearer_to_training")


class Regression:
    """A ridge regression from the classifier's features to vote fractions."""

    def __init__(self, judge: Judge, curated: CuratedSet) -> None:
        self.judge = judge
        train, rest = _load(curated, "train"), [_load(curated, split) for split in ("validation", "test")]
        self.held_out = Galaxies(*(np.concatenate(parts) for parts in zip(*rest, strict=True)))
        features = self._features(train.images)
        self.mean, self.std = features.mean(axis=0), features.std(axis=0) + 1e-6
        self.columns = {name: GZ2.index[stem] for name, stem in ANSWERS.items()}
        self.weights = {name: self._fit(features, train.votes[:, column]) for name, column in self.columns.items()}

    def _fit(self, features: np.ndarray, votes: np.ndarray) -> np.ndarray:
        known = ~np.isnan(votes)  # not for questions that no volunteer was asked
        x = self._design(features[known])
        weights: np.ndarray = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ votes[known])
        return weights

    def _features(self, images: np.ndarray) -> np.ndarray:
        return self.judge.predict(images).features_NF.double().numpy()

    def _design(self, features: np.ndarray) -> np.ndarray:
        return np.concatenate([(features - self.mean) / self.std, np.ones((len(features), 1))], axis=1)

    def correlations(self, images: np.ndarray, repeats: int) -> dict[str, float]:
        """Return correlations of held-out fractions with those predicted from pictures."""
        x = self._design(self._features(images))
        votes = np.repeat(self.held_out.votes, repeats, axis=0)
        found = {}
        for name, column in self.columns.items():
            known = ~np.isnan(votes[:, column])
            correlation = np.corrcoef(x[known] @ self.weights[name], votes[known, column])[0, 1]
            found[name] = round(float(correlation), 2)
        return found


def _load(curated: CuratedSet, split: Any) -> Galaxies:
    table = curated.table(split, ["image", "votes"])
    images = np.asarray(decode_images(table["image"], curated.summary.image_size))
    return Galaxies(images, table["label"].to_numpy().astype(np.int64), votes_of(table["votes"], len(GZ2.answers)))


def _alike(labels: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return rows with as many galaxies of each class as `wanted` has."""
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[: (wanted == label).sum()] for label in np.unique(wanted)
    ]
    return np.concatenate(chosen)


def draw(real: Galaxies, images: np.ndarray, names: list[str], path: Path, columns: int = 10) -> None:
    """Draw real galaxies above samples of the same class, a pair of rows per class."""
    parts: list[np.ndarray] = []
    labels: list[int] = []
    titles: list[str] = []
    for label, name in enumerate(names):
        rows = np.flatnonzero(real.labels == label)[:columns]
        for title, pictures in ((f"{name}, real", real.images), (f"{name}, sampled", images)):
            parts.append(pictures[rows])
            labels += [len(titles)] * len(rows)
            titles.append(title)
    image_grid(np.concatenate(parts), np.array(labels), titles, path, columns=columns, caption="synthetic beside real")


def _table(rows: list[dict[str, Any]]) -> str:
    names = [*METRICS, "flux bias", "accuracy", "balanced", "copies", "copies floor"]
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [
        f"| {row['name']} | " + " | ".join(f"{row[n]:.2f}" if n in row else "" for n in names) + " |" for row in rows
    ]
    votes = [row for row in rows if "votes" in row]
    if votes:
        lines += ["", "| votes | " + " | ".join(ANSWERS) + " |", "|---" * (len(ANSWERS) + 1) + "|"]
        lines += [f"| {row['name']} | " + " | ".join(f"{row['votes'][n]:.2f}" for n in ANSWERS) + " |" for row in votes]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
