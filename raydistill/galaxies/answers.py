"""Read the requested vote fractions: `{smooth: 0.9, features_or_disk: 0.1}`.

A question is *named* if one of its answers is. The other answers of a named question count as 0,
and its fractions sum to 1. Questions that are not named are unknown (NaN).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.tree import DecisionTree, Task

# Fractions that a user types have two decimals or more: seven answers may sum to 1.035, but one that
# is left out is nearly always larger than 0.01.
SUM_TOLERANCE = 0.01
# Tables are published with two decimals or more (`galaxies.votes`).
TABLE_SUM_TOLERANCE = 0.05


def parse_answers(answers: Mapping[str, float], tree: DecisionTree, where: str = "answers") -> np.ndarray:
    """Return the fractions of all answers of a tree.

    Parameters
    ----------
    answers
        Fraction in [0, 1] of each named answer, in any spelling of `DecisionTree.resolve`.
    tree
        The questions of the survey.
    where
        The config key, for error messages.

    Returns
    -------
    numpy.ndarray
        float32 [A], in the order of `tree.answers`. NaN: the question is not named.

    Raises
    ------
    ConfigError
        An answer is unknown, ambiguous or given twice; a fraction is not a number in [0, 1]; the
        fractions of a question do not sum to 1 within `SUM_TOLERANCE`; or a question cannot be
        reached, because the answers that lead to it have the fraction 0.
    """
    given: dict[str, float] = {}
    for word, value in answers.items():
        stem = tree.resolve(word, where)
        if stem in given:
            raise ConfigError(f"two keys name the answer '{stem}'", where, "remove one of them")
        given[stem] = _checked(word, float(value), where)
    votes_A = np.full(len(tree.answers), np.nan)
    for task in tree.tasks:
        named = [answer.column for answer in task.answers if answer.column in given]
        if named:
            votes_A[tree.columns_of(task)] = [given.get(answer.column, 0.0) for answer in task.answers]
            _check_sum(votes_A, task, len(named), tree, where)
    if contradiction := find_contradiction(votes_A, tree):
        raise ConfigError(contradiction, where, "leave it out, or give that answer a fraction")
    return votes_A.astype(np.float32)


def check_votes(votes_NA: np.ndarray, tree: DecisionTree, where: str, *, sums: bool = True) -> None:
    """Check the votes of a table.

    Parameters
    ----------
    votes_NA
        float [N, A], fractions in [0, 1] in the order of `tree.answers`; NaN is unknown.
    tree
        The questions of the survey.
    where
        The table, for the message.
    sums
        Whether the fractions of a question must sum to 1; debiased fractions need not.

    Raises
    ------
    CatalogError
        In a row, the fractions of a question do not sum to 1 within `TABLE_SUM_TOLERANCE`, or its
        answers contradict the tree.
    """
    votes_NA = np.asarray(votes_NA, np.float64)
    for task in tree.tasks if sums else ():
        totals = np.nansum(votes_NA[:, tree.columns_of(task)], axis=1)
        known = ~np.isnan(votes_NA[:, tree.columns_of(task)]).all(axis=1)
        if (wrong := known & (abs(totals - 1) > TABLE_SUM_TOLERANCE)).any():
            row = int(wrong.argmax())
            what = f"row {row + 1}: the fractions of the question '{task.key}' sum to {totals[row]:.4g}, not to 1"
            raise CatalogError(
                f"{what} (within {TABLE_SUM_TOLERANCE})", where, "correct them, or leave all of them empty"
            )
    for row in np.flatnonzero((votes_NA == 0).any(axis=1)).tolist():
        if contradiction := find_contradiction(votes_NA[row], tree):
            fix = "leave that question empty, or give that answer a fraction"
            raise CatalogError(f"row {row + 1}: {contradiction}", where, fix)


def replace_answers(votes_NA: np.ndarray, answers_A: np.ndarray, tree: DecisionTree) -> np.ndarray:
    """Return votes with the known questions of `answers_A` replaced in every row.

    Questions that can no longer be reached become unknown.

    Parameters
    ----------
    votes_NA
        float [N, A], fractions in the order of `tree.answers`; NaN where unknown.
    answers_A
        float [A], the result of `parse_answers`.
    tree
        The questions of the survey.

    Returns
    -------
    numpy.ndarray
        float32 [N, A].
    """
    edited_NA = np.where(np.isnan(answers_A), votes_NA, answers_A).astype(np.float32)
    for row_A in edited_NA:
        reach = reached(row_A, tree)
        for task in tree.tasks:
            if reach[task.number] == 0:
                row_A[tree.columns_of(task)] = np.nan
    return edited_NA


def find_contradiction(votes_A: np.ndarray, tree: DecisionTree) -> str | None:
    """Return what contradicts the tree: votes on an unreachable question; or None."""
    reach = reached(votes_A, tree)
    for task in tree.tasks:
        if reach[task.number] == 0 and np.nansum(votes_A[tree.columns_of(task)]) > 0:
            zero = " or ".join(f"'{stem}'" for stem in _zero_ancestors(task, votes_A, tree))
            return f"the question '{task.key}' is only asked after {zero}, whose fraction is 0"
    return None


def reliable(votes_NA: np.ndarray, tree: DecisionTree, smallest: float = 0.5) -> np.ndarray:
    """Return votes, float64 [N, A]; NaN if a fraction below `smallest` was asked."""
    votes_NA = np.array(votes_NA, np.float64)
    for row_A in votes_NA:
        fractions = reached(row_A, tree)
        for task in tree.tasks:
            if fractions[task.number] < smallest:
                row_A[tree.columns_of(task)] = np.nan
    return votes_NA


def describe_votes(votes_A: np.ndarray, tree: DecisionTree) -> list[str]:
    """Return the most frequent answer to each question on the path of such answers.

    Parameters
    ----------
    votes_A
        Conditional vote fractions in the order of `tree.answers`; NaN where no volunteer was asked.
    tree
        The decision tree.

    Returns
    -------
    list of str
        An entry per question, such as "smooth or features: features or disk (0.91)".
    """
    chosen: list[str] = []
    words: list[str] = []
    for task in tree.tasks:
        if task.asked_after and not set(task.asked_after) & set(chosen):
            continue
        fractions = np.asarray(votes_A[tree.columns_of(task)], float)
        if np.isnan(fractions).all():
            continue
        best = int(np.nanargmax(fractions))
        answer = task.answers[best]
        chosen.append(answer.column)
        words.append(f"{tree.title_of(answer.column)} ({fractions[best]:.2f})")
    return words


def _checked(word: str, value: float, where: str) -> float:
    if math.isnan(value):
        raise ConfigError(f"the fraction of '{word}' is not a number", where, "give a number in [0, 1]")
    if not 0 <= value <= 1:
        raise ConfigError(f"the fraction of '{word}' is {value:g}, outside [0, 1]", where, "give a number in [0, 1]")
    return value


def _check_sum(votes_A: np.ndarray, task: Task, num_named: int, tree: DecisionTree, where: str) -> None:
    total = float(votes_A[tree.columns_of(task)].sum())
    if abs(total - 1) <= SUM_TOLERANCE:
        return
    keys = ", ".join(f"{task.key}_{answer.key}" for answer in task.answers)
    what = f"the fractions of the question '{task.key}' sum to {total:.4g}, not to 1 (within {SUM_TOLERANCE})"
    fix = "correct them" if num_named == len(task.answers) else f"give all its answers: {keys}"
    raise ConfigError(what, where, fix)


def reached(votes_A: np.ndarray, tree: DecisionTree) -> dict[int, float]:
    """Return an upper bound of the fraction of volunteers who reach each question.

    The keys are the numbers of the questions. An unknown answer may have any fraction, so it counts
    as 1.
    """
    reach: dict[int, float] = {}
    for task in tree.tasks:  # a question stands after those that lead to it
        before = [votes_A[tree.index[stem]] for stem in task.asked_after]
        fractions = [1.0 if np.isnan(value) else float(value) for value in before]
        sources = [reach[tree.task_of[stem].number] for stem in task.asked_after]
        reach[task.number] = sum(map(lambda a, b: a * b, fractions, sources)) if before else 1.0
    return reach


def _zero_ancestors(task: Task, votes_A: np.ndarray, tree: DecisionTree) -> list[str]:
    """Return the nearest answers with the fraction 0 that lead to a question."""
    zeros: list[str] = []
    for stem in task.asked_after:
        of_stem = [stem] if votes_A[tree.index[stem]] == 0 else _zero_ancestors(tree.task_of[stem], votes_A, tree)
        zeros += [answer for answer in of_stem if answer not in zeros]
    return zeros
