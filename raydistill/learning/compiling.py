"""Compile functions with `torch.compile`, or run them eagerly where it fails."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from raydistill.learning.compiler_passes import compiler_pass

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R], otherwise: Callable[P, R] | None = None) -> Callable[P, R]:
    """Return the function, compiled for each shape that it is called with.

    If torch or the C++ compiler fails, `otherwise` (default: the function itself) replaces it, and
    the log says so. For example, torch 2.13 generates invalid C++ for ResNet-18 in bfloat16.

    The compiler's cache is cleared first. Earlier functions of the process could make shapes
    symbolic or exhaust the compiler's limit, which would change how this function is computed.
    """
    torch.compiler.reset()
    options: dict[str, str | int | bool | Callable[..., Any]] = {"post_grad_custom_pre_pass": compiler_pass()}
    fast, plain = torch.compile(function, dynamic=False, options=options), otherwise or function
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
                result = plain(*args, **kwargs)  # raises the error of the function itself, if any
                failed = True
                reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                log.warning(
                    "the steps of this network cannot be compiled here; they run uncompiled and slower (%s)", reason
                )
                return result
        return plain(*args, **kwargs)

    return call
