"""Run uncompilable code uncompiled; leave out unused gradients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch._inductor.config as inductor
from torch import Tensor
from torch.fx import Graph
from torch.fx.experimental.proxy_tensor import make_fx

from raydistill.learning import compiling
from raydistill.learning.compiling import BACKWARD, compiled, keep_used_gradients
from tests.zoo import normal


@pytest.fixture
def no_cpp_compiler() -> Iterator[None]:
    with inductor.patch({"cpp.cxx": ("/bin/false",), "force_disable_caches": True}):
        yield


@pytest.mark.usefixtures("no_cpp_compiler")
def test_function_that_cannot_be_compiled_runs_eagerly_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.arange(100.0)
    step = compiled(lambda x: (x.sin() * 3 + x).cumsum(0))
    with caplog.at_level("WARNING", "raydistill"):
        assert torch.equal(step(x), (x.sin() * 3 + x).cumsum(0))
        assert torch.equal(step(x[:7]), (x[:7].sin() * 3 + x[:7]).cumsum(0))
    (message,) = (record.getMessage() for record in caplog.records if record.name.startswith("raydistill"))
    assert "cannot be compiled here; they run uncompiled and slower (" in message
    assert "\n" not in message


@pytest.mark.usefixtures("no_cpp_compiler")
def test_fallback_replaces_a_function_that_cannot_be_compiled() -> None:
    assert compiled(lambda x: x.cos() + 1, otherwise=lambda x: x * 0)(torch.ones(3)).tolist() == [0, 0, 0]


def test_errors_of_the_function_itself_are_raised(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        compiled(lambda x: x @ x)(torch.ones(2, 3))
    assert not [record for record in caplog.records if record.name.startswith("raydistill")]


def masks(graph: Graph) -> list[list[bool]]:
    return [list(node.args[-1]) for node in graph.find_nodes(op="call_function", target=BACKWARD)]


@pytest.mark.parametrize("used", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_only_used_gradients_of_a_convolution_are_computed(used: tuple[int, ...]) -> None:
    def gradients(images: Tensor, weights: Tensor) -> list[Tensor]:
        parts = BACKWARD(images, images, weights, [3], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, True])
        return [parts[i] for i in used]

    images, weights = normal(0, 2, 3, 5, 5), normal(1, 3, 3, 3, 3)
    module = make_fx(gradients)(images, weights)
    module.graph.eliminate_dead_code()
    keep_used_gradients(module.graph)
    module.recompile()
    assert masks(module.graph) == [[i in used for i in range(3)]]
    for weight, expected in zip(module(images, weights), gradients(images, weights), strict=True):
        assert torch.equal(weight, expected)


def test_compiled_step_leaves_out_the_weight_gradients_that_nothing_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differentiate g . v in the images; g is the gradient in the weights."""
    needed: list[list[bool]] = []

    def record(graph: Graph) -> None:
        keep_used_gradients(graph)
        needed.extend(masks(graph))

    def loss(weights: Tensor, images: Tensor) -> Tensor:
        hidden = torch.conv2d(images, weights, padding=1).square()
        return torch.conv2d(hidden, weights, padding=1).square().sum()

    def derivative(images: Tensor, weights: Tensor, vector: Tensor) -> Tensor:
        def product(images: Tensor) -> Tensor:
            return (torch.func.grad(loss)(weights, images) * vector).sum()

        result: Tensor = torch.func.grad(product)(images)
        return result

    monkeypatch.setattr(compiling, "keep_used_gradients", record)
    arguments = normal(0, 2, 3, 5, 5), normal(1, 3, 3, 3, 3), normal(2, 3, 3, 3, 3)
    with inductor.patch(fx_graph_cache=False):
        torch.testing.assert_close(compiled(derivative)(*arguments), derivative(*arguments), rtol=1e-12, atol=0)
    assert needed == [[True, False, False]] * 3
