"""Assign classes and splits to galaxies, and select each class's best galaxies.

Three rules:

- The class of a galaxy depends on its own votes only.
- Its split depends on its own id only, so a test galaxy never moves into training when the
  catalogue grows.
- A stricter threshold selects a subset of the galaxies that a looser one selects.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError, ConfigError, join_hint, listed, nearest
from raydistill.galaxies.catalog import votes_array
from raydistill.galaxies.classes import BUILTIN_TREES, LISTED, UNLABELLED, ClassTree, GalaxyClass, require_path
from raydistill.galaxies.labels import (
    NO_LABEL,
    OTHER_LABEL,
    LabelIndex,
    mapping_example,
    number,
    numeric_labels,
)
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.log import get_logger

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SPLIT_TOLERANCE = 1e-6  # on the sum of the three fractions, for rounding

_CLASSES, _UNASSIGNED = b"raydistill.classes", b"raydistill.unassigned"

log = get_logger(__name__)


def assign_classes(
    catalog: pa.Table,
    tree: ClassTree,
    *,
    thresholds: Literal["n10", "n20"] | None = None,
    min_votes: float = 0,
) -> pa.Table:
    """Assign a class to every galaxy that has one.

    Parameters
    ----------
    catalog : pyarrow.Table
        The result of `read_catalog`.
    tree : ClassTree
    thresholds : {"n10", "n20"}, optional
        Preset of Willett et al. 2013, Table 3. A galaxy is left out if the answer before any
        question of its path has a smaller fraction. Their companion cut of 10 or 20 votes on the
        task is not applied, because most tables lack those counts.
    min_votes : float
        Smallest number of answers to all questions.

    Returns
    -------
    pyarrow.Table
        The rows with a class, in order, with all columns, `label: int32` and `confidence: float64`.
        The schema's metadata hold the class names and the number of rows left out per reason.

    Raises
    ------
    CatalogError
        For an unknown label, for a listed label that no galaxy has, for `min_votes` if the
        catalogue has no `total_votes`, or for a class whose question has no votes in the table.
    ConfigError
        For unknown `thresholds`, for `thresholds` with a table of labels or a tree without them,
        for a class without a path with a table of votes, or for classes of another decision tree
        than the votes.

    Notes
    -----
    Votes: the class is the one with the largest confidence; the lower index wins a tie. A galaxy
    without a positive confidence has no class.

    Labels: the class is the one with that name, or with that position if the label is a whole number
    and `tree` is not a list. A list of names rejects a column of numbers. A mapping gives the
    labels of each class. Rows without a label (empty, -1, none, …) or with a null confidence have
    no class.

    The tree `classes.unlabelled` gives every galaxy label 0 and confidence 1.
    """
    enough = _enough_votes(catalog, min_votes)
    if tree.name == UNLABELLED:
        label, confidence = np.zeros(len(catalog), np.int64), np.ones(len(catalog))
        reasons: dict[str, np.ndarray] = {}
    elif "votes" in catalog.column_names:
        label, confidence, reasons = _by_votes(catalog, tree, thresholds)
    elif thresholds is not None:
        raise ConfigError("the table has labels, but thresholds apply to votes", "thresholds", "set it to null")
    else:
        label, confidence, reasons = _by_label(catalog, tree)
    has_class = enough & (label >= 0)
    left_out = {"too_few_votes": int((~enough).sum())}
    left_out |= {reason: int((rows & enough).sum()) for reason, rows in reasons.items()}
    others = [name for name in catalog.column_names if name not in ("label", "confidence")]
    result = catalog.select(others).filter(pa.array(has_class))
    result = result.append_column("label", pa.array(label[has_class], pa.int32()))
    result = result.append_column("confidence", pa.array(confidence[has_class], pa.float64()))
    metadata = dict(catalog.schema.metadata or {})
    metadata |= {_CLASSES: json.dumps(tree.names).encode(), _UNASSIGNED: json.dumps(left_out).encode()}
    return result.replace_schema_metadata(metadata)


def tree_of_votes(catalog: pa.Table) -> DecisionTree:
    """Return the decision tree of a catalogue's votes; Galaxy Zoo 2's if it has none."""
    return TREES[(catalog.schema.metadata or {}).get(b"raydistill.tree", GZ2.name.encode()).decode()]


def count_unassigned(assigned: pa.Table) -> dict[str, int]:
    """Return the number of rows that `assign_classes` left out, by reason."""
    return json.loads((assigned.schema.metadata or {}).get(_UNASSIGNED, b"{}"))


def _enough_votes(catalog: pa.Table, min_votes: float) -> np.ndarray:
    if min_votes <= 0:
        return np.ones(catalog.num_rows, dtype=bool)
    total = catalog["total_votes"].combine_chunks().to_numpy(zero_copy_only=False).astype(float)
    if not np.isfinite(total).any():
        raise CatalogError("the catalogue has no total_votes", "min_votes", "set min_votes to 0")
    return np.asarray(np.nan_to_num(total, nan=-1.0) >= min_votes)


Assignment = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def _by_votes(catalog: pa.Table, tree: ClassTree, thresholds: str | None) -> Assignment:
    """Return label `[N]` (-1: none), confidence `[N]` and masks `[N]` of omitted rows.

    The masks are keyed by the reason.
    """
    _check_tree(catalog, tree, thresholds)
    votes = np.nan_to_num(votes_array(catalog, tree.tree).astype(np.float64), nan=0.0)
    products = tree.confidence(votes)
    label = products.argmax(axis=1)
    rows = np.arange(len(votes))
    confidence = products[rows, label]
    no_class = confidence <= 0
    unreliable = np.zeros(len(votes), dtype=bool)
    if thresholds is not None:
        reliable = np.stack([_is_reliable(votes, galaxy_class, thresholds) for galaxy_class in tree.classes], axis=1)
        unreliable = ~no_class & ~reliable[rows, label]
    label = np.where(no_class | unreliable, -1, label)
    return label, confidence, {"no_class": no_class, "below_thresholds": unreliable}


def _check_tree(catalog: pa.Table, classes: ClassTree, thresholds: str | None) -> None:
    """Raise an error if the paths of the classes, or thresholds, do not fit the votes."""
    for galaxy_class in classes.classes:
        require_path(galaxy_class)
    metadata = catalog.schema.metadata or {}
    tree = tree_of_votes(catalog)
    if tree != classes.tree:
        builtin = [name for name, other in BUILTIN_TREES.items() if other.tree == tree]
        what = f"the classes '{classes.name}' follow the tree of {classes.tree.title}, the votes that of {tree.title}"
        raise ConfigError(what, "", f"set it to {', '.join(builtin)} or a YAML file with 'tree: {tree.name}'")
    if thresholds is not None and not tree.thresholds:
        what = f"there are no thresholds for the tree of {tree.title}"
        raise ConfigError(what, "thresholds", "set it to null, and raise curate.min_confidence instead")
    absent = metadata.get(b"raydistill.absent_tasks", b"").decode().split(",")
    for galaxy_class in classes.classes:
        for task in galaxy_class.tasks:
            if task.key in absent:
                what = f"the table has no votes on '{task.key}', which the class '{galaxy_class.name}' needs"
                raise CatalogError(what, "", "choose classes without this question with curate.classes")


def _is_reliable(votes: np.ndarray, galaxy_class: GalaxyClass, preset: str) -> np.ndarray:
    """Return bool `[N]`: answers before the path's questions reach the thresholds."""
    tree = galaxy_class.tree
    if preset not in tree.thresholds:
        raise ConfigError(f"unknown thresholds '{preset}'", "thresholds", nearest(preset, tuple(tree.thresholds)))
    reliable = np.ones(len(votes), dtype=bool)
    for task in galaxy_class.tasks:
        preceding = votes[:, [tree.index[stem] for stem in task.asked_after]].sum(axis=1)
        if task.asked_after:
            reliable &= preceding >= tree.thresholds[preset][task.number]
    return reliable


