"""Recognise the names of official splits in any common spelling.

`training_set`, `TestImages`, `val2017` and `seg_train` name splits beside others of their kind. A
class may be called so too, so such names count only if all names of a level are splits.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from raydistill.galaxies.selection import Split

# Usual names of splits, in lower case.
PARTS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_WORDS: dict[str, Split] = {
    **PARTS,
    **dict.fromkeys(("trn", "tr"), "train"),
    **dict.fromkeys(("validate", "vld", "va"), "validation"),
    **dict.fromkeys(("eval", "evaluation", "holdout", "tst", "ts", "te"), "test"),
}
_FILLERS = "set|sets|data|dataset|image|images|img|imgs|picture|pictures|photos|split|folder|dir|samples|part|subset|and|of|the"
_FILLER = re.compile(f"(?:{_FILLERS})")
_GLUED = re.compile(f"({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?:{_FILLERS})")
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def split_of(name: str, shared: Collection[str] = ()) -> Split | None:
    """Return the split that a name spells, or None. Words in `shared` do not count."""
    tokens = [token for token in _tokens(name) if token not in shared]
    return _WORDS.get(tokens[0]) if len(tokens) == 1 else None


def are_splits(names: Collection[str], given: Collection[str] = ()) -> bool:
    """Return whether these names are splits.

    They are if one of them has a usual name or is `given`, or if one spells the training split and
    one another split, as seg_train and seg_test beside seg_pred; then all must be splits. They also
    are if each has another common spelling and one of them is the training split.
    """
    if any(name in given or name.lower() in PARTS for name in names):
        return True
    spelt = {split_of(name, shared_words(names)) for name in names}
    return ("train" in spelt and len(spelt - {None}) > 1) or spell_splits(names) is not None


def spell_splits(names: Collection[str]) -> dict[str, Split] | None:
    """Return each name's split; None if a name has none, or if none is training."""
    shared = shared_words(names)
    parts = {name: split_of(name, shared) for name in names}
    known: dict[str, Split] = {name: part for name, part in parts.items() if part is not None}
    return known if len(known) == len(parts) and "train" in known.values() else None


def shared_words(names: Collection[str]) -> set[str]:
    """Return the words that several names share, as `gz2` in gz2_train and gz2_test."""
    words = [set(_tokens(name)) for name in names]
    return set.intersection(*words) - _WORDS.keys() if len(words) > 1 else set()


def part_names(names: Collection[str], given: Mapping[str, Split | None]) -> dict[str, Split | None]:
    """Return the split of each name that is known: as given, usual or spelt otherwise."""
    shared = shared_words(names)
    parts: dict[str, Split | None] = {}
    for name in names:
        part = PARTS.get(name.lower()) or split_of(name, shared)
        if name in given:
            parts[name] = given[name]
        elif part is not None:
            parts[name] = part
    return parts


def _tokens(name: str) -> list[str]:
    """Return the lower-case words of a name, without numbers and words like "set"."""
    words = [word.lower() for word in _TOKEN.findall(name)]
    words = [match[1] if (match := _GLUED.fullmatch(word)) else word for word in words]
    return [word for word in words if not _FILLER.fullmatch(word)]
