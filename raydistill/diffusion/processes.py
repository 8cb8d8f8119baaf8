"""Define how an image turns into noise, and what a network predicts on the way.

At time t in [0, 1] an image x0 with noise eps ~ N(0, 1) is

    x_t = alpha(t) x0 + sigma(t) eps,

and t = 1 is noise. A network F estimates the image through its preconditioning,

    D(x_t, t) = skip(t) x_t + scale(t) F(c_in(t) x_t, label(t)),

and its loss is weight(t) |D(x_t, t) - x0|^2, averaged over times that the process draws. Any two
processes have the same ideal D at equal ratios sigma / alpha. They differ in what the network
predicts, in the noise levels where it trains, and in the last noise level.

Images have mean 0 and standard deviation `SIGMA_DATA` (`spaces`). `c_in` therefore gives every
input of the network variance 1. Functions of the time take [B] and return [B].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from raydistill.diffusion.scaled_linear import NUM_STEPS, alpha_at, time_of
from raydistill.learning.checks import at_least, at_least_0_below_1, between_0_and_1, positive

if TYPE_CHECKING:
    from torch import Tensor

SIGMA_DATA = 0.5  # Karras et al. 2022, arXiv:2206.00364, Table 1


class Preconditioning(NamedTuple):
    """Coefficients [B] of D = skip x_t + scale F(c_in x_t)."""

    skip: Tensor
    scale: Tensor
    c_in: Tensor


def input_scale(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return c_in: one over the standard deviation of x_t."""
    return (alpha.square() * SIGMA_DATA**2 + sigma.square()).rsqrt()


def best_linear(alpha: Tensor, sigma: Tensor) -> Preconditioning:
    """Return the coefficients with which F has variance 1 and the least effect.

    skip x_t is the best linear estimate of the image, and scale is the deviation of its error: Karras
    et al. 2022, Appendix B.6, for any alpha. F of a process with variance 1 and images of variance 1
    is v of Salimans & Ho 2022.
    """
    c_in = input_scale(alpha, sigma)
    return Preconditioning(alpha * (SIGMA_DATA * c_in).square(), sigma * SIGMA_DATA * c_in, c_in)


def expand(coefficients_B: Tensor, x: Tensor) -> Tensor:
    """Return coefficients [B, 1, ...] that multiply the rows of x."""
    return coefficients_B.view(-1, *[1] * (x.dim() - 1))


def normal_quantile(quantiles: Tensor) -> Tensor:
    """Return the quantiles of N(0, 1), finite also at 0 and 1."""
    tiny = 1e-6  # +-4.75 standard deviations
    from torch import special

    return special.ndtri(quantiles.clamp(tiny, 1 - tiny))


