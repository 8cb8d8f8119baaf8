"""A private Ray has a token of its own; the user's settings stay."""

from __future__ import annotations

import os

import pytest

from raydistill.runtime.private_ray import MODE, TOKEN, TOKEN_PATH, private_token


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)


def test_each_private_ray_has_another_token_which_no_cluster_sees() -> None:
    tokens = set()
    for _ in range(2):
        with private_token():
            tokens.add(os.environ[TOKEN])
            os.environ[MODE] = "token"  # as Ray does when it starts
        assert TOKEN not in os.environ
        assert MODE not in os.environ
    assert len(tokens) == 2
    assert min(map(len, tokens)) == 64


@pytest.mark.parametrize("setting", [{MODE: "disabled"}, {MODE: "token", TOKEN: "a" * 64}, {TOKEN_PATH: "/mine"}])
def test_settings_of_the_user_stay(monkeypatch: pytest.MonkeyPatch, setting: dict[str, str]) -> None:
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with private_token():
        assert dict(os.environ) == before
    assert dict(os.environ) == before
