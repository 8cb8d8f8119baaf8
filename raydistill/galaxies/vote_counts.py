"""Turn vote fractions into counts of votes, for the questions on paths of classes.

Tables publish fractions, and few of them counts. The tree tells which part P_q of the volunteers
reaches question q: all of them at the first questions, later the sum of P f over the answers that
lead to q, with their fractions f. With V votes on all questions, the number of volunteers is
V / sum_q P_q, and answer a of question q has that number times P_q f_a votes, rounded.

Raw fractions give the counts back. Weighted or debiased ones give effective counts: those of as
many volunteers who agree with the published fractions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raydistill.galaxies.classes import ClassTree, require_path
from raydistill.galaxies.tree import DecisionTree

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
