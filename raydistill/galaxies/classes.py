"""Galaxy classes as paths in the decision tree.

A class is a path of steps. A step is one answer, or several alternative answers to the same
question (a rounded *or* boxy bulge), whose fractions are added. The confidence of a class is the
product of its steps' fractions: the probability that a volunteer follows that path.

`class_paths` holds builtin sets of classes; a YAML file holds any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from raydistill.errors import ConfigError, describe_yaml_error, join_hint, nearest
from raydistill.galaxies.class_paths import BUILTIN_PATHS, Paths
from raydistill.galaxies.labels import LabelIndex, LabelledClass, spell
from raydistill.galaxies.tree import DecisionTree, Task
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.storage import open_stream
from raydistill.storage.yaml_limits import MAX_TEXT, read_yaml

UNLABELLED = "unlabelled"  # value of `curate.classes`, and the only class of such a set


@dataclass(frozen=True)
class GalaxyClass:
    """A class with its path in the decision tree.

    Parameters
    ----------
    name : str
    path : tuple of tuples of str
        One tuple of alternative answers per step, in any spelling of `DecisionTree.resolve`. They
        are stored as column stems. A class with an empty path gets its galaxies from labels only.
    labels : tuple of str
        Its labels in a table of labels. Empty: its name.
    tree : DecisionTree
        The questions that its path answers.

    Raises
    ------
    ConfigError
        If an answer is unknown, if a question occurs in two steps, or if the path lacks the answer
        that leads to a question.
    """

    name: str
    path: tuple[tuple[str, ...], ...] = ()
    labels: tuple[str, ...] = ()
    tree: DecisionTree = GZ2

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", spell(self.name))
        object.__setattr__(self, "labels", tuple(dict.fromkeys(map(spell, self.labels))))
        where = f"class '{self.name}'"
        stems = tuple(tuple(self.tree.resolve(answer, where) for answer in step) for step in self.path)
        tasks = [_task_of_step(self.tree, step, where) for step in stems]
        if len({task.number for task in tasks}) < len(tasks):
            twice = next(task.key for task in tasks if tasks.count(task) > 1)
            raise ConfigError(
                f"the path answers '{twice}' in two steps",
                where,
                "put alternative answers into one step: [rounded, boxy]",
            )
        answers = {stem for step in stems for stem in step}
        for task in tasks:
            if task.asked_after and answers.isdisjoint(task.asked_after):
                # Fractions count only volunteers who were asked: the few on a wrong path may all
                # agree.
                what = f"'{task.key}' is only asked after {' or '.join(task.asked_after)}, which is not in the path"
                raise ConfigError(what, where, "add it before that step")
        object.__setattr__(self, "path", stems)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Return the question of each step."""
        return tuple(self.tree.task_of[step[0]] for step in self.path)


def _task_of_step(tree: DecisionTree, step: tuple[str, ...], where: str) -> Task:
    if not step:
        raise ConfigError("a step of the path is empty", where, "name at least one answer")
    if len({tree.task_of[stem].number for stem in step}) > 1:
        raise ConfigError(
            f"the alternatives {', '.join(step)} answer different questions",
            where,
            "alternatives must answer the same question",
        )
    if len(set(step)) < len(step):
        raise ConfigError(f"a step names {step[0]} twice", where, "name each alternative once")
    return tree.task_of[step[0]]


LISTED = "list"  # name of the tree of a list of labels