@dataclass(frozen=True)
class RectifiedFlow:
    """Straight paths from images to noise, with the loss of the velocity.

    alpha = 1 - t, sigma = t. The velocity is v = eps - x0 = (x_t - x0) / t, so the loss is
    |v_D - v|^2 = |D - x0|^2 / t^2.

    Parameters
    ----------
    prediction
        "residual": the network predicts what the best linear estimate lacks (`best_linear`).
        "image": it predicts the image itself.
    mean, std
        Times of training are logit-normal: log(t / (1 - t)) ~ N(mean, std^2).
    uniform
        Fraction of the training times that are uniform in [0, 1] instead. The logit-normal density
        vanishes at t = 1, where sampling starts.
    min_time
        The loss weight is 1 / max(t, min_time)^2.

    References
    ----------
    Straight paths: Liu et al. 2023, arXiv:2209.03003. Logit-normal times with mean 0 and standard
    deviation 1: Esser et al. 2024, arXiv:2403.03206. Residuals: Karras et al. 2022,
    arXiv:2206.00364. Image prediction with the loss of the velocity, and `min_time`: Li & He 2025,
    arXiv:2511.13720.
    """

    kind: Literal["rectified-flow"] = "rectified-flow"
    prediction: Literal["residual", "image"] = "residual"
    mean: float = 0.0
    std: float = 1.0
    uniform: float = 0.1
    min_time: float = 0.05

    def __post_init__(self) -> None:
        positive(self, "std", "min_time")
        between_0_and_1(uniform=self.uniform)

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the image at times t."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise at times t."""
        return t

    def precondition(self, t: Tensor) -> Preconditioning:
        """Return the coefficients of D at times t."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        if self.prediction == "residual":
            return best_linear(alpha, sigma)
        return Preconditioning(t.new_zeros(t.shape), t.new_full(t.shape, SIGMA_DATA), input_scale(alpha, sigma))

    def label(self, t: Tensor) -> Tensor:
        """Return how the network is informed of the time."""
        return t

    def weight(self, t: Tensor) -> Tensor:
        """Return the weight of |D - x0|^2."""
        return t.clamp_min(self.min_time).pow(-2)

    def training_times(self, quantiles: Tensor) -> Tensor:
        """Return times of training; uniform quantiles in [0, 1] give their distribution."""
        rest = (quantiles - self.uniform) / max(1 - self.uniform, 1e-12)
        flat = quantiles / max(self.uniform, 1e-12)
        logit_normal = (self.mean + self.std * normal_quantile(rest)).sigmoid()
        return flat.where(quantiles < self.uniform, logit_normal)

    def time_at(self, u: Tensor) -> Tensor:
        """Return the time at which sigma / (alpha + sigma) = u."""
        return u


@dataclass(frozen=True)
class EDM:
    """Variance-exploding process with the preconditioning of Karras et al. 2022 (EDM).

    alpha = 1, and sigma(t) = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho, as
    in Eq. 5.

    Parameters
    ----------
    mean, std
        Noise levels of training: ln sigma ~ N(mean, std^2).
    sigma_min, sigma_max
        Noise levels at t = 0 and t = 1, where images have the standard deviation `SIGMA_DATA`.
    rho
        Exponent of the time.

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, Table 1 (all defaults, preconditioning, weight) and Eq. 5.
    """

    kind: Literal["edm"] = "edm"
    mean: float = -1.2
    std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        positive(self, "std", "sigma_min", "sigma_max")
        at_least(0.1, rho=self.rho)
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_max must exceed sigma_min, got {self.sigma_max} and {self.sigma_min}")

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the image at times t."""
        return t.new_ones(t.shape)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise at times t."""
        low, high = self._ends()
        return (low + t * (high - low)).pow(self.rho)

    def precondition(self, t: Tensor) -> Preconditioning:
        """Return c_skip, c_out and c_in of Table 1 at times t."""
        return best_linear(self.alpha(t), self.sigma(t))

    def label(self, t: Tensor) -> Tensor:
        """Return c_noise of Table 1, by which the network is informed of the time."""
        return self.sigma(t).log() / 4

    def weight(self, t: Tensor) -> Tensor:
        """Return lambda of Table 1, the weight of |D - x0|^2."""
        sigma = self.sigma(t)
        return (sigma.square() + SIGMA_DATA**2) / (sigma * SIGMA_DATA).square()

    def training_times(self, quantiles: Tensor) -> Tensor:
        """Return times of training; uniform quantiles in [0, 1] give their distribution."""
        return self._time_of((self.mean + self.std * normal_quantile(quantiles)).exp()).clamp(0, 1)

    def time_at(self, u: Tensor) -> Tensor:
        """Return the time at which sigma / (alpha + sigma) = u."""
        return self._time_of(u / (1 - u)).clamp(0, 1)  # without rounding beyond the ends

    def _time_of(self, sigma: Tensor) -> Tensor:
        low, high = self._ends()
        return (sigma.pow(1 / self.rho) - low) / (high - low)

    def _ends(self) -> tuple[float, float]:
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)


@dataclass(frozen=True)
class VPrediction:
    """Variance-preserving cosine process that ends in noise; the network predicts v.

    alpha = cos(a t), sigma = sin(a t), and v = alpha eps - sigma x0, so D = alpha x_t - sigma F.
    The loss is |F - v|^2 = |D - x0|^2 / sigma^2.

    Parameters
    ----------
    final_alpha
        alpha at t = 1. With 0, the default, x_1 is noise alone. A sampler starts from noise, so
        another value biases the brightness: towards the mean of all images. Stable Diffusion 1.5
        has 0.068.

    References
    ----------
    v and the cosine schedule: Salimans & Ho 2022, arXiv:2202.00512. Zero terminal signal-to-noise
    ratio: Lin et al. 2024, arXiv:2305.08891.
    """

    kind: Literal["v-prediction"] = "v-prediction"
    final_alpha: float = 0.0

    def __post_init__(self) -> None:
        at_least_0_below_1(final_alpha=self.final_alpha)

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the image at times t."""
        angle = math.acos(self.final_alpha)
        # sin(angle (1 - t) + asin(final_alpha)) = cos(angle t), and exactly final_alpha at t = 1.
        return (angle * (1 - t) + math.asin(self.final_alpha)).sin()

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise at times t."""
        return (math.acos(self.final_alpha) * t).sin()

    def precondition(self, t: Tensor) -> Preconditioning:
        """Return the coefficients of D at times t."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return Preconditioning(alpha, -sigma, input_scale(alpha, sigma))

    def label(self, t: Tensor) -> Tensor:
        """Return how the network is informed of the time."""
        return t

    def weight(self, t: Tensor) -> Tensor:
        """Return the weight of |D - x0|^2."""
        least = 1e-3  # |D - x0| / sigma loses its digits in float32 below
        return self.sigma(t).clamp_min(least).pow(-2)

    def training_times(self, quantiles: Tensor) -> Tensor:
        """Return times of training: uniform in [0, 1], as `quantiles` are."""
        return quantiles

    def time_at(self, u: Tensor) -> Tensor:
        """Return the time at which sigma / (alpha + sigma) = u."""
        # sigma / alpha = tan(angle t).
        return u.atan2(1 - u) / math.acos(self.final_alpha)


