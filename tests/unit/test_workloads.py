"""The workloads that the benchmarks time still fit the functions that they call."""

from __future__ import annotations

import pytest
import torch
import workloads

from raydistill.learning.options import Training


def test_both_engines_match_with_the_same_gradients() -> None:
    shape = {"classes": 2, "side": 8, "ipc": 1}
    exact, unrolled = (workloads.matching(engine, 2, **shape)() for engine in ("exact", "unrolled"))
    torch.testing.assert_close(exact.d_images_SCHW, unrolled.d_images_SCHW, rtol=1e-3, atol=1e-6)
    assert float(exact.d_images_SCHW.norm()) > 0


def test_a_training_step_has_a_gradient() -> None:
    gradient_P, loss = workloads.training_step(Training(batch_size=4), classes=2, side=8)()
    assert float(gradient_P.norm()) > 0
    assert float(loss) == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=0.5)
