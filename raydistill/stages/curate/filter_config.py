"""Define the filter of damaged pictures, a part of `curate`."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import PositiveInt

from raydistill.simulation.defects import REASONS, Reason


@dataclass(frozen=True)
class PictureFilter:
    """Reject pictures in which a network recognises a defect.

    The network is trained on training pictures of the survey with injected defects. Every picture
    is scored by a network that was not trained on it.

    Parameters
    ----------
    reasons
        Defects to reject. "low-surface-brightness": the galaxy hardly exceeds the noise of the sky.
        "artifact": a satellite trail, cosmic rays, a saturated star, or missing data.
        "truncated-galaxy": an edge or missing data cut the galaxy. "off-centre": the galaxy is away
        from the centre. "blended": another galaxy overlaps the galaxy. The default leaves it out:
        two interacting galaxies look the same, and they are real.
    false_rejection_rate
        Largest share of undamaged pictures that a reason rejects.
    pictures
        Number of training pictures, at most, that train and calibrate the filter.
    steps
        Steps of the optimiser of each of the two networks, on 32 pictures each. Defects are drawn
        anew for every step.
    """

    reasons: tuple[Reason, ...] = tuple(reason for reason in REASONS if reason != "blended")
    false_rejection_rate: float = 0.01
    pictures: PositiveInt = 2000
    steps: PositiveInt = 1500

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError("reasons must name at least one; leave out curate.filter to reject none")
        if len(set(self.reasons)) < len(self.reasons):
            raise ValueError(f"reasons must each be named once, got {', '.join(self.reasons)}")
        if not 0 < self.false_rejection_rate < 0.5:
            raise ValueError(f"false_rejection_rate must lie in (0, 0.5), got {self.false_rejection_rate:g}")
