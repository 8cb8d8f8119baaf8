"""Stable Diffusion's process equals that of diffusers and the papers' formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from raydistill.diffusion.processes import StableDiffusionProcess
from raydistill.diffusion.scaled_linear import NUM_STEPS, alphas
from raydistill.imports import import_beside_torchvision

STEPS = torch.arange(NUM_STEPS, dtype=torch.float64) / (NUM_STEPS - 1)
PROCESSES = {
    "epsilon": StableDiffusionProcess(),
    "v": StableDiffusionProcess(prediction="v"),
    "zero": StableDiffusionProcess(prediction="v", zero_terminal_snr=True),
}


def ddim(**options: Any) -> Any:
    """Return diffusers' scheduler with the values of Stable Diffusion 1.5."""
    return import_beside_torchvision("diffusers.schedulers.scheduling_ddim").DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, **options
    )


@pytest.mark.parametrize("zero", [False, True])
def test_alpha_and_sigma_of_the_steps_are_those_of_diffusers(zero: bool) -> None:
    scheduler = ddim(rescale_betas_zero_snr=zero, prediction_type="v_prediction" if zero else "epsilon")
    process = PROCESSES["zero" if zero else "epsilon"]
    expected = scheduler.alphas_cumprod.double()
    # diffusers computes in float32, and gets the last steps of the rescaled alphas from their ratios.
    torch.testing.assert_close(process.alpha(STEPS).square(), expected, rtol=2e-4, atol=2e-6)
    torch.testing.assert_close(process.sigma(STEPS).square(), 1 - expected, rtol=2e-4, atol=2e-6)


def test_zero_terminal_snr_shifts_and_scales_alpha_as_lin_et_al() -> None:
    plain, zero = alphas(), alphas(True)
    assert float(zero[0]) == pytest.approx(float(plain[0]), abs=1e-15)
    assert float(zero[-1]) == 0
    torch.testing.assert_close(zero, plain[0] * (plain - plain[-1]) / (plain[0] - plain[-1]), rtol=1e-13, atol=1e-15)
    assert float(plain[-1]) == pytest.approx(0.0682, abs=1e-4)  # Lin et al. 2024, Table 1: 0.068265
    assert float(PROCESSES["zero"].sigma(torch.ones(()))) == 1


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_time_is_found_from_the_ratio_of_noise_also_between_steps(process: StableDiffusionProcess) -> None:
    times = torch.linspace(0, 1, 777, dtype=torch.float64)
    alpha, sigma = process.alpha(times), process.sigma(times)
    torch.testing.assert_close(process.time_at(sigma / (alpha + sigma)), times, rtol=0, atol=1e-9)
    assert bool((alpha.diff() < 0).all())


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_loss_is_the_error_of_the_prediction(process: StableDiffusionProcess) -> None:
    x0, eps, output = torch.randn(3, 999, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = STEPS[:-1]
    alpha, sigma, p = process.alpha(times), process.sigma(times), process.precondition(times)
    x = alpha * x0 + sigma * eps
    target = eps if process.prediction == "epsilon" else alpha * eps - sigma * x0
    torch.testing.assert_close(p.skip * x + p.scale * target, x0, rtol=1e-9, atol=1e-9)
    error = p.skip * x + p.scale * output - x0
    torch.testing.assert_close(process.weight(times) * error.square(), (output - target).square(), rtol=1e-8, atol=1e-9)


def test_training_draws_each_of_the_steps_equally_often_and_names_it() -> None:
    process = PROCESSES["epsilon"]
    quantiles = (torch.arange(5 * NUM_STEPS, dtype=torch.float64) + 0.5) / (5 * NUM_STEPS)
    labels = process.label(process.training_times(quantiles).float())
    torch.testing.assert_close(labels.round(), labels, rtol=0, atol=1e-3)
    assert torch.equal(labels.round().long().bincount(), torch.full((NUM_STEPS,), 5))
    assert float(process.training_times(torch.ones(()))) == 1


def test_one_ddim_step_equals_that_of_diffusers() -> None:
    scheduler, process = ddim(set_alpha_to_one=True), PROCESSES["epsilon"]
    scheduler.set_timesteps(1000)
    x, eps = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = scheduler.step(eps, 700, x).prev_sample
    now, before = STEPS[700:701], STEPS[699:700]
    p = process.precondition(now)
    x0 = p.skip * x + p.scale * eps
    torch.testing.assert_close(process.alpha(before) * x0 + process.sigma(before) * eps, expected, rtol=1e-5, atol=1e-5)


def test_epsilon_with_zero_terminal_snr_is_rejected() -> None:
    with pytest.raises(ValueError, match="needs prediction=v"):
        StableDiffusionProcess(zero_terminal_snr=True)
