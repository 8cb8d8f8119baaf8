"""The table of `benchmarks/accuracy.py` has every row of the stored results."""

from __future__ import annotations

import json

import accuracy
import pytest


def test_stored_results_have_a_line_for_each_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(accuracy.RESULTS.read_text())
    accuracy.print_table(rows)
    lines = capsys.readouterr().out.strip().splitlines()[2:]
    assert len(lines) == sum(len(row["distilled"]) for row in rows.values())


def test_cells_of_baselines_without_the_protocol_are_empty(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "distilled": {"paper": [0.72], "plain": [0.6]},
        "random_real": {"paper": 0.4},
        "dm": {"plain": 0.5},
        "experts": 0.8,
    }
    accuracy.print_table({"demo": row})
    paper, plain = (
        [cell.strip() for cell in line.split("|")[3:-1]] for line in capsys.readouterr().out.splitlines()[3:]
    )
    assert paper == ["**0.720** ± 0.000 (1)", "0.400", "", "0.400 (random_real)", "", "", "0.800", "", "90%", ""]
    assert plain == ["**0.600** ± 0.000 (1)", "", "", "", "0.500", "", "0.800", "", "75%", ""]
