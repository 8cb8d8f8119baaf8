"""Choose the real galaxies whose noised pictures are the first states of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from raydistill.errors import ConfigError
from raydistill.galaxies.classes import find_class
from raydistill.seeding import generator
from raydistill.stages.sample.artifact import NO_CLASS
from raydistill.stages.sample.galaxies import Survey
from raydistill.stages.sample.source import GeneratorSource

WHERE = "sample.source.start_classes"


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
        classes = tuple(find_class(name, survey.class_names, WHERE) for name in source.start_classes)
        rows = survey.curated.table("train", ["object_id", "image"])
        labels_N = rows["label"].to_numpy().astype(np.int64)
        for name, label in zip(source.start_classes, classes, strict=True):
            if label not in labels_N:
                raise ConfigError(f"the class '{name}' has no training galaxy", WHERE, "name another class")
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
            allowed = np.concatenate([self._rows_by_class[own] for own in self.classes])
        elif label != NO_CLASS and label in self._rows_by_class:
            allowed = self._rows_by_class[label]
        else:
            allowed = np.arange(len(self.object_ids))
        return int(allowed[int(torch.randint(len(allowed), (), generator=generator(seed, "sample-start", index)))])