@dataclass(frozen=True)
class ClassTree:
    """The classes to which galaxies are assigned; a class's position is its label."""

    name: str
    classes: tuple[GalaxyClass, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise ConfigError("it has no classes", f"class tree '{self.name}'", "list at least one")
        repeated = [name for name in self.names if self.names.count(name) > 1]
        if repeated:
            raise ConfigError(
                f"two classes are called '{repeated[0]}'", f"class tree '{self.name}'", "give each its own name"
            )
        assert all(galaxy_class.tree == self.tree for galaxy_class in self.classes)

    @property
    def tree(self) -> DecisionTree:
        """Return the questions that the paths of the classes answer."""
        return self.classes[0].tree

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(galaxy_class.name for galaxy_class in self.classes)

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """Return the labels of each class in a table of labels."""
        return tuple(galaxy_class.labels or (galaxy_class.name,) for galaxy_class in self.classes)

    def confidence(self, votes: np.ndarray) -> np.ndarray:
        """Return the product of the vote fractions along the path of each class.

        Parameters
        ----------
        votes : float `[N, A]`
            The fraction of each answer among the volunteers who were asked, in the order of
            `tree.answers`. NaN (no volunteer was asked) counts as 0.

        Returns
        -------
        float64 `[N, K]`
            Values in [0, 1]. Debiased fractions of one question need not sum to 1, so a sum over
            alternatives is clipped at 1.

        Raises
        ------
        ConfigError
            If a class has no path.
        ValueError
            If `votes` has another shape.
        """
        votes = np.nan_to_num(np.asarray(votes, dtype=np.float64), nan=0.0)
        if votes.ndim != 2 or votes.shape[1] != len(self.tree.answers):
            raise ValueError(f"votes must be [N, {len(self.tree.answers)}], not {list(votes.shape)}")
        columns = [path_confidence(votes, galaxy_class) for galaxy_class in self.classes]
        return np.stack(columns, axis=1)

    def probabilities(self, votes: np.ndarray) -> np.ndarray:
        """Return each class's probability: p_k = c_k / sum_j c_j, with `confidence` c.

        Parameters
        ----------
        votes : float `[N, A]`
            As in `confidence`.

        Returns
        -------
        float64 `[N, K]`
            Rows sum to 1. Votes for paths outside the tree, such as artifacts, are distributed in
            proportion, so the most probable class is the assigned one.

        Raises
        ------
        ValueError
            If a galaxy has no confidence in any class.
        """
        confidence = self.confidence(votes)
        total = confidence.sum(axis=1, keepdims=True)
        if not (total > 0).all():
            raise ValueError(f"the votes of row {int((total <= 0).argmax())} lead to none of the classes")
        return confidence / total


def find_class(name: str, names: Sequence[str], where: str = "") -> int:
    """Return a class's label; ConfigError with the nearest name for an unknown one."""
    name, names = spell(name), [spell(other) for other in names]
    if name not in names:
        raise ConfigError(f"there is no class '{name}'", where, nearest(name, tuple(names)))
    return names.index(name)


def require_path(galaxy_class: GalaxyClass) -> None:
    """Raise ConfigError for a class that votes cannot be assigned to."""
    if not galaxy_class.path:
        raise ConfigError(
            "the class has no path in the decision tree, so votes cannot be assigned to it",
            f"class '{galaxy_class.name}'",
            "give it a path, or use a catalogue with labels",
        )


def path_confidence(votes: np.ndarray, galaxy_class: GalaxyClass) -> np.ndarray:
    """Return the product of step fractions, `[N]`, of votes `[N, A]` without NaN."""
    require_path(galaxy_class)
    confidence = np.ones(len(votes))
    for step in galaxy_class.path:
        confidence *= np.minimum(votes[:, [galaxy_class.tree.index[stem] for stem in step]].sum(axis=1), 1.0)
    return confidence


def _builtin(name: str, tree: DecisionTree, paths: Paths) -> ClassTree:
    steps = {key: tuple(step if isinstance(step, tuple) else (step,) for step in path) for key, path in paths.items()}
    return ClassTree(name, tuple(GalaxyClass(key, path, tree=tree) for key, path in steps.items()))


BUILTIN_TREES = {name: _builtin(name, *entry) for name, entry in BUILTIN_PATHS.items()}
GZ2_NINE, GZ2_FIVE = BUILTIN_TREES["gz2-9"], BUILTIN_TREES["gz2-5"]


def unlabelled(tree: DecisionTree = GZ2) -> ClassTree:
    """Return the tree of a set without classes, whose votes follow `tree`."""
    return ClassTree(UNLABELLED, (GalaxyClass(UNLABELLED, tree=tree),))


def load_class_tree(name_or_yaml_path: str | Sequence[str | int | LabelledClass]) -> ClassTree:
    """Return a tree: builtin, of a YAML file, or of labels without paths.

    Parameters
    ----------
    name_or_yaml_path : str or sequence of str, int or LabelledClass
        A name in `BUILTIN_TREES`, "unlabelled", the path or URI of a YAML file, or a list of
        labels.

    Raises
    ------
    ConfigError
        If the name is unknown, if the file cannot be opened or parsed, or if two classes share a
        label.

    Notes
    -----
    In the YAML file, a list inside a path holds alternatives, and answers may have any spelling of
    `DecisionTree.resolve`:

        name: my-tree
        classes:
          - name: edge_on_bulge
            path: [features_or_disk, edgeon_yes, [rounded, boxy]]
          - name: round
            path: [smooth, completely_round]

    `tree: gz-decals` beside `name` gives answers of another decision tree than Galaxy Zoo 2's; see
    `trees.TREES`.

    For tables of labels the paths may be left out: `classes: [cat, dog]`.
    """
    if not isinstance(name_or_yaml_path, str):
        tree = ClassTree(LISTED, tuple(_listed_class(entry) for entry in name_or_yaml_path))
        LabelIndex(tree.labels)  # raises for a label of two classes
        return tree
    if name_or_yaml_path in BUILTIN_TREES:
        return BUILTIN_TREES[name_or_yaml_path]
    if name_or_yaml_path == UNLABELLED:
        return unlabelled()
    if not name_or_yaml_path.endswith((".yaml", ".yml")):
        hint = nearest(name_or_yaml_path, (*BUILTIN_TREES, UNLABELLED))
        fix = join_hint(hint, "Give your own classes as a .yaml file, or labels in brackets: [a, b]")
        raise ConfigError(f"there is no class tree '{name_or_yaml_path}'", "", fix)
    try:
        with open_stream(name_or_yaml_path) as stream:
            content = read_yaml(stream.read(MAX_TEXT + 1))
    except OSError as error:
        raise ConfigError("this class tree cannot be opened", name_or_yaml_path, "correct the path") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"not valid YAML ({describe_yaml_error(error)})", name_or_yaml_path, "fix the file"
        ) from error
    return parse_class_tree(content, name_or_yaml_path)


