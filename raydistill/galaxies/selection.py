"""From votes to a training set: the class of each galaxy, its split, and the best galaxies of each class.

Three rules keep the steps honest. A galaxy's class depends on its own votes only; its split on its own id only, so
that no test galaxy ever moves into training when the catalogue grows; and a stricter threshold keeps a subset
of what a looser one keeps.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import CatalogError, ConfigError, join_hint, nearest
from raydistill.galaxies.catalog_schemas import votes_array
from raydistill.galaxies.classes import BUILTIN_TREES, LISTED, ClassTree, GalaxyClass
from raydistill.galaxies.tree import INDEX, WILLETT_THRESHOLDS

SPLIT_TOLERANCE = 1e-6  # on the sum of three fractions written by hand

_CLASSES, _UNASSIGNED = b"raydistill.classes", b"raydistill.unassigned"

# Ways to write "no class" in a table of labels.
NO_LABEL, OTHER_LABEL = -1, -2  # of a galaxy without one, and of one whose label was not asked for
_NO_LABEL = ("", "-1", "none", "nan", "null", "unknown")


def assign(
    catalog: pa.Table,
    tree: ClassTree,
    *,
    thresholds: Literal["n10", "n20"] | None = None,
    min_votes: float = 0,
) -> pa.Table:
    """The class of every galaxy that has one.

    Votes: the class with the largest product of fractions along its path; ties go to the lower index. A galaxy
    is left out when it has fewer than `min_votes` votes, when no class has a positive product, and, under
    `thresholds`, when a question on the path of its class was put to too few: the fraction of the preceding answer is
    below the preset of Willett et al. 2013, Table 3. (Their companion cut, 10 or 20 votes on the task itself, needs counts that
    most tables lack and is not applied; `min_votes` counts the answers to all questions.)

    Labels: the position of the label among the tree's class names; whole numbers are positions themselves. Rows
    without a label (empty, -1, none) or with a null confidence are left out; an unknown label is a CatalogError.

    Returns the catalogue's rows that have a class, in their order, with all columns, `label: int32` and
    `confidence: float64`. The schema's metadata carry the class names and how many rows were left out for what.
    """
    enough = _enough_votes(catalog, min_votes)
    if "votes" in catalog.column_names:
        label, confidence, reasons = _by_votes(catalog, tree, thresholds)
    elif thresholds is not None:
        raise ConfigError("the table holds labels, and thresholds are for votes", "thresholds", "set it to null")
    else:
        label, confidence, reasons = _by_label(catalog, tree)
    kept = enough & (label >= 0)
    left_out = {"too_few_votes": int((~enough).sum())}
    left_out |= {reason: int((rows & enough).sum()) for reason, rows in reasons.items()}
    others = [name for name in catalog.column_names if name not in ("label", "confidence")]
    result = catalog.select(others).filter(pa.array(kept))
    result = result.append_column("label", pa.array(label[kept], pa.int32()))
    result = result.append_column("confidence", pa.array(confidence[kept], pa.float64()))
    metadata = dict(catalog.schema.metadata or {})
    metadata |= {_CLASSES: json.dumps(tree.names).encode(), _UNASSIGNED: json.dumps(left_out).encode()}
    return result.replace_schema_metadata(metadata)


def unassigned(assigned: pa.Table) -> dict[str, int]:
    """How many rows of the catalogue `assign` left out, per reason."""
    counts: dict[str, int] = json.loads((assigned.schema.metadata or {}).get(_UNASSIGNED, b"{}"))
    return counts


def _enough_votes(catalog: pa.Table, min_votes: float) -> np.ndarray:
    if min_votes <= 0:
        return np.ones(catalog.num_rows, dtype=bool)
    total = catalog["total_votes"].combine_chunks().to_numpy(zero_copy_only=False).astype(float)
    if not np.isfinite(total).any():
        raise CatalogError("the catalogue has no total_votes", "min_votes", "set min_votes to 0")
    return np.asarray(np.nan_to_num(total, nan=-1.0) >= min_votes)


Assignment = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


def _by_votes(catalog: pa.Table, tree: ClassTree, thresholds: str | None) -> Assignment:
    """label `[N]` (-1: none), confidence `[N]`, and per reason the rows `[N]` left out for it."""
    votes = np.nan_to_num(votes_array(catalog).astype(np.float64), nan=0.0)
    products = tree.confidence(votes)
    label = products.argmax(axis=1)
    rows = np.arange(len(votes))
    confidence = products[rows, label]
    no_class = confidence <= 0
    doubted = np.zeros(len(votes), dtype=bool)
    if thresholds is not None:
        asked = np.stack([_was_asked(votes, galaxy_class, thresholds) for galaxy_class in tree.classes], axis=1)
        doubted = ~no_class & ~asked[rows, label]
    label = np.where(no_class | doubted, -1, label)
    return label, confidence, {"no_class": no_class, "below_thresholds": doubted}


def _was_asked(votes: np.ndarray, galaxy_class: GalaxyClass, preset: str) -> np.ndarray:
    """Whether each question on the path has its preceding answer's fraction at or above the preset; `[N]` bool."""
    if preset not in WILLETT_THRESHOLDS:
        raise ConfigError(f"unknown thresholds '{preset}'", "thresholds", nearest(preset, tuple(WILLETT_THRESHOLDS)))
    asked = np.ones(len(votes), dtype=bool)
    for task in galaxy_class.tasks:
        preceding = votes[:, [INDEX[stem] for stem in task.asked_after]].sum(axis=1)
        if task.asked_after:
            asked &= preceding >= WILLETT_THRESHOLDS[preset][task.number]
    return asked


