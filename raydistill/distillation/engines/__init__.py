"""Define engines, which differentiate the matching loss through student training.

- `Adjoint`: exact, with the memory of one step; `Adjoint(constant=True)` is TESLA's approximation.
- `Unrolled`: the reference; autograd through all steps.
"""

from __future__ import annotations

from raydistill.distillation.engines.adjoint import Adjoint
from raydistill.distillation.engines.unrolled import Unrolled
from raydistill.learning.arithmetic import EngineName


def engine_options(name: EngineName, *, compile: bool = False, memory_mb: float | None = None) -> Adjoint | Unrolled:
    """Return a named engine's options; ValueError if the unrolled one is compiled."""
    if name != "unrolled":
        return Adjoint(constant=name == "constant-adjoint", memory_mb=memory_mb, compile=compile)
    if compile:
        raise ValueError("the unrolled engine differentiates a graph twice, which torch.compile cannot")
    return Unrolled()
