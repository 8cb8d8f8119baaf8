"""Define the hyper-parameters of aligning two surveys (`stages.adapt.alignment`)."""

from __future__ import annotations

from dataclasses import dataclass

from raydistill.learning.checks import at_least, at_least_0_below_1, not_negative, positive


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How the features of two surveys are aligned.

    Parameters
    ----------
    strength
        Size of the alignment loss relative to the task's loss. 0: no alignment.
    blur
        Blur of the Sinkhorn divergence, as a fraction of the largest distance between features.
    reach
        Largest distance, as the same kind of fraction, over which features are matched; farther
        ones, such as those of a class that the source lacks, stay unmatched. None: all are matched,
        which also equates the proportions of classes.
    entropy
        Weight of the entropy separation. 0: none.
    margin
        Distance of the entropy from log(K) / 2 [nat], below which an image is left alone.
    warmup
        Fraction of the steps before the alignment and the entropy separation start.
    """

    strength: float = 1.0
    blur: float = 0.05
    reach: float | None = None
    entropy: float = 0.0
    margin: float = 0.5
    warmup: float = 0.5

    def __post_init__(self) -> None:
        not_negative(self, "strength", "entropy", "margin")
        positive(self, "blur")
        at_least(0.01, reach=self.reach)
        at_least_0_below_1(warmup=self.warmup)
