"""Random expressions are rejected with one sentence, or give a value for each row."""

from __future__ import annotations

import resource
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from raydistill.galaxies.tables import grammar
from raydistill.galaxies.tables.expressions import evaluate_rows
from tests.property.fuzz import fast_or_long, rejected, repeat

COLUMNS = {
    "objid": ["a1", "b2", "c3"], "u": [17.5, float("nan"), 1e300], "k": [2**62, -1, 0], "odd": [True, False, True],
    "maybe": [True, None, False], "note": ["x", None, "y"], "b": pa.array([0, 1, 255], pa.uint8()), "none": pa.nulls(3),
}  # fmt: skip
OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "<", "<=", "==", "!=", ">=", ">", "and", "or", "&", "|")
FRAGMENTS = (
    *OPERATORS, *COLUMNS, *grammar.FUNCTIONS, "not", "in", "not in", "~", "(", ")", "[", "]", ",", "'", '"', "`", "\\", "@", ".",
    "=", ":", "lambda", "__import__('os')", "__class__", "{", "}", "\n", "\0", "9" * 30, "1e999", "0x1", "\u0661", "\uff08", "'x'",
)  # fmt: skip
SECONDS, MEGABYTES = 2.0, 100


def number(random: Random, depth: int) -> str:
    """Return a valid expression of numbers."""
    if not depth:
        return random.choice(["u", "k", "b", "none", "2", "0.5", "1e300", "18446744073709551615"])
    match random.randrange(4):
        case 0:
            return f"({number(random, depth - 1)})"
        case 1:
            return f"{random.choice('-+')}{number(random, depth - 1)}"
        case 2:
            name, count = random.choice(list(grammar.FUNCTIONS.items()))
            return f"{name}({', '.join(number(random, depth - 1) for _ in range(count))})"
    return f"{number(random, depth - 1)} {random.choice(OPERATORS[:7])} {number(random, depth - 1)}"


def condition(random: Random, depth: int) -> str:
    """Return a valid condition."""
    if not depth:
        pair = f"{number(random, 1)} {random.choice(OPERATORS[7:13])} {number(random, 1)}"
        return random.choice([pair, "odd", "note != 'x'", "note in ['x', \"y\"]", "k not in (1, -1)", "objid >= 'b'"])
    if random.random() < 0.3:
        return f"not ({condition(random, depth - 1)})"
    return f"{condition(random, depth - 1)} {random.choice(OPERATORS[13:])} {condition(random, depth - 1)}"


def mutate(text: str, random: Random) -> str:
    """Return a text with one to four parts removed, repeated or replaced."""
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(text) + 1)
        end = at + random.choice([0, 0, 1, 5])
        part = random.choice(FRAGMENTS) if random.random() < 0.7 else chr(random.randrange(0x3000))
        text = text[:at] + part * random.choice([1, 1, 1, 3, 400]) + text[end:]
    return text


@cache
def table() -> str:
    path = Path(tempfile.mkdtemp()) / "t.parquet"
    pq.write_table(pa.table(COLUMNS), path)
    return str(path)


def check(random: Random) -> None:
    for _ in range(10):
        text = random.choice([number, condition])(random, random.randint(0, 4))
        if random.random() < 0.2:
            text = " ".join(random.choices(FRAGMENTS, k=random.randint(1, 40)))
        if random.random() < 0.8:
            text = mutate(text, random)
        begin, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows = rejected(partial(evaluate_rows, table(), [text], None, "a.key", "a.id"))
        assert time.process_time() - begin < SECONDS, text
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEGABYTES * 1024, text
        if rows is not None:
            assert len(rows.values[0]) == 3


@fast_or_long
def test_random_expressions_give_values_or_one_sentence(seconds: float) -> None:
    evaluate_rows(table(), ["u + 1"], None, "a.key", "a.id")  # imports pandas, which takes memory
    repeat(check, seconds)
