"""Define the part of a config about predictions."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt


@dataclass(frozen=True)
class Predict:
    """Set the ensemble and the blocks of `raydistill predict`.

    Parameters
    ----------
    survey
        The survey to predict: a config or the name of a shipped one, the folder of a curated set, or
        a folder or zip of pictures. None: that of the config.
    experts
        Number of experts that predict, the first ones of the run. None: all.
    features
        Also store the penultimate features of the first expert, the input of its last linear layer.
    block_size
        Pictures per task and per Parquet file. A worker holds the prepared pictures and the
        features of one block.
    batch_size
        Pictures per forward pass. None: 512 on a GPU, 16 on a CPU. Another value may change the
        last bits.
    """

    survey: str | None = None
    experts: PositiveInt | None = None
    features: bool = True
    block_size: PositiveInt = 1024
    batch_size: PositiveInt | None = None