@dataclass(frozen=True)
class StableDiffusionProcess:
    """The process of Stable Diffusion 1.5 (`scaled_linear`), for states of variance 1.

    Training draws one of its 1000 steps; sampling also uses times between them. The loss is the
    squared error of what the network predicts.

    Parameters
    ----------
    prediction
        "epsilon": the network predicts the noise, as Stable Diffusion 1.5 does. "v": it predicts
        v = alpha eps - sigma x0; weights for epsilon then need a longer fine-tuning.
    zero_terminal_snr
        Let alpha at t = 1 be 0 instead of 0.068, which needs "v". With 0.068 sampling from noise
        biases the brightness. GalaxySD therefore starts from noised real images.

    References
    ----------
    Rombach et al. 2022, arXiv:2112.10752. v: Salimans & Ho 2022, arXiv:2202.00512. Zero terminal
    signal-to-noise ratio: Lin et al. 2024, arXiv:2305.08891.
    """

    kind: Literal["stable-diffusion"] = "stable-diffusion"
    prediction: Literal["epsilon", "v"] = "epsilon"
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError("zero_terminal_snr needs prediction=v: noise alone says nothing about the image")

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the image at times t."""
        return alpha_at(t, self.zero_terminal_snr).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise at times t."""
        return (1 - alpha_at(t, self.zero_terminal_snr).square()).sqrt().to(t.dtype)

    def precondition(self, t: Tensor) -> Preconditioning:
        """Return the coefficients of D at times t."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        ones = t.new_ones(t.shape)
        if self.prediction == "v":
            return Preconditioning(alpha, -sigma, ones)
        return Preconditioning(1 / alpha, -sigma / alpha, ones)

    def label(self, t: Tensor) -> Tensor:
        """Return the step number, from 0, that informs the network of the time."""
        return t * (NUM_STEPS - 1)

    def weight(self, t: Tensor) -> Tensor:
        """Return the weight of |D - x0|^2."""
        alpha, sigma = self.alpha(t), self.sigma(t)
        return (sigma if self.prediction == "v" else sigma / alpha).pow(-2)

    def training_times(self, quantiles: Tensor) -> Tensor:
        """Return times of training: the 1000 steps with equal probability."""
        return (quantiles * NUM_STEPS).floor().clamp(0, NUM_STEPS - 1) / (NUM_STEPS - 1)

    def time_at(self, u: Tensor) -> Tensor:
        """Return the time at which sigma / (alpha + sigma) = u."""
        # alpha^2 + sigma^2 = 1.
        return time_of((1 - u) / (1 - u).hypot(u), self.zero_terminal_snr).to(u.dtype)


Process = RectifiedFlow | EDM | VPrediction | StableDiffusionProcess
