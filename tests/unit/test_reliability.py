"""The table of docs/reliability.md is filled from what pytest reports. (That its tests are there: tests/test_docs.py.)"""

from __future__ import annotations

from datetime import date

import pytest

from tests.reliability import TABLE, Seen, filled, of_test

ROW = "| a worker is killed | nothing | `tests/a.py::test_b`, `tests/c.py` | |\n"
DAY = date(2026, 11, 23)


def test_a_row_is_filled_when_all_its_tests_have_passed() -> None:
    seen: Seen = {
        ("tests.a", "test_b[x]"): (True, 1.2),
        ("tests.a", "test_b[y]"): (True, 2.0),
        ("tests.a", "test_bb"): (False, 9),
    }
    assert filled(ROW, seen, DAY) == ROW, "one of its tests was not run"
    seen["tests.c", "test_d"] = (True, 3.0)
    once = filled(ROW, seen, DAY)
    assert once == ROW.replace("| |", "| 2026-11-23, 6 s |")
    assert filled(once, seen, date(2027, 1, 1)) == once.replace("2026-11-23", "2027-01-01")
    with pytest.raises(ValueError, match=r"not all have passed: tests/a\.py::test_b, tests/c\.py"):
        filled(ROW, seen | {("tests.c", "test_d"): (False, 3.0)}, DAY)


def test_every_row_of_the_page_can_be_filled() -> None:
    """Its cells are four, whatever its tests are called."""
    rows = [line for line in TABLE.read_text().splitlines() if "`tests/" in line and line.startswith("| ")]
    assert len(rows) > 20
    assert {line.count("|") for line in rows} == {5}
    assert not of_test({}, "tests/a.py")
