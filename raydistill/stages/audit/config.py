"""Define the part of a config about the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveInt

# Define the limits of an audit, without scipy.

MIN_PICTURES = 20  # of each sample: fewer leave no part to the jackknife and no neighbour to a ball


MAX_PICTURES = 1000  # of each sample by default: memory and time grow with the square

NUM_PERMUTATIONS = 999  # the smallest p-value is 1/1000 for each of up to seven families of tests


Space = Literal["scattering", "morphology", "experts", "encoder"]
SPACES: tuple[Space, ...] = ("scattering", "morphology", "experts", "encoder")
MIN_PERMUTATIONS = 699  # with fewer no p-value that is adjusted for seven families reaches 0.01


@dataclass(frozen=True)
class Audit:
    """Set the samples and tests of `raydistill audit`.

    Parameters
    ----------
    set
        Folder of the set to audit: a synthetic set, a distilled set, or the curated set of another
        survey. None: that of `sample`.
    second
        Folder of a second synthetic set, whose generator was trained on other galaxies, such as the
        other half of `curate.part`. The audit then tests whether each generator's pictures are nearer
        to its own training galaxies than to those of the other. None: no such test.
    pictures
        Further sets whose pictures get a score each: synthetic sets, or curated sets of other surveys.
        `[]`: those of the audited set and of the held-out galaxies alone. None: no scores.
    num_pictures
        Pictures of each of three samples: synthetic, held-out and training. The smallest of them
        limits all. Memory and time grow with the square.
    spaces
        Feature spaces: "scattering", "morphology", "experts" (the features of the first expert) and
        "encoder" (those of the encoder that the key `features` names). None: the first two,
        "experts" if the run has trained experts, and "encoder" if `features` names one, not a table.
    match_classes
        Draw all samples with the same class proportions, because `sample` gives all classes the
        same number of images. A class without synthetic images keeps its share of the real ones.
        False: draw at random, so that other proportions count as a difference.
    permutations
        Permutations of the tests.
    quiz_pictures
        Pictures of the quiz.
    seed
        Decides samples and permutations.
    """

    set: str | None = None
    second: str | None = None
    pictures: tuple[str, ...] | None = None
    num_pictures: PositiveInt = MAX_PICTURES
    spaces: tuple[Space, ...] | None = None
    match_classes: bool = True
    permutations: PositiveInt = NUM_PERMUTATIONS
    quiz_pictures: PositiveInt = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_pictures < MIN_PICTURES:
            raise ValueError(f"num_pictures must be at least {MIN_PICTURES}, got {self.num_pictures}")
        if self.permutations < MIN_PERMUTATIONS:
            raise ValueError(f"permutations must be at least {MIN_PERMUTATIONS}, got {self.permutations}")
        if self.spaces is not None and not self.spaces:
            raise ValueError(f"spaces must name at least one of {', '.join(SPACES)}")
        if self.spaces is not None and len(dict.fromkeys(self.spaces)) < len(self.spaces):
            raise ValueError(f"spaces must not name one twice, got {', '.join(self.spaces)}")