def _by_label(catalog: pa.Table, tree: ClassTree) -> Assignment:
    index = {name: i for i, name in enumerate(tree.names)}
    if not any(name.lstrip("-").isdigit() for name in tree.names):
        index |= {str(i): i for i in range(len(tree.names))}
    words = catalog["label"].to_pylist()
    known = {word: _position(word, index, tree) for word in set(words)}
    if tree.name == LISTED:
        for position, name in enumerate(tree.names):
            if position not in known.values():
                raise CatalogError(
                    f"no galaxy has the label '{name}'", "label", nearest(name, sorted(filter(None, known)))
                )
    label = np.array([known[word] for word in words], dtype=np.int64)
    confidence = catalog["confidence"].combine_chunks().to_numpy(zero_copy_only=False).astype(float)
    unsure = np.isnan(confidence)
    reasons = {
        "no_label": label == NO_LABEL,
        "other_label": label == OTHER_LABEL,
        "no_confidence": unsure & (label >= 0),
    }
    return np.where(unsure, NO_LABEL, label), confidence, reasons


def _position(word: str | None, index: dict[str, int], tree: ClassTree) -> int:
    if word in index:
        return index[word]
    if word is None or word.lower() in _NO_LABEL:
        return NO_LABEL
    if re.fullmatch(r"\d+\.0+", word):  # how pandas writes whole numbers among which one is missing
        return _position(word.partition(".")[0], index, tree)
    if tree.name == LISTED:  # of a table with more labels
        return OTHER_LABEL
    fitting = [f"curate.classes={other.name}" for other in BUILTIN_TREES.values() if word in other.names]
    fix = " or ".join([*fitting, "a list of labels as curate.classes=[a, b]"])
    what = f"the label '{word}' is no class of the tree '{tree.name}'"
    raise CatalogError(what, "label", join_hint(nearest(word, tree.names), f"Otherwise give {fix}"))


def split_of(object_ids: Iterable[str], fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> np.ndarray:
    """ "train", "validation" or "test" for each object, by a BLAKE2b hash of its id alone; array of str `[N]`.

    The hash is a number in [0, 1): train below the first fraction, test in the last, validation between. So a galaxy
    never moves when others come or go, a larger train fraction only moves galaxies into train, and the test set
    depends on the test fraction only. The sizes are those of a binomial draw, not exact.

    Raises ConfigError unless the fractions are not negative and sum to 1.
    """
    train, _, test = fractions
    if min(fractions) < 0 or abs(sum(fractions) - 1) > SPLIT_TOLERANCE:
        raise ConfigError(f"{tuple(fractions)} is no split", "fractions", "give three fractions that sum to 1")
    position = np.array(
        [_in_unit_interval(object_id, b"raydistill-split") for object_id in object_ids], dtype=np.float64
    )
    names = np.where(position < train, "train", "validation")
    names = np.where((position >= 1 - test) & (test > 0), "test", names)
    return names if test < 1 else np.full(len(position), "test")


def _in_unit_interval(object_id: str, purpose: bytes) -> float:
    digest = hashlib.blake2b(str(object_id).encode(), digest_size=8, person=purpose).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: exact in float64, and never 1


def select(
    assigned: pa.Table, *, per_class: int | None = None, min_confidence: float = 0.0, balance: bool = False
) -> pa.Table:
    """The best galaxies of each class, ordered by label, then falling confidence, then object id.

    per_class: keep at most this many, the most confident, ties in the order of a hash of the object id, for ids of a survey run along
    the sky; None keeps all.
    min_confidence: drop galaxies below it.
    balance: cut every class to the size of the smallest. A class that has no galaxy at all is then a CatalogError.

    Monotone: a higher `min_confidence`, a smaller `per_class` or `balance` keeps a subset.
    """
    if per_class is not None and per_class < 1:
        raise ConfigError(f"per_class is {per_class}", "per_class", "give a positive number, or null for all")
    sure = assigned.filter(pc.greater_equal(assigned["confidence"], min_confidence))
    order = [("label", "ascending"), ("confidence", "descending"), ("object_id", "ascending")]
    ranked = sure.take(pc.sort_indices(sure, sort_keys=order))
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
        empty = ", ".join(names[int(i)] for i in np.flatnonzero(sizes == 0))
        raise CatalogError(
            f"no galaxy with a confidence of {min_confidence:g} or more in: {empty}",
            "balance",
            "lower min_confidence, choose fewer classes, or set balance to false",
        )
    return int(sizes.min()) if len(sizes) else 0


def _class_names(assigned: pa.Table) -> Sequence[str]:
    """The names `assign` noted; for another table, the numbers up to the largest label."""
    noted = (assigned.schema.metadata or {}).get(_CLASSES)
    if noted is not None:
        names: list[str] = json.loads(noted)
        return names
    largest = pc.max(assigned["label"]).as_py()
    return [] if largest is None else [str(i) for i in range(1 + largest)]


def report(assigned: pa.Table, selected: pa.Table) -> pa.Table:
    """One row a class: `label, name, candidates, kept, lowest_confidence` (of the kept; null where none is)."""
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
