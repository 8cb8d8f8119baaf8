"""The section about counterfactuals: generated galaxies with one vote changed.

Both versions of a galaxy have the same noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import ray
import torch
from torch import Tensor

from raydistill.config import Resources
from raydistill.diffusion.model import Generator, to_pixels
from raydistill.diffusion.sampling import sample
from raydistill.figures.pages import picture
from raydistill.galaxies.answers import reliable
from raydistill.galaxies.tree import DecisionTree, Task
from raydistill.learning.architectures import ConvNet
from raydistill.learning.augment import Augmentation
from raydistill.learning.networks import build_network
from raydistill.runtime.resources import Processor
from raydistill.runtime.tasks import map_tasks, worker_task
from raydistill.seeding import fold_in
from raydistill.seeding import generator as random_generator
from raydistill.stages.analyse.inputs import AnalysisInputs, Pixels
from raydistill.stages.analyse.networks.sparse_features import HELD_OUT
from raydistill.stages.analyse.report.charts import picture_rows
from raydistill.stages.analyse.report.page import Slider, sliders
from raydistill.stages.analyse.science.counterfactuals import (
    LARGEST_SIDE_EFFECT,
    SMALLEST_CHANGE,
    Verdict,
    answers_that_stay,
    verdict,
    with_answer,
)
from raydistill.stages.analyse.science.sparse_features import Alignment, align
from raydistill.stages.analyse.science.vote_classifier import VoteClassifier, VoteTraining, fit_votes
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.select.conditions import picture_colours, votes_of
from raydistill.stages.generate.artifact import GeneratorArtifact
from raydistill.statistics.intervals import Interval
from raydistill.statistics.resampling import Change, mean_change
from raydistill.statistics.testing import holm

Floats = npt.NDArray[np.float64]

TITLE = "Counterfactuals"
FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
GALAXIES = 16  # whose conditions are changed, for each answer
MAX_ANSWERS = 4
SHOWN = 4  # galaxies of an answer in figure and sliders
MEASURED = 5  # one of this many held-out galaxies measures the classifier, the others train it
FEWEST = 100  # held-out galaxies
LEAST_CORRELATION = 0.5  # of the classifier, for an answer that is changed
LEAST_OF_OTHERS = 0.2  # of the classifier, for an answer that should stay
WIDTH = 32  # of the classifier
ANSWERS = (
    Quantity("answer", "answer whose fraction is changed from 0 to 1"),
    Quantity("accepted", "share of the galaxies whose change the held-out classifier accepts"),
    Quantity("low", "lower end of its 95 % interval (Wilson)"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "galaxies"),
    Quantity("change", "mean change of the predicted fraction of the answer"),
    Quantity("change_low", "lower end of its 95 % bootstrap interval"),
    Quantity("change_high", "upper end of its 95 % bootstrap interval"),
    Quantity("p_value", "two-sided, of no change (Wilcoxon); adjusted for all answers"),
    Quantity("side_effect", "median of the largest change of an answer that should stay"),
    Quantity("most_frequent", "answer that should stay and changes most, for most galaxies"),
    Quantity("correlation", "Spearman correlation of the classifier with the volunteers, on galaxies that neither saw"),
    Quantity("correlation_low", "lower end of its 95 % bootstrap interval"),
    Quantity("correlation_high", "upper end of its 95 % bootstrap interval"),
    Quantity("correlation_n", "galaxies with a known fraction"),
)


class HeldOut(NamedTuple):
    """Galaxies that the generator was not trained on.

    Attributes
    ----------
    images_NHWC
        uint8.
    votes_NA
        float64, all fractions, as the generator is given them; NaN where unknown.
    known_NA
        float64, those of questions that at least half of the volunteers reach.
    petro_r90_N
        float64, arcsec; NaN where unknown.
    """

    images_NHWC: Pixels
    votes_NA: Floats
    known_NA: Floats
    petro_r90_N: Floats

    def take(self, rows: npt.NDArray[np.int64]) -> HeldOut:
        """Return the galaxies of these rows."""
        return HeldOut(self.images_NHWC[rows], self.votes_NA[rows], self.known_NA[rows], self.petro_r90_N[rows])

    def copy(self) -> HeldOut:
        """Return the galaxies in writable memory.

        Arrays of Ray's object store are read-only.
        """
        return self.take(np.arange(len(self.votes_NA)))


class Edited(NamedTuple):
    """Generated pictures uint8 [F, G, H, W, 3] and predicted vote fractions [F, G, A].

    F counts the rendered fractions, G the galaxies.
    """

    images_FGHWC: Pixels
    predicted_FGA: Floats


@dataclass(frozen=True)
class Editor:
    """Train the classifier, and change answers of generated galaxies; picklable.

    Parameters
    ----------
    generator, curated
        URIs of the generator and of its curated set.
    tree
        The questions.
    resources
        CPUs and GPUs of a task.
    seed
        Root of the random numbers.
    """

    generator: str
    curated: str
    tree: DecisionTree
    resources: Resources
    seed: int

    def train(self, galaxies: HeldOut) -> VoteClassifier:
        """Return a classifier trained on these galaxies."""
        Processor.of(self.resources).enter()
        curated = CuratedSet.open(self.curated, verify=False)
        side = galaxies.images_NHWC.shape[1]
        architecture = ConvNet(depth=max(1, min(3, int(math.log2(side)) - 2)), width=WIDTH)
        network = build_network(architecture, len(self.tree.answers), side)
        symmetries = Augmentation(("mirror",) if curated.summary.aligned else ("dihedral",))
        questions = [_columns(task, self.tree) for task in self.tree.tasks]
        images = curated.normalisation.apply(torch.from_numpy(galaxies.images_NHWC))
        votes = torch.from_numpy(galaxies.known_NA).float()
        training = VoteTraining(augmentation=symmetries)
        return fit_votes(network, images, votes, questions, training, fold_in(self.seed, "classifier"))

    def edit(self, galaxies: HeldOut, changed: int, classifier: VoteClassifier) -> Edited:
        """Return the galaxies with each of `FRACTIONS` of an answer, with the same noise."""
        artifact, model = _load(self.generator, Processor.of(self.resources).enter())
        curated = CuratedSet.open(self.curated, verify=False)
        noise_GCHW = torch.stack([self._noise(number, artifact.image_size) for number in range(len(galaxies.votes_NA))])
        images, predicted = [], []
        for fraction in FRACTIONS:
            votes_GA = np.stack([with_answer(votes_A, changed, fraction, self.tree) for votes_A in galaxies.votes_NA])
            conditions = artifact.encoding.encode(
                len(votes_GA), votes_NA=votes_GA, petro_r90_N=galaxies.petro_r90_N,
                colours_N2=picture_colours(galaxies.images_NHWC),
            )  # fmt: skip
            pixels = to_pixels(sample(model, conditions, noise_GCHW, artifact.summary.sampling).cpu())
            images.append(pixels)
            predicted.append(predict(classifier, curated, pixels))
        return Edited(np.stack(images), np.stack(predicted))

    def _noise(self, number: int, side: int) -> Tensor:
        return torch.randn((3, side, side), generator=random_generator(self.seed, "noise", number))


def _columns(task: Task, tree: DecisionTree) -> list[int]:
    """Return the numbers of the answers of a question."""
    return list(range(len(tree.answers)))[tree.columns_of(task)]


@lru_cache(maxsize=1)
def _load(uri: str, device: str) -> tuple[GeneratorArtifact, Generator]:
    artifact = GeneratorArtifact.open(uri, verify=False)  # the driver has verified it
    return artifact, artifact.load().to(device)


def predict(classifier: VoteClassifier, curated: CuratedSet, images_NHWC: Pixels) -> Floats:
    """Return the predicted fractions of uint8 pictures, float64 [N, A]."""
    return classifier.predict(curated.normalisation.apply(torch.from_numpy(images_NHWC))).double().numpy()


class Counterfactual(NamedTuple):
    """An answer, the pictures in which it is changed, and the verdict on them."""

    answer: int
    edited: Edited
    verdict: Verdict
    change: Change


def counterfactuals_section(inputs: AnalysisInputs) -> Section:
    """Return the section: changed answers and a held-out classifier's acceptance rate."""
    artifact, curated = inputs.generator, inputs.curated
    if artifact is None or "votes" not in artifact.encoding.groups:
        reason = "there is no generator with the condition 'votes'; run 'raydistill generate CONFIG'"
        return Section("counterfactuals", TITLE, missing=reason)
    if not curated.has_votes:
        return Section("counterfactuals", TITLE, missing="the galaxies have no votes; take a survey with votes")
    tree, held_out = artifact.tree, held_out_galaxies(inputs, artifact.tree)
    if len(held_out.votes_NA) < FEWEST:
        reason = f"fewer than {FEWEST} galaxies are held out; enlarge the validation part in curate.split"
        return Section("counterfactuals", TITLE, missing=reason)
    seed = fold_in(inputs.spec.seed, "counterfactuals")
    rows = np.random.default_rng(seed).permutation(len(held_out.votes_NA))
    training, measuring = held_out.take(rows[len(rows) // MEASURED :]), held_out.take(rows[: len(rows) // MEASURED])
    resources = inputs.plan.config.resources
    editor = Editor(artifact.folder.uri, curated.folder.uri, tree, resources, seed)
    classifier: VoteClassifier = ray.get(worker_task(_train, resources).remote(editor, training))
    quality = classifier_quality(predict(classifier, curated, measuring.images_NHWC), measuring.known_NA, seed)
    answers = changed_answers(quality, measuring, tree)
    if not answers:
        reason = "the held-out classifier predicts no answer well enough; enlarge the survey"
        return Section("counterfactuals", TITLE, missing=reason)
    edits = _edit(editor, measuring, answers, classifier, quality, resources)
    p_values = holm(np.array([edit.change.p_value for edit in edits])).tolist()
    return Section(
        "counterfactuals",
        TITLE,
        (
            "The generator renders a galaxy from the same noise with one answer changed from 0 to 1. Its other conditions "
            "are those of a galaxy of the survey that it was not trained on.",
            f"A network predicts the votes of pictures. It was trained on {len(training.votes_NA)} galaxies that the generator "
            f"has not seen, and measured on {len(measuring.votes_NA)} others. A change is accepted if the predicted fraction of the "
            f"answer rises by {SMALLEST_CHANGE} or more, and no answer of another question changes by more than "
            f"{LARGEST_SIDE_EFFECT}. The changed question and those asked after it may change. Questions that fewer than half "
            f"of the galaxy's volunteers reach are not compared, nor answers that the classifier predicts with a correlation "
            f"below {LEAST_OF_OTHERS}.",
        ),
        tables=(_table(edits, p_values, quality, tree),),
        figures=(_figure(edits, tree),),
        statements=tuple(_statement(edit, p, tree) for edit, p in zip(edits, p_values, strict=True)),
        html=_sliders(edits, tree),
    )  # fmt: skip


def held_out_galaxies(inputs: AnalysisInputs, tree: DecisionTree) -> HeldOut:
    """Return the validation and test galaxies."""
    columns = [inputs.curated.table(split, ["votes", "petro_r90"]) for split in HELD_OUT]
    votes = np.concatenate([votes_of(rows["votes"], len(tree.answers)) for rows in columns]).astype(np.float64)
    images = np.concatenate([inputs.curated.load(split).images_NHWC.numpy() for split in HELD_OUT])
    radii = np.concatenate([np.asarray(rows["petro_r90"].to_numpy(), np.float64) for rows in columns])
    return HeldOut(images, votes, reliable(votes, tree), radii)


def classifier_quality(predicted_NA: Floats, known_NA: Floats, seed: int) -> list[Alignment]:
    """Return the correlation of each answer with its prediction."""
    return [
        align(predicted_NA[:, [a]], known_NA[:, [a]], predicted_NA[:, [a]], known_NA[:, [a]], seed)[0]
        for a in range(known_NA.shape[1])
    ]


def changed_answers(quality: list[Alignment], galaxies: HeldOut, tree: DecisionTree) -> list[int]:
    """Return each question's answer that the classifier predicts best.

    The best questions come first.
    """
    best = []
    for task in tree.tasks:
        usable = [
            a
            for a in _columns(task, tree)
            if quality[a].interval.low >= LEAST_CORRELATION and len(_reached(galaxies, a)) >= GALAXIES
        ]
        if usable:
            best.append(max(usable, key=lambda a: quality[a].interval.value))
    return sorted(best, key=lambda a: -quality[a].interval.value)[:MAX_ANSWERS]


def _reached(galaxies: HeldOut, answer: int) -> npt.NDArray[np.int64]:
    """Return the galaxies whose volunteers reach the question of an answer."""
    return np.flatnonzero(np.isfinite(galaxies.known_NA[:, answer]))


def _train(editor: Editor, galaxies: HeldOut) -> VoteClassifier:
    return editor.train(galaxies.copy())


def _edit_one(editor: Editor, galaxies: HeldOut, changed: int, classifier: VoteClassifier) -> Edited:
    return editor.edit(galaxies.copy(), changed, classifier)


def _edit(
    editor: Editor, galaxies: HeldOut, answers: list[int], classifier: VoteClassifier, quality: list[Alignment],
    resources: Resources,
) -> list[Counterfactual]:  # fmt: skip
    """Return the counterfactuals of each answer; one Ray task each."""

    def arguments(answer: int) -> tuple[Any, ...]:
        return editor, galaxies.take(_reached(galaxies, answer)[:GALAXIES]), answer, classifier

    edited = map_tasks(_edit_one, answers, arguments, resources, "analyse", "changing answers", "answers")
    weak_A = np.array([not alignment.interval.low >= LEAST_OF_OTHERS for alignment in quality])
    edits = []
    for answer, edit in zip(answers, edited, strict=True):
        before, after = edit.predicted_FGA[0], edit.predicted_FGA[-1]
        reached_GA = np.isfinite(galaxies.known_NA[_reached(galaxies, answer)[:GALAXIES]])
        stays_A = answers_that_stay(answer, editor.tree) & ~weak_A
        answered = verdict(before, np.where(reached_GA, after, np.nan), answer, np.ones(len(before)), stays_A)
        change = mean_change(after[:, answer], before[:, answer], fold_in(editor.seed, "change", answer))
        edits.append(Counterfactual(answer, edit, answered, change))
    return edits


def _table(
    edits: list[Counterfactual], p_values: list[float], quality: list[Alignment], tree: DecisionTree
) -> SectionTable:
    rows = []
    for edit, p_value in zip(edits, p_values, strict=True):
        worst = np.bincount(edit.verdict.worst_N[edit.verdict.worst_N >= 0], minlength=1)
        alignment = quality[edit.answer]
        rows.append(
            (tree.title_of(tree.answers[edit.answer]), *edit.verdict.rate(), edit.change.n, *edit.change.interval, p_value,
             float(np.median(edit.verdict.side_effect_N)), tree.title_of(tree.answers[int(worst.argmax())]) if worst.any() else "",
             *alignment.interval, alignment.n)
        )  # fmt: skip
    caption = "Counterfactuals by answer, and the classifier that accepts them."
    return SectionTable.of_rows("counterfactuals", caption, rows, ANSWERS)


def _shown(edit: Counterfactual) -> npt.NDArray[np.int64]:
    """Return the galaxies to show: accepted ones, those with the largest change first."""
    order = np.argsort(-edit.verdict.change_N, kind="stable")
    return order[edit.verdict.accepted[order]][:SHOWN]


def _figure(edits: list[Counterfactual], tree: DecisionTree) -> SectionFigure:
    rows, captions = [], []
    for edit in edits:
        shown = _shown(edit)
        best = int(shown[0]) if len(shown) else int(edit.verdict.change_N.argmax())
        flag = "accepted" if edit.verdict.accepted[best] else "not accepted"
        rows.append(
            (f"{tree.title_of(tree.answers[edit.answer])}\n({flag})", list(edit.edited.images_FGHWC[:, best] / 255))
        )
        captions.append([f"predicted {value:.2f}" for value in edit.edited.predicted_FGA[:, best, edit.answer]])
    return SectionFigure(
        "counterfactuals",
        f"A generated galaxy for each of {len(rows)} answers, with the fraction of the answer from 0 to 1.",
        "Generated galaxies from the same noise, with one fraction from 0 to 1: of each answer the accepted galaxy with "
        "the largest change, or the galaxy with the largest change if none is accepted. Below: the fraction that "
        "the held-out classifier predicts.",
        picture_rows(rows, [f"{fraction:g}" for fraction in FRACTIONS], captions),
    )


def _sliders(edits: list[Counterfactual], tree: DecisionTree) -> str:
    groups = []
    for edit in edits:
        name = tree.title_of(tree.answers[edit.answer])
        galaxies = [
            [
                picture(
                    edit.edited.images_FGHWC[step, row], f"generated galaxy {row + 1}, {name} {fraction:g}", "generated"
                )
                for step, fraction in enumerate(FRACTIONS)
            ]
            for row in _shown(edit).tolist()
        ]
        groups.append(Slider(name, int(edit.verdict.accepted.sum()), edit.change.n, galaxies))
    return sliders(FRACTIONS, groups)


def _statement(edit: Counterfactual, p_value: float, tree: DecisionTree) -> Statement:
    rate: Interval = edit.verdict.rate()
    text = (
        f"Changing '{tree.title_of(tree.answers[edit.answer])}' from 0 to 1 changes its predicted fraction; "
        f"the held-out classifier accepts {rate.value:.0%} [{rate.low:.0%}, {rate.high:.0%}] of the pairs; mean change"
    )
    return Statement(text, *edit.change.interval, edit.change.n, p_value)
