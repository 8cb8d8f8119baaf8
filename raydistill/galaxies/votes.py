"""Read vote fractions of a table, and turn them into counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raydistill.errors import CatalogError
from raydistill.galaxies.catalog_schemas import Question
from raydistill.galaxies.classes import ClassTree, require_path
from raydistill.galaxies.numbers import NotANumber, to_numbers
from raydistill.galaxies.tree import DecisionTree
from raydistill.log import get_logger

# Read vote fractions of one question from the columns of a table.

log = get_logger(__name__)

# Fractions are published with three decimals: an excess up to this value is rounding, and is
# clipped.
_ROUNDING = 1e-3

# Fractions with two decimals of seven answers may sum to 1.035.
_ROUNDING_OF_SUM = 0.05


def _numbers(table: pa.Table, name: str, uri: str) -> np.ndarray:
    """Return a column of fractions or counts as float64, NaN for null.

    CatalogError names the first value that is not a number.
    """
    try:
        return to_numbers(table[name].combine_chunks(), "fraction")
    except NotANumber as error:
        what = f"column '{name}' holds '{error.value}' in row {error.row}, which is not a number"
        raise CatalogError(what, uri, "correct it or leave it empty") from error


def fraction_column(table: pa.Table, name: str, uri: str, *, counts: bool = False) -> np.ndarray:
    """Return a column of fractions, or of counts, as float64.

    CatalogError is raised if a value is out of range.
    """
    values = _numbers(table, name, uri)
    outside = (values < -_ROUNDING) | (np.isinf(values) if counts else values > 1 + _ROUNDING)
    if outside.any():
        row = int(np.argmax(outside))
        where = f"in {int(outside.sum())} rows (row {row + 1}: {values[row]:g})"
        if counts:
            raise CatalogError(f"column '{name}' is not a number of votes {where}", uri, "correct it or leave it empty")
        what = f"column '{name}' is outside [0, 1] {where}"
        raise CatalogError(what, uri, "check that it holds fractions, not counts")
    return np.asarray(np.clip(values, 0.0, None if counts else 1.0))


def conditional_fractions(table: pa.Table, question: Question, uri: str) -> np.ndarray:
    """Return float64 `[N, answers]`, each answer's fraction among volunteers asked.

    A row of zeros means that no volunteer was asked, and becomes NaN. So does a row whose column of
    the votes on the question is 0.

    Raises
    ------
    CatalogError
        If a value is out of range, if fractions sum to more than 1, or if the answers have more
        votes than the question.
    """
    counts = question.holds == "counts"
    values = np.stack([fraction_column(table, name, uri, counts=counts) for name in question.columns], axis=1)
    total = np.nansum(values, axis=1)
    unasked = total <= 0
    if question.checked:
        if question.holds == "conditional":
            _check_sums(total, question, uri)
        if question.total:
            unasked |= _without_votes(table, total, question, uri)
    if question.holds != "conditional":
        values = values / np.where(unasked, 1.0, total)[:, None]
    return np.where(unasked[:, None], np.nan, values)


def _check_sums(sums: np.ndarray, question: Question, uri: str) -> None:
    """Raise CatalogError if fractions sum to more than 1; warn if they sum to less."""
    above = sums > 1 + _ROUNDING_OF_SUM
    first = question.columns[0]
    if above.any():
        row = int(np.argmax(above))
        what = f"the fractions of '{first}' and its question's other answers sum to {sums[row]:.4g} in row {row + 1}"
        raise CatalogError(what, uri, "check that they are fractions of the volunteers who were asked")
    below = (sums > 0) & (sums < 1 - _ROUNDING_OF_SUM)
    if below.any():
        row = int(np.argmax(below))
        log.warning(
            "curate: the fractions of '%s' and its question's other answers sum to less than 1 in %d rows "
            "(row %d: %.4g); they are read as they are",
            first, int(below.sum()), row + 1, sums[row],
        )  # fmt: skip


def _without_votes(table: pa.Table, sums: np.ndarray, question: Question, uri: str) -> np.ndarray:
    """Return bool `[N]`: the question has no votes."""
    assert question.total is not None
    votes = fraction_column(table, question.total, uri, counts=True)
    if question.holds == "counts" and (above := sums > 1.001 * votes + 0.5).any():
        row = int(np.argmax(above))
        what = f"the answers have {sums[row]:g} votes in row {row + 1}, and '{question.total}' is {votes[row]:g}"
        raise CatalogError(
            what, uri, f"correct the columns of '{question.columns[0]}' and its question's other answers"
        )
    without = votes <= 0
    if (contradictory := without & (sums > 0)).any():
        log.warning(
            "curate: '%s' is 0 in %d rows that have fractions (row %d); no volunteer was asked there",
            question.total, int(contradictory.sum()), int(np.argmax(contradictory)) + 1,
        )  # fmt: skip
    return np.asarray(without)


def sum_of_votes(table: pa.Table, questions: Sequence[Question], uri: str) -> np.ndarray | None:
    """Return the number of answers to all questions, `[N]`; None if it is unknown.

    It is NaN where a question has answers but no total. Predictions in proportion to numbers of votes
    are not whole numbers, and tell nothing.
    """
    asked = [question for question in questions if question.columns]
    if totals := [question.total for question in asked if question.total]:
        if len(totals) < len(asked):
            return None
        totals_QN = np.array([_numbers(table, name, uri) for name in totals])
        if not np.isnan(totals_QN).any():
            return np.asarray(totals_QN.sum(axis=0))
        answered_QN = np.array(
            [np.isfinite([_numbers(table, name, uri) for name in one.columns]).any(axis=0) for one in asked]
        )
        unknown_N = (np.isnan(totals_QN) & answered_QN).any(axis=0) | np.isnan(totals_QN).all(axis=0)
        return np.where(unknown_N, np.nan, np.nansum(totals_QN, axis=0))
    if not all(question.holds == "counts" and question.checked for question in asked):
        return None
    counts = np.nan_to_num([_numbers(table, name, uri) for question in asked for name in question.columns])
    return np.asarray(counts.sum(axis=0)) if np.array_equal(counts, np.round(counts)) else None


# Turn vote fractions into counts of votes, for the questions on paths of classes.
#
# Tables publish fractions, and few of them counts. The tree tells which part P_q of the volunteers
# reaches question q: all of them at the first questions, later the sum of P f over the answers that
# lead to q, with their fractions f. With V votes on all questions, the number of volunteers is
# V / sum_q P_q, and answer a of question q has that number times P_q f_a votes, rounded.
#
# Raw fractions give the counts back. Weighted or debiased ones give effective counts: those of as
# many volunteers who agree with the published fractions.

ASSUMED_VOLUNTEERS = 40  # for a galaxy without a number of votes; Galaxy Zoo 2 has a median of 44


@dataclass(frozen=True)
class PathQuestions:
    """The questions that the paths of classes answer.

    Attributes
    ----------
    keys
        Name of each question.
    sizes
        Number of its answers.
    columns
        Positions of all their answers in `tree.answers`.
    paths
        Path of each class: its steps, each with the positions of alternative answers in `columns`.
    """

    keys: tuple[str, ...]
    sizes: tuple[int, ...]
    columns: tuple[int, ...]
    paths: tuple[tuple[tuple[int, ...], ...], ...]

    @staticmethod
    def of(classes: ClassTree) -> PathQuestions:
        """Return the questions of a class tree. ConfigError if a class has no path."""
        for galaxy_class in classes.classes:
            require_path(galaxy_class)
        tree = classes.tree
        asked = {task.number for galaxy_class in classes.classes for task in galaxy_class.tasks}
        tasks = [task for task in tree.tasks if task.number in asked]
        stems = [answer.column for task in tasks for answer in task.answers]
        position = {stem: number for number, stem in enumerate(stems)}
        paths = (
            tuple(tuple(position[stem] for stem in step) for step in galaxy_class.path)
            for galaxy_class in classes.classes
        )
        return PathQuestions(
            tuple(task.key for task in tasks),
            tuple(len(task.answers) for task in tasks),
            tuple(tree.index[stem] for stem in stems),
            tuple(paths),
        )


def vote_counts(fractions_NA: np.ndarray, total_votes_N: np.ndarray, tree: DecisionTree) -> np.ndarray:
    """Return the number of votes for each answer, float64 `[N, A]` of whole numbers.

    Parameters
    ----------
    fractions_NA
        Fraction of each answer among the volunteers who were asked, in the order of
        `tree.answers`. NaN: no volunteer was asked, or the table lacks the question.
    total_votes_N
        Votes on all questions. NaN: unknown, and `ASSUMED_VOLUNTEERS` stand for them.
    """
    fractions_NA = np.asarray(fractions_NA, dtype=np.float64)
    known_NA = np.nan_to_num(fractions_NA, nan=0.0)
    reached_NA = np.zeros_like(known_NA)
    asked_N = np.zeros(len(known_NA))
    for task in tree.tasks:
        leading = [tree.index[stem] for stem in task.asked_after]
        part_N = (reached_NA * known_NA)[:, leading].sum(axis=1) if leading else np.ones(len(known_NA))
        columns = tree.columns_of(task)
        reached_NA[:, columns] = part_N[:, None]
        asked_N += np.where(np.isnan(fractions_NA[:, columns]).all(axis=1), 0.0, part_N)
    volunteers_N = np.divide(total_votes_N, asked_N, out=np.full(len(asked_N), np.nan), where=asked_N > 0)
    volunteers_N = np.where(np.isnan(volunteers_N), float(ASSUMED_VOLUNTEERS), volunteers_N)
    return np.asarray(np.round(volunteers_N[:, None] * reached_NA * known_NA))
