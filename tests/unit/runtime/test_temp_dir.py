"""Ray's sockets get a short folder if TMPDIR is too long for them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from raydistill.runtime.private_ray import LONGEST_SOCKET, MAX_SOCKET_BYTES, choose_temp_dir


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_folder_that_is_too_long_for_sockets_is_replaced_and_logged(
    variable: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "raydistill")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    longest = MAX_SOCKET_BYTES - len(f"/ray/{LONGEST_SOCKET}")
    monkeypatch.setenv(variable, "/" + "x" * (longest - 1))
    assert choose_temp_dir() is None
    for folder in ("/" + "x" * longest, "/" + "é" * longest):
        monkeypatch.setenv(variable, folder)
        chosen = choose_temp_dir()
        assert chosen is not None
        assert len(chosen) <= longest
        assert os.access(Path(chosen).parent, os.W_OK)
        assert f"{folder}/ray is too long for sockets" in caplog.text


def test_default_folder_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert choose_temp_dir() is None
