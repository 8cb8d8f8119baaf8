"""The solver converges to the probability flow of Gaussian data, which is known."""

from __future__ import annotations

import math

import pytest
import torch

from raydistill.diffusion.options import Order
from raydistill.diffusion.processes import EDM, Process, RectifiedFlow, StableDiffusionProcess, VPrediction
from raydistill.diffusion.sampling import sampling_grid, solve
from raydistill.seeding import generator
from tests.unit.diffusion.gaussian import PROCESSES, GaussianData


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, "noise"))


def error(data: GaussianData, steps: int, order: Order) -> float:
    noise = draw(32, 3)
    samples = solve(data.denoise, data.process, noise, steps, order)
    return float((samples - data.flow(noise)).square().mean().sqrt())


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_error_falls_with_the_order_of_the_solver(process: Process, order: Order) -> None:
    # The last step, from EDM's sigma_min to 0, has an error of its own that no number of steps reduces.
    data = GaussianData(EDM(sigma_min=1e-4) if isinstance(process, EDM) else process)
    coarse, fine = error(data, 60, order), error(data, 120, order)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_second_order_is_more_accurate_at_twenty_steps(process: Process) -> None:
    data = GaussianData(process)
    assert error(data, 20, 2) < 0.25 * error(data, 20, 1)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_samples_have_the_mean_and_the_variance_of_the_data(process: Process) -> None:
    data = GaussianData(process)
    samples = solve(data.denoise, process, draw(20_000, 2), 20)
    assert float(samples.mean()) == pytest.approx(data.mean, abs=0.01)
    assert float(samples.std()) == pytest.approx(data.std, rel=0.03)


def test_shift_keeps_the_spread_of_what_many_pixels_share() -> None:
    shared = GaussianData(RectifiedFlow(), mean=3.0, std=15.0)  # as the sum of 1000 pixels with the deviation 0.5
    spread = {
        shift: float(solve(shared.denoise, shared.process, draw(20_000, 2), 20, shift=shift).std()) / shared.std
        for shift in (1.0, 3.0)
    }
    assert spread[1.0] < 0.7
    assert spread[3.0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_shift_moves_the_steps_between_the_same_ends(process: Process) -> None:
    plain, shifted = (sampling_grid(process, 10, shift=shift) for shift in (1.0, 4.0))
    assert shifted[0][0] == plain[0][0]
    assert shifted[0][-1] == plain[0][-1] == 0
    assert all(later > earlier for earlier, later in zip(plain[0][1:-1], shifted[0][1:-1], strict=True))


def test_schedule_that_keeps_some_image_biases_the_brightness() -> None:
    exact, truncated = GaussianData(VPrediction()), GaussianData(VPrediction(final_alpha=0.068), std=0.3)
    noise = draw(20_000, 2)
    bias = [float(solve(data.denoise, data.process, noise, 50).mean()) - data.mean for data in (exact, truncated)]
    # The sampler starts at 0 where x_1 has the mean alpha m: off by alpha m in units of std(x_1).
    expected = -0.068 * exact.mean * 0.3 / math.sqrt(0.068**2 * 0.3**2 + 1 - 0.068**2)
    assert abs(bias[0]) < 0.004
    assert bias[1] == pytest.approx(expected, abs=0.004)
    assert expected > 0.012


def test_order_one_is_ddim() -> None:
    process = VPrediction()
    data = GaussianData(process)
    x = noise = draw(4, 2)
    _, times = sampling_grid(process, 7)
    for t, later in zip(times, [*times[1:], torch.zeros((), dtype=torch.float64)], strict=True):
        image = data.denoise(x, t.expand(4))
        predicted_noise = (x - process.alpha(t) * image) / process.sigma(t)
        x = process.alpha(later) * image + process.sigma(later) * predicted_noise  # Eq. 12 with eta = 0
    torch.testing.assert_close(solve(data.denoise, process, noise, 7, 1), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_times_of_the_steps_fall_from_one(process: Process) -> None:
    us, times = sampling_grid(process, 12)
    assert float(times[0]) == pytest.approx(1, abs=1e-12)
    assert bool((times.diff() <= 0).all())
    assert us[-1] == 0
    ratio = process.sigma(times) / (process.alpha(times) + process.sigma(times))
    torch.testing.assert_close(ratio, torch.tensor(us[:-1], dtype=torch.float64))


def test_single_step_returns_the_mean_of_the_data() -> None:
    data = GaussianData(PROCESSES["rectified-flow"])
    torch.testing.assert_close(solve(data.denoise, data.process, draw(5, 2), 1), torch.full((5, 2), data.mean).double())


def test_solver_rejects_zero_steps() -> None:
    data = GaussianData(PROCESSES["edm"])
    with pytest.raises(ValueError, match="at least 1, got 0"):
        solve(data.denoise, data.process, draw(1, 1), 0)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_flow_from_a_noised_image_is_followed_to_its_end(process: Process, strength: float) -> None:
    data, noise = GaussianData(process), draw(64, 3)
    start = data.mean + data.std * torch.randn(64, 3, dtype=torch.float64, generator=generator(0, "start"))
    samples = solve(data.denoise, process, noise, 100, 2, start, strength)
    t = torch.tensor(strength, dtype=torch.float64)
    alpha, sigma = process.alpha(t), process.sigma(t)
    x = alpha * start + sigma * noise
    exact = data.mean + data.std * (x - alpha * data.mean) / (alpha.square() * data.std**2 + sigma.square()).sqrt()
    torch.testing.assert_close(samples, exact, rtol=0, atol=4e-3)


def test_start_at_noised_images_removes_the_bias_of_a_leaky_schedule() -> None:
    data, noise = GaussianData(StableDiffusionProcess(), std=0.8), draw(20_000, 2)
    start = data.mean + data.std * torch.randn(20_000, 2, dtype=torch.float64, generator=generator(0, "start"))
    from_noise, from_images = (solve(data.denoise, data.process, noise, 40, 2, begin) for begin in (None, start))
    bias = [float(samples.mean() - data.mean) for samples in (from_noise, from_images)]
    assert bias[0] > 0.025  # 0.068 x 0.6 x 0.8: dark images become too bright, as GalaxySD reports
    assert abs(bias[1]) < 0.008


def test_strength_out_of_range_is_rejected() -> None:
    data = GaussianData(PROCESSES["edm"])
    with pytest.raises(ValueError, match=r"strength must lie in \(0, 1\], got 0"):
        solve(data.denoise, data.process, draw(1, 1), 2, strength=0)
