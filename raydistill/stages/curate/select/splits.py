"""Select the best of each class, and divide them into train, validation and test.

Official splits of the data stay whole. Limits per class apply to the other galaxies, which are
divided by hash among train and the splits that are not official.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.config import Curate
from raydistill.datasets.layout import PARTS, part_names
from raydistill.errors import CatalogError, listed
from raydistill.galaxies.numbers import MISSING
from raydistill.galaxies.selection import SPLITS, hash_of_split, select
from raydistill.galaxies.splits import assign_class_splits
from raydistill.log import get_logger
from raydistill.pipeline.checks import warn_of_few_test
from raydistill.stages.curate.config import TrainingPart

log = get_logger(__name__)


def select_best(recipe: Curate, galaxies: pa.Table) -> pa.Table:
    """Return the best of each class, and the galaxies of official non-train splits.

    Both have at least `min_confidence`; `per_class` and `balance` apply to the train split alone.
    `part: string` is the official split of a galaxy, null if there is none. Without this column no
    galaxy has one.
    """
    train = galaxies.filter(_is_training(galaxies))
    training = select(train, per_class=recipe.per_class, min_confidence=recipe.min_confidence, balance=recipe.balance)
    official = galaxies.filter(pc.invert(_is_training(galaxies)))
    return pa.concat_tables([training, select(official, min_confidence=recipe.min_confidence)])


def _is_training(galaxies: pa.Table) -> pa.ChunkedArray | pa.Array:
    if "part" not in galaxies.column_names:
        return pa.array([True] * len(galaxies), pa.bool_())
    return pc.fill_null(pc.equal(galaxies["part"], "train"), True)


def has_training(galaxies: pa.Table) -> bool:
    """Return whether a galaxy is in the training part."""
    return bool(pc.any(_is_training(galaxies)).as_py())


def name_splits(catalog: pa.Table, column: str, where: str) -> pa.Table:
    """Return the catalogue with `part` as train, validation, test or null.

    The names in `part` may have any spelling.

    Raises
    ------
    CatalogError
        For a value that names no split.
    """
    words = pc.utf8_trim_whitespace(catalog["part"])
    names = [word for word in pc.unique(words).to_pylist() if word and word.lower() not in MISSING]
    parts = part_names(names, {})
    if unknown := sorted(set(names) - parts.keys()):
        what = f"column '{column}' has values that name no split: {listed(unknown)}"
        raise CatalogError(what, where, "write train, validation or test, or remove the rows")
    if spelt := [f"{name} = {parts[name]}" for name in names if name.lower() not in PARTS]:
        log.info("curate: splits are %s", ", ".join(spelt))
    assigned = pa.array([parts.get(word) for word in words.to_pylist()], pa.string())
    return catalog.set_column(catalog.schema.get_field_index("part"), "part", assigned)


def log_splits_of_column(catalog: pa.Table, assigned: pa.Table, selected: pa.Table, column: str) -> None:
    """Log a column's official splits; warn of empty ones and of galaxies without one."""
    named, labelled, left = (Counter(table["part"].to_pylist()) for table in (catalog, assigned, selected))
    counts = ", ".join(f"{labelled[split]} {split}" for split in SPLITS if named[split])
    log.info("curate: official splits of column '%s': %s", column, counts or "none")
    if count := labelled[None]:
        what = "curate: %d galaxies have no split in column '%s'; they are divided as those of the training split"
        log.warning(what, count, column)
    for split in SPLITS:
        if named[split] and not left[split]:
            what = "curate: none of the %d galaxies of the official %s split is selected (%d have a class)"
            log.warning(what, named[split], split, labelled[split])


def log_official_splits(rows: pa.Table, assigned: pa.Table) -> None:
    """Log which official splits are used, and warn of splits whose labels are hidden.

    `rows` are all pictures of the data set, `assigned` those with a class.
    """
    present, labelled = Counter(rows["part"].to_pylist()), Counter(assigned["part"].to_pylist())
    unlabelled = Counter(rows.filter(pc.is_null(rows["label"]))["part"].to_pylist())
    classes = Counter(
        split for split, _ in set(zip(assigned["part"].to_pylist(), assigned["label"].to_pylist(), strict=True))
    )
    official = [split for split in SPLITS if labelled[split]]
    log.info("curate: official splits: %s", ", ".join(official) or "none")
    for split in SPLITS:
        if unlabelled[split] and unlabelled[split] == present[split]:
            what = (
                "curate: no picture of the official %s split has a label; the %s split is taken from the training part"
            )
            log.warning(what, split, split)
        elif unlabelled[split]:
            what = "curate: %d of %d pictures of the %s split have no label and are left out"
            log.warning(what, unlabelled[split], present[split], split)
        if classes[split] == 1 < classes["train"] and labelled[split] > 1:
            what = "curate: all %d pictures of the %s split have the same label; check that it is not a placeholder"
            log.warning(what, labelled[split], split)


