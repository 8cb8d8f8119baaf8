"""Damage files at random, and repeat a check for some time.

A check takes a `random.Random`, builds an input, and asserts that the product reads it right or
rejects it with one sentence. The seed in the message of a failure repeats it.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from itertools import count
from random import Random
from typing import TypeVar

import pytest

from raydistill.errors import RaydistillError

Check = Callable[[Random], None]
T = TypeVar("T")

NUM_SEEDS = 40  # of a fast run
# Fourteen long tests take 20 minutes together.
LONG_SECONDS = float(os.environ.get("RAYDISTILL_FUZZ_SECONDS", "86"))

is_long = [pytest.mark.slow, pytest.mark.long]
fast_or_long = pytest.mark.parametrize("seconds", [0.0, pytest.param(LONG_SECONDS, marks=is_long)])


def repeat(check: Check, seconds: float) -> None:
    """Run a check on the first `NUM_SEEDS` seeds, and on more until the time is over."""
    end = time.monotonic() + seconds
    for seed in count():
        if seed >= NUM_SEEDS and time.monotonic() >= end:
            return
        try:
            with warnings.catch_warnings(action="ignore"):  # as in a run of the product
                check(Random(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def rejected(action: Callable[[], T]) -> T | None:
    """Return the result of an action; None if it rejects its input with one sentence."""
    try:
        return action()
    except RaydistillError as error:
        sentence = str(error)
    assert sentence.strip()
    assert "\n" not in sentence, f"not one line: {sentence}"
    return None


def damage(content: bytes, random: Random) -> bytes:
    """Return the bytes with one to four random faults, half in the first kilobyte."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        size = min(len(data), 1024) if random.random() < 0.5 else len(data)
        if not size:
            break
        at, span = random.randrange(size), random.choice([1, 1, 4, 32, 500])
        match random.randrange(7):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at : at + span] = random.randbytes(len(data[at : at + span]))
            case 2:
                data[at : at + span] = bytes(len(data[at : at + span]))
            case 3:
                del data[at : at + span]
            case 4:
                data[at:at] = data[at : at + span]
            case 5:
                data[at:at] = random.randbytes(span)
            case 6:
                del data[at:]
    return bytes(data)
