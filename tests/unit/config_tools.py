"""The smallest config, and the type of the fixture `read`."""

from __future__ import annotations

from collections.abc import Callable

from raydistill.config import Config

SIMULATED = "name: x\nsurvey: {kind: simulated}\n"
Read = Callable[..., Config]
