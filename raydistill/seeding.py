"""Randomness enters as data: every random draw has a path from the run's root seed, and no global seed exists.

`fold_in(seed, "expert", 7)` is the same number in every process and on every machine, so who computes a thing,
in which order and after how many crashes cannot change it. (The idea is JAX's `fold_in`; the hash is BLAKE2b.)
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def fold_in(seed: int, *path: str | int) -> int:
    """A seed in [0, 2**63) that depends on `seed` and on every element of `path`, in order."""
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in path)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """A CPU `torch.Generator` at `fold_in(seed, *path)`; draws are made on the CPU and moved, so they do not depend on the device."""
    import torch

    return torch.Generator().manual_seed(fold_in(seed, *path))
