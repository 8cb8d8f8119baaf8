"""Write date and duration of passed tests into the table of docs/reliability.md.

Run `python -m tests.reliability REPORT`. REPORT is the file of
`pytest -o junit_duration_report=call --junitxml=REPORT …`; later reports override earlier ones.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import date
from pathlib import Path

TABLE = Path(__file__).parents[1] / "docs" / "reliability.md"

Results = dict[tuple[str, str], tuple[bool, float]]  # (module, test with its parameters): (passed, seconds)


def read_reports(reports: Iterable[str]) -> Results:
    results: Results = {}
    for report in reports:
        for case in ET.parse(report).iter("testcase"):
            if case.find("skipped") is None:
                passed = case.find("failure") is None and case.find("error") is None
                results[case.get("classname", ""), case.get("name", "")] = (passed, float(case.get("time", 0)))
    return results


def results_of(results: Results, test_path: str) -> list[tuple[bool, float]]:
    """Return the results of all tests of a file, or of one test.

    `test_path` is `tests/…/test_file.py`, or `tests/…/test_file.py::test_name`.
    """
    path, _, name = test_path.partition("::")
    module = path.removesuffix(".py").replace("/", ".")
    return [
        result for (where, test), result in results.items() if where == module and name in ("", test.partition("[")[0])
    ]


def fill_table(text: str, results: Results, today: date) -> str:
    """Return the page with the last column of each row whose tests all ran.

    ValueError if one failed.
    """
    lines = []
    for line in text.splitlines():
        tests = re.findall(r"`(tests/[\w/.:]+)`", line) if line.startswith("| ") else []
        by_test = [results_of(results, name) for name in tests]
        if tests and all(by_test):
            of_row = [result for of_one in by_test for result in of_one]
            if not all(passed for passed, _ in of_row):
                raise ValueError(f"not all have passed: {', '.join(tests)}")
            cells = line.split("|")
            cells[-2] = f" {today}, {sum(seconds for _, seconds in of_row):.0f} s "
            line = "|".join(cells)
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(fill_table(TABLE.read_text(), read_reports(sys.argv[1:]), date.today()))
