"""Define the part of a config about self-supervised encoders."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import PositiveInt

from raydistill.config.kinds import AnyArchitecture
from raydistill.learning.architectures import PooledConvNet
from raydistill.learning.options import ContrastiveTraining


@dataclass(frozen=True)
class Pretrain:
    """Set the encoder of `raydistill pretrain`.

    It is trained on the training split without its labels, so test galaxies stay unseen.

    Parameters
    ----------
    network
        Its architecture. The input of the last linear layer are the features.
    training
        Training.
    extra_sets
        Paths of further curated sets whose training pictures are used too. They need the image size,
        crop and alignment of the survey's own set. Galaxies of the own validation and test splits
        are left out.
    probe_every
        Steps between two measurements on validation galaxies.
    record_every
        Steps between two records of the training loss.
    seed
        Root of the training's random numbers, so that another value gives another encoder of the
        same galaxies. None: `seed` of the config.
    """

    network: AnyArchitecture = field(default_factory=PooledConvNet)
    training: ContrastiveTraining = field(default_factory=ContrastiveTraining)
    extra_sets: tuple[str, ...] = ()
    probe_every: PositiveInt = 250
    record_every: PositiveInt = 25
    seed: int | None = None

    def __post_init__(self) -> None:
        if len(set(self.extra_sets)) < len(self.extra_sets):
            raise ValueError(f"extra_sets must not name one twice, got {', '.join(self.extra_sets)}")
