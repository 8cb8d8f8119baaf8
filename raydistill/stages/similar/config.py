"""Define the part of a config about similar galaxies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, PositiveInt


def _ids(value: Any) -> Any:
    """Return ids as strings: a list of words or numbers, or one word with commas."""
    words = value if isinstance(value, list | tuple) else str(value).split(",")
    return tuple(str(word).strip() for word in words)


Ids = Annotated[tuple[str, ...], BeforeValidator(_ids)]


@dataclass(frozen=True)
class Similar:
    """Set the search of `raydistill similar`.

    Parameters
    ----------
    survey
        The survey to search, as `predict.survey`. None: that of the config.
    more
        Ids of the galaxies that the result is to be like.
    less
        Ids of galaxies that it is not to be like.
    less_weight
        Weight of these beside the others.
    count
        Number of galaxies to return.
    picture_size
        Side of a picture on the sheet in pixels.
    """

    survey: str | None = None
    more: Ids = ()
    less: Ids = ()
    less_weight: float = 0.5
    count: PositiveInt = 24
    picture_size: PositiveInt = 96

    def __post_init__(self) -> None:
        ids = [*self.more, *self.less]
        if len(set(ids)) < len(ids):
            raise ValueError("more and less must not name a galaxy twice")
        if not 0 <= self.less_weight < float("inf"):
            raise ValueError(f"less_weight must be a number of at least 0, got {self.less_weight}")
