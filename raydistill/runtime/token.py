"""Draw the token of a private Ray, which only its processes know.

By default Ray writes a token to `~/.ray/auth_token` and uses it again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

_raylet: Any = ray._raylet
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextmanager
def private_token() -> Iterator[None]:
    """Give a Ray that starts in the body its own token, unless the user chose one."""
    mode = os.environ.get(MODE)
    if os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH) or (mode or "token").lower() != "token":
        yield
        return
    os.environ[TOKEN] = secrets.token_hex(32)
    _raylet.AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield
    finally:
        del os.environ[TOKEN]
        if mode is None:
            os.environ.pop(MODE, None)  # Ray has set it
            _raylet.Config.initialize("")
        _raylet.AuthenticationTokenLoader.instance().reset_cache()
