"""The galaxies whose conditions a generator is given: real, or user-described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from torch import Tensor

from raydistill.artifacts.tables import decode_images
from raydistill.errors import CatalogError, ConfigError, nearest
from raydistill.galaxies.answers import check_votes, parse_answers, replace_answers
from raydistill.galaxies.catalog import read_catalog, votes_array
from raydistill.galaxies.classes import ClassTree
from raydistill.galaxies.selection import SPLITS, Split
from raydistill.galaxies.tree import DecisionTree
from raydistill.galaxies.trees import GZ2
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.select.conditions import picture_colours, votes_of
from raydistill.stages.pretrain.describers import Embedder
from raydistill.stages.sample.artifact import NO_CLASS
from raydistill.stages.sample.config import AnswerConditions, GalaxyConditions, TableConditions

WHERE = "sample.conditions"
DECODED_AT_ONCE = 1024  # pictures


@dataclass(frozen=True)
class Galaxies:
    """The known properties of N galaxies.

    Attributes
    ----------
    votes_NA
        float32, conditional fractions in the order of the tree's answers; NaN where unknown.
    labels_N
        int64, -1 where the class is unknown.
    confidence_N
        float64, probability of the class; NaN where the class is unknown.
    petro_r90_N
        float64, arcsec; NaN where unknown.
    colours_N2
        float64, as `stages.curate.select.conditions.picture_colours` returns them; NaN where unknown.
    embeddings_NE
        float32, as `stages.experts.classify.embedding` returns them; NaN where unknown. E is 0 for a
        generator without them.
    origins
        Ids of real galaxies or of a table's rows; None for a description.
    """

    votes_NA: np.ndarray
    labels_N: np.ndarray
    confidence_N: np.ndarray
    petro_r90_N: np.ndarray
    colours_N2: np.ndarray
    embeddings_NE: np.ndarray
    origins: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows: np.ndarray) -> Galaxies:
        """Return the galaxies with these numbers."""
        arrays = {name: values[rows] for name, values in vars(self).items() if name != "origins"}
        return Galaxies(**arrays, origins=tuple(self.origins[row] for row in rows))

    def with_class(self, label: int) -> Galaxies:
        """Return the galaxies with another class, whose confidence is unknown."""
        return replace(self, labels_N=np.full(len(self), label), confidence_N=np.full(len(self), np.nan))


@dataclass(frozen=True)
class Survey:
    """The generator's training galaxies, and the meaning of their votes and classes.

    Attributes
    ----------
    curated
        The curated set.
    tree
        The questions that its votes answer.
    classes
        The paths of its classes in the tree; None if votes determine no class.
    embedder
        Embeds its pictures; None for a generator without embeddings.
    """

    curated: CuratedSet
    tree: DecisionTree
    classes: ClassTree | None
    embedder: Embedder | None = None

    @property
    def class_names(self) -> list[str]:
        """Return the class names; empty if the set has no classes."""
        return self.curated.class_names if self.curated.has_classes else []

    def embeddings(self, images_NHWC: Tensor) -> np.ndarray:
        """Return the embeddings [N, E] of pictures, [N, 0] without an embedder."""
        if self.embedder is None:
            return np.empty((len(images_NHWC), 0), np.float32)
        return self.embedder.apply(images_NHWC)

    def unknown_embeddings(self, num_galaxies: int) -> np.ndarray:
        """Return NaN [N, E]."""
        size = 0 if self.embedder is None else len(self.embedder.axes_KF)
        return np.full((num_galaxies, size), np.nan, np.float32)

    def unknown_galaxies(self, origins: Sequence[str | None]) -> Galaxies:
        """Return galaxies of which nothing but the origin is known."""
        count = len(origins)
        return Galaxies(
            votes_NA=np.full((count, len(self.tree.answers)), np.nan, np.float32),
            labels_N=np.full(count, NO_CLASS),
            confidence_N=np.full(count, np.nan),
            petro_r90_N=np.full(count, np.nan),
            colours_N2=np.full((count, 2), np.nan),
            embeddings_NE=self.unknown_embeddings(count),
            origins=tuple(origins),
        )


def read_curated(survey: Survey, splits: Sequence[Split] = SPLITS, *, pictures: bool = False) -> Galaxies:
    """Return the galaxies of some splits, sorted by split and object id.

    Their colours and embeddings are NaN unless `pictures`, because that decodes every picture.
    """
    columns = ["object_id", "votes", "petro_r90", "confidence", *(["image"] if pictures else [])]
    rows = pa.concat_tables([survey.curated.table(split, columns) for split in splits])
    galaxies = replace(
        survey.unknown_galaxies(rows["object_id"].to_pylist()),
        votes_NA=votes_of(rows["votes"], len(survey.tree.answers)),
        labels_N=rows["label"].to_numpy().astype(np.int64),
        confidence_N=_floats(rows["confidence"]),
        petro_r90_N=_floats(rows["petro_r90"]),
    )
    if pictures:
        colours_N2, embeddings_NE = _describe_pictures(rows["image"], survey)
        galaxies = replace(galaxies, colours_N2=colours_N2, embeddings_NE=embeddings_NE)
    return galaxies if survey.class_names else galaxies.with_class(NO_CLASS)


def describe_galaxy(wanted: AnswerConditions, survey: Survey) -> Galaxies:
    """Return the one galaxy that a user describes by answers."""
    votes_NA = parse_answers(wanted.answers, survey.tree, f"{WHERE}.answers")[None]
    radius_N = np.array([np.nan if wanted.petro_r90 is None else wanted.petro_r90])
    colours_N2 = np.array([(np.nan, np.nan) if wanted.colour is None else wanted.colour])
    unknown = survey.unknown_galaxies([None])
    return _classified(replace(unknown, votes_NA=votes_NA, petro_r90_N=radius_N, colours_N2=colours_N2), survey)


def edit_galaxies(wanted: GalaxyConditions, survey: Survey, *, pictures: bool = False) -> Galaxies:
    """Return real galaxies, some of whose answers are changed.

    Their size and, if requested, their colours stay. The embedding of a changed galaxy is unknown:
    it would contradict the change.

    Raises
    ------
    ConfigError
        The curated set lacks a galaxy, or a changed question cannot be reached by one.
    """
    galaxies = read_curated(survey, SPLITS if wanted.object_ids else (wanted.split,), pictures=pictures)
    if wanted.object_ids:
        galaxies = galaxies.take(np.array([_find(name, galaxies.origins) for name in wanted.object_ids]))
    if not len(galaxies):
        raise ConfigError(f"the {wanted.split} split has no galaxy", f"{WHERE}.split", "choose another split")
    if not wanted.answers:
        return galaxies
    answers_A = parse_answers(wanted.answers, survey.tree, f"{WHERE}.answers")
    votes_NA = replace_answers(galaxies.votes_NA, answers_A, survey.tree)
    _check_reached(votes_NA, answers_A, galaxies, survey.tree)
    unknown_NE = survey.unknown_embeddings(len(galaxies))
    return _classified(replace(galaxies, votes_NA=votes_NA, embeddings_NE=unknown_NE), survey)


def read_conditions(wanted: TableConditions, survey: Survey) -> Galaxies:
    """Return the galaxies of a user's table.

    Raises
    ------
    CatalogError
        The table cannot be read, its votes are those of another tree or contradict it, or a label
        is not a class of the curated set.
    """
    try:
        rows = read_catalog(wanted.table, wanted.dialect, fractions=wanted.fractions, columns=wanted.columns)
    except CatalogError as error:
        fix = error.fix.replace("survey.columns", f"{WHERE}.columns").replace("survey.fractions", f"{WHERE}.fractions")
        raise CatalogError(error.what, error.where, fix) from error
    galaxies = survey.unknown_galaxies(rows["object_id"].to_pylist())
    galaxies = replace(galaxies, petro_r90_N=_floats(rows["petro_r90"]))
    if "label" in rows.column_names:
        labels_N = np.array([_label(name, survey.class_names, wanted.table) for name in rows["label"].to_pylist()])
        confidence_N = np.where(labels_N == NO_CLASS, np.nan, _floats(rows["confidence"]))
        return replace(galaxies, labels_N=labels_N, confidence_N=confidence_N)
    tree = (rows.schema.metadata or {}).get(b"raydistill.tree", GZ2.name.encode()).decode()
    if tree != survey.tree.name:
        what = f"its votes follow the tree '{tree}', those of the curated set the tree '{survey.tree.name}'"
        raise CatalogError(what, wanted.table, "give votes of the same survey")
    votes_NA = votes_array(rows, survey.tree).copy()  # Arrow's own memory is read-only
    check_votes(votes_NA, survey.tree, wanted.table, sums=wanted.fractions != "debiased")
    return _classified(replace(galaxies, votes_NA=votes_NA), survey)


def classify(votes_NA: np.ndarray, classes: ClassTree) -> tuple[np.ndarray, np.ndarray]:
    """Return the class that votes determine, and its confidence.

    Parameters
    ----------
    votes_NA
        float [N, A]; NaN where unknown.
    classes
        The paths of the classes.

    Returns
    -------
    labels_N : numpy.ndarray
        int64. A class is determined if its confidence is positive, and no other class could have
        more if every unknown fraction on its path were 1. Else -1.
    confidence_N : numpy.ndarray
        float64, NaN where no class is determined.
    """
    lowest_NK = classes.confidence(np.nan_to_num(votes_NA, nan=0.0))
    highest_NK = classes.confidence(np.nan_to_num(votes_NA, nan=1.0))
    labels_N = lowest_NK.argmax(axis=1)
    rows = np.arange(len(labels_N))
    confidence_N = lowest_NK[rows, labels_N]
    highest_NK[rows, labels_N] = 0
    determined_N = (confidence_N > 0) & (confidence_N >= highest_NK.max(axis=1, initial=0.0))
    return np.where(determined_N, labels_N, NO_CLASS), np.where(determined_N, confidence_N, np.nan)


def _classified(galaxies: Galaxies, survey: Survey) -> Galaxies:
    """Return the galaxies with the classes that follow from their votes."""
    if survey.classes is None:
        return galaxies.with_class(NO_CLASS)
    labels_N, confidence_N = classify(galaxies.votes_NA, survey.classes)
    return replace(galaxies, labels_N=labels_N, confidence_N=confidence_N)


def _check_reached(votes_NA: np.ndarray, answers_A: np.ndarray, galaxies: Galaxies, tree: DecisionTree) -> None:
    """Raise ConfigError if an edit has no effect.

    Volunteers who see the galaxy never reach its question.
    """
    unreached_NA = np.isnan(votes_NA) & ~np.isnan(answers_A)
    if not unreached_NA.any():
        return
    row, column = np.argwhere(unreached_NA)[0]
    task = tree.task_of[tree.answers[column]]
    what = f"volunteers cannot reach the question '{task.key}' of the galaxy {galaxies.origins[row]}"
    fix = f"also give a fraction to {' or '.join(task.asked_after)}, or choose other galaxies"
    raise ConfigError(what, f"{WHERE}.answers", fix)


def _find(name: str, object_ids: tuple[str | None, ...]) -> int:
    if name not in object_ids:
        what = f"the curated set has no galaxy '{name}'"
        fix = "check the id; curate.per_class and curate.min_confidence leave galaxies out"
        raise ConfigError(what, f"{WHERE}.object_ids", fix)
    return object_ids.index(name)


def _label(name: str | None, class_names: Sequence[str], where: str) -> int:
    if name is None:
        return NO_CLASS
    if name not in class_names:
        raise CatalogError(
            f"the label '{name}' is not a class of the curated set", where, nearest(name, tuple(class_names))
        )
    return list(class_names).index(name)


def _describe_pictures(column: pa.ChunkedArray, survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    """Return colours [N, 2] and embeddings [N, E] of PNG files.

    A part of the files is decoded at a time.
    """
    colours, embeddings = [np.empty((0, 2))], [survey.unknown_embeddings(0)]
    for first in range(0, len(column), DECODED_AT_ONCE):
        images_NHWC = decode_images(column.slice(first, DECODED_AT_ONCE), survey.curated.summary.image_size)
        colours.append(picture_colours(images_NHWC))
        embeddings.append(survey.embeddings(images_NHWC))
    return np.concatenate(colours), np.concatenate(embeddings)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """Return numbers as float64 [N], NaN for null."""
    return np.asarray(column.to_numpy(), np.float64)
