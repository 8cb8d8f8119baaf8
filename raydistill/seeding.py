"""Derive every random draw from the root seed and a path; there is no global seed.

`fold_in(seed, "expert", 7)` is the same number in every process and on every machine. The result
does not depend on the process, the order or the number of crashes. The idea is JAX's `fold_in`;
the hash is BLAKE2b.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def fold_in(seed: int, *path: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on `seed` and each element of `path`.

    The order of the elements counts.
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in path)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *path: str | int) -> torch.Generator:
    """Return a CPU `torch.Generator` seeded with `fold_in(seed, *path)`.

    Numbers are drawn on the CPU and then moved, so they do not depend on the device.
    """
    import torch

    return torch.Generator().manual_seed(fold_in(seed, *path))
