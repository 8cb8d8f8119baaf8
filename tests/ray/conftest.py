"""Share one private Ray, and the tiny run's artifacts, among the pipeline's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.private_ray import private_ray


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    with private_ray(object_store_mb=100):
        yield


@pytest.fixture(scope="session")
def tiny_root(cluster: None, tiny_run: Path) -> Path:
    """Return the run folder with all artifacts of the tiny config; Ray runs.

    Write only to a `copy_of` it.
    """
    return tiny_run / "runs"
