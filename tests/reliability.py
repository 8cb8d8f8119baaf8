"""Write into the table of docs/reliability.md when its tests have passed, and how long they took: `python -m tests.reliability REPORT`.

REPORT is what `pytest -o junit_duration_report=call --junitxml=REPORT …` leaves; several may be given, of which later ones win.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import date
from pathlib import Path

TABLE = Path(__file__).parents[1] / "docs" / "reliability.md"

Seen = dict[tuple[str, str], tuple[bool, float]]  # (module, test with its parameters): whether it passed, seconds


def read(reports: Iterable[str]) -> Seen:
    seen: Seen = {}
    for report in reports:
        for case in ET.parse(report).iter("testcase"):
            if case.find("skipped") is None:
                passed = case.find("failure") is None and case.find("error") is None
                seen[case.get("classname", ""), case.get("name", "")] = (passed, float(case.get("time", 0)))
    return seen


def of_test(seen: Seen, named: str) -> list[tuple[bool, float]]:
    """Of `tests/…/test_file.py` all, of `tests/…/test_file.py::test_name` those of that name."""
    path, _, name = named.partition("::")
    module = path.removesuffix(".py").replace("/", ".")
    return [found for (where, what), found in seen.items() if where == module and name in ("", what.partition("[")[0])]


def filled(text: str, seen: Seen, today: date) -> str:
    """The page with the last column of each row whose tests have all been seen. ValueError for one that has failed."""
    lines = []
    for line in text.splitlines():
        tests = re.findall(r"`(tests/[\w/.:]+)`", line) if line.startswith("| ") else []
        found = [of_test(seen, name) for name in tests]
        if tests and all(found):
            results = [result for of_one in found for result in of_one]
            if not all(passed for passed, _ in results):
                raise ValueError(f"not all have passed: {', '.join(tests)}")
            cells = line.split("|")
            cells[-2] = f" {today}, {sum(seconds for _, seconds in results):.0f} s "
            line = "|".join(cells)
        lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(filled(TABLE.read_text(), read(sys.argv[1:]), date.today()))
