"""Give the commands of the tests an environment."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tools


@pytest.fixture(scope="session")
def env() -> Iterator[dict[str, str]]:
    """Yield the environment of the commands.

    Ray's session folders have a short path and are deleted at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="rd-e2e-"))
    yield tools.environment(folder)
    shutil.rmtree(folder, ignore_errors=True)