def _by_label(catalog: pa.Table, tree: ClassTree) -> Assignment:
    words = catalog["label"].to_pylist()
    find = _listed_labels(set(words), tree) if tree.name == LISTED else _tree_labels(set(words), tree)
    label = np.array([find[word] for word in words], dtype=np.int64)
    confidence = catalog["confidence"].combine_chunks().to_numpy(zero_copy_only=False).astype(float)
    no_confidence = np.isnan(confidence)
    reasons = {
        "no_label": label == NO_LABEL,
        "other_label": label == OTHER_LABEL,
        "no_confidence": no_confidence & (label >= 0),
    }
    return np.where(no_confidence, NO_LABEL, label), confidence, reasons


def _listed_labels(words: set[str | None], tree: ClassTree) -> dict[str | None, int]:
    """Return the class of each label of the table, for a list or a mapping of classes."""
    index = LabelIndex(tree.labels)
    labels = {word: index.find(word) for word in words}
    codes = numeric_labels(words)
    if codes and not any(number(label) is not None for alike in tree.labels for label in alike):
        raise ConfigError(
            f"the labels are numbers ({listed(codes)}), and the classes are names",
            "", f"give each class its numbers, for example {mapping_example(tree.names, codes, tree.labels)}",
        )  # fmt: skip
    known = sorted(word for word in words if word)
    absent = index.absent(words)
    for position, label in absent:
        if position not in labels.values():
            raise CatalogError(f"no galaxy has the label '{label}'", "label", nearest(label, known))
    if absent:
        shown = listed([f"'{label}' of the class '{tree.names[position]}'" for position, label in absent])
        log.warning("curate: no galaxy has the label %s", shown)
    return labels


