"""Keep the state of a training whose batches several workers share.

The state is parameters, moving average, optimizer and step. A worker computes the gradients of some
shards and gathers the others'; `apply` adds them in the order of the shards, so all workers keep
equal parameters. `to_tensors` gives the state as named tensors, which safetensors can store without
pickle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from raydistill.errors import DivergenceError
from raydistill.imports import import_beside_torchvision
from raydistill.learning.options import ShardedTraining


class Trainable(nn.Module):
    """A torch module that knows which of its parameters are trained."""

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """Return names and parameters that are trained, in a fixed order."""
        return [(name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad]


Model = TypeVar("Model", bound=Trainable)
BETAS = (0.9, 0.99)  # the second moment averages 100 steps; torch's 0.999 suits longer trainings
_MOMENTS = ("exp_avg", "exp_avg_sq")


class TrainingState(Generic[Model]):
    """The state after `step` steps.

    Parameters
    ----------
    model
        The model to train, on its device. `apply` changes its parameters in place.
    training
        Hyper-parameters.
    stage
        For messages, which name its keys.
    """

    def __init__(self, model: Model, training: ShardedTraining, stage: str) -> None:
        self.model, self.step, self._stage = model, 0, stage
        parameters = [parameter for _, parameter in model.trained()]
        self._optimizer = torch.optim.AdamW(parameters, betas=BETAS, weight_decay=training.weight_decay, fused=True)
        for parameter in parameters:  # as AdamW creates it in its first step
            self._optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                **{moment: torch.zeros_like(parameter) for moment in _MOMENTS},
            }
        self._ema = import_beside_torchvision("diffusers.training_utils").EMAModel(
            parameters, decay=training.ema_decay, use_ema_warmup=True, power=training.ema_power, foreach=True
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
        parameters = [parameter for _, parameter in self.model.trained()]
        for parameter, part in zip(parameters, mean_P.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._ema.step(parameters)
        self.step += 1

    def averaged(self) -> Model:
        """Return a copy of the model with moving-average parameters, for evaluation."""
        copy = deepcopy(self.model)
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
            "model.NAME", "ema.NAME", "exp_avg.NAME", "exp_avg_sq.NAME" and "step" (int64).

        Raises
        ------
        DivergenceError
            If a parameter is not finite.
        """
        self.check_finite()
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for (name, parameter), averaged in zip(self.model.trained(), self._ema.shadow_params, strict=True):
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
        prefix = "model."
        self.model.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        )
        for (name, parameter), averaged in zip(self.model.trained(), self._ema.shadow_params, strict=True):
            averaged.copy_(tensors[f"ema.{name}"])
            self._optimizer.state[parameter]["step"].fill_(self.step)
            for moment in _MOMENTS:
                self._optimizer.state[parameter][moment].copy_(tensors[f"{moment}.{name}"])
        self._ema.optimization_step = self.step

    def check_finite(self) -> None:
        """Raise a DivergenceError if a parameter is not finite."""
        total = torch.stack([parameter.detach().sum() for _, parameter in self.model.trained()]).sum()
        if not torch.isfinite(total):
            what = f"the parameters are not finite after step {self.step}"
            key = f"{self._stage}.training"
            raise DivergenceError(what, self._stage, f"lower {key}.lr, or raise {key}.warmup")
