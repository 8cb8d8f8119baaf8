"""Conditions: groups, unknown numbers, hidden groups, and their embedding."""

from __future__ import annotations

import pytest
import torch

from raydistill.diffusion.conditions import (
    ConditionEmbedding,
    ConditionGroup,
    ConditionLayout,
    Conditions,
    drop_groups,
)
from raydistill.seeding import generator

LAYOUT = ConditionLayout((ConditionGroup("votes", 3), ConditionGroup("class", 2), ConditionGroup("size", 1)))


def known(n: int) -> Conditions:
    return Conditions(torch.rand(n, LAYOUT.size, generator=generator(0, "c")), torch.ones(n, LAYOUT.size).bool())


def test_layout_gives_the_columns_of_its_groups() -> None:
    assert LAYOUT.size == 6
    assert [LAYOUT.slice(group.name) for group in LAYOUT.groups] == [slice(0, 3), slice(3, 5), slice(5, 6)]
    with pytest.raises(KeyError, match="no group 'colour'"):
        LAYOUT.slice("colour")
    with pytest.raises(ValueError, match="different names"):
        ConditionLayout((ConditionGroup("size", 1), ConditionGroup("size", 2)))


def test_missing_groups_and_nan_are_unknown() -> None:
    conditions = Conditions.of(LAYOUT, 2, votes=torch.tensor([[0.1, 0.2, 0.7], [0.5, float("nan"), 0.5]]))
    assert conditions.known_BV.tolist() == [[True] * 3 + [False] * 3, [True, False, True] + [False] * 3]
    assert conditions.values_BV[1].tolist() == [0.5, 0, 0.5, 0, 0, 0]
    with pytest.raises(ValueError, match=r"'class' must have the shape \[2, 2\], got \[2, 3\]"):
        Conditions.of(LAYOUT, 2, **{"class": torch.zeros(2, 3)})


def test_conditions_can_be_indexed_and_joined() -> None:
    conditions = known(5)
    joined = Conditions.cat([conditions[:2], conditions[torch.tensor([2, 3, 4])]])
    assert torch.equal(joined.values_BV, conditions.values_BV)
    assert len(conditions[conditions.values_BV[:, 0] > 2]) == 0
    assert not conditions.nothing_known().known_BV.any()


def test_groups_are_hidden_whole_and_at_the_requested_rates() -> None:
    n = 20_000
    dropped = drop_groups(known(n), LAYOUT, generator(0, "drop"), group_rate=0.2, all_rate=0.1)
    by_group = [dropped.known_BV[:, LAYOUT.slice(group.name)].float() for group in LAYOUT.groups]
    for flags in by_group:
        assert torch.equal(flags.amin(dim=1), flags.amax(dim=1))
        assert float(flags.mean()) == pytest.approx(0.9 * 0.8, abs=0.012)
    none = float((~dropped.known_BV.any(dim=1)).float().mean())
    assert none == pytest.approx(0.1 + 0.9 * 0.2**3, abs=0.008)
    assert bool((dropped.values_BV[~dropped.known_BV] == 0).all())


def test_hiding_never_reveals_and_rates_of_zero_change_nothing() -> None:
    sparse = Conditions.of(LAYOUT, 50, size=torch.rand(50, 1))
    assert not (drop_groups(sparse, LAYOUT, generator(0, "a")).known_BV & ~sparse.known_BV).any()
    assert torch.equal(drop_groups(sparse, LAYOUT, generator(0, "a"), 0, 0).known_BV, sparse.known_BV)


def test_embedding_is_the_null_vector_where_nothing_is_known() -> None:
    embedding = ConditionEmbedding(LAYOUT, 8)
    torch.nn.init.normal_(embedding.null, generator=generator(0, "null"))
    rows = Conditions.cat([known(2), Conditions.unknown(2, LAYOUT)])
    out = embedding(rows)
    assert torch.equal(out[2:], embedding.null.expand(2, -1))
    assert not torch.equal(out[0], embedding.null)


def test_embedding_distinguishes_zero_from_unknown() -> None:
    embedding = ConditionEmbedding(LAYOUT, 8)
    zero = Conditions(torch.zeros(1, 6), torch.tensor([[True] * 6]))
    hidden = Conditions(torch.zeros(1, 6), torch.tensor([[True] * 5 + [False]]))
    assert not torch.equal(embedding(zero), embedding(hidden))


def test_unconditional_layout_has_an_embedding() -> None:
    layout = ConditionLayout()
    out = ConditionEmbedding(layout, 4)(drop_groups(Conditions.unknown(3, layout), layout, generator(0)))
    assert out.shape == (3, 4)
