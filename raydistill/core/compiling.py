"""`torch.compile`, where it can: what the compiler cannot build runs uncompiled."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R], otherwise: Callable[P, R] | None = None) -> Callable[P, R]:
    """The function, compiled for each shape that it is called with.

    Where torch or the machine's C++ compiler fails at that (of ResNet-18 in bfloat16 torch 2.13 writes C++ that is none), it is `otherwise`
    from then on, by default the function itself; the log says so.

    Whatever the process compiled before is forgotten: it would change shapes to symbols, or use up the compiler's limit, and so decide
    how this function is computed.
    """
    torch.compiler.reset()
    fast, plain = torch.compile(function, dynamic=False), otherwise or function
    failed = False

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal failed
        if not failed:
            try:
                return fast(*args, **kwargs)
            except RuntimeError as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise
                found = plain(*args, **kwargs)  # or its own error
                failed = True
                reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                log.warning("the steps of this network cannot be compiled here, and are slower for it (%s)", reason)
                return found
        return plain(*args, **kwargs)

    return call
