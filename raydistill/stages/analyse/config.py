"""Define the part of a config about the analysis of prototypes."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import NonNegativeInt, PositiveInt

from raydistill.config.kinds import AnyArchitecture

MIN_PERMUTATIONS = 99  # with fewer no p-value lies far below 0.05


@dataclass(frozen=True, kw_only=True)
class Properties:
    """Name the table with measured properties of the survey's galaxies.

    Parameters
    ----------
    table
        A table of any format.
    columns
        Units by column, such as `{redshift: "", petroMag_r: mag}`. A key may be an expression of
        columns: `petroMag_u - petroMag_r`. docs/how-to/own-votes.md has the grammar.
    id
        The table's column of object ids. None: objid, or the first column.
    """

    table: str
    columns: dict[str, str]
    id: str | None = None

    def __post_init__(self) -> None:
        from astropy.units import Unit

        if not self.columns:
            raise ValueError("columns must name at least one column")
        for name, unit in self.columns.items():
            try:
                Unit(unit)
            except ValueError as error:
                raise ValueError(f"columns.{name} must be a unit such as mag or arcsec, got '{unit}'") from error


@dataclass(frozen=True, kw_only=True)
class Spectra:
    """Name the folder with spectra of the survey's galaxies.

    Parameters
    ----------
    root
        Folder of FITS files: those of SDSS (`COADD` with loglam, flux and ivar), or any with a
        table of the columns wavelength and flux.
    pattern
        File name below `root`, with `{id}` for the object id.
    """

    root: str
    pattern: str = "{id}.fits"

    def __post_init__(self) -> None:
        if "{id}" not in self.pattern:
            raise ValueError(f"pattern must contain {{id}}, got '{self.pattern}'")


@dataclass(frozen=True, kw_only=True)
class Analyse:
    """Set the samples and tests of `raydistill analyse`.

    Parameters
    ----------
    neighbours
        Nearest real galaxies of each prototype whose properties are stacked.
    max_galaxies
        Training galaxies of each class whose morphology is measured; a fifth of a second each.
    properties
        Table with properties of galaxies. None: redshift and petro_r90 of the survey, and the
        magnitude of a simulated one.
    spectra
        Spectra of galaxies, which are stacked in the rest frame. None: no section about spectra.
    repeats
        Further distillations with other seeds, to see which features recur. Each takes as long as
        the first one.
    expert_groups
        Disjoint groups of the experts. A set is distilled from each group, with another seed. 0:
        none.
    disjoint
        Number of disjoint parts of the training galaxies. Each part has experts of its own, and a
        set is distilled from them: the strictest test of what recurs. 0: none.
    permuted
        Repeat `disjoint` with permuted labels, as a control in which nothing may recur.
    networks
        Other networks. For each of them experts are trained, and a set is distilled with another
        seed.
    permutations
        Random samples of galaxies in the tests of shape, structure and spectra.
    seed
        Decides all samples.
    """

    neighbours: PositiveInt = 20
    max_galaxies: PositiveInt = 200
    properties: Properties | None = None
    spectra: Spectra | None = None
    repeats: NonNegativeInt = 0
    expert_groups: NonNegativeInt = 0
    disjoint: NonNegativeInt = 0
    permuted: bool = False
    networks: tuple[AnyArchitecture, ...] = ()
    permutations: PositiveInt = 1999
    seed: int = 0

    def __post_init__(self) -> None:
        for name, what in (("expert_groups", "groups"), ("disjoint", "parts")):
            if getattr(self, name) == 1:
                raise ValueError(f"{name} must be 0 or at least 2, because {what} are compared with each other")
        if self.permuted and not self.disjoint:
            raise ValueError("permuted needs disjoint, the number of parts whose labels it permutes")
        if self.permutations < MIN_PERMUTATIONS:
            raise ValueError(f"permutations must be at least {MIN_PERMUTATIONS}, got {self.permutations}")
