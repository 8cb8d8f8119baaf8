"""Run the tiny config once without faults; fault tests compare with its digests."""

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


@pytest.fixture(scope="session")
def undisturbed(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny run without faults, with classifiers in MLflow."""
    output = tmp_path_factory.mktemp("undisturbed")
    command = tools.raydistill(output, env, "tracking.models=true")
    code = command.wait()
    assert code == 0, f"the undisturbed run ended with {code}:\n{command.log[-4000:]}"
    return output