def _listed_class(entry: str | int | LabelledClass) -> GalaxyClass:
    if isinstance(entry, LabelledClass):
        return GalaxyClass(entry.name, labels=entry.labels)
    return GalaxyClass(str(entry))


def parse_class_tree(content: Any, where: str = "class tree") -> ClassTree:
    """Return the tree in a YAML file's content. ConfigError names the invalid entry."""
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise ConfigError("a class tree needs a 'name' and a list 'classes'", where, "see docs/how-to/own-votes.md")
    _check_keys(content, ("name", "tree", "classes"), where)
    tree = TREES.get(str(content.get("tree", GZ2.name)))
    if tree is None:
        what = f"there is no decision tree '{content['tree']}'"
        raise ConfigError(what, f"{where}, tree", nearest(str(content["tree"]), tuple(TREES)))
    classes = tuple(_parse_class(entry, tree, where) for entry in content["classes"])
    try:
        return ClassTree(str(content.get("name", where)), classes)
    except ConfigError as error:
        raise ConfigError(error.what, where, error.fix) from error


def _parse_class(entry: Any, tree: DecisionTree, where: str) -> GalaxyClass:
    if not isinstance(entry, dict):
        return GalaxyClass(_to_text(entry), tree=tree)
    _check_keys(entry, ("name", "path"), where)
    path = entry.get("path", [])
    if "name" not in entry or not isinstance(path, list):
        raise ConfigError(f"the class {entry} needs a 'name' and a list 'path'", where, "path: [smooth, in_between]")
    steps = (step if isinstance(step, list) else [step] for step in path)
    answers = tuple(tuple(_to_text(answer) for answer in step) for step in steps)
    try:
        return GalaxyClass(_to_text(entry["name"]), answers, tree=tree)
    except ConfigError as error:
        raise ConfigError(error.what, f"{where}, {error.where}", _with_other_trees(error.fix, answers, tree)) from error


def _with_other_trees(fix: str, answers: tuple[tuple[str, ...], ...], tree: DecisionTree) -> str:
    """Return the fix of an error, and the other trees that have all answers of a path."""
    words = [answer for step in answers for answer in step]
    if all(tree.knows(word) for word in words):
        return fix
    others = [name for name, other in TREES.items() if all(other.knows(word) for word in words)]
    return (
        join_hint(fix, f"Otherwise name the tree: {' or '.join(f'tree: {name}' for name in others)}") if others else fix
    )


def _to_text(answer: Any) -> str:
    """Return a YAML scalar's text: YAML parses yes and no as booleans, 2 as a number."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return str(answer)


def _check_keys(mapping: dict[Any, Any], known: Sequence[str], where: str) -> None:
    for key in mapping:
        if key not in known:
            raise ConfigError(f"unknown key '{key}'", where, nearest(str(key), tuple(known)))
