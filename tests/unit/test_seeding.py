"""Randomness is a function of its path."""

from __future__ import annotations

import os
import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from raydistill.seeding import fold_in, generator

FROZEN = 4_658_984_199_638_400_816  # fold_in(0, "expert", 7)
paths = st.lists(st.text(max_size=5) | st.integers(-5, 10**6), max_size=4)


@given(st.integers(0, 2**63 - 1), paths)
def test_seeds_are_valid_for_torch(seed: int, path: list[str | int]) -> None:
    folded = fold_in(seed, *path)
    assert 0 <= folded < 2**63
    assert folded == fold_in(seed, *path)


def test_seed_depends_on_elements_types_and_order() -> None:
    seeds = [
        fold_in(0), fold_in(1), fold_in(0, "a"), fold_in(0, "b"), fold_in(0, "a", "b"), fold_in(0, "b", "a"), fold_in(0, "ab"),
        fold_in(0, 1), fold_in(0, "1"), fold_in(0, 1, 1), fold_in(0, 11), fold_in(fold_in(0, "a"), "b"),
    ]  # fmt: skip
    assert len(set(seeds)) == len(seeds)


def test_many_paths_do_not_collide() -> None:
    assert len({fold_in(0, "expert", k, e) for k in range(100) for e in range(100)}) == 10_000


def test_bits_are_evenly_used() -> None:
    ones = torch.zeros(63)
    for k in range(1000):
        folded = fold_in(7, k)
        ones += torch.tensor([(folded >> bit) & 1 for bit in range(63)])
    assert ((ones - 500).abs() < 5 * 15.8).all()


def test_seeds_are_stable_across_machines_and_versions() -> None:
    """A run of last year must be repeatable: these values may never change."""
    assert fold_in(0, "expert", 7) == FROZEN
    code = "from raydistill.seeding import fold_in; print(fold_in(0, 'expert', 7))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(answer.stdout) == FROZEN


def test_generators_of_one_path_agree_and_do_not_use_the_global_state() -> None:
    before = torch.get_rng_state()
    first, other, third = (
        torch.rand(5, generator=g) for g in (generator(0, "a"), generator(0, "a"), generator(0, "b"))
    )
    assert torch.equal(first, other)
    assert not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before)
