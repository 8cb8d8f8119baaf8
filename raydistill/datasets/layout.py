"""Find the split and the class of each picture in a folder of folders.

    root/CLASS/picture              no official split
    root/SPLIT/CLASS/picture        official splits
    root/CLASS/SPLIT/picture        official splits below the classes
    root/WRAPPER/…                  one folder around any of these, as archives unpack it

A class may have subfolders. A class may also be called `train`: a level of folders is splits only if
all its names are, or if those that are hold folders.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from raydistill.errors import CatalogError
from raydistill.galaxies.selection import Split
from raydistill.log import get_logger

log = get_logger(__name__)

# Suffixes of files that accompany pictures. A class folder with only other files is an error.
ACCOMPANYING = (
    ".bib", ".cfg", ".csv", ".db", ".doc", ".docx", ".gz", ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl",
    ".lock", ".log", ".md", ".md5", ".parquet", ".pdf", ".pkl", ".py", ".rst", ".sh", ".sha256", ".tar",
    ".toml", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".zip",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Positions of the split and the class among the folders of a path.

    Attributes
    ----------
    split, label
        Index of the folder; `split` is None without official splits.
    """

    split: int | None
    label: int

    def place(self, steps: Sequence[str]) -> tuple[str | None, str | None]:
        """Return the split and class of a path; class None if the path is too short."""
        split = None if self.split is None else steps[self.split]
        return split, steps[self.label] if len(steps) > self.label + 1 else None


def read_layout(paths: Sequence[str], splits: Mapping[str, Split | None], only_classes: bool = False) -> Layout:
    """Return the layout of picture paths below the root.

    `splits` are the config's. With `only_classes` no folder is a split.
    """
    steps = [path.split("/") for path in paths]
    start = _skip_wrappers(steps, splits, only_classes)
    top = {step[start] for step in steps}
    if start:
        log.info("curate: all pictures are below the folder '%s'", "/".join(steps[0][:start]))
    if only_classes:
        return Layout(None, start)
    if _are_all_splits(top, splits) or all(name in splits or name.lower() in PARTS for name in top):
        return Layout(start, _skip_wrappers_in_splits(steps, start, splits))
    if all(len(step) > start + 2 for step in steps) and _are_all_splits({step[start + 1] for step in steps}, splits):
        log.info("curate: the official splits are below the folders of the classes")
        return Layout(start + 1, start)
    if are_splits(top, splits):
        named, with_folders = part_names(top, splits).keys(), {step[start] for step in steps if len(step) > start + 2}
        if any(name in splits for name in top) or named <= with_folders:
            return Layout(start, _skip_wrappers_in_splits(steps, start, splits))
        what = "curate: the folders %s are read as classes: they are not all splits, and %s holds pictures"
        log.warning(what, ", ".join(sorted(top)), " and ".join(sorted(named)))
    return Layout(None, start)


def _skip_wrappers(steps: list[list[str]], splits: Collection[str], only_classes: bool) -> int:
    """Return how many folders hold all pictures and are neither split nor class."""
    start = 0
    while all(len(step) > start + 2 and step[start] == steps[0][start] for step in steps):
        if are_splits({steps[0][start]}, splits) and not only_classes:
            break
        start += 1
    return start


def _skip_wrappers_in_splits(steps: list[list[str]], start: int, splits: Mapping[str, Split | None]) -> int:
    """Return the class position below the splits, which may have wrapper folders."""
    label = start + 1
    training = [step for step in steps if splits.get(step[start], "train") is not None]
    while training and all(len(step) > label + 2 for step in training):
        inside: dict[str, set[str]] = {}
        for step in training:
            inside.setdefault(step[start], set()).add(step[label])
        if any(len(folders) > 1 for folders in inside.values()):
            break
        label += 1
    return label


def _are_all_splits(names: Collection[str], splits: Mapping[str, Split | None]) -> bool:
    return spell_splits(names) is not None or all(name in splits for name in names)


def check_class_folders(layout: Layout, pictures: Sequence[str], others: Sequence[str], root: str) -> None:
    """Raise CatalogError for a class folder with files of which none is a picture."""
    with_pictures = {layout.place(path.split("/")) for path in pictures}
    suffixes: dict[str, set[str]] = {}
    for path in others:
        steps, suffix = path.split("/"), PurePosixPath(path).suffix.lower()
        if len(steps) <= layout.label + 1 or suffix in ACCOMPANYING or layout.place(steps) in with_pictures:
            continue
        folder = "/".join(steps[: layout.label + 1])
        suffixes.setdefault(folder, set()).add(suffix or "no suffix")
    for folder, kinds in sorted(suffixes.items()):
        what = f"the class folder '{folder}' holds no picture that can be read (its files: {', '.join(sorted(kinds))})"
        raise CatalogError(what, root, "convert them to PNG or JPEG, or remove the folder")


def warn_of_same_subfolders(layout: Layout, paths: Sequence[str]) -> None:
    """Warn if every class has the same subfolders: these may be the classes."""
    inside: dict[str, set[str]] = {}
    for path in paths:
        steps = path.split("/")
        names = inside.setdefault(steps[layout.label], set())
        if len(steps) > layout.label + 2 and layout.split != layout.label + 1:
            names.add(steps[layout.label + 1])
    first = next(iter(inside.values()), set())
    if len(inside) > 1 and len(first) > 1 and all(names == first for names in inside.values()):
        what = "curate: the classes %s have the same subfolders (%s); if these are the classes, name the splits in survey.splits"
        log.warning(what, ", ".join(sorted(inside)), ", ".join(sorted(first)))


# Recognise the names of official splits in any common spelling.
#
# `training_set`, `TestImages`, `val2017` and `seg_train` name splits beside others of their kind. A
# class may be called so too, so such names count only if all names of a level are splits.

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
