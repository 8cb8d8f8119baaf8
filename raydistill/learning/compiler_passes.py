"""Leave out a convolution's unused gradients from compiled code.

`aten.convolution_backward` computes the gradients of a convolution in its input, weights and bias.
Its last argument says which of them. Autograd asks for all three. The compiler removes operators
without users, but it keeps an operator of which one result is used. A step of exact matching uses
only the first of the three in its first backward pass.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.fx import Graph

if TYPE_CHECKING:
    from torch._inductor.custom_graph_pass import CustomGraphPass

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
