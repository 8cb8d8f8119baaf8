"""What tests of configs need."""

from __future__ import annotations

from pathlib import Path

import pytest

from raydistill.config import Config, load
from tests.unit.config_tools import SIMULATED, Read


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """`read(text, *overrides)`: the config of a YAML text."""

    def read(text: str = SIMULATED, *overrides: str) -> Config:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return load(path, overrides)

    return read
