"""Define the part of a config about sampling synthetic galaxies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import PositiveFloat, PositiveInt

from raydistill.config.kinds import BY_KIND, infer_kind
from raydistill.diffusion.options import Sampling
from raydistill.galaxies.catalog_schemas import Fractions
from raydistill.galaxies.selection import Split
from raydistill.simulation.config import Telescope
from raydistill.simulation.injections import DustLane, Injection

# Define the part of a config about where synthetic galaxies come from.


@dataclass(frozen=True, kw_only=True)
class GeneratorSource:
    """Sample the generator of the run.

    Parameters
    ----------
    strength
        Time in (0, 1] at which sampling starts. 1: from noise alone. Below 1: from a real training
        galaxy with noise of that time, of which the sample keeps much. It is the galaxy whose
        condition the sample takes, or else a random one of its class.
    start_classes
        Classes of the galaxies to start from, which are then random ones. Empty: the sample's own.
    """

    kind: Literal["generator"] = "generator"
    strength: float = 1.0
    start_classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must lie in (0, 1], got {self.strength:g}")
        if self.start_classes and self.strength == 1:
            raise ValueError("start_classes need a strength below 1")


@dataclass(frozen=True, kw_only=True)
class InjectionSource:
    """Apply a physical model to real training galaxies, and record its parameters.

    Negatives of the same source are a second set of the same seed: the same galaxies with strength
    0, such as `model.depth: [0, 0]`, or with another model.

    Parameters
    ----------
    model
        The model, and the ranges of its parameters.
    classes
        Classes of the galaxies. Empty: all.
    label
        Class of all pictures. None: that of the galaxy.
    examples
        Object ids of training galaxies that show the thing already. The ranges are fitted to them,
        and they are not changed themselves.
    """

    kind: Literal["injection"] = "injection"
    model: Annotated[Injection, BY_KIND, infer_kind(Injection)] = field(default_factory=DustLane)
    classes: tuple[str, ...] = ()
    label: str | None = None
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SimulatorSource:
    """Simulate galaxies, and prepare their pictures as those of the curated set.

    Parameters
    ----------
    classes
        Classes of the simulator, in its names: those of `gz2-9`, and `lens`. Empty: those of the
        nine for which the curated set has a class.
    label
        Class of all pictures. None: the class of the curated set on whose path the simulated class
        is.
    parameters
        Ranges of some true parameters, [lowest, highest], such as {dust_lane: [0.6, 1.4]}
        (`simulation.parameters`). All others are drawn as for a simulated survey. Each of the
        classes must show them.
    picture_size
        Side of the picture before it is cropped and resized [px]. It spans 8.48 Petrosian R90, as
        in Galaxy Zoo 2.
    crop_fraction
        Side of the central square that is kept, as a fraction of the picture. None: that of the
        curated set, which is right for pictures of the same width in R90.
    telescope
        The instrument. None: that of the run's own simulated survey, or that of SDSS.
    """

    kind: Literal["simulator"] = "simulator"
    classes: tuple[str, ...] = ()
    label: str | None = None
    parameters: dict[str, tuple[float, float]] = field(default_factory=dict)
    picture_size: PositiveInt = 424
    crop_fraction: float | None = None
    telescope: Telescope | None = None

    def __post_init__(self) -> None:
        if self.crop_fraction is not None and not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction must lie in (0, 1], got {self.crop_fraction:g}")
        if self.picture_size < 32:
            raise ValueError(f"picture_size must be at least 32, got {self.picture_size}")


@dataclass(frozen=True, kw_only=True)
class RecombinationSource:
    """Put parts of two real training galaxies together.

    The column `origin` names the galaxy that gives the class. `start` names the other one, which is
    like it in size, inclination, brightness and colour (`raydistill.morphology.recombination`).

    Parameters
    ----------
    part
        "inner": bulge, bars, arms and lanes of the galaxy, on the disk of the other one, whose
        companions move. "companion": the other one stands beside the galaxy, as in a pair.
    classes
        Classes of the galaxies. Empty: all.
    label
        Class of all pictures. None: that of the galaxy.
    similar
        Number of most similar galaxies among which a sample chooses the other one.
    separation
        Of a companion: lowest and highest distance, in units of the galaxy's radius, which is the
        geometric mean of the standard deviations of its brightness.
    flux
        Of a companion: lowest and highest flux relative to the galaxy. [0, 0] leaves the picture as
        it is, for negatives.
    """

    kind: Literal["recombination"] = "recombination"
    part: Literal["inner", "companion"] = "inner"
    classes: tuple[str, ...] = ()
    label: str | None = None
    similar: PositiveInt = 10
    separation: tuple[float, float] = (1.5, 4.0)
    flux: tuple[float, float] = (0.2, 1.0)

    def __post_init__(self) -> None:
        for name in ("separation", "flux"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be [lowest, highest], not negative, got [{low:g}, {high:g}]")


Source = GeneratorSource | InjectionSource | SimulatorSource | RecombinationSource


@dataclass(frozen=True, kw_only=True)
class ClassConditions:
    """Sample galaxies of given classes, the same number of each.

    Parameters
    ----------
    classes
        Names of classes of the curated set. Empty: all.
    like
        "galaxies": each sample takes the whole condition of a random training galaxy of the class.
        "label": the class alone is known to the generator, which needs its condition `class`.
    """

    kind: Literal["classes"] = "classes"
    classes: tuple[str, ...] = ()
    like: Literal["galaxies", "label"] = "galaxies"


@dataclass(frozen=True, kw_only=True)
class AnswerConditions:
    """Sample galaxies with given vote fractions.

    Parameters
    ----------
    answers
        Fraction of each answer among the volunteers who were asked, e.g. {smooth: 0.9,
        features_or_disk: 0.1}. The fractions of a named question sum to 1, within 0.01. Answers
        that are not named count as 0. Questions that are not named are unknown to the generator.
    petro_r90
        Petrosian radius with 90 % of the flux, in arcsec. None: unknown.
    colour
        log10 of the mean red, and of the mean blue, over the mean green of the picture. None:
        unknown.
    """

    kind: Literal["answers"] = "answers"
    answers: dict[str, float]
    petro_r90: PositiveFloat | None = None
    colour: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class TableConditions:
    """Sample galaxies with the conditions of a table's rows, in turn.

    Parameters
    ----------
    table
        Table of votes of any format at any URI; `survey.catalog` has the same forms. Its column
        petro_r90 in arcsec is read too. A missing number is unknown to the generator.
    dialect
        Name of the table's column schema, or "auto": found by its columns.
    fractions
        Use raw, weighted or debiased vote fractions.
    columns
        Columns with unusual names, e.g. {id: GalaxyID}.
    """

    kind: Literal["table"] = "table"
    table: str
    dialect: str = "auto"
    fractions: Fractions = "weighted"
    columns: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GalaxyConditions:
    """Sample galaxies with conditions of real ones in turn, with some answers changed.

    Parameters
    ----------
    object_ids
        Galaxies of the curated set. Empty: all of the split.
    split
        Part of the curated set; only used without `object_ids`.
    answers
        Fractions that replace those of the galaxies, e.g. {odd_yes: 1}. A changed question is
        changed as a whole, by the rules of kind "answers". Questions that cannot be reached any
        more become unknown.
    """

    kind: Literal["galaxies"] = "galaxies"
    object_ids: tuple[str, ...] = ()
    split: Split = "train"
    answers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NoConditions:
    """Sample galaxies of any kind: the generator knows nothing of them."""

    kind: Literal["nothing"] = "nothing"


Condition = ClassConditions | AnswerConditions | TableConditions | GalaxyConditions | NoConditions


@dataclass(frozen=True)
class Filter:
    """Keep only samples that a classifier recognises as galaxies of their class.

    The classifier is the mean probability of experts, after their last epoch.

    Parameters
    ----------
    min_probability
        Smallest probability of the sample's class.
    experts
        Folder of other experts' trajectories, trained on the same classes. None: those of the run.
    max_samples_per_image
        Limit of the samples per wanted image. A class that needs more stays smaller.
    """

    min_probability: float = 0.5
    experts: str | None = None
    max_samples_per_image: PositiveFloat = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.min_probability <= 1:
            raise ValueError(f"min_probability must lie in (0, 1], got {self.min_probability:g}")
        if self.max_samples_per_image < 1:
            raise ValueError(f"max_samples_per_image must be at least 1, got {self.max_samples_per_image:g}")


@dataclass(frozen=True)
class Sample:
    """Sample synthetic galaxies.

    Parameters
    ----------
    num_images
        Number of images. Classes share them equally.
    per_class
        Number of images of each class, instead of `num_images`; for the kind "classes".
    conditions
        What the images show. None: every class of the curated set.
    sampling
        Solver and guidance. None: those of the generator, `generate.sampling`.
    filter
        Keep only images that a classifier recognises; None: keep all.
    seed
        Root of the noise. Another value gives other images.
    block_size
        Images that are sampled together. It decides the last bits of an image, because sums depend
        on the shape of a batch.
    source
        Where the images come from. `conditions` and `sampling` belong to the generator.
    """

    num_images: PositiveInt = 128
    per_class: PositiveInt | None = None
    conditions: Annotated[Condition, BY_KIND, infer_kind(Condition)] | None = None
    sampling: Sampling | None = None
    filter: Filter | None = None
    seed: int = 0
    block_size: PositiveInt = 32
    source: Annotated[Source, BY_KIND, infer_kind(Source)] = GeneratorSource()

    @property
    def needs_generator(self) -> bool:
        """Whether the images are sampled from the run's generator."""
        return self.source.kind == "generator"

    def __post_init__(self) -> None:
        if self.source.kind != "generator":
            for name in ("conditions", "sampling"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"the key '{name}' belongs to the source 'generator', and the source is '{self.source.kind}'"
                    )
        if self.per_class is not None and not isinstance(self.conditions, ClassConditions | None):
            raise ValueError("per_class is the number of images of each class; give num_images for other conditions")
