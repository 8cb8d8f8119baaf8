"""Give tests a local file server and short waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raydistill.fetching.http import Patience
from tests.unit.fetching.file_server import FileServer, file_server


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def quick() -> Patience:
    """Return short waits, and time limits that a busy machine keeps."""
    return Patience(attempts=4, connect_seconds=10, stall_seconds=10, first_wait=0.01, longest_wait=0.02)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach 127.0.0.1 without a proxy of the machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
