"""Find the direction of sharpness-aware training, which seeks flat minima."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raydistill.learning.checks import not_negative, positive

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-12  # as in the authors' code: a gradient of 0 stays 0


@dataclass(frozen=True, kw_only=True)
class SharpnessAware:
    """Sharpness-aware training (GSAM): seek flat minima at twice the cost of an epoch.

    With g the gradient at theta and g' the gradient at theta + e on the same batch, the step
    follows::

        g' - alpha (g - (g . g') g' / |g'|^2),
        e = rho |theta|^2 g / ||theta| g|  (adaptive; else rho g / |g|).

    Parameters
    ----------
    rho
        Size of the perturbation e.
    alpha
        Weight of the gradient's component orthogonal to g'. 0 gives SAM.
    adaptive
        Scale the perturbation with the parameters.

    References
    ----------
    GSAM and the defaults: Zhuang et al. 2022, arXiv:2203.08065. SAM: Foret et al. 2021,
    arXiv:2010.01412. Experts with flat minima: FTD, Du et al. 2023, arXiv:2211.11004.
    """

    rho: float = 0.01
    alpha: float = 0.3
    adaptive: bool = True

    def __post_init__(self) -> None:
        positive(self, "rho")
        not_negative(self, "alpha")

    def direction(self, gradient: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
        """Return `direction(theta_P, *batch)`: the step direction, and the loss at theta.

        `gradient` has the same arguments, and returns the gradient and the loss.
        """

        def direction(theta_P: Tensor, *batch: Any) -> tuple[Tensor, Tensor]:
            here_P, loss = gradient(theta_P, *batch)
            scale_P = theta_P.abs() if self.adaptive else theta_P.new_ones(theta_P.shape)
            climb_P = self.rho * scale_P.square() * here_P / ((scale_P * here_P).norm() + TINY)
            there_P, _ = gradient(theta_P + climb_P, *batch)
            across_P = here_P - (here_P @ there_P) * there_P / (there_P.square().sum() + TINY)
            return there_P - self.alpha * across_P, loss

        return direction
