"""Define the part of a config about predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

Prior = Literal["training", "validation", "uniform", "estimated"] | dict[str, float]


@dataclass(frozen=True)
class Predict:
    """Set the ensemble and the blocks of `raydistill predict`.

    Parameters
    ----------
    survey
        The survey to predict: a config or the name of a shipped one, the folder of a curated set, or
        a folder or zip of pictures. None: that of the config.
    experts
        Number of experts that predict, the first ones of the run. None: all. 0: none, as with
        `curate.classes: unlabelled`; pictures get the features of an encoder, and no classes.
    features
        Also store features of each picture: those that `features` of the config names.
    block_size
        Pictures per task and per Parquet file. A worker holds the prepared pictures and the
        features of one block.
    batch_size
        Pictures per forward pass. None: 512 on a GPU, 16 on a CPU. Another value may change the
        last bits.
    prior
        Class frequencies of the survey, which the probabilities assume. "training", "validation":
        those of the galaxies of these splits; `curate.balance` and `curate.per_class` change the
        first alone. "uniform": all equal, so that rare classes are predicted more often.
        "estimated": from the survey's pictures, by the EM algorithm of Saerens et al. (2002). Or a
        table, {CLASS: FREQUENCY}.
    temperature
        Divides the logarithms of the probabilities, against over- or underconfidence. "auto": fitted
        on the validation galaxies (Guo et al. 2017). 1: none.
    """

    survey: str | None = None
    experts: NonNegativeInt | None = None
    features: bool = True
    block_size: PositiveInt = 1024
    batch_size: PositiveInt | None = None
    prior: Prior = "training"
    temperature: Literal["auto"] | float = "auto"

    def __post_init__(self) -> None:
        if self.experts == 0 and not self.features:
            raise ValueError("without experts and features there is nothing to predict")
        if not isinstance(self.prior, str):
            values = list(self.prior.values())
            if not all(math.isfinite(value) and value >= 0 for value in values) or not sum(values) > 0:
                raise ValueError("prior needs finite frequencies of at least 0, of which one is above 0")
        if self.temperature != "auto" and not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be auto or a finite number above 0, got {self.temperature:g}")
