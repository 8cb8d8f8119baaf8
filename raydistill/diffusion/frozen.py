"""Keep the pretrained parts of a generator out of its tensors.

Checkpoints and artifacts hold what is trained. Frozen weights come from the user's own folder, so
they are neither stored nor averaged.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def leave_out_frozen(module: nn.Module) -> None:
    """Keep only the trained parameters of a module in `state_dict`.

    This holds also for `state_dict` of modules that contain it. `load_state_dict` then keeps the
    other tensors. Parameters count as trained if they require gradients now.
    """
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    frozen = frozenset(module.state_dict().keys() - trained)

    # The closures hold names only, so a deep copy of the module has hooks of its own.
    def remove(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
        for name in frozen:
            state.pop(prefix + name, None)

    def restore(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        for name in frozen:
            state.setdefault(prefix + name, own[name])

    module.register_state_dict_post_hook(remove)
    module.register_load_state_dict_pre_hook(restore)


class Frozen(nn.Module):
    """A module that stays in the mode of evaluation, where dropout has no effect."""

    def train(self, mode: bool = True) -> Frozen:
        """Change nothing."""
        return super().train(False)
