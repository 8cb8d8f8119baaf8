"""Code that the compiler cannot build runs uncompiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch._inductor.config as inductor

from raydistill.core.compiling import compiled


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
