"""Describe an image's condition: numbers in named groups, each possibly unknown.

A condition holds V numbers, such as the vote fractions of a galaxy, its class and its size. A
network sees each number, multiplied by 1 where it is known and by 0 where it is not, and that flag.
An image of which nothing is known is unconditional; a learned vector stands for it.

During training groups are hidden at random. One network then gives the distribution for every
subset of the groups, and the unconditional one that classifier-free guidance needs (Ho & Salimans
2022, arXiv:2207.12598).

Shapes: B images, V numbers of a condition, D entries of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ConditionGroup:
    """Numbers that are known or unknown together.

    Parameters
    ----------
    name
        Name of the group, such as "votes", "class", "size", "colour" or "embedding".
    size
        How many numbers it has.
    labels
        Names of its numbers, such as answers or classes, for captions; empty: none.
    """

    name: str
    size: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConditionLayout:
    """The groups of a condition in column order; without any, it is unconditional.

    Parameters
    ----------
    groups
        Groups with different names, each of at least one number.
    """

    groups: tuple[ConditionGroup, ...] = ()

    def __post_init__(self) -> None:
        names = [group.name for group in self.groups]
        if len(set(names)) < len(names):
            raise ValueError(f"the groups of a condition must have different names, got {names}")
        for group in self.groups:
            if group.size < 1:
                raise ValueError(f"the group '{group.name}' must have at least one number, got {group.size}")
            if len(group.labels) not in (0, group.size):
                raise ValueError(f"the group '{group.name}' needs {group.size} labels, got {len(group.labels)}")

    @property
    def size(self) -> int:
        """The numbers V of a condition."""
        return sum(group.size for group in self.groups)

    def slice(self, name: str) -> slice:
        """Return the columns of a group. KeyError if there is none of this name."""
        first = 0
        for group in self.groups:
            if group.name == name:
                return slice(first, first + group.size)
            first += group.size
        raise KeyError(f"the condition has no group '{name}'; it has {[group.name for group in self.groups]}")


@dataclass(frozen=True)
class Conditions:
    """The conditions of B images.

    Parameters
    ----------
    values_BV
        float32. Numbers of order 1; the value of an unknown number does not matter and becomes 0.
    known_BV
        bool.
    """

    values_BV: Tensor
    known_BV: Tensor

    def __post_init__(self) -> None:
        if self.values_BV.shape != self.known_BV.shape or self.values_BV.dim() != 2:
            shapes = tuple(self.values_BV.shape), tuple(self.known_BV.shape)
            raise ValueError(f"values and known must both have the shape [images, numbers], got {shapes}")
        # A frozen dataclass can be changed only this way.
        object.__setattr__(self, "values_BV", torch.where(self.known_BV, self.values_BV, 0.0))

    @classmethod
    def unknown(cls, num_images: int, layout: ConditionLayout) -> Conditions:
        """Return the conditions of images of which nothing is known."""
        shape = (num_images, layout.size)
        return cls(torch.zeros(shape), torch.zeros(shape, dtype=torch.bool))

    @classmethod
    def of(cls, layout: ConditionLayout, num_images: int, **groups: Tensor) -> Conditions:
        """Return conditions of which only some groups are known.

        Parameters
        ----------
        layout
            The groups.
        num_images
            The number B of images.
        **groups
            Values [B, size of the group] by name of the group; NaN means unknown.

        Raises
        ------
        KeyError
            If the layout has no group of a name.
        ValueError
            If the shape of a group is wrong.
        """
        values, known = torch.zeros(num_images, layout.size), torch.zeros(num_images, layout.size, dtype=torch.bool)
        for name, group in groups.items():
            columns = layout.slice(name)
            if group.shape != (num_images, columns.stop - columns.start):
                expected = [num_images, columns.stop - columns.start]
                raise ValueError(f"the group '{name}' must have the shape {expected}, got {list(group.shape)}")
            values[:, columns], known[:, columns] = group.float(), ~group.isnan()
        return cls(values, known)

    def __len__(self) -> int:
        return len(self.values_BV)

    def __getitem__(self, index: Any) -> Conditions:
        """Return the conditions at `index`: a slice, or a tensor of numbers or flags."""
        return Conditions(self.values_BV[index], self.known_BV[index])

    def to(self, device: torch.device | str) -> Conditions:
        """Return the conditions on a device."""
        return Conditions(self.values_BV.to(device), self.known_BV.to(device))

    def nothing_known(self) -> Conditions:
        """Return as many conditions of which nothing is known, on the same device."""
        return Conditions(torch.zeros_like(self.values_BV), torch.zeros_like(self.known_BV))

    @staticmethod
    def cat(parts: Sequence[Conditions]) -> Conditions:
        """Return the conditions of all parts, in order."""
        return Conditions(torch.cat([part.values_BV for part in parts]), torch.cat([part.known_BV for part in parts]))


def drop_groups(
    conditions: Conditions,
    layout: ConditionLayout,
    generator: torch.Generator,
    group_rate: float = 0.08,
    all_rate: float = 0.1,
) -> Conditions:
    """Hide groups at random, independently for every image.

    Parameters
    ----------
    conditions, layout
        The conditions, and the groups of their columns.
    generator
        A CPU generator. The number of draws does not depend on the rates.
    group_rate
        Probability that a group is hidden. Other values were not compared.
    all_rate
        Probability that all groups are hidden. Ho & Salimans 2022 find 0.1 to 0.2 best.

    Returns
    -------
    Conditions
        Conditions with fewer known numbers.
    """
    draws = torch.rand(len(conditions), 1 + len(layout.groups), generator=generator)
    hide_all, hide_group = draws[:, :1] < all_rate, draws[:, 1:] < group_rate
    sizes = torch.tensor([group.size for group in layout.groups], dtype=torch.long)
    hidden_BV = (hide_all | hide_group).repeat_interleave(sizes, dim=1)
    return Conditions(conditions.values_BV, conditions.known_BV & ~hidden_BV.to(conditions.known_BV.device))


class ConditionEmbedding(nn.Module):
    """Embed conditions as vectors [B, D], which are added to the time embedding.

    Parameters
    ----------
    layout
        The groups of the conditions.
    size
        The entries D of an embedding.
    """

    def __init__(self, layout: ConditionLayout, size: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.zeros(size))
        self.mlp = (
            nn.Sequential(nn.Linear(2 * layout.size, size), nn.SiLU(), nn.Linear(size, size)) if layout.groups else None
        )

    def forward(self, conditions: Conditions) -> Tensor:
        """Return the embeddings [B, D]; where nothing is known, the learned vector `null`."""
        null_BD = self.null.expand(len(conditions), -1)
        if self.mlp is None:
            return null_BD
        known = conditions.known_BV
        inputs = torch.cat([conditions.values_BV, known.to(conditions.values_BV.dtype)], dim=1)
        return torch.where(known.any(dim=1, keepdim=True), self.mlp(inputs.to(self.null.dtype)), null_BD)
