"""Write one round for a person: learn from labels, rank the survey, write a sheet.

Labels are all that a round knows of earlier ones. A labelled object is not shown again. One that
was shown and not labelled is a candidate like any other, so it comes back while it ranks high.

The survey passes twice, block by block: once for the scale of the features, once for the scores. So
memory does not grow with the number of objects, apart from a few bytes for each.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import write_table
from raydistill.escaping import csv_text
from raydistill.figures.pages import picture, render
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.runtime.stages import save_figure
from raydistill.seeding import fold_in
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.hunt.artifact import (
    CANDIDATES,
    CATALOGUE,
    FINDS,
    LABELS,
    ROUND,
    SCORES,
    SCORES_SCHEMA,
    SHEET,
    RoundSummary,
)
from raydistill.stages.hunt.catalogue import catalogue_table, draw_finds, purity_counts, to_votable
from raydistill.stages.hunt.config import FixMatchLearner, Hunt
from raydistill.stages.hunt.inputs.labels import GRADES, WORDS, KnownLabels, LabelFile, known_labels
from raydistill.stages.hunt.inputs.sources import Source, open_sources
from raydistill.stages.hunt.inputs.survey import HuntedSurvey
from raydistill.stages.hunt.learn.learners import (
    Values,
    choose_arithmetic,
    draw_background,
    hunt_of,
    prepare_pictures,
    reads_pictures,
    synthetic_groups,
    train_on_sources,
)
from raydistill.stages.hunt.learn.learning import POOL, BlockScorer, fit_learner, uses_pixels
from raydistill.stages.hunt.learn.ranking import WITHOUT_SCORES, Candidate, Reason, Shortlist
from raydistill.stages.hunt.learn.regression import Bools, Floats, Group, collect
from raydistill.statistics.standardise import Standardiser
from raydistill.storage import Folder
from raydistill.tracking.tracker import Run

log = get_logger(__name__)


def write_round(plan: Plan, spec: ArtifactSpec, curated: CuratedSet, survey: HuntedSurvey, run: Run) -> None:
    """Write the files of a round."""
    folder, arithmetic = spec.folder, choose_arithmetic(plan, spec, run, curated.summary.image_size)
    config = hunt_of(plan, arithmetic)
    known = known_labels(survey, config.labels, config.threshold)
    sources: Sequence[Source] = open_sources(plan, curated)
    values = Values(survey)
    standardiser = scale = Standardiser.of(features for _, features, _ in values.blocks())
    if reads_pictures(config):
        prepare_pictures(plan, survey, folder / PARTIAL)
        values = Values(survey, folder / PARTIAL)
    if config.source_network is not None:
        sources, values = _describe(config, curated, known, sources, values)
        scale = Standardiser.of(features for _, _, features in values.blocks())
    scorer = _fit(config, curated, known, sources, values, scale)
    if scorer is None:
        level = logging.WARNING if len(known.rows) else logging.INFO
        what = "hunt: nothing can be learned from %d labels, %d of them of the target class; the round explores"
        log.log(level, what, len(known.rows), int(known.positive.sum()))
    candidates = _rank(plan, folder, known, values, standardiser, scorer)
    catalogue = catalogue_table(survey, known)
    found, shown = purity_counts(catalogue)
    summary = RoundSummary(
        target=config.target,
        survey=survey.pictures.name,
        number=known.file.next_round,
        num_objects=int(survey.usable_N.sum()),
        num_labels=len(known.rows),
        num_found=int(known.positive.sum()),
        threshold=config.threshold,
        scale=known.file.scale,
        learner="" if scorer is None else config.learner.kind,
        sources=tuple(source.name for source in sources),
        high_shown=shown,
        high_found=found,
    )
    if catalogue:
        folder.write(CATALOGUE, to_votable(catalogue, summary))
    if known.positive.any():
        save_figure(
            spec, run, FINDS, lambda path: draw_finds(path, survey, catalogue, config.picture_size, config.target)
        )
    if summary.scale == "1-5":
        log.info("hunt: grades of %d or more count as %s (hunt.threshold)", config.threshold, config.target)
    write_sheet(plan, folder, survey, known.file, candidates, summary, spec.identity)
    folder.write(ROUND, summary.to_json())


def write_sheet(
    plan: Plan, folder: Folder, survey: HuntedSurvey, labels: LabelFile, candidates: list[Candidate],
    summary: RoundSummary, identity: str,
) -> None:  # fmt: skip
    """Write the contact sheet, the candidates as CSV, and the labels so far."""
    rows = [candidate.row for candidate in candidates]
    names, ids = survey.filenames(rows), survey.ids
    pictures = survey.pictures.larger(rows, plan.config.hunt.picture_size)
    shown = [
        SheetCandidate(name, pixels, candidate.score, candidate.reason)
        for name, pixels, candidate in zip(names, pictures, candidates, strict=True)
    ]
    sheet = contact_sheet(shown, labels, summary, identity[:12])
    write_page(folder, sheet, labels, [ids[row] for row in rows], candidates, names)


def write_page(
    folder: Folder, sheet: str, labels: LabelFile, ids: list[str], candidates: list[Candidate], names: list[str]
) -> None:
    """Write a sheet, the labels so far, and the candidates as CSV."""
    folder.write(SHEET, sheet.encode())
    folder.write(LABELS, labels.text.encode())
    table = [
        (name, object_id, None if math.isnan(candidate.score) else candidate.score, candidate.reason.value)
        for name, object_id, candidate in zip(names, ids, candidates, strict=True)
    ]
    folder.write(CANDIDATES, csv_text([("filename", "object_id", "score", "reason"), *table]).encode())


def _about_synthetics(sources: tuple[str, ...]) -> str:
    if not sources:
        return ""
    return (
        f"The ranking also learned from synthetic galaxies ({', '.join(sources)}); all galaxies here are of the survey."
    )


def _describe(
    config: Hunt, curated: CuratedSet, known: KnownLabels, sources: Sequence[Source], pictures: Values
) -> tuple[list[Source], Values]:
    """Return sources and survey with features of the network trained on the sources."""
    unlabelled = np.setdiff1d(np.flatnonzero(pictures.survey.usable_N), known.rows)
    seed = fold_in(config.seed, "source")
    _, background = pictures.of_rows(draw_background(unlabelled, config.source_background, seed))
    network, described = train_on_sources(config, sources, background, curated.normalisation, seed)
    return described, replace(pictures, network=network)


def _fit(
    config: Hunt, curated: CuratedSet, known: KnownLabels, sources: Sequence[Source], values: Values,
    scale: Standardiser,
) -> BlockScorer | None:  # fmt: skip
    """Return the learner, fitted to labels, background and synthetic examples."""
    usable = np.flatnonzero(values.survey.usable_N)
    background = draw_background(np.setdiff1d(usable, known.rows), config.background, config.seed)
    rows, inputs = values.of_rows(np.concatenate([known.rows, background]))
    wanted = dict(zip(known.rows.tolist(), known.positive.tolist(), strict=True))
    labelled = np.isin(rows, known.rows)
    groups = [
        Group(inputs[labelled], np.array([wanted[row] for row in rows[labelled].tolist()], bool)),
        Group(inputs[~labelled], np.zeros(int((~labelled).sum()), bool)),
        *synthetic_groups(sources, uses_pixels(config.learner), config.synthetic_weight),
    ]
    pool = np.empty((0, 1, 1, 3), np.uint8)
    if isinstance(config.learner, FixMatchLearner):
        _, pool = values.of_rows(draw_background(usable, POOL, fold_in(config.seed, "pool")))
    return fit_learner(
        collect(groups), config.learner, scale, curated.normalisation, pool, fold_in(config.seed, "learner")
    )


def _rank(
    plan: Plan, folder: Folder, known: KnownLabels, values: Values, standardiser: Standardiser,
    scorer: BlockScorer | None,
) -> list[Candidate]:  # fmt: skip
    """Write the scores of all objects, and return the candidates."""
    config = plan.config.hunt
    shares = WITHOUT_SCORES if scorer is None else config.quotas
    shortlist = Shortlist(shares, config.per_round, fold_in(config.seed, "round", len(known.rows)))
    num_objects = len(values.survey.usable_N)
    scores_N: Floats = np.full(num_objects, np.nan)
    labelled_N: Bools = np.zeros(num_objects, bool)
    labelled_N[known.rows] = True
    for rows, features, inputs in values.blocks():
        if scorer is not None:
            scores_N[rows] = scorer.score(inputs)
        free = ~labelled_N[rows]
        if free.any():
            scores = None if scorer is None else scores_N[rows[free]]
            shortlist.add(rows[free], scores, standardiser.apply(features[free]))
    labels = np.zeros(num_objects, bool)
    labels[known.rows] = known.positive
    columns = [
        values.survey.pictures.objects["object_id"].combine_chunks(),
        pa.array(scores_N, mask=np.isnan(scores_N)),
        pa.array(labels, mask=~labelled_N),
    ]
    write_table(folder, SCORES, pa.table(columns, schema=SCORES_SCHEMA))
    return shortlist.candidates()


# Write the contact sheet: a page on which a person labels a round's candidates.
#
# The page is one file, needs no network, and is driven by the keyboard. The browser keeps the labels,
# so a sheet can be left and resumed. It saves all labels, those of earlier rounds too, as one CSV.

Pixels = npt.NDArray[np.uint8]

EXPLANATIONS = {
    Reason.HIGH_SCORE: "high score",
    Reason.UNCERTAIN: "uncertain",
    Reason.DIVERSE: "diverse: unlike the others",
    Reason.RANDOM: "random: exploration",
}


@dataclass(frozen=True)
class SheetCandidate:
    """A candidate on a contact sheet.

    Attributes
    ----------
    filename
        Its name in the CSV.
    pixels_HWC
        Its picture, uint8 [H, W, 3].
    score
        Probability of the target class; NaN: nothing could be learned yet.
    reason
        Why it is shown.
    guess
        The class that the score is of, if there are several.
    """

    filename: str
    pixels_HWC: Pixels
    score: float
    reason: Reason
    guess: str = ""

    @property
    def shown_score(self) -> str:
        """Return the score with three decimals, or "" without one."""
        return "" if math.isnan(self.score) else f"{self.score:.3f}"

    @property
    def why(self) -> str:
        """Return the reason and the score in words."""
        found = " ".join(word for word in (self.guess.replace("_", " "), self.shown_score) if word)
        return EXPLANATIONS[self.reason] + (f" ({found})" if found else "")


class Answers(NamedTuple):
    """The answers of a sheet.

    Parameters
    ----------
    question
        What the sheet asks.
    words
        The labels.
    shown
        What the buttons say.
    keys
        Key of each.
    wanted
        The labels that count as found.
    """

    question: str
    words: Sequence[str]
    shown: Sequence[str]
    keys: Sequence[str]
    wanted: Sequence[str]


def contact_sheet(candidates: Sequence[SheetCandidate], labels: LabelFile, summary: RoundSummary, store: str) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    candidates
        The candidates, in the order in which they are shown.
    labels
        Labels of earlier rounds; new ones follow in the same form.
    summary
        What the round is, and what it looks for.
    store
        Key under which the browser keeps the labels; other for each round.
    """
    question = f"Does it show: {summary.target}? "
    if labels.scale == "1-5":
        question += f"Grades of {summary.threshold} or more count as found."
        wanted = tuple(grade for grade in GRADES if int(grade) >= summary.threshold)
        answers = Answers(question, GRADES, GRADES, GRADES, wanted)
    else:
        words = WORDS[labels.scale]
        answers = Answers(question, words, (f"not {summary.target}", summary.target), ("n", "y"), words[1:])
    return draw_sheet(candidates, labels, answers, f"Round {summary.number}: {summary.target}", summary, store)


def draw_sheet(
    candidates: Sequence[SheetCandidate], labels: LabelFile, answers: Answers, title: str, summary: RoundSummary,
    store: str,
) -> str:  # fmt: skip
    """Return the page as HTML; the parameters are those of `contact_sheet`."""
    return render(
        "contact_sheet.html",
        title=title,
        survey=summary.survey,
        question=answers.question,
        synthetics=_about_synthetics(summary.sources),
        candidates=[
            {"filename": candidate.filename, "why": candidate.why, "picture": picture(candidate.pixels_HWC, "")}
            for candidate in candidates
        ],
        rows=[
            {
                "filename": candidate.filename,
                "why": candidate.why,
                "reason": candidate.reason.value,
                "score": candidate.shown_score,
            }
            for candidate in candidates
        ],
        words=list(answers.words),
        shown=list(answers.shown),
        wanted=list(answers.wanted),
        keys=list(answers.keys),
        columns=list(labels.columns),
        before=labels.text,
        line_end=labels.line_end,
        store=f"raydistill-hunt-{store}",
        round=summary.number,
    )
