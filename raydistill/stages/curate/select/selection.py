"""Select the galaxies of the curated set.

The steps are classes, pictures, the best of each class, and splits.

The driver selects by labels alone, before any pixel is read. An error in a table is thus raised
before a cluster starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.config import CatalogSurvey, Curate, Images
from raydistill.datasets.base import DataSet
from raydistill.errors import CatalogError, ConfigError, listed, nearest
from raydistill.galaxies.catalog_schemas import KNOWN_NAMES
from raydistill.galaxies.classes import UNLABELLED, ClassTree, load_class_tree, unlabelled
from raydistill.galaxies.labels import (
    LabelIndex,
    left_out,
    likeness,
    mapping_example,
    number,
    numeric_labels,
    warn_of_similar_labels,
)
from raydistill.galaxies.pictures.files import below
from raydistill.galaxies.pictures.fits import FitsImages
from raydistill.galaxies.pictures.mosaics import MosaicImages
from raydistill.galaxies.pictures.sources import FolderImages, ParquetImages
from raydistill.galaxies.selection import SPLITS, assign_classes, count_unassigned, report, tree_of_votes
from raydistill.galaxies.tables import find_path_column, open_table
from raydistill.log import get_logger
from raydistill.pipeline.checks import ALL
from raydistill.stages.curate.filter.rejections import Rejection, rejection, without_excluded
from raydistill.stages.curate.select.splits import (
    divide,
    has_training,
    log_official_splits,
    log_splits_of_column,
    name_splits,
    select_best,
)
from raydistill.surveys.finding import error_prefix, find_pictures, read_survey

log = get_logger(__name__)

UNKNOWN = ("ra", "dec", "petro_r90", "redshift", "total_votes")  # columns that a data set lacks


class Selection(NamedTuple):
    """The selected galaxies and what was left out."""

    galaxies: pa.Table  # with `path`, `split` and `rank`, in the order of the files to write
    candidates: list[int]  # galaxies per class before the selection
    missing: list[Rejection]  # rejections of the galaxies without a picture
    unassigned: dict[str, int]  # reason -> number of rows without a class
    tree: ClassTree

    def class_counts(self, split: int) -> dict[str, int]:
        """Return the number of galaxies of each class in a split, an index in `SPLITS`."""
        rows = self.galaxies.filter(pc.equal(self.galaxies["split"], split))
        return {name: pc.sum(pc.equal(rows["label"], label)).as_py() or 0 for label, name in enumerate(self.tree.names)}


def select_galaxies(recipe: Curate, survey: CatalogSurvey | DataSet, truth: str | None = None) -> Selection:
    """Return the galaxies to decode.

    Parameters
    ----------
    recipe
        Classes, thresholds, limits per class and fractions of the splits.
    survey
        A survey's table and pictures, or a data set.
    truth
        Table of the truth of a simulated survey.

    Raises
    ------
    ConfigError
        If the settings do not fit the table.
    CatalogError
        If the table cannot be used, or no galaxy is left.
    """
    if isinstance(survey, DataSet):
        return _select_from_data_set(recipe, survey)
    tree = load_class_tree(recipe.classes)
    _check_number(tree, "curate.classes")
    catalog = read_survey(survey, need_labels=tree.name != UNLABELLED)
    if tree.name == UNLABELLED:
        tree = unlabelled(tree_of_votes(catalog))
    num_galaxies = len(catalog)
    if recipe.exclude is not None:
        catalog = without_excluded(catalog, recipe.exclude, survey, truth)
        log.info("curate: %d of %d galaxies are excluded", num_galaxies - len(catalog), num_galaxies)
    column = survey.columns.get("split")
    if column is not None:
        catalog = name_splits(catalog, column, survey.catalog)
    with error_prefix("curate.classes, ", ConfigError), error_prefix(f"{survey.catalog}, ", CatalogError):
        assigned = assign_classes(catalog, tree, thresholds=recipe.thresholds, min_votes=recipe.min_votes)
    _log_unassigned(catalog, assigned, tree)
    available, missing = _locate(survey, assigned)
    hint = _hint_for_paths(survey, len(available), len(assigned))
    with error_prefix("curate.", CatalogError):
        selected = select_best(recipe, available)
    if not len(selected):
        fix = "check curate.min_confidence" if len(available) else _fix_for_pictures(survey.images, assigned, hint)
        raise CatalogError(
            f"none of {len(catalog)} galaxies was selected "
            f"({len(assigned)} have a class, {len(available)} of those a picture)",
            survey.catalog, fix,
        )  # fmt: skip
    _check_pictures(survey.images, assigned, available, tree, hint)
    if column is not None:
        log_splits_of_column(catalog, assigned, selected, column)
        if not has_training(selected):
            raise CatalogError(
                f"column '{column}' leaves no training galaxy", survey.catalog, "name some of them train"
            )
    candidates = report(assigned, selected)["candidates"].to_pylist()
    selected, split = divide(selected, recipe, tree.names)
    unassigned = count_unassigned(assigned)
    if recipe.exclude is not None:
        unassigned["excluded"] = num_galaxies - len(catalog)
    return Selection(_in_file_order(selected, split), candidates, missing, unassigned, tree)


def _check_number(tree: ClassTree, where: str) -> None:
    """Raise CatalogError for a single class, which leaves nothing to tell apart."""
    if len(tree.names) == 1 and tree.name != UNLABELLED:
        what = f"there is one class only, '{tree.names[0]}', and a network learns to tell classes apart"
        raise CatalogError(what, where, "add galaxies of another class, or check curate.classes")


def _check_pictures(images: Images, assigned: pa.Table, available: pa.Table, tree: ClassTree, hint: str) -> None:
    """Raise CatalogError if a class has galaxies, and none of them has a picture."""
    classes, with_picture = (set(table["label"].to_pylist()) for table in (assigned, available))
    for label in sorted(classes - with_picture):
        of_class = assigned.filter(pc.equal(assigned["label"], label))
        what = f"no training galaxy in: {tree.names[label]} (none of its {len(of_class)} galaxies has a picture)"
        raise CatalogError(what, "curate", _fix_for_pictures(images, of_class, hint))


def _fix_for_pictures(images: Images, assigned: pa.Table, hint: str) -> str:
    """Return what to fix if no galaxy has both a class and a picture."""
    if not len(assigned):
        return "check curate.classes"
    first = assigned["object_id"][0].as_py()
    if isinstance(images, ParquetImages):
        return f"check survey.images.id_column: none of its ids is {first}"
    if isinstance(images, MosaicImages):
        return f"check survey.images.files: no tile shows galaxy {first}"
    if images.path_column is not None:
        path = assigned["file"][0].as_py()
        place = "has no path" if not path else f"would be {below(images.root, path.strip())}"
        return f"check survey.images: by column '{images.path_column}', galaxy {first} {place}"
    name = images.pattern.format(id=first if images.mapping is None else "ASSET")
    fix = f"check survey.images: galaxy {first} would be {images.root.rstrip('/')}/{name}"
    return f"{fix}; {hint}" if hint else fix


def _hint_for_paths(survey: CatalogSurvey, num_available: int, num_assigned: int) -> str:
    """Return a hint if few galaxies have a picture and an unused column holds paths.

    The hint is logged.
    """
    images = survey.images
    uses_names = isinstance(images, FolderImages | FitsImages) and images.path_column is None
    if not uses_names or 20 * num_available >= num_assigned:
        return ""
    column = find_path_column(open_table(survey.catalog, KNOWN_NAMES, survey.hdu))
    if column is None:
        return ""
    hint = f"column '{column}' holds paths: set survey.images.path_column={column}"
    if num_available:
        log.warning("curate: %d of %d galaxies have a picture; %s", num_available, num_assigned, hint)
    return hint


def _select_from_data_set(recipe: Curate, survey: DataSet) -> Selection:
    """Select the best of each class from the train part; official splits stay whole."""
    log.info("curate: reading %s", survey.root)
    names, rows = survey.index()
    tree = load_class_tree(names if recipe.classes == ALL else recipe.classes)
    if recipe.classes == ALL:
        _warn_of_similar(names)
    requested = names if tree.name == UNLABELLED else _requested_labels(tree, names)
    _check_number(tree, survey.root)
    rows = rows.append_column("confidence", pa.array([1.0] * len(rows)))
    for column in UNKNOWN:
        rows = rows.append_column(column, pa.nulls(len(rows), pa.float64()))
    is_requested = pc.or_(pc.is_in(rows["label"], pa.array(requested, pa.string())), pc.is_null(rows["label"]))
    with error_prefix("curate.", ConfigError), error_prefix("curate.", CatalogError):
        assigned = assign_classes(
            rows.filter(is_requested), tree, thresholds=recipe.thresholds, min_votes=recipe.min_votes
        )
        selected = select_best(recipe, assigned)
    if not has_training(selected):
        raise CatalogError("the data set has no training split", survey.root, "name it with survey.splits.NAME=train")
    log.info("curate: %d pictures in %d classes, %d selected", len(rows), len(names), len(selected))
    if tree.name != UNLABELLED and (others := _describe_left_out(rows, tree)):
        log.info("curate: pictures of other classes are left out: %s", others)
    log_official_splits(rows, assigned)
    candidates = report(assigned, selected)["candidates"].to_pylist()
    selected, split = divide(selected, recipe, tree.names)
    return Selection(_in_file_order(selected, split), candidates, [], count_unassigned(assigned), tree)


def _warn_of_similar(names: Sequence[str]) -> None:
    """Warn of classes whose names differ only in case or blanks."""
    similar: dict[str, list[str]] = {}
    for name in names:
        similar.setdefault(likeness(name), []).append(name)
    for alike in similar.values():
        if len(alike) > 1:
            shown = ", ".join(f"'{name}'" for name in alike)
            what = "curate: the classes %s have nearly the same name; curate.classes={%s: [%s], …} makes them one"
            log.warning(what, shown, alike[0], shown)


def _requested_labels(tree: ClassTree, names: list[str]) -> list[str]:
    """Return labels that have a class; raise ConfigError for a class without a label."""
    index = LabelIndex(tree.labels)
    for position, label in index.absent(names):
        fix = nearest(label, names)
        if (codes := numeric_labels(names)) and number(label) is None:
            fix = f"its labels are numbers: give {mapping_example(tree.names, codes)}"
        of_class = "" if label == tree.names[position] else f" for '{tree.names[position]}'"
        raise ConfigError(f"the data set has no class '{label}'{of_class}", "curate.classes", fix)
    return [name for name in names if index.find(name) >= 0]


def _log_unassigned(catalog: pa.Table, assigned: pa.Table, tree: ClassTree) -> None:
    counts = {reason: f"{count} {reason}" for reason, count in count_unassigned(assigned).items() if count}
    if "other_label" in counts:
        counts["other_label"] += f": {_describe_left_out(catalog, tree)}"
    reasons = ", ".join(counts.values())
    log.info("curate: %d galaxies, %d have a class%s", len(catalog), len(assigned), reasons and f" (not: {reasons})")
    if tasks := (catalog.schema.metadata or {}).get(b"raydistill.weighted_instead_of_raw"):
        log.warning(
            "curate: tasks %s lack raw fractions for some answers; their weighted fractions are used", tasks.decode()
        )


def _describe_left_out(galaxies: pa.Table, tree: ClassTree) -> str:
    """Return the labels of no class with their counts, and warn of some like a class."""
    counts = left_out(galaxies["label"].to_pylist(), tree.labels)
    warn_of_similar_labels(counts, tree.labels, tree.names)
    return listed([f"{label} ({count})" for label, count in counts.most_common()])


def _locate(survey: CatalogSurvey, assigned: pa.Table) -> tuple[pa.Table, list[Rejection]]:
    """Return galaxies with a picture and their `path`, and rejections for the others.

    The path starts below the survey's folder, so that the curated set does not depend on where the
    survey is.
    """
    matches = find_pictures(survey, assigned)
    missing = [
        rejection(object_id, tried, "missing", reason, label)
        for object_id, label, file, tried, reason in zip(
            assigned["object_id"].to_pylist(), assigned["label"].to_pylist(), *matches, strict=True
        )
        if file is None
    ]
    with_path = assigned.append_column("path", pa.array(matches.files, pa.string()))
    return with_path.filter(pc.is_valid(with_path["path"])), missing


def _in_file_order(selected: pa.Table, split: list[str]) -> pa.Table:
    """Return the galaxies with their split and rank, sorted as the files to write."""
    table = selected.append_column("split", pa.array([SPLITS.index(s) for s in split], pa.int8()))
    table = table.sort_by([("split", "ascending"), ("label", "ascending"), ("object_id", "ascending")])
    return table.append_column("rank", pa.array(range(len(table)), pa.int64()))
