"""Fixtures of the tests of diffusion."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.diffusion.tiny_stable_diffusion import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random Stable Diffusion; do not change its files."""
    root = tmp_path_factory.mktemp("stable-diffusion")
    write_checkpoint(root)
    return root
