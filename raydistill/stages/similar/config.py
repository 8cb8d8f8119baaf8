"""Define the part of a config about similar galaxies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveInt


@dataclass(frozen=True)
class Similar:
    """Set the search of `raydistill similar`.

    Parameters
    ----------
    survey
        The survey to search. None: that of `predict.survey`, or else of the config.
    more
        Ids of the galaxies that the result is to be like, with commas between them.
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
    more: str = ""  # text, because YAML reads the id 283828_4000 as a number
    less: str = ""
    less_weight: float = 0.5
    count: PositiveInt = 24
    picture_size: PositiveInt = 96

    def __post_init__(self) -> None:
        ids = [*self.ids("more"), *self.ids("less")]
        if len(set(ids)) < len(ids):
            raise ValueError("more and less must not name a galaxy twice")
        if not 0 <= self.less_weight <= 1000:
            raise ValueError(f"less_weight must lie in [0, 1000], got {self.less_weight}")

    def ids(self, key: Literal["more", "less"]) -> tuple[str, ...]:
        """Return the ids of `more` or `less`."""
        words = self.more if key == "more" else self.less
        return tuple(word for word in map(str.strip, words.split(",")) if word)
