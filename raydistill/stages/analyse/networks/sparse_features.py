"""The section about sparse features: what networks see, as strips of galaxies.

Each strip names the vote that its feature follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray
import torch
from sklearn.decomposition import PCA

from raydistill.config import Resources
from raydistill.galaxies.answers import reliable
from raydistill.galaxies.catalog import votes_array
from raydistill.galaxies.selection import Split
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.runtime.resources import Processor
from raydistill.runtime.tasks import map_tasks
from raydistill.seeding import fold_in
from raydistill.stages.analyse.inputs import AnalysisInputs
from raydistill.stages.analyse.report.charts import heat_map, picture_rows
from raydistill.stages.analyse.science.sparse_features import (
    SAME_FEATURE,
    WEAKEST_ALIGNMENT,
    Alignment,
    Recurrence,
    SparseTraining,
    align,
    dead_features,
    fit_autoencoder,
    recurrence,
    strongest,
)
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.stages.pretrain.describers import Describer, on_device
from raydistill.statistics.intervals import wilson
from raydistill.statistics.testing import SIGNIFICANCE, holm

Floats = npt.NDArray[np.float64]

TITLE = "Sparse features"
HELD_OUT: tuple[Split, ...] = ("validation", "test")
TRAINING = SparseTraining()
COMPONENTS = 128  # principal components of the features that are decomposed
SEEDS = 3  # autoencoders of the encoder, or of the first expert
MAX_EXPERTS = 4
STRIP = 8  # galaxies of a strip
MAX_STRIPS = (10, 6)  # of aligned and of unaligned features
FEATURES = (
    Quantity("feature", "number of the sparse feature"),
    Quantity("recurs", "whether at least half of the other autoencoders find it again"),
    Quantity("found_again", "share of the other autoencoders with a feature of correlation 0.7 or more"),
    Quantity("active", "share of the held-out galaxies for which it is active"),
    Quantity("answer", "answer that it follows most closely; chosen on training galaxies"),
    Quantity("correlation", "Spearman correlation with the fraction of that answer, on held-out galaxies"),
    Quantity("low", "lower end of its 95 % bootstrap interval"),
    Quantity("high", "upper end of its 95 % bootstrap interval"),
    Quantity("n", "held-out galaxies with a known fraction"),
    Quantity("p_value", "two-sided, adjusted for all recurring features; unknown for others"),
    Quantity("aligned", "whether it follows the answer: significantly, and with a correlation of 0.3 or more"),
    Quantity("galaxies", "ids of the held-out galaxies that activate it most"),
)
PROTOTYPES = (
    Quantity("class", "class of the prototype"),
    Quantity("prototype", "its number within the class"),
    Quantity("feature", "number of the sparse feature"),
    Quantity("activation", "activation of the feature by the prototype"),
    Quantity("rank", "share of the held-out galaxies that activate the feature less"),
    Quantity("low", "lower end of the 95 % interval of the rank (Wilson)"),
    Quantity("high", "upper end of the 95 % interval of the rank"),
    Quantity("n", "held-out galaxies"),
)


class Run(NamedTuple):
    """Number of an expert or encoder, and seed of an autoencoder of its features."""

    describer: int
    seed: int


class Decomposed(NamedTuple):
    """Sparse features float32 [T, M] of pictures, and the held-out explained variance."""

    activations_TM: npt.NDArray[np.float32]
    explained: float


@dataclass(frozen=True)
class Decomposer:
    """Fit autoencoders to features; picklable.

    Parameters
    ----------
    describers
        The experts, or the encoder, that give the features.
    num_train, num_held_out
        The first pictures, to which autoencoders are fitted, and those that follow.
    resources
        CPUs and GPUs of a task.
    seed
        Root of the seeds.
    """

    describers: list[Describer]
    num_train: int
    num_held_out: int
    resources: Resources
    seed: int

    def __call__(self, images_TNHWC: npt.NDArray[np.uint8], run: Run) -> Decomposed:
        """Return the sparse features of all pictures."""
        describer = on_device(self.describers[run.describer], Processor.of(self.resources).enter())
        blocks = np.array_split(images_TNHWC, max(1, len(images_TNHWC) // 512))
        features_TF = torch.cat([describer.features(block) for block in blocks]).numpy()
        train, held_out = slice(self.num_train), slice(self.num_train, self.num_train + self.num_held_out)
        count = min(COMPONENTS, *features_TF[train].shape)
        axes = PCA(count, svd_solver="randomized", random_state=0).fit(features_TF[train])
        components_TF = torch.from_numpy(axes.transform(features_TF)).float()
        model = fit_autoencoder(components_TF[train], TRAINING, fold_in(self.seed, "autoencoder", *run))
        activations = model.activations(components_TF).numpy()
        return Decomposed(activations, model.explained_variance(components_TF[held_out]))


class Votes(NamedTuple):
    """Names of A quantities, and their values of training and held-out galaxies.

    Features may follow these quantities.
    """

    names: list[str]
    train_NA: Floats
    held_out_NA: Floats


@dataclass(frozen=True)
class Features:
    """The sparse features of the first autoencoder, and what is known of them."""

    training_NM: Floats
    held_out_NM: Floats
    prototypes_SM: Floats
    recurrence: Recurrence
    alignments: list[Alignment]
    p_values: dict[int, float]  # adjusted, of recurring features
    object_ids: list[str]  # of held-out galaxies

    @property
    def recurring(self) -> list[int]:
        """Return the numbers of the recurring features, strongest correlation first."""
        features = np.flatnonzero(self.recurrence.recurring).tolist()
        return sorted(features, key=lambda m: -abs(np.nan_to_num(self.alignments[m].interval.value)))

    def is_aligned(self, feature: int) -> bool:
        """Return whether a recurring feature follows an answer."""
        return feature in self.p_values and self.alignments[feature].is_aligned(self.p_values[feature])


def sparse_features_section(inputs: AnalysisInputs) -> Section:
    """Return the section: recurring features, and how prototypes activate them."""
    if not inputs.describers:
        return Section(
            "sparse_features",
            TITLE,
            missing="there are no experts; run 'raydistill experts CONFIG', or set features to an encoder",
        )
    held_out = [inputs.curated.load(split) for split in HELD_OUT]
    images = np.concatenate([block.images_NHWC.numpy() for block in held_out])
    ids = [object_id for block in held_out for object_id in block.object_ids]
    if not ids:
        reason = "no galaxy is held out; enlarge the validation or the test part in curate.split"
        return Section("sparse_features", TITLE, missing=reason)
    decomposed = _decompose(inputs, images)
    z_TM, *others = (run.activations_TM.astype(np.float64) for run in decomposed.values())
    first, last = len(inputs.train.labels_N), len(inputs.train.labels_N) + len(ids)
    votes = known_votes(inputs)
    again = recurrence(z_TM[first:last], [other[first:last] for other in others])
    seed = fold_in(inputs.spec.seed, "sparse features")
    alignments = align(z_TM[:first], votes.train_NA, z_TM[first:last], votes.held_out_NA, seed)
    recurring = np.flatnonzero(again.recurring).tolist()
    adjusted = holm(np.array([alignments[m].p_value for m in recurring])).tolist()
    features = Features(
        z_TM[:first], z_TM[first:last], z_TM[last:], again, alignments, dict(zip(recurring, adjusted, strict=True)), ids
    )
    return Section(
        "sparse_features",
        TITLE,
        (
            f"A sparse autoencoder describes {inputs.whose} features of each galaxy by at most {TRAINING.active} of "
            f"{TRAINING.num_features} sparse features. {len(others)} others, with another seed or of another expert, are "
            f"matched with it on held-out galaxies. A feature recurs if at least half of them have one whose "
            f"activations correlate by {SAME_FEATURE:g} or more.",
            "For each feature, the training galaxies choose the answer that it follows most closely, and held-out "
            f"galaxies measure the correlation. A feature is unaligned if the correlation is not significant or below "
            f"{WEAKEST_ALIGNMENT:g}. Unaligned features are candidates for what the questions do not ask, and may be "
            "artefacts.",
        ),
        tables=(_feature_table(features, votes), _prototype_table(inputs, features)),
        figures=_figures(inputs, features, votes, images),
        statements=(
            *_summaries(features, next(iter(decomposed.values())).explained, len(ids)),
            *(_statement(features, votes, m) for m in features.recurring if features.alignments[m].answer is not None),
        ),
    )


def _decompose(inputs: AnalysisInputs, held_out: npt.NDArray[np.uint8]) -> dict[Run, Decomposed]:
    """Return the sparse features of all pictures, by autoencoder.

    The pictures are training galaxies, held-out galaxies and prototypes, in this order.
    """
    runs = [Run(0, seed) for seed in range(SEEDS)]
    runs += [Run(number, 0) for number in range(1, min(len(inputs.describers), MAX_EXPERTS))]
    resources, train = inputs.plan.config.resources, inputs.train.images_NHWC.numpy()
    decomposer = Decomposer(inputs.describers, len(train), len(held_out), resources, inputs.spec.seed)
    images: Any = ray.put(np.concatenate([train, held_out, inputs.prototypes]))
    words = "analyse", "decomposing features", "autoencoders"
    return dict(zip(runs, map_tasks(_run, runs, lambda run: (decomposer, images, run), resources, *words), strict=True))


def _run(decomposer: Decomposer, images: npt.NDArray[np.uint8], run: Run) -> Decomposed:
    return decomposer(images, run)


def known_votes(inputs: AnalysisInputs) -> Votes:
    """Return the reliable vote fractions, or the classes if there are no votes.

    A question is reliable if at least half of the volunteers reach it.
    """
    curated = inputs.curated
    if not curated.has_votes:
        labels = [inputs.galaxy_labels, np.concatenate([curated.load(split).labels_N.numpy() for split in HELD_OUT])]
        names = [f"class {name.replace('_', ' ')}" for name in inputs.class_names]
        return Votes(names, *(np.eye(len(names))[labels_N] for labels_N in labels))
    tree = TREES[curated.summary.tree or GZ2.name]
    train, *held_out = (
        reliable(votes_array(curated.table(split, ["votes"]), tree), tree) for split in ("train", *HELD_OUT)
    )
    return Votes([tree.title_of(stem) for stem in tree.answers], train, np.concatenate(held_out))


def _name(features: Features, votes: Votes, feature: int) -> str:
    answer = features.alignments[feature].answer
    return "no answer" if answer is None else votes.names[answer]


def _feature_table(features: Features, votes: Votes) -> SectionTable:
    order = features.recurring + np.flatnonzero(~features.recurrence.recurring).tolist()
    rows = []
    for m in order:
        alignment = features.alignments[m]
        ids = [features.object_ids[row] for row in strongest(features.held_out_NM[:, m], STRIP)]
        rows.append(
            (m, bool(features.recurrence.recurring[m]), float(features.recurrence.share[m]),
             float((features.held_out_NM[:, m] > 0).mean()), _name(features, votes, m), *alignment.interval, alignment.n,
             features.p_values.get(m), features.is_aligned(m), " ".join(ids))
        )  # fmt: skip
    caption = "Sparse features of the first autoencoder; recurring ones first."
    return SectionTable.of_rows("sparse_features", caption, rows, FEATURES, {"p_value": pa.float64()})


def _ranks(features: Features) -> Floats:
    """Return the rank of each prototype among held-out galaxies, by feature, [S, M].

    The rank is the share of galaxies that activate the feature less than the prototype.
    """
    return (features.held_out_NM[None] < features.prototypes_SM[:, None]).mean(axis=1)


def _prototype_table(inputs: AnalysisInputs, features: Features) -> SectionTable:
    ranks_SM, n = _ranks(features), len(features.object_ids)
    firsts, rows = inputs.distilled.first_rows, []
    for number, label in enumerate(inputs.prototype_labels.tolist()):
        for m in features.recurring:
            below = round(float(ranks_SM[number, m]) * n)
            activation = float(features.prototypes_SM[number, m])
            rows.append((inputs.class_names[label], number - firsts[label], m, activation, *wilson(below, n), n))
    caption = "Activation of the recurring features by the prototypes, beside held-out galaxies."
    return SectionTable.of_rows("prototype_features", caption, rows, PROTOTYPES, shown=len(rows) <= 200)


def _figures(
    inputs: AnalysisInputs, features: Features, votes: Votes, images: npt.NDArray[np.uint8]
) -> tuple[SectionFigure, ...]:
    aligned = [m for m in features.recurring if features.is_aligned(m)]
    unaligned = [m for m in features.recurring if not features.is_aligned(m)]
    shown = [*aligned[: MAX_STRIPS[0]], *unaligned[: MAX_STRIPS[1]]]
    if not shown:
        return ()
    rows, captions = [], []
    for m in shown:
        best = strongest(features.held_out_NM[:, m], STRIP)
        flag = "" if features.is_aligned(m) else "\n(unaligned)"
        value = features.alignments[m].interval.value
        number = "" if math.isnan(value) else f"{value:+.2f}"
        rows.append((f"{m}: {_name(features, votes, m)}\n{number}{flag}", list(images[best] / 255)))
        captions.append([features.object_ids[row] for row in best])
    ranks_SM = _ranks(features)
    classes = range(len(inputs.class_names))
    by_class = np.stack([ranks_SM[inputs.prototype_labels == label].mean(axis=0) for label in classes])
    names = [f"{m}: {_name(features, votes, m) if features.is_aligned(m) else 'unaligned'}" for m in shown]
    return (
        SectionFigure(
            "sparse_features",
            f"Strips of held-out galaxies that activate each of {len(shown)} recurring features most, with their ids.",
            "Held-out galaxies that activate each recurring feature most, with their ids. The number is the Spearman "
            "correlation with the named answer.",
            picture_rows(rows, (), captions),
        ),
        SectionFigure(
            "prototype_features",
            f"Rank of the prototypes of {len(inputs.class_names)} classes among held-out galaxies, for each recurring feature.",
            f"Share of the {len(features.object_ids)} held-out galaxies that activate a feature less than the prototypes of a "
            "class do (mean over the prototypes of the class).",
            heat_map(by_class[:, shown].T, names, [name.replace("_", " ") for name in inputs.class_names]),
        ),
    )


def _summaries(features: Features, explained: float, num_held_out: int) -> tuple[Statement, ...]:
    recurring, total = int(features.recurrence.recurring.sum()), len(features.alignments)
    dead = int(dead_features(torch.from_numpy(features.training_NM)).sum())
    return (
        Statement("Share of the sparse features that recur", *wilson(recurring, total), total),
        Statement("Share of the sparse features that no training galaxy activates", dead / total, math.nan, math.nan, total),
        Statement(
            "Share of the variance of the features that the autoencoder explains, of held-out galaxies",
            explained, math.nan, math.nan, num_held_out,
        ),
    )  # fmt: skip


def _statement(features: Features, votes: Votes, feature: int) -> Statement:
    alignment, aligned = features.alignments[feature], features.is_aligned(feature)
    name = _name(features, votes, feature)
    if aligned:
        text = f"Recurring feature {feature} follows '{name}', Spearman correlation"
    elif features.p_values[feature] < SIGNIFICANCE:
        text = f"Recurring feature {feature} is unaligned: it follows '{name}' weakly, Spearman correlation"
    else:
        text = f"Recurring feature {feature} is unaligned; its correlation with the nearest answer '{name}'"
    return Statement(text, *alignment.interval, alignment.n, features.p_values[feature])
