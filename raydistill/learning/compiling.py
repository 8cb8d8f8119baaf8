"""Compile functions with `torch.compile`, or run them eagerly where it fails."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from torch.fx import Graph

if TYPE_CHECKING:
    from torch._inductor.custom_graph_pass import CustomGraphPass


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


# Leave out a convolution's unused gradients from compiled code.
#
# `aten.convolution_backward` computes the gradients of a convolution in its input, weights and bias.
# Its last argument says which of them. Autograd asks for all three. The compiler removes operators
# without users, but it keeps an operator of which one result is used. A step of exact matching uses
# only the first of the three in its first backward pass.

BACKWARD = torch.ops.aten.convolution_backward.default


def keep_used_gradients(graph: Graph) -> None:
    """Compute only those gradients of convolutions that a graph uses.

    The masks of the operators change in place; the bits of the results do not.
    """
    for node in graph.find_nodes(op="call_function", target=BACKWARD):
        *arguments, mask = node.args
        used = {user.args[1] for user in node.users}  # every user takes one of the results
        node.args = (*arguments, [wanted and i in used for i, wanted in enumerate(mask)])


@cache
def compiler_pass() -> CustomGraphPass:
    """Return `keep_used_gradients` for `torch.compile`; import the compiler."""
    from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files

    class KeepUsedGradients(CustomGraphPass):
        def __call__(self, graph: Graph) -> None:
            keep_used_gradients(graph)

        def uuid(self) -> bytes:
            """Return what identifies the pass in the compiler's cache."""
            return get_hash_for_files((__file__,))

    return KeepUsedGradients()
