"""Expressions of a table's columns: their values, and what is rejected."""

from __future__ import annotations

import re
import time
import tracemalloc
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.tables.expressions import evaluate_rows
from raydistill.galaxies.tables.grammar import MAX_CHARACTERS, MAX_DEPTH, MAX_TOKENS

COLUMNS: dict[str, Any] = {
    "objid": ["01", "02", "03", "04"],
    "u": [18.5, 17.0, float("nan"), 20.25],
    "r": pa.array([17.5, 17.7, 16.0, 18.0], pa.float32()),
    "k": [1, -2, 3, 0],
    "byte": pa.array([0, 1, 200, 255], pa.uint8()),
    "large": [2**62, -(2**62), 1, 0],
    "odd": [True, False, True, False],
    "maybe": [True, None, False, True],
    "note": ["a", None, "b", "it's"],
    "day": pa.array(["2020-01-01", "2021-06-01", None, "2020-03-01"]).cast(pa.timestamp("s")),
    "price": [Decimal("0.10"), Decimal("0.20"), None, Decimal("3.00")],
    "empty": pa.nulls(4),
    "odd.fraction": [0.1, 0.2, 0.3, 0.4],
    "class": ["x", "y", "x", "y"],
}
NAN = float("nan")


@pytest.fixture
def table(tmp_path: Path) -> str:
    pq.write_table(pa.table(COLUMNS), path := tmp_path / "t.parquet")
    return str(path)


def value(table: str, expression: str) -> list[Any]:
    result: list[Any] = evaluate_rows(table, [expression], None, "a.key", "a.id").values[0].tolist()
    return result


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("u - k", [17.5, 19.0, NAN, 20.25]),
        ("2 ** -k", [0.5, 4, 0.125, 1]),
        ("-k ** 2", [-1, -4, -9, 0]),
        ("k // 2 + k % 2", [1, -1, 2, 0]),
        ("log10(byte + 1) * 1e2 - .5", [-0.5, 29.602999, 229.819606, 240.323997]),
        ("arctan2(k, abs(k))", [0.785398, -0.785398, 0.785398, 0]),
        ("r == 17.7", [False, True, False, False]),  # in the precision of the column
        ("0 < k <= 1", [True, False, False, False]),
        ("not k > 0 and r > 17", [False, True, False, True]),
        ("k > 0 & r > 17 | ~odd", [True, True, False, True]),
        ("k in [1, -2]", [True, True, False, False]),
        ("note not in ('a', 'b')", [False, True, False, True]),
        ("r in [17.7, 16]", [False, True, True, False]),
        ("odd == True", [True, False, True, False]),
        ("maybe == False", [False, False, True, False]),
        ("maybe and k >= 0", [True, False, False, True]),
        ("objid <= '02'", [True, True, False, False]),
        ("note == \"it's\" or note == 'it\\'s'", [False, False, False, True]),
        ("note != 'a'", [False, True, True, True]),
        ("day < '2020-12-31'", [True, False, False, True]),
        ("price <= 0.2", [True, True, False, False]),
        ("empty == 'a' or empty > 0", [False] * 4),
        ("`odd.fraction` * 10", [1, 2, 3, 4]),
        ("class == 'x'", [True, False, True, False]),
        ("(byte & 200) > 8", [False, False, True, True]),
        ("(k > 0) + odd", [2, 0, 2, 0]),
        ("byte - 1", [-1, 0, 199, 254]),  # neither wraps around
        ("large * 4", [2.0**64, -(2.0**64), 4, 0]),
        ("k / 0", [np.inf, -np.inf, np.inf, NAN]),
        ("k ** 100000", [1, np.inf, np.inf, 0]),
        ("k + 99999999999999999999", [1e20] * 4),
        ("k + 1" + "0" * 5000, [np.inf] * 4),
        ("k\n>\n0 ", [True, False, True, False]),
    ],
)
def test_documented_expressions_have_the_right_values(table: str, expression: str, expected: list[Any]) -> None:
    result = value(table, expression)
    assert result == pytest.approx(expected, nan_ok=True)
    assert all(isinstance(cell, bool) for cell in result) == isinstance(expected[0], bool)


@pytest.mark.parametrize(
    "expression",
    ["u - r", "u - r * k ** 2 / 3", "-u // 2 % 3", "sqrt(u) + log10(abs(k)) - floor(r)", "u < r or not odd and k != 2",
     "~odd & k > 0 | note == 'a'", "17 < u <= 20", "note >= 'b'", "u != u", "k in [1, 3]"],
)  # fmt: skip
def test_expressions_have_the_values_of_pandas(table: str, expression: str) -> None:
    frame = pa.table(COLUMNS).select(["u", "r", "k", "odd", "note"]).to_pandas()
    with np.errstate(all="ignore"):
        expected = frame.eval(expression, engine="python").to_numpy()
    np.testing.assert_allclose(value(table, expression), expected, rtol=1e-6)


