"""Write one round of a hunt for several classes."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from raydistill.artifacts.tables import write_table
from raydistill.log import get_logger
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.seeding import fold_in
from raydistill.stages.hunt.artifact import CLASSES, CLASSES_SCHEMA, ROUND, RoundSummary
from raydistill.stages.hunt.config import Regression
from raydistill.stages.hunt.inputs.labels import COLUMNS, LabelFile, by_row, new_labels, read_label_file, rows_of
from raydistill.stages.hunt.inputs.survey import HuntedSurvey
from raydistill.stages.hunt.learn.classes import ClassHead, ClassShortlists, accuracy_on_labels
from raydistill.stages.hunt.learn.learners import Values
from raydistill.stages.hunt.learn.ranking import Candidate
from raydistill.stages.hunt.round import Answers, SheetCandidate, draw_sheet, write_page
from raydistill.statistics.standardise import Standardiser

log = get_logger(__name__)


def write_class_round(plan: Plan, spec: ArtifactSpec, survey: HuntedSurvey) -> None:
    """Write the files of a round."""
    config = plan.config.hunt
    assert isinstance(config.learner, Regression)  # `Hunt` has checked it
    classes, strength = config.classes, config.learner.strength
    file = new_labels(COLUMNS) if config.labels is None else read_label_file(config.labels, classes)
    meanings, where = file.by_filename(classes.index), config.labels or ""
    label_of = by_row(rows_of(survey, meanings, where), meanings, where)
    rows_L, features_LF = Values(survey).of_rows(np.array(sorted(label_of), np.int64))
    labels_L = np.array([label_of[row] for row in rows_L.tolist()], np.int64)
    standardiser = Standardiser.of(features for _, features in survey.blocks())
    head, accuracy = None, math.nan
    if len(np.unique(labels_L)) >= 2:
        head = ClassHead.fit(features_LF, labels_L, len(classes), standardiser, strength)
        accuracy = accuracy_on_labels(features_LF, labels_L, len(classes), standardiser, strength, config.seed)
    else:
        log.info("hunt: nothing can be learned from labels of %d classes; the round explores", len(np.unique(labels_L)))
    seed = fold_in(config.seed, "round", len(rows_L))
    shortlists = ClassShortlists(config.class_quotas, config.per_round, seed, len(classes) if head else 0)
    probability_NK = np.full((len(survey.usable_N), len(classes)), np.nan, np.float32)
    for rows, features in survey.blocks():
        probabilities = None if head is None else head.probabilities(features)
        if probabilities is not None:
            probability_NK[rows] = probabilities
        free = ~np.isin(rows, rows_L)
        some = None if probabilities is None else probabilities[free]
        shortlists.add(rows[free], some, standardiser.apply(features[free]))
    _write_classes(spec, survey, classes, probability_NK, label_of)
    counts = {name: int((labels_L == k).sum()) for k, name in enumerate(classes)}
    summary = RoundSummary(
        target=config.target, survey=survey.pictures.name, number=file.next_round,
        num_objects=int(survey.usable_N.sum()), num_labels=len(rows_L), num_found=len(rows_L), threshold=config.threshold,
        scale="classes", learner="" if head is None else config.learner.kind, sources=(), labelled=counts,
        accuracy=None if math.isnan(accuracy) else accuracy,
    )  # fmt: skip
    _write_sheet(plan, spec, survey, file, shortlists.candidates(), probability_NK, summary)
    spec.folder.write(ROUND, summary.to_json())


def _write_classes(
    spec: ArtifactSpec,
    survey: HuntedSurvey,
    classes: tuple[str, ...],
    probability_NK: np.ndarray,
    label_of: dict[int, int],
) -> None:
    """Write probabilities, most probable class and label of every object."""
    known_N = ~np.isnan(probability_NK[:, 0])
    offsets = pa.array(np.concatenate([[0], np.cumsum(known_N * len(classes))]).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(probability_NK[known_N].ravel()), mask=pa.array(~known_N))
    names = pa.array(classes, pa.string())
    likely = np.where(known_N, np.nan_to_num(probability_NK).argmax(axis=1), 0)
    columns = [
        survey.pictures.objects["object_id"].combine_chunks(),
        names.take(pa.array(likely, mask=~known_N)),
        lists,
        names.take(pa.array([label_of.get(row) for row in range(len(known_N))], pa.int64())),
    ]
    write_table(spec.folder, CLASSES, pa.table(columns, schema=CLASSES_SCHEMA))


def _write_sheet(
    plan: Plan, spec: ArtifactSpec, survey: HuntedSurvey, file: LabelFile, candidates: list[Candidate],
    probability_NK: np.ndarray, summary: RoundSummary,
) -> None:  # fmt: skip
    config, rows = plan.config.hunt, [candidate.row for candidate in candidates]
    classes = config.classes
    names, ids = survey.filenames(rows), survey.ids
    pictures = survey.pictures.larger(rows, config.picture_size)
    shown = []
    for name, pixels, candidate in zip(names, pictures, candidates, strict=True):
        own_K = probability_NK[candidate.row]
        guess = "" if np.isnan(own_K[0]) else classes[int(own_K.argmax())]
        shown.append(SheetCandidate(name, pixels, float(own_K.max()), candidate.reason, guess))
    keys = [str(n + 1) for n in range(len(classes))]
    answers = Answers("Which class is it?", classes, [name.replace("_", " ") for name in classes], keys, classes)
    title = f"Round {summary.number}: {len(classes)} classes"
    page = draw_sheet(shown, file, answers, title, summary, spec.identity[:12])
    write_page(spec.folder, page, file, [ids[row] for row in rows], candidates, names)
