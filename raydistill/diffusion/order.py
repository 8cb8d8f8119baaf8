"""Order the training images in windows that can be read one after another.

Images are stored in groups, such as the row groups of Parquet files. In every epoch the groups are
shuffled and divided into windows, and the images of a window are shuffled. Only one window must be
in memory. A set that fits into one window is shuffled as a whole.

Positions count the images of the whole training: step s of batch size B has the positions s B to
(s + 1) B - 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.seeding import generator as seeded


class Window(NamedTuple):
    """Images that are used one after another.

    Parameters
    ----------
    first
        Position of its first image.
    groups
        Numbers of its groups.
    rows_N
        Order of its images: int64 indices into its groups, put one behind another.
    """

    first: int
    groups: tuple[int, ...]
    rows_N: Tensor


@dataclass(frozen=True)
class ImageOrder:
    """An order by the seed and the groups alone, with every image once an epoch.

    Parameters
    ----------
    sizes
        Number of images of each group.
    window_images
        Largest number of images of a window, unless one group has more.
    seed
        Root of the shuffles.
    """

    sizes: tuple[int, ...]
    window_images: int
    seed: int

    def __post_init__(self) -> None:
        if not self.num_images:
            raise ValueError("a generator needs at least one training image")

    @cached_property
    def num_images(self) -> int:
        """Images of an epoch."""
        return sum(self.sizes)

    def windows(self, first: int, last: int) -> Iterator[Window]:
        """Yield the windows that overlap the positions `first` to `last` - 1."""
        epoch, position = divmod(first, self.num_images)
        position = first - position
        while position < last:
            for number, groups in enumerate(self._divide(epoch)):
                size = sum(self.sizes[group] for group in groups)
                if position < last and first < position + size:
                    yield Window(position, groups, self._shuffle("window", epoch, number, size=size))
                position += size
            epoch += 1

    def batch(self, step: int, batch_size: int) -> Tensor:
        """Return the images [batch_size] of a step as indices into the joined groups."""
        first, last = step * batch_size, (step + 1) * batch_size
        parts = []
        for window in self.windows(first, last):
            part = slice(max(0, first - window.first), last - window.first)
            parts.append(self._global_rows(window.groups)[window.rows_N[part]])
        return torch.cat(parts)

    def _divide(self, epoch: int) -> list[tuple[int, ...]]:
        """Return the groups of each window of an epoch."""
        windows: list[list[int]] = [[]]
        filled = 0
        for group in self._shuffle("groups", epoch, size=len(self.sizes)).tolist():
            if windows[-1] and filled + self.sizes[group] > self.window_images:
                windows.append([])
                filled = 0
            windows[-1].append(group)
            filled += self.sizes[group]
        return [tuple(groups) for groups in windows]

    def _global_rows(self, groups: Sequence[int]) -> Tensor:
        starts = torch.tensor(self.sizes).cumsum(0) - torch.tensor(self.sizes)
        return torch.cat([torch.arange(self.sizes[group]) + starts[group] for group in groups])

    def _shuffle(self, *names: str | int, size: int) -> Tensor:
        return torch.randperm(size, generator=seeded(self.seed, *names))
