"""`make paper` stops when its time is over, and goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import paper
import pytest

from tests.e2e import tools

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow, pytest.mark.long]


def test_time_is_over_and_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in tools.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    words = ["run", str(tools.TINY), f"output={tmp_path / 'runs'}", "tracking.enabled=false"]
    with pytest.raises(SystemExit, match="The time is over; run the same command again to go on"):
        paper.run(words, time.monotonic() + 25)
    folder = paper.run(words, None)
    table = paper.table("tiny", json.loads((folder / "evaluation.json").read_text()))
    names = [words[0] for words in map(str.split, table.splitlines()) if words and words[0] in paper.AUTHORS]
    assert set(names) == set(paper.AUTHORS)
    assert table.count("100%") >= 2  # the experts and all data of themselves
