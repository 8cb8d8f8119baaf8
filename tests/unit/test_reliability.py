"""Fill the table of docs/reliability.md from reports of pytest."""

from __future__ import annotations

from datetime import date

import pytest

from tests.reliability import TABLE, Results, fill_table, results_of

ROW = "| a worker is killed | nothing | `tests/a.py::test_b`, `tests/c.py` | |\n"
DAY = date(2026, 11, 23)


def test_a_row_is_filled_when_all_its_tests_have_passed() -> None:
    results: Results = {
        ("tests.a", "test_b[x]"): (True, 1.2),
        ("tests.a", "test_b[y]"): (True, 2.0),
        ("tests.a", "test_bb"): (False, 9),
    }
    assert fill_table(ROW, results, DAY) == ROW, "one of its tests did not run"
    results["tests.c", "test_d"] = (True, 3.0)
    once = fill_table(ROW, results, DAY)
    assert once == ROW.replace("| |", "| 2026-11-23, 6 s |")
    assert fill_table(once, results, date(2027, 1, 1)) == once.replace("2026-11-23", "2027-01-01")
    with pytest.raises(ValueError, match=r"not all have passed: tests/a\.py::test_b, tests/c\.py"):
        fill_table(ROW, results | {("tests.c", "test_d"): (False, 3.0)}, DAY)


def test_every_row_of_the_page_can_be_filled() -> None:
    rows = [line for line in TABLE.read_text().splitlines() if "`tests/" in line and line.startswith("| ")]
    assert len(rows) > 20
    assert {line.count("|") for line in rows} == {5}
    assert not results_of({}, "tests/a.py")
