"""Read what a learner sees of the objects of a survey, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raydistill.artifacts.tensors import pack_tensors, unpack_tensors
from raydistill.stages.hunt.pictures import read_block
from raydistill.stages.hunt.science.examples import Features
from raydistill.stages.hunt.science.ranking import Rows
from raydistill.stages.hunt.science.source_network import SourceNetwork
from raydistill.stages.hunt.survey import HuntedSurvey
from raydistill.storage import Folder, checked

JOINED = "features"


@dataclass(frozen=True)
class Values:
    """The values of each object: features, a picture, or features and a network's.

    Attributes
    ----------
    survey
        The survey.
    pictures
        Folder of its prepared pictures. None: features are read, and no pictures.
    network
        Network whose features join those of `predict`. None: pictures are read, if there is a
        folder.
    """

    survey: HuntedSurvey
    pictures: Folder | None = None
    network: SourceNetwork | None = None

    def blocks(self) -> Iterator[tuple[Rows, Features, npt.NDArray[Any]]]:
        """Yield rows, features of `predict` and values of usable objects, block by block."""
        for number, (rows, features) in enumerate(self.survey.blocks()):
            if len(rows):
                yield rows, features, self._values(number, features)

    def of_rows(self, wanted: Rows) -> tuple[Rows, npt.NDArray[Any]]:
        """Return the usable rows among the wanted ones, and their values, in survey order."""
        found, parts = [np.empty(0, np.int64)], []
        for rows, _, values in self.blocks():
            kept = np.isin(rows, wanted)
            found.append(rows[kept])
            parts.append(values[kept])
        return np.concatenate(found), np.concatenate(parts)

    def _values(self, number: int, features: Features) -> npt.NDArray[Any]:
        if self.pictures is None:
            return features
        if self.network is None:
            return read_block(self.pictures, number)
        name = f"{JOINED}-{number:06d}.safetensors"  # the survey passes several times
        if (packed := checked.read(self.pictures, name)) is None:
            joined = self.network.join(features, read_block(self.pictures, number))
            packed = pack_tensors({JOINED: torch.tensor(joined)})
            checked.write(self.pictures, name, packed)
        values: Features = unpack_tensors(packed)[0][JOINED].numpy()
        return values
