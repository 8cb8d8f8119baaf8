"""The processes agree with the formulas of their papers, in float64."""

from __future__ import annotations

import math

import pytest
import torch

from raydistill.diffusion.processes import EDM, SIGMA_DATA, Process, RectifiedFlow, VPrediction
from tests.unit.diffusion.gaussian import PROCESSES

QUANTILES = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
TIMES = torch.linspace(0.05, 1, 20, dtype=torch.float64)


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_input_of_the_network_has_variance_one(process: Process) -> None:
    alpha, sigma = process.alpha(TIMES), process.sigma(TIMES)
    variance = alpha.square() * SIGMA_DATA**2 + sigma.square()
    close(process.precondition(TIMES).c_in.square() * variance, torch.ones_like(TIMES))


def test_edm_has_the_preconditioning_of_table_1() -> None:
    process = EDM()
    s, d = process.sigma(TIMES), 0.5
    p = process.precondition(TIMES)
    close(p.skip, d**2 / (s**2 + d**2))
    close(p.scale, s * d / (s**2 + d**2).sqrt())
    close(p.c_in, 1 / (s**2 + d**2).sqrt())
    close(process.label(TIMES), s.log() / 4)
    close(process.weight(TIMES), (s**2 + d**2) / (s * d) ** 2)
    close(process.weight(TIMES) * p.scale.square(), torch.ones_like(TIMES))  # so F has an error of weight 1


def test_edm_has_the_noise_levels_of_equation_5() -> None:
    n = 18
    i = torch.arange(n, dtype=torch.float64)
    levels = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    close(EDM().sigma(1 - i / (n - 1)), levels)


def test_edm_trains_at_log_normal_noise_levels() -> None:
    log_sigma = EDM().sigma(EDM().training_times(QUANTILES)).log()
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=1e-3)
    assert float(log_sigma.std()) == pytest.approx(1.2, abs=1e-2)


def test_flow_trains_at_logit_normal_times_and_some_uniform_ones() -> None:
    pure, mixed = RectifiedFlow(mean=0.4, std=0.8, uniform=0), RectifiedFlow(mean=0.4, std=0.8, uniform=0.25)
    logits = torch.logit(pure.training_times(QUANTILES))
    assert float(logits.mean()) == pytest.approx(0.4, abs=1e-3)
    assert float(logits.std()) == pytest.approx(0.8, abs=1e-3)
    late = [float((process.training_times(QUANTILES) > 0.99).double().mean()) for process in (pure, mixed)]
    assert late[1] == pytest.approx(0.75 * late[0] + 0.25 * 0.01, abs=2e-4)


def test_flow_weights_the_image_so_that_the_error_is_that_of_the_velocity() -> None:
    g = torch.Generator().manual_seed(0)
    x0, eps, image = torch.randn(3, 20, dtype=torch.float64, generator=g)
    t = TIMES
    x = (1 - t) * x0 + t * eps
    velocity, predicted = eps - x0, (x - image) / t
    close(RectifiedFlow(min_time=0.05).weight(t) * (image - x0).square(), (predicted - velocity).square())
    assert float(RectifiedFlow(min_time=0.05).weight(torch.tensor(0.0))) == pytest.approx(400)


def test_residual_is_the_rest_of_the_best_linear_estimate_with_variance_one() -> None:
    g = torch.Generator().manual_seed(0)
    x0, eps = (
        SIGMA_DATA * torch.randn(20, 50_000, dtype=torch.float64, generator=g),
        torch.randn(20, 50_000, generator=g),
    )
    t = TIMES[:, None]
    x = (1 - t) * x0 + t * eps
    p = RectifiedFlow().precondition(t)
    residual = (x0 - p.skip * x) / p.scale
    torch.testing.assert_close(residual.var(dim=1), torch.ones(20, dtype=torch.float64), rtol=0.04, atol=0)
    correlation = (residual * x).mean(dim=1)  # 0 for the best linear estimate
    torch.testing.assert_close(correlation, torch.zeros(20, dtype=torch.float64), rtol=0, atol=0.03)


def test_image_prediction_gives_the_output_of_the_network_as_the_image() -> None:
    p = RectifiedFlow(prediction="image").precondition(TIMES)
    close(p.skip, torch.zeros_like(TIMES))
    close(p.scale, torch.full_like(TIMES, SIGMA_DATA))


def test_v_prediction_recovers_the_image_from_v_and_has_its_loss() -> None:
    g = torch.Generator().manual_seed(0)
    x0, eps, output = torch.randn(3, 20, dtype=torch.float64, generator=g)
    process = VPrediction()
    alpha, sigma = process.alpha(TIMES), process.sigma(TIMES)
    close(alpha, torch.cos(0.5 * math.pi * TIMES))
    x, v = alpha * x0 + sigma * eps, alpha * eps - sigma * x0
    p = process.precondition(TIMES)
    close(p.skip * x + p.scale * v, x0)
    image = p.skip * x + p.scale * output
    close(process.weight(TIMES) * (image - x0).square(), (output - v).square())


def test_v_prediction_ends_in_noise_alone_or_where_requested() -> None:
    unit = torch.ones((), dtype=torch.float64)
    assert float(VPrediction().alpha(unit)) == 0
    assert float(VPrediction().sigma(unit)) == 1
    truncated = VPrediction(final_alpha=0.068)
    assert float(truncated.alpha(unit)) == pytest.approx(0.068, abs=1e-15)
    close(truncated.alpha(TIMES).square() + truncated.sigma(TIMES).square(), torch.ones_like(TIMES))


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_time_is_found_from_the_ratio_of_noise(process: Process) -> None:
    alpha, sigma = process.alpha(TIMES), process.sigma(TIMES)
    torch.testing.assert_close(process.time_at(sigma / (alpha + sigma)), TIMES, rtol=0, atol=1e-9)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_training_times_lie_between_zero_and_one(process: Process) -> None:
    times = process.training_times(torch.tensor([0.0, 1e-9, 0.5, 1 - 1e-9, 1.0], dtype=torch.float64))
    assert bool(((times >= 0) & (times <= 1)).all())
    assert bool(torch.isfinite(process.weight(times)).all())


def test_impossible_processes_are_rejected() -> None:
    with pytest.raises(ValueError, match="sigma_max must exceed sigma_min"):
        EDM(sigma_min=1.0, sigma_max=0.5)
    with pytest.raises(ValueError, match=r"final_alpha must lie in \[0, 1\)"):
        VPrediction(final_alpha=1.0)
    with pytest.raises(ValueError, match="min_time must be positive"):
        RectifiedFlow(min_time=0.0)
