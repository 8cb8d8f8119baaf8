"""Decision trees of Galaxy Zoo: the questions, and which answers lead to them.

Every volunteer starts at the first question, and the answers decide which questions follow. So most
questions are asked of some volunteers only. `DecisionTree.answers` fixes the order of the vote
fractions in this package. `trees` holds the trees themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from raydistill.errors import ConfigError, nearest


@dataclass(frozen=True)
class Answer:
    """One answer.

    Parameters
    ----------
    key : str
        Its name within the question.
    column : str
        The stem of its columns, e.g. `t01_smooth_or_features_a01_smooth`.
    number : int
        Its number in the survey's publications; 0 if answers have none.
    also : tuple of str
        Other names within the question, which some releases have.
    """

    key: str
    column: str
    number: int = 0
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One question; `asked_after`: answers that lead to it, empty if all are asked."""

    number: int
    key: str
    answers: tuple[Answer, ...]
    asked_after: tuple[str, ...]


@dataclass(frozen=True)
class DecisionTree:
    """The questions of a survey.

    Parameters
    ----------
    name : str
        Its name in a YAML file of classes.
    title : str
        Its name in sentences.
    tasks : tuple of Task
        The questions; a question stands after those that lead to it.
    thresholds : mapping
        Presets of thresholds. A preset gives, for the number of a question, the smallest fraction
        of the answers before it with which its votes are reliable.
    """

    name: str
    title: str
    tasks: tuple[Task, ...]
    thresholds: Mapping[str, Mapping[int, float]] = field(default_factory=dict, compare=False)

    @cached_property
    def answers(self) -> tuple[str, ...]:
        """Return the column stems of all answers, in the order of the vote fractions."""
        return tuple(answer.column for task in self.tasks for answer in task.answers)

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Return the position of each answer, by column stem."""
        return {stem: i for i, stem in enumerate(self.answers)}

    @cached_property
    def task_of(self) -> Mapping[str, Task]:
        """Return the question of each answer, by column stem."""
        return {answer.column: task for task in self.tasks for answer in task.answers}

    def title_of(self, stem: str) -> str:
        """Return an answer in words: "QUESTION: ANSWER"."""
        task = self.task_of[stem]
        key = next(answer.key for answer in task.answers if answer.column == stem)
        return f"{task.key}: {key}".replace("_", " ")

    def columns_of(self, task: Task) -> slice:
        """Return the positions of the question's answers among all answers."""
        start = self.index[task.answers[0].column]
        return slice(start, start + len(task.answers))

    @cached_property
    def _by_spelling(self) -> dict[str, tuple[str, ...]]:
        known: dict[str, tuple[str, ...]] = {}
        for task in self.tasks:
            for answer in task.answers:
                for word in dict.fromkeys(map(_plain, _spellings(task, answer))):
                    known[word] = (*known.get(word, ()), answer.column)
        return known

    def knows(self, word: str) -> bool:
        """Return whether `resolve` finds an answer, perhaps several."""
        return _plain(word) in self._by_spelling

    def resolve(self, word: str, where: str = "") -> str:
        """Return the column stem of an answer.

        Parameters
        ----------
        word : str
            The stem, the answer's name with that of the question (`bulge_shape_no_bulge`), or the
            bare name if only one question has it (`smooth`, but not `yes`). Galaxy Zoo 2 also knows
            `a27` and `a27_no_bulge`. Case, blanks and hyphens do not matter.
        where : str
            Where the word is written, for the error message.

        Raises
        ------
        ConfigError
            If the word is unknown (with the nearest known one) or ambiguous (with all its
            meanings).
        """
        key = _plain(word)
        stems = self._by_spelling.get(key, ())
        if len(stems) == 1:
            return stems[0]
        if stems:
            raise ConfigError(f"the answer '{word}' is ambiguous", where, f"write one of: {', '.join(stems)}")
        known = sorted(key for key, stems in self._by_spelling.items() if len(stems) == 1)
        raise ConfigError(f"{self.title} has no answer '{word}'", where, nearest(key, known))


def _plain(word: str) -> str:
    return word.strip().lower().replace("-", "_").replace(" ", "_")


def _spellings(task: Task, answer: Answer) -> tuple[str, ...]:
    number = f"a{answer.number:02d}"
    numbered = (number, f"{number}_{answer.key}") if answer.number else ()
    keys = (answer.key, *answer.also)
    return (answer.column, *numbered, *(f"{task.key}_{key}" for key in keys), *keys)
