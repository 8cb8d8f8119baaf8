"""The conditions from which samples are drawn: one pool per class, or one for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raydistill.artifacts.tables import decode_images
from raydistill.diffusion.conditions import Conditions
from raydistill.errors import ConfigError
from raydistill.galaxies.classes import find_class
from raydistill.morphology.recombination import Likeness
from raydistill.seeding import generator
from raydistill.stages.curate.select.conditions import ConditionEncoding
from raydistill.stages.sample.artifact import NO_CLASS
from raydistill.stages.sample.config import (
    AnswerConditions,
    ClassConditions,
    Condition,
    GalaxyConditions,
    GeneratorSource,
    NoConditions,
    TableConditions,
)
from raydistill.stages.sample.sources.galaxies import (
    DECODED_AT_ONCE,
    WHERE,
    Galaxies,
    Survey,
    describe_galaxy,
    edit_galaxies,
    read_conditions,
    read_curated,
)


@dataclass(frozen=True)
class Pool:
    """Galaxies whose conditions samples take.

    Attributes
    ----------
    name
        The class, or "" for a pool of all samples.
    galaxies
        N galaxies, at least one.
    conditions
        Their N conditions.
    random
        Whether a sample takes a random galaxy. False: samples take them in turn.
    columns
        Further columns of `requests.REQUEST_SCHEMA`, with a value for each galaxy.
    """

    name: str
    galaxies: Galaxies
    conditions: Conditions
    random: bool = False
    columns: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)

    def rows(self, numbers: np.ndarray, indices: np.ndarray, seed: int) -> np.ndarray:
        """Return the galaxy of each sample.

        Parameters
        ----------
        numbers
            int64 [B], numbers of samples within the pool.
        indices
            int64 [B], their indices in the set, which seed a random choice.
        seed
            Root of the random choice.

        Returns
        -------
        numpy.ndarray
            int64 [B], numbers of galaxies.
        """
        if not self.random:
            return numbers % len(self.galaxies)
        return np.array([_choose(len(self.galaxies), seed, int(index)) for index in indices], np.int64)


def _choose(total: int, seed: int, index: int) -> int:
    return int(torch.randint(total, (), generator=generator(seed, "sample-condition", index)))


def make_pools(wanted: Condition | None, survey: Survey, encoding: ConditionEncoding) -> list[Pool]:
    """Return the pools of a config.

    Parameters
    ----------
    wanted
        The conditions of the config. None: every class, or nothing if the generator or the curated
        set has no conditions.
    survey
        The curated set.
    encoding
        The conditions with which the generator was trained.

    Raises
    ------
    ConfigError
        The generator lacks a group of conditions, or names, answers and galaxies are wrong.
    CatalogError
        A table of conditions is wrong.
    """
    if wanted is None:
        wanted = ClassConditions() if encoding.groups and survey.class_names else NoConditions()
    if isinstance(wanted, NoConditions):
        nothing = _unknown(read_curated(survey, ("train",)).take(np.zeros(1, np.int64))).with_class(NO_CLASS)
        return [Pool("", nothing, Conditions.unknown(1, encoding.layout))]
    if isinstance(wanted, ClassConditions):
        return _class_pools(wanted, survey, encoding)
    galaxies = _galaxies(wanted, survey, encoding.groups)
    return [Pool("", galaxies, _encode(galaxies, encoding))]


def _encode(galaxies: Galaxies, encoding: ConditionEncoding) -> Conditions:
    return encoding.encode(
        len(galaxies),
        votes_NA=galaxies.votes_NA,
        labels_N=galaxies.labels_N,
        petro_r90_N=galaxies.petro_r90_N,
        colours_N2=galaxies.colours_N2,
        embeddings_NE=galaxies.embeddings_NE,
    )


def _galaxies(
    wanted: AnswerConditions | TableConditions | GalaxyConditions, survey: Survey, groups: Sequence[str]
) -> Galaxies:
    if isinstance(wanted, TableConditions):
        galaxies = read_conditions(wanted, survey)
        _require_groups(_known_groups(galaxies), groups, f"{WHERE}.table")
        return galaxies
    if isinstance(wanted, AnswerConditions):
        given = {"votes": wanted.answers, "size": wanted.petro_r90, "colour": wanted.colour}
        _require_groups([name for name, value in given.items() if value], groups, f"{WHERE}.answers")
        return describe_galaxy(wanted, survey)
    _require_groups(["votes"] if wanted.answers else [], groups, f"{WHERE}.answers")
    _require_any(groups)
    return edit_galaxies(wanted, survey, pictures=_need_pictures(groups))


def _class_pools(wanted: ClassConditions, survey: Survey, encoding: ConditionEncoding) -> list[Pool]:
    if not survey.class_names:
        what = "the curated set has no classes"
        raise ConfigError(what, f"{WHERE}.kind", "choose the kind galaxies, answers, table or nothing")
    labels = [find_class(name, survey.class_names, f"{WHERE}.classes") for name in wanted.classes]
    labels = labels or list(range(len(survey.class_names)))
    if len(set(labels)) < len(labels):
        raise ConfigError("a class is named twice", f"{WHERE}.classes", "name each once")
    _require_groups(["class"] if wanted.like == "label" else [], encoding.groups, f"{WHERE}.like")
    _require_any(encoding.groups)
    random = wanted.like == "galaxies"
    galaxies = read_curated(survey, ("train",), pictures=random and _need_pictures(encoding.groups))
    pools = []
    for label in labels:
        members = galaxies.take(np.flatnonzero(galaxies.labels_N == label))
        members = members if random else _unknown(members.take(np.zeros(1, np.int64)))
        pools.append(Pool(survey.class_names[label], members, _encode(members, encoding), random=random))
    return pools


def _unknown(galaxies: Galaxies) -> Galaxies:
    """Return galaxies of which only the class is known."""
    names = ("votes_NA", "petro_r90_N", "colours_N2", "embeddings_NE")
    unknown = {name: np.full_like(getattr(galaxies, name), np.nan) for name in names}
    return replace(galaxies, **unknown, confidence_N=np.ones(len(galaxies)), origins=(None,) * len(galaxies))


def _known_groups(galaxies: Galaxies) -> list[str]:
    """Return the groups that a table describes."""
    known = {"votes": galaxies.votes_NA, "size": galaxies.petro_r90_N}
    described = [name for name, values in known.items() if not np.isnan(values).all()]
    return described or ["class"]


def _require_groups(needed: Sequence[str], groups: Sequence[str], where: str) -> None:
    """Raise ConfigError if the generator was not trained with a group of conditions."""
    for name in needed:
        if name not in groups:
            known = ", ".join(groups) or "none"
            what = f"the generator was not trained with the condition '{name}' (its conditions: {known})"
            raise ConfigError(what, where, "choose other conditions, or train one with generate.conditions")


def _need_pictures(groups: Sequence[str]) -> bool:
    """Return whether pictures must be decoded for their conditions."""
    return "colour" in groups or "embedding" in groups


def _require_any(groups: Sequence[str]) -> None:
    if not groups:
        what = "the generator was trained without conditions"
        raise ConfigError(what, f"{WHERE}.kind", "set it to nothing, or train one with generate.conditions")


# Choose the real galaxies whose noised pictures are the first states of samples.

START_CLASSES = "sample.source.start_classes"


@dataclass(frozen=True)
class Starts:
    """The training galaxies from which samples start.

    Attributes
    ----------
    object_ids
        Ids of N galaxies.
    labels_N
        Their classes, int64.
    pictures
        Their PNG files.
    classes
        Labels of the galaxies to start from. Empty: those of the sample.
    """

    object_ids: Sequence[str]
    labels_N: np.ndarray
    pictures: pa.ChunkedArray
    classes: tuple[int, ...] = ()

    @staticmethod
    def read(source: GeneratorSource, survey: Survey) -> Starts | None:
        """Return the starts of a config; None if sampling starts from noise.

        Raises
        ------
        ConfigError
            A class is unknown, or has no training galaxy.
        """
        if source.strength == 1:
            return None
        classes = tuple(find_class(name, survey.class_names, START_CLASSES) for name in source.start_classes)
        rows = survey.curated.table("train", ["object_id", "image"])
        labels_N = rows["label"].to_numpy().astype(np.int64)
        for name, label in zip(source.start_classes, classes, strict=True):
            if label not in labels_N:
                raise ConfigError(f"the class '{name}' has no training galaxy", START_CLASSES, "name another class")
        return Starts(rows["object_id"].to_pylist(), labels_N, rows["image"], classes)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.object_ids)}

    @cached_property
    def _rows_by_class(self) -> dict[int, np.ndarray]:
        return {int(label): np.flatnonzero(self.labels_N == label) for label in np.unique(self.labels_N)}

    def columns(
        self, labels_B: np.ndarray, origins: Sequence[str | None], indices_B: np.ndarray, seed: int
    ) -> dict[str, Any]:
        """Return the columns `start` and `picture` of samples.

        Parameters
        ----------
        labels_B
            Classes of the samples, -1 where unknown.
        origins
            The galaxies whose conditions they take.
        indices_B
            Their indices in the set, which seed a random choice.
        seed
            Root of the random choice.
        """
        keys = zip(labels_B.tolist(), origins, indices_B.tolist(), strict=True)
        rows = [self._choose(label, origin, seed, index) for label, origin, index in keys]
        return {"start": [self.object_ids[row] for row in rows], "picture": self.pictures.take(pa.array(rows))}

    def _choose(self, label: int, origin: str | None, seed: int, index: int) -> int:
        if not self.classes and origin in self._row_of:
            return self._row_of[origin]
        if self.classes:
            allowed = np.concatenate([self._rows_by_class[label] for label in self.classes])
        elif label != NO_CLASS and label in self._rows_by_class:
            allowed = self._rows_by_class[label]
        else:
            allowed = np.arange(len(self.object_ids))
        return int(allowed[int(torch.randint(len(allowed), (), generator=generator(seed, "sample-start", index)))])


@dataclass(frozen=True)
class SimilarGalaxies:
    """All training galaxies, of which a sample takes one that is like its own.

    Attributes
    ----------
    object_ids
        Ids of N galaxies.
    pictures
        Their PNG files.
    image_size
        Side of the pictures in pixels.
    similar
        Number of galaxies among which a sample chooses.
    """

    object_ids: Sequence[str]
    pictures: pa.ChunkedArray
    image_size: int
    similar: int

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.object_ids)}

    @cached_property
    def _likeness(self) -> Likeness:
        files = (self.pictures[n : n + DECODED_AT_ONCE] for n in range(0, len(self.pictures), DECODED_AT_ONCE))
        return Likeness.of(picture for some in files for picture in decode_images(some, self.image_size).numpy())

    def columns(
        self, labels_B: np.ndarray, origins: Sequence[str | None], indices_B: np.ndarray, seed: int
    ) -> dict[str, Any]:
        """Return the columns `start` and `similar`, as `Starts.columns` does."""
        del labels_B
        rows = []
        for origin, index in zip(origins, indices_B.tolist(), strict=True):
            alike = self._likeness.nearest(self._row_of[str(origin)], self.similar)
            rows.append(int(alike[int(torch.randint(len(alike), (), generator=generator(seed, "similar", index)))]))
        return {"start": [self.object_ids[row] for row in rows], "similar": self.pictures.take(pa.array(rows))}