def _tree_labels(words: set[str | None], tree: ClassTree) -> dict[str | None, int]:
    """Return the class of each label: a name in the tree, or a position in it."""
    with_positions = not any(number(name) is not None for name in tree.names)
    index = LabelIndex([(name, str(i)) if with_positions else (name,) for i, name in enumerate(tree.names)])
    labels = {word: index.find(word) for word in words}
    codes = numeric_labels(words)
    if codes and with_positions:
        shown = ", ".join(f"{i} = {name}" for i, name in enumerate(tree.names))
        log.info("curate: labels are numbers, read as positions in '%s': %s", tree.name, shown)
        if "0" not in codes:
            what = "curate: no galaxy has the label 0, the class '%s'; if labels start at 1, set %s"
            log.warning(what, tree.names[0], mapping_example(tree.names, codes))
    for word in sorted(word for word in words if labels[word] == OTHER_LABEL and word is not None):
        by_names = {other.names: name for name, other in reversed(BUILTIN_TREES.items())}
        matching = [f"curate.classes={name}" for names, name in reversed(by_names.items()) if word in names]
        example = mapping_example(tree.names, codes) if codes else "curate.classes=[a, b]"
        fix = " or ".join([*matching, f"{'numbers' if codes else 'a list of labels'} as {example}"])
        what = f"the label '{word}' is not a class of the tree '{tree.name}'"
        raise CatalogError(what, "label", join_hint(nearest(word, tree.names), f"Otherwise give {fix}"))
    return labels


