"""Define the hyper-parameters of matching the outcome (`distillation.outcome`)."""

from __future__ import annotations

from dataclasses import dataclass

from raydistill.learning.architectures import ClassifierArchitecture
from raydistill.learning.checks import at_least, at_least_0_below_1, positive


@dataclass(frozen=True, kw_only=True)
class OutcomeMatching:
    """Set the iterations that match the outcome in place of trajectories.

    Parameters
    ----------
    after
        Iterations of trajectory matching before them. The schedule does not stop the run.
    student_steps
        N, the number of steps through which the loss is differentiated.
    max_warmup
        The largest W.
    momentum
        Momentum of the student's SGD.
    student_lr
        Its initial learning rate; the logarithm is learned.
    batch_size
        Real images of a segment, equally many of each class on average.
    image_step
        Factor of the image step. The gradient of one fresh network on some real images is noisier
        than that of a segment.
    networks
        Architectures that take turns, each with a learning rate of its own. Empty: the experts'.
        Images that several architectures learn from suit others better.
    """

    after: int = 0
    student_steps: int = 20
    max_warmup: int = 100
    momentum: float = 0.9
    student_lr: float = 0.005
    batch_size: int = 200
    image_step: float = 1.0
    networks: tuple[ClassifierArchitecture, ...] = ()

    @property
    def num_lrs(self) -> int:
        """Return the number of learning rates: one for each architecture."""
        return max(1, len(self.networks))

    def __post_init__(self) -> None:
        positive(self, "student_steps", "student_lr", "batch_size", "image_step")
        at_least(0, after=self.after, max_warmup=self.max_warmup)
        at_least_0_below_1(momentum=self.momentum)