def divide(selected: pa.Table, recipe: Curate, names: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Return the galaxies, and the split of each; `names` are those of the classes.

    Raises
    ------
    CatalogError
        If a class has no training galaxy.
    """
    splits = _divide(selected, recipe, names)
    if recipe.part is None:
        return selected, splits
    return keep_part(selected, splits, recipe.part, names)


def keep_part(
    galaxies: pa.Table, splits: Sequence[str], part: TrainingPart, names: Sequence[str]
) -> tuple[pa.Table, list[str]]:
    """Return the galaxies with one part of the training galaxies, and their splits.

    The training galaxies of a class are ranked by the hash of their ids and dealt out in turn.

    Raises
    ------
    CatalogError
        If a class has fewer training galaxies than there are parts.
    """
    ids, label_N = galaxies["object_id"].to_pylist(), galaxies["label"].to_numpy().copy()
    training_N = np.array(splits) == "train"
    kept_N = ~training_N
    for label in np.unique(label_N[training_N]):
        of_class = np.flatnonzero(training_N & (label_N == label))
        rows = sorted(of_class, key=lambda row: (hash_of_split(f"part {ids[row]}"), ids[row]))
        if len(rows) < part.parts:
            what = f"{names[label]} has {len(rows)} training galaxies, fewer than curate.part.parts={part.parts}"
            raise CatalogError(what, "curate", "lower curate.part.parts")
        kept_N[rows[part.index :: part.parts]] = True
    if part.permute:
        rows_T = np.flatnonzero(kept_N & training_N)
        label_N[rows_T] = np.random.default_rng(part.index).permutation(label_N[rows_T])
    place = galaxies.schema.get_field_index("label")
    galaxies = galaxies.set_column(place, "label", pa.array(label_N, galaxies.schema.field("label").type))
    return galaxies.filter(pa.array(kept_N)), [split for split, kept in zip(splits, kept_N, strict=True) if kept]


def _divide(selected: pa.Table, recipe: Curate, names: Sequence[str]) -> list[str]:
    fractions = recipe.split
    has_parts = "part" in selected.column_names
    splits: list[str | None] = selected["part"].to_pylist() if has_parts else [None] * len(selected)
    shares = [
        0.0 if name in splits and name != "train" else share for name, share in zip(SPLITS, fractions, strict=True)
    ]
    train, validation, test = (share / sum(shares) for share in shares)
    _log_cut([name for name, share in zip(SPLITS[1:], shares[1:], strict=True) if share], splits)
    rows = [row for row, split in enumerate(splits) if split in (None, "train")]
    ids, labels = selected["object_id"].to_pylist(), selected["label"].to_pylist()
    if recipe.split_seed:
        ids = [f"{recipe.split_seed}:{object_id}" for object_id in ids]
    own_labels = [labels[row] for row in rows]
    hashed, ranked = assign_class_splits([ids[row] for row in rows], own_labels, (train, validation, test))
    for row, split in zip(rows, hashed, strict=True):
        splits[row] = split
    counts = Counter(zip(labels, splits, strict=True))
    _log_ranked(ranked, counts, names)
    _check_training(counts, names)
    warn_of_few_test({name: counts[label, "test"] for label, name in enumerate(names)})
    return [str(split) for split in splits]


def _log_cut(absent: Sequence[str], splits: Sequence[str | None]) -> None:
    if absent and any(splits):
        what = "curate: no galaxy has the official split %s; the hash of the ids takes it from the training split"
        log.info(what, " or ".join(absent))


def _log_ranked(ranked: list[int], counts: Counter[tuple[int, str | None]], names: Sequence[str]) -> None:
    sizes = [f"{names[label]} ({_sizes(counts, label)})" for label in ranked]
    if ranked:
        what = "curate: the hash leaves a split without a galaxy of %d classes; they are divided by rank: %s"
        log.info(what, len(ranked), listed(sizes))


def _sizes(counts: Counter[tuple[int, str | None]], label: int) -> str:
    """Return the number of galaxies of a class in each split that has some."""
    return ", ".join(f"{counts[label, split]} {split}" for split in SPLITS if counts[label, split])


def _check_training(counts: Counter[tuple[int, str | None]], names: Sequence[str]) -> None:
    """Raise CatalogError for classes without training galaxies, with their counts."""
    absent, fixes = [], set()
    for label, name in enumerate(names):
        if not counts[label, "train"]:
            sizes = _sizes(counts, label)
            absent.append(f"{name} ({sizes or 'none at all'})")
            fixes.add("add galaxies of it to the training split" if sizes else "lower curate.min_confidence")
    if absent:
        fix = f"{' or '.join(sorted(fixes))}, or leave it out of curate.classes"
        raise CatalogError(f"no training galaxy in: {listed(absent)}", "curate", fix)