ATTACKS = [
    "@pd.io.common.os.system('touch WITNESS') == k", "@pd.read_pickle('WITNESS')", "@__import__('os')", "@u",
    "__import__('os').system('touch WITNESS')", "u.__class__.__mro__", "u.map('WITNESS'.format)", "u.to_csv('WITNESS')",
    "objid.str.contains('0')", "objid[0]", "u[u > 0]", "lambda: u", "(lambda: u)()", "[k for k in u]", "{k: u}", "{u}",
    "f'{u}'", "rb'u'", "u := 1", "u = 1", "u if odd else r", "u; r", "u\\\nr", "exec('1')", "eval(k)", "open('WITNESS')",
    "getattr(u, 'to_csv')", "print(k)", "k is None", "*k", "**k", "u @ r", "u >> 1", "u ^ r", "abs", "abs()", "abs(u, r)",
    "abs(*u)", "abs(x=u)", "arctan2(u)", "`u", "`__import__`('os')", "``", "''", "'a' * 1000000000", "note * 1000000000",
    "note + note", "note % 1", "day + 1", "1j", "0x10", "1_000", "True", "1 + 1", "...", "u.", "# u", "$u", "${u}",
    "\uff45\uff56\uff41\uff4c(1)", "o\u017f", "\u212aelvin", "k \u2212 1", "\u0661", "u\0", "\ud800", "k and odd", "not k", "~k",
    "odd & k", "note > 1", "k == '1'", "k in ['1']", "k in note", "k in []", "k in [u]", "k in [-'1']", "not maybe",
    "k in [1] == odd", "day > 'x'", "1 / 0 + k", "k + 18446744073709551615", "(k", "k)", "", " ",
]  # fmt: skip


@pytest.mark.parametrize("expression", ATTACKS)
def test_anything_else_is_rejected_with_one_sentence(
    table: str, expression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigError) as caught:
        value(table, expression)
    assert "a.key: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("k +", "'k +' cannot be computed from the table (character 4: a value is missing); write columns (unusual"),
        ("k @ u", "(character 3: '@' is not expected here)"),
        ("k = 1", "(character 3: '=' is not expected here; write == to compare)"),
        ("square(k)", "(character 1: there is no function 'square', did you mean 'sqrt'?)"),
        ("kk > 1", "has no column 'kk'; "),
        ("note > 1", "(character 6: a text cannot be compared with a number)"),
        ("k and odd", "(character 3: 'and' needs yes or no, such as 'a > 0', and not a number)"),
        ("1 < 2", "'1 < 2' gives no value for each row; use a column of the table in it"),
        ("k" * 20_000, f"(it has 20000 characters, and at most {MAX_CHARACTERS} are read)"),
        ("k" + "+k" * 4_000, f"(it has 8001 names, numbers and signs, and at most {MAX_TOKENS} are read)"),
    ],
)
def test_sentence_says_where_and_what_is_known(table: str, expression: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        value(table, expression)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "expression",
    ["(" * 100_000, "(" * 4_000 + "k" + ")" * 4_000, "-" * 4_000 + "k", "not " * 1_000 + "odd", "k" + "**k" * 900,
     "9" * 9_000 + "x", "'" + "\\'" * 4_900, "9**9**9**9**9**9 + k", "2**2**2**2**2**2**2**2 * k", "k" + "*9" * 900,
     "9999999999999999999" + "*9999999999999999999" * 400 + " < k", "k in [" + "1," * 900 + "]", "1" * 4_999 + " + k"],
)  # fmt: skip
def test_no_expression_takes_long_or_much_memory(table: str, expression: str) -> None:
    tracemalloc.start()
    begin = time.monotonic()
    with suppress(ConfigError):
        value(table, expression)
    seconds, memory = time.monotonic() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 5
    assert memory < 50e6


def test_parentheses_may_be_nested(table: str) -> None:
    deep = MAX_DEPTH - 2
    assert value(table, "(" * deep + "k + 1" + ")" * deep) == [2, -1, 4, 1]


def test_object_ids_are_text_in_text_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("objid,k\n1237648720142532813,1\n1237648720142532814,2\n")
    ids, [result] = evaluate_rows(str(tmp_path / "t.csv"), ["objid == '1237648720142532814'"], None, "w", "i")
    assert ids == ["1237648720142532813", "1237648720142532814"]
    assert isinstance(result, pd.Series)
    assert result.tolist() == [False, True]


def test_repeated_ids_count_once_if_their_values_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "q.csv"
    path.write_text(",objid,z,other\n0,1,0.1,a\n1,2,,b\n2,1,0.1,c\n3,2,,d\n4,3,0.3,e\n5,3,0.4,f\n")
    ids, [values] = evaluate_rows(str(path), ["z * 0"], None, "where", "id")
    assert (ids, values.fillna(-1).tolist()) == (["1", "2", "3"], [0, -1, 0])
    what = "q.csv: 1 ids in 'objid' occur in several rows with different values (first: 3)"
    with pytest.raises(CatalogError, match=re.escape(f"{what}; keep one row per object") + "$"):
        evaluate_rows(str(path), ["z"], None, "where", "id")
    ids, [values] = evaluate_rows(str(path), ["z"], None, "where", "id", duplicates="first")
    assert (ids, values.fillna(-1).tolist()) == (["1", "2", "3"], [0.1, -1, 0.3])
    assert f"{what}; the first one is taken" in caplog.text


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_index_of_pandas_is_no_column_of_ids(tmp_path: Path, index: str) -> None:
    (tmp_path / "q.csv").write_text(f"{index},name,z\n0,a,1\n1,b,2\n")
    assert evaluate_rows(str(tmp_path / "q.csv"), ["z"], None, "where", "id").object_ids == ["a", "b"]