def assign_splits(object_ids: Iterable[str], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> np.ndarray:
    """Assign "train", "validation" or "test" to objects by a BLAKE2b hash of their id.

    Parameters
    ----------
    object_ids : iterable of str
    fractions : tuple of three floats
        Fractions of train, validation and test. They sum to 1.

    Returns
    -------
    str `[N]`

    Raises
    ------
    ConfigError
        If a fraction is negative or they do not sum to 1.

    Notes
    -----
    The hash is a number in [0, 1): below the first fraction is train, the last fraction is test,
    and validation is between. So a galaxy stays where it is when others are added. A larger train
    fraction only moves galaxies into train, and the test set depends on the test fraction only. The
    sizes follow a binomial distribution; they are not exact.
    """
    train, _, test = fractions
    if min(fractions) < 0 or abs(sum(fractions) - 1) > SPLIT_TOLERANCE:
        raise ConfigError(f"{tuple(fractions)} is not a split", "fractions", "give three fractions that sum to 1")
    position = np.array([hash_of_split(object_id) for object_id in object_ids], dtype=np.float64)
    names = np.where(position < train, "train", "validation")
    names = np.where((position >= 1 - test) & (test > 0), "test", names)
    return names if test < 1 else np.full(len(position), "test")


def hash_of_split(object_id: str) -> float:
    """Return the number in [0, 1) that places a galaxy in a split."""
    return _in_unit_interval(object_id, b"raydistill-split")


def _in_unit_interval(object_id: str, purpose: bytes) -> float:
    digest = hashlib.blake2b(str(object_id).encode(), digest_size=8, person=purpose).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: exact in float64, and always below 1


def select(
    assigned: pa.Table, *, per_class: int | None = None, min_confidence: float = 0.0, balance: bool = False
) -> pa.Table:
    """Select the most confident galaxies of each class.

    Parameters
    ----------
    assigned : pyarrow.Table
        The result of `assign_classes`.
    per_class : int, optional
        Largest number of galaxies per class. A hash of the object id breaks ties, because ids are
        ordered along the sky. None selects all.
    min_confidence : float
        Smallest confidence, in [0, 1].
    balance : bool
        Reduce every class to the size of the smallest.

    Returns
    -------
    pyarrow.Table
        Rows ordered by label, then falling confidence, then object id. A higher `min_confidence`, a
        smaller `per_class` or `balance` selects a subset.

    Raises
    ------
    CatalogError
        If `balance` is set and a class is empty.
    ConfigError
        If `per_class` is less than 1.
    """
    if per_class is not None and per_class < 1:
        raise ConfigError(f"per_class is {per_class}", "per_class", "give a positive number, or null for all")
    confident = assigned.filter(pc.greater_equal(assigned["confidence"], min_confidence))
    order = [("label", "ascending"), ("confidence", "descending"), ("object_id", "ascending")]
    ranked = confident.take(pc.sort_indices(confident, sort_keys=order))
    if per_class is None and not balance:
        return ranked
    label, confidence = ranked["label"].to_numpy(), ranked["confidence"].to_numpy()
    hashed = [_in_unit_interval(object_id, b"raydistill-tie") for object_id in ranked["object_id"].to_pylist()]
    rank = np.empty(len(label), np.int64)
    rank[np.lexsort((hashed, -confidence, label))] = np.arange(len(label)) - np.searchsorted(label, label, side="left")
    limit = per_class if per_class is not None else len(label)
    if balance:
        limit = min(limit, _smallest_class(assigned, label, min_confidence))
    return ranked.filter(pa.array(rank < limit))


def _smallest_class(assigned: pa.Table, label: np.ndarray, min_confidence: float) -> int:
    names = _class_names(assigned)
    sizes = np.bincount(label, minlength=len(names))
    if len(sizes) and sizes.min() == 0:
        empty = listed([names[int(i)] for i in np.flatnonzero(sizes == 0)])
        raise CatalogError(
            f"no galaxy with a confidence of at least {min_confidence:g} in: {empty}",
            "balance",
            "lower min_confidence, choose fewer classes, or set balance to false",
        )
    return int(sizes.min()) if len(sizes) else 0


def _class_names(assigned: pa.Table) -> Sequence[str]:
    """Return the class names in the metadata, or the numbers up to the largest label."""
    stored = (assigned.schema.metadata or {}).get(_CLASSES)
    if stored is not None:
        return json.loads(stored)
    largest = pc.max(assigned["label"]).as_py()
    return [] if largest is None else [str(i) for i in range(1 + largest)]


def report(assigned: pa.Table, selected: pa.Table) -> pa.Table:
    """Count the galaxies of each class.

    Parameters
    ----------
    assigned, selected : pyarrow.Table
        The results of `assign_classes` and `select`.

    Returns
    -------
    pyarrow.Table
        One row per class: `label: int32, name: string, candidates: int64, kept: int64` (selected
        galaxies) and `lowest_confidence: float64` (of the selected galaxies, null if there are
        none).
    """
    names = _class_names(assigned)
    label = selected["label"].to_numpy()
    confidence = selected["confidence"].to_numpy()
    lowest = [float(confidence[label == k].min()) if (label == k).any() else None for k in range(len(names))]
    return pa.table(
        {
            "label": pa.array(range(len(names)), pa.int32()),
            "name": pa.array(names, pa.string()),
            "candidates": pa.array(np.bincount(assigned["label"].to_numpy(), minlength=len(names)), pa.int64()),
            "kept": pa.array(np.bincount(label, minlength=len(names)), pa.int64()),
            "lowest_confidence": pa.array(lowest, pa.float64()),
        }
    )
