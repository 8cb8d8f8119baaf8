"""Keep the training state: parameters, moving average, optimizer and step.

`to_tensors` gives it as named tensors, which safetensors can store without pickle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from raydistill.diffusion.model import Generator
from raydistill.errors import DivergenceError
from raydistill.imports import import_beside_torchvision

BETAS = (0.9, 0.99)  # the second moment averages 100 steps; torch's 0.999 suits longer trainings
_MOMENTS = ("exp_avg", "exp_avg_sq")


class TrainingState:
    """The state after `step` steps.

    Parameters
    ----------
    generator
        The generator to train, on its device. `apply` changes its parameters in place.
    weight_decay, ema_decay, ema_power
        See `GeneratorTraining`.
    """

    def __init__(self, generator: Generator, weight_decay: float, ema_decay: float, ema_power: float) -> None:
        self.generator, self.step = generator, 0
        parameters = [parameter for _, parameter in generator.trained()]
        self._optimizer = torch.optim.AdamW(parameters, betas=BETAS, weight_decay=weight_decay, fused=True)
        for parameter in parameters:  # as AdamW creates it in its first step
            self._optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                **{moment: torch.zeros_like(parameter) for moment in _MOMENTS},
            }
        self._ema = import_beside_torchvision("diffusers.training_utils").EMAModel(
            parameters, decay=ema_decay, use_ema_warmup=True, power=ema_power, foreach=True
        )

    def apply(self, gradients: Sequence[Tensor], lr: float, max_norm: float) -> None:
        """Take one step along the mean of the gradients.

        Parameters
        ----------
        gradients
            [P] of every shard, in the order of the shards.
        lr
            Learning rate of this step.
        max_norm
            A longer mean gradient is scaled down to this norm.
        """
        mean_P = gradients[0].clone()
        for gradient_P in gradients[1:]:
            mean_P += gradient_P
        mean_P /= len(gradients)
        mean_P *= (max_norm / (mean_P.norm() + 1e-6)).clamp(max=1)  # as torch.nn.utils.clip_grad_norm_
        parameters = [parameter for _, parameter in self.generator.trained()]
        for parameter, part in zip(parameters, mean_P.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._ema.step(parameters)
        self.step += 1

    def averaged(self) -> Generator:
        """Return a generator copy with moving-average parameters, for evaluation."""
        copy = deepcopy(self.generator)
        parameters = [parameter for _, parameter in copy.trained()]
        for parameter in parameters:
            parameter.grad = None
        self._ema.copy_to(parameters)
        return copy.eval().requires_grad_(False)

    def to_tensors(self) -> dict[str, Tensor]:
        """Return the state as tensors on the CPU; `load_tensors` reads them.

        Returns
        -------
        dict
            "generator.NAME", "ema.NAME", "exp_avg.NAME", "exp_avg_sq.NAME" and "step" (int64).

        Raises
        ------
        DivergenceError
            If a parameter is not finite.
        """
        self.check_finite()
        tensors = {f"generator.{name}": tensor for name, tensor in self.generator.state_dict().items()}
        for (name, parameter), averaged in zip(self.generator.trained(), self._ema.shadow_params, strict=True):
            tensors[f"ema.{name}"] = averaged
            tensors |= {f"{moment}.{name}": self._optimizer.state[parameter][moment] for moment in _MOMENTS}
        tensors["step"] = torch.tensor(self.step)
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from the state that `to_tensors` returned.

        Raises
        ------
        KeyError
            If a tensor is missing.
        RuntimeError
            If a tensor has another shape.
        """
        self.step = int(tensors["step"])
        prefix = "generator."
        self.generator.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        )
        for (name, parameter), averaged in zip(self.generator.trained(), self._ema.shadow_params, strict=True):
            averaged.copy_(tensors[f"ema.{name}"])
            self._optimizer.state[parameter]["step"].fill_(self.step)
            for moment in _MOMENTS:
                self._optimizer.state[parameter][moment].copy_(tensors[f"{moment}.{name}"])
        self._ema.optimization_step = self.step

    def check_finite(self) -> None:
        """Raise a DivergenceError if a parameter is not finite."""
        total = torch.stack([parameter.detach().sum() for _, parameter in self.generator.trained()]).sum()
        if not torch.isfinite(total):
            what = f"the parameters of the generator are not finite after step {self.step}"
            raise DivergenceError(what, "generate", "lower generate.training.lr, or raise generate.training.warmup")
