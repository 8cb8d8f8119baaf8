"""Limits of YAML text, checked before a reader builds its values.

Aliases can make gigabytes of a few lines, and a reader descends once per level.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_TEXT = 2_000_000  # characters; the class names of the largest data sets need a quarter
MAX_VALUES = 200_000  # with those that aliases repeat
MAX_CONFIG_VALUES = 5_000  # of a config; OmegaConf takes up to 0.3 ms for each, and twice for one override
MAX_LEVELS = 50
MAX_WORD = 100_000  # characters of one value
_LONG_NUMBER = re.compile(r"[-+]?[0-9][0-9_:.a-fA-FxXob]{400,}")  # Python converts up to 4300 digits


def read_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text after `check_yaml`."""
    check_yaml(text)
    try:
        return yaml.safe_load(text)
    except ValueError as error:  # a date or a number that does not exist
        raise yaml.YAMLError(str(error)) from error


def check_yaml(text: str | bytes, max_values: int = MAX_VALUES) -> None:
    """Raise yaml.YAMLError if a text is too long, too deep, or makes too many values.

    Other errors are left to the reader.
    """
    if len(text) > MAX_TEXT:
        raise yaml.YAMLError(f"it has {len(text)} characters, and at most {MAX_TEXT} are read")
    counter = _Counter(max_values)
    events = yaml.parse(text, Loader=yaml.SafeLoader)  # the reader's own parser; libyaml's rejects other texts
    while True:
        try:
            event = next(events)
        except (StopIteration, yaml.YAMLError):
            return
        counter.add(event)


class _Counter:
    """Count the values and the levels of the events of a text, through its aliases."""

    def __init__(self, max_values: int) -> None:
        self._values, self._max_values = 0, max_values
        self._open: list[tuple[str | None, int, int]] = []  # anchor, values before, and levels of each open node
        self._anchors: dict[str, tuple[int, int]] = {}  # values and levels

    def add(self, event: Any) -> None:
        levels = 0
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _, _ in self._open):
                raise _limit(event, f"'*{event.anchor}' stands within itself")
            values, levels = self._anchors.get(str(event.anchor), (1, 0))
            self._values += values
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_WORD:
                raise _limit(event, f"more than {MAX_WORD} characters in one value")
            if event.implicit[0] and _LONG_NUMBER.fullmatch(event.value):
                raise _limit(event, "a number of more than 400 digits")
            self._values += 1
            self._anchor(event.anchor, 1, 0)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open.append((event.anchor, self._values, 0))
            self._values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before, inner = self._open.pop()
            levels = inner + 1
            self._anchor(anchor, self._values - before, levels)
        if self._open:
            anchor, before, inner = self._open[-1]
            self._open[-1] = anchor, before, max(inner, levels)
        if self._values > self._max_values:
            raise _limit(event, f"more than {self._max_values} values, with those that aliases repeat")
        if len(self._open) + levels > MAX_LEVELS:
            raise _limit(event, f"more than {MAX_LEVELS} levels")

    def _anchor(self, anchor: str | None, values: int, levels: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = values, levels


def _limit(event: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
