"""Describe how steps are computed: compiled or eager, and in which precision.

Steps are those of training and of the student.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

Precision = Literal["float32", "bfloat16"]
EngineName = Literal["exact", "unrolled", "constant-adjoint"]  # `distillation.engines` describes them


class Arithmetic(NamedTuple):
    """The decision about a training or a recipe.

    bfloat16 applies to matrix products only; parameters stay float32.
    """

    compile: bool = False
    precision: Precision = "float32"

    def __str__(self) -> str:
        return f"{self.precision}, {'compiled' if self.compile else 'not compiled'}"


EAGER = Arithmetic()


class RequestsArithmetic(Protocol):
    """A record with fields `compile` and `precision`, either of which may be "auto"."""

    @property
    def compile(self) -> bool | Literal["auto"]: ...

    @property
    def precision(self) -> Precision | Literal["auto"]: ...


def fill_auto(requested: RequestsArithmetic, choice: Arithmetic = EAGER) -> Arithmetic:
    """Return the requested arithmetic; where it is "auto", that of `choice`."""
    return Arithmetic(
        choice.compile if requested.compile == "auto" else requested.compile,
        choice.precision if requested.precision == "auto" else requested.precision,
    )
