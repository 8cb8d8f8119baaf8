"""Which galaxies of a survey become the curated set: classes, pictures, the best of each class, splits.

Labels first: tables are small, so all of this happens on the driver, and what is wrong with a table shows before a cluster is started.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.artifacts.curated import SPLITS
from raydistill.config import CatalogSurvey, Curate, Images
from raydistill.datasets.base import DataSet
from raydistill.errors import CatalogError, ConfigError, RaydistillError, nearest
from raydistill.galaxies.catalog_schemas import read_catalog
from raydistill.galaxies.classes import ClassTree, load_class_tree
from raydistill.galaxies.images import ParquetImages
from raydistill.galaxies.selection import assign, report, select, split_of, unassigned
from raydistill.log import get_logger
from raydistill.pipeline.config_checks import ALL

log = get_logger(__name__)


class Selection(NamedTuple):
    """The selected galaxies in the order of the files; galaxies per class before selection; rejections without a picture; how many
    rows of the table have no class, by reason."""

    galaxies: pa.Table
    candidates: list[int]
    missing: list[dict[str, Any]]
    unassigned: dict[str, int]
    tree: ClassTree


def select_galaxies(how: Curate, survey: CatalogSurvey | DataSet) -> Selection:
    """Read, assign, look for pictures, select. ConfigError or CatalogError, in one sentence, for what does not fit."""
    if isinstance(survey, DataSet):
        return _choose_of_data_set(how, survey)
    tree = load_class_tree(how.classes)
    log.info("curate: reading %s", survey.catalog)
    with _placed("survey.", ConfigError):
        catalog = read_catalog(survey.catalog, survey.dialect, fractions=survey.fractions, columns=survey.columns)
    with _placed("curate.classes, ", ConfigError), _placed(f"{survey.catalog}, ", CatalogError):
        assigned = assign(catalog, tree, thresholds=how.thresholds, min_votes=how.min_votes)
    _tell_left_out(catalog, assigned)
    found, missing = _locate(survey.images, assigned)
    with _placed("curate.", CatalogError):
        selected = select(found, per_class=how.per_class, min_confidence=how.min_confidence, balance=how.balance)
    if not len(selected):
        raise CatalogError(
            f"none of {len(catalog)} galaxies was selected ({len(assigned)} have a class, {len(found)} of those a picture)",
            survey.catalog, _looked_for(survey.images, assigned) if not len(found) else "check curate.min_confidence",
        )  # fmt: skip
    candidates = report(assigned, selected)["candidates"].to_pylist()
    split = split_of(selected["object_id"].to_pylist(), how.split).tolist()
    return Selection(_in_order(selected, split), candidates, missing, unassigned(assigned), tree)


def _looked_for(images: Images, assigned: pa.Table) -> str:
    """What to mend where galaxies have a class and none has a picture."""
    if not len(assigned):
        return "check curate.classes"
    first = assigned["object_id"][0].as_py()
    if isinstance(images, ParquetImages):
        return f"check survey.images.id_column: none of its ids is {first}"
    name = images.pattern.format(id=first if images.mapping is None else "ASSET")
    return f"check survey.images: galaxy {first} would be {images.root.rstrip('/')}/{name}"


def _choose_of_data_set(how: Curate, survey: DataSet) -> Selection:
    """As `choose`: classes by name, and the official splits as they are. Of the training part only, the best of each class."""
    log.info("curate: reading %s", survey.root)
    names, rows = survey.index()
    tree = load_class_tree(names if how.classes == ALL else how.classes)
    for name in tree.names:
        if name not in names:
            raise ConfigError(f"the data set has no class '{name}'", "curate.classes", nearest(name, names))
    rows = rows.append_column("confidence", pa.array([1.0] * len(rows)))
    for column in ("ra", "dec", "petro_r90", "redshift", "total_votes"):
        rows = rows.append_column(column, pa.nulls(len(rows), pa.float64()))
    wanted = pc.or_(pc.is_in(rows["label"], pa.array(tree.names)), pc.is_null(rows["label"]))
    with _placed("curate.", ConfigError), _placed("curate.", CatalogError):
        assigned = assign(rows.filter(wanted), tree, thresholds=how.thresholds, min_votes=how.min_votes)
    training = pc.fill_null(pc.equal(assigned["part"], "train"), True)
    with _placed("curate.", CatalogError):
        taught = select(
            assigned.filter(training), per_class=how.per_class, min_confidence=how.min_confidence, balance=how.balance
        )
    if not len(taught):
        raise CatalogError("it has no training part", survey.root, "name it with survey.splits.NAME=train")
    selected = pa.concat_tables([taught, assigned.filter(pc.invert(training))])
    candidates = report(assigned, selected)["candidates"].to_pylist()
    split = _official_or_cut(selected, how.split)
    log.info(
        "curate: %d pictures in %d classes, %d chosen; official splits: %s", len(rows), len(names), len(selected),
        ", ".join(sorted(pc.unique(rows["part"].drop_null()).to_pylist())) or "none",
    )  # fmt: skip
    return Selection(_in_order(selected, split), candidates, [], unassigned(assigned), tree)


def _official_or_cut(selected: pa.Table, fractions: tuple[float, float, float]) -> list[str]:
    """The official split of each picture; the training part is divided in proportion among training and what is not official."""
    official = selected["part"].to_pylist()
    shares = [
        0.0 if name in official and name != "train" else share for name, share in zip(SPLITS, fractions, strict=True)
    ]
    train, validation, test = (share / sum(shares) for share in shares)
    cut = split_of(selected["object_id"].to_pylist(), (train, validation, test)).tolist()
    return [own if part in (None, "train") else part for part, own in zip(official, cut, strict=True)]


def _tell_left_out(catalog: pa.Table, assigned: pa.Table) -> None:
    left_out = ", ".join(f"{count} {reason}" for reason, count in unassigned(assigned).items() if count)
    log.info("curate: %d galaxies, %d have a class%s", len(catalog), len(assigned), left_out and f" (not: {left_out})")
    if tasks := (catalog.schema.metadata or {}).get(b"raydistill.weighted_instead_of_raw"):
        log.warning(
            "curate: tasks %s have no raw fractions for all their answers, their weighted ones are taken",
            tasks.decode(),
        )


@contextmanager
def _placed(prefix: str, kind: type[RaydistillError]) -> Iterator[None]:
    """Errors of rooms that do not know the config, with the place in it."""
    try:
        yield
    except kind as error:
        raise kind(error.what, prefix + error.where, error.fix) from error


def _locate(images: Images, assigned: pa.Table) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The galaxies that have a picture, with its `path` below the survey's images; and rejections for those that have none.

    Without the folder above, the curated set has the same bytes wherever the survey lies.
    """
    ids = assigned["object_id"].to_pylist()
    if isinstance(images, ParquetImages):
        present = set(images.ids().to_pylist())
        paths = [images.name if object_id in present else None for object_id in ids]
    else:
        above = len(images.root.rstrip("/")) + 1
        paths = [None if path is None else path[above:] for path in images.paths(ids)]
    missing = [rejection(i, "", "missing", "") for i, path in zip(ids, paths, strict=True) if path is None]
    with_path = assigned.append_column("path", pa.array(paths, pa.string()))
    return with_path.filter(pc.is_valid(with_path["path"])), missing


def _in_order(selected: pa.Table, split: list[str]) -> pa.Table:
    """The selected galaxies with their split and rank, in the order of the files to be written."""
    table = selected.append_column("split", pa.array([SPLITS.index(s) for s in split], pa.int8()))
    table = table.sort_by([("split", "ascending"), ("label", "ascending"), ("object_id", "ascending")])
    return table.append_column("rank", pa.array(range(len(table)), pa.int64()))


def rejection(object_id: str, source: str, reason: str, detail: str) -> dict[str, Any]:
    """A row of `rejected.parquet`."""
    return {"object_id": object_id, "source": source, "reason": reason, "detail": detail}
