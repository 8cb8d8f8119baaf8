"""Define a pass of the compiler that leaves out unused gradients.

`aten.convolution_backward` computes the gradients of a convolution in its input, weights and bias.
Its last argument says which of them. Autograd asks for all three. The compiler removes operators
without users, but it keeps an operator of which one result is used. A step of exact matching uses
only the first of the three in its first backward pass.
"""

from __future__ import annotations

import torch
from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files
from torch.fx import Graph

BACKWARD = torch.ops.aten.convolution_backward.default


class UsedConvolutionGradients(CustomGraphPass):
    """Compute only those gradients of convolutions that are used, with the same bits."""

    def __call__(self, graph: Graph) -> None:
        """Change the masks of a graph of ATen operators in place."""
        for node in graph.find_nodes(op="call_function", target=BACKWARD):
            *arguments, mask = node.args
            used = {user.args[1] for user in node.users}  # every user takes one of the results
            node.args = (*arguments, [wanted and i in used for i, wanted in enumerate(mask)])

    def uuid(self) -> bytes:
        """Return what identifies this pass in the compiler's cache."""
        return get_hash_for_files((__file__,))
