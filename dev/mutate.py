"""Change operators of core modules, and name the changes that no test notices.

Usage: python dev/mutate.py [WORD ...]

With words, only modules whose path has one of them. Each change runs the tests of its module in a
process of its own; no file is written. It fails if a change survives that is not in `EQUIVALENT`.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import multiprocessing
import os
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
import pytest
import scipy.stats  # noqa: F401  # loaded once, before the processes of the changes
import torch  # noqa: F401

ROOT = Path(__file__).parents[1]
UNIT = "tests/unit"
TESTS = {  # of a module
    "raydistill/statistics/crossed.py": f"{UNIT}/statistics/test_crossed.py",
    "raydistill/statistics/intervals.py": f"{UNIT}/statistics/test_intervals.py",
    "raydistill/statistics/quantiles.py": f"{UNIT}/statistics/test_quantiles.py",
    "raydistill/distillation/schedule/loss_weighted.py": f"{UNIT}/distillation/test_loss_weighted.py",
    "raydistill/distillation/schedule/windows.py": f"{UNIT}/distillation/test_schedule.py",
    "raydistill/distillation/trajectories.py": f"{UNIT}/distillation/test_trajectories.py",
    "raydistill/stages/hunt/learn/ranking.py": f"{UNIT}/stages/hunt/test_ranking.py",
}
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
CROSSED, LOSSES = "raydistill/statistics/crossed.py", "raydistill/distillation/schedule/loss_weighted.py"
RANKING = "raydistill/stages/hunt/learn/ranking.py"
EQUIVALENT = {  # changes without a consequence, or within rounding: file and changed expression
    (CROSSED, "error < 1e-12 * max(1.0, abs(mean))"),
    (CROSSED, "1e-12 / max(1.0, abs(mean))"),
    (CROSSED, "abs(mean) <= 1e-12"),
    (RANKING, "exact - 1e-09"),
    (RANKING, "len(keys_N) >= self._size"),
    (LOSSES, "trend(state.recent) >= -self.significance"),
}


class Change(NamedTuple):
    path: str
    line: int
    after: str
    source: str


def changes(path: str) -> Iterator[Change]:
    """Yield a module with each operator changed."""
    tree = ast.parse((ROOT / path).read_text())
    nodes = [node for node in ast.walk(tree) if type(_operator(node)) in SWAPS]
    for node in nodes:
        before = copy.copy(vars(node))
        swapped: Any = SWAPS[type(_operator(node))]()
        if isinstance(node, ast.Compare):
            node.ops = [swapped, *node.ops[1:]]
        else:
            node.op = swapped  # type: ignore[attr-defined]
        yield Change(path, node.lineno, ast.unparse(node), ast.unparse(tree))  # type: ignore[attr-defined]
        vars(node).update(before)


def _operator(node: ast.AST) -> Any:
    return node.ops[0] if isinstance(node, ast.Compare) else getattr(node, "op", None)


def survives(change: Change) -> bool:
    """Return whether the module's tests pass with a change."""
    name = change.path.removesuffix(".py").replace("/", ".")

    class Changed(SourceFileLoader):
        def get_code(self, fullname: str) -> Any:
            return compile(change.source, change.path, "exec")

        @classmethod
        def find_spec(cls, fullname: str, *_: Any) -> Any:
            path = str(ROOT / change.path)
            return (
                importlib.util.spec_from_file_location(name, path, loader=cls(name, path)) if fullname == name else None
            )

    sys.meta_path.insert(0, Changed)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return (
        pytest.main(["-x", "-q", "--timeout=60", "-p", "no:cacheprovider", "-m", "not slow", TESTS[change.path]]) == 0
    )


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    words = sys.argv[1:]
    paths = [path for path in TESTS if not words or any(word in path for word in words)]
    every = [change for path in paths for change in changes(path) if (change.path, change.after) not in EQUIVALENT]
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        lives = pool.map(survives, every, chunksize=1)
    survivors = [change for change, alive in zip(every, lives, strict=True) if alive]
    print(f"{len(every) - len(survivors)} of {len(every)} changes were noticed")
    sys.exit("\n".join(f"{change.path}:{change.line}: survived: {change.after}" for change in survivors) or 0)
