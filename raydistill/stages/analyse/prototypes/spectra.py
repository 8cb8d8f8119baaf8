"""The section about stacked spectra of the galaxies nearest to prototypes.

There is one stack per class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy import units
from astropy.io import fits

from raydistill.errors import CatalogError
from raydistill.log import get_logger, progress
from raydistill.seeding import fold_in
from raydistill.stages.analyse.config import Spectra
from raydistill.stages.analyse.inputs import AnalysisInputs, Ints
from raydistill.stages.analyse.prototypes.neighbours import nearest_of_class
from raydistill.stages.analyse.report.charts import stacked_spectra
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.statistics.intervals import percentile_interval
from raydistill.statistics.testing import adjusted_p_values
from raydistill.storage import Folder

# Stack spectra in the rest frame, and measure the 4000 Å break of a stack.
#
# Shapes: N spectra, W wavelengths.

Floats = npt.NDArray[np.float64]

STEP = 1e-4  # of log10(wavelength): that of SDSS, 69 km/s
NORMALISED = (4150.0, 4250.0)  # Å, rest frame: continuum beside the break, without strong lines
BREAK = ((3850.0, 3950.0), (4000.0, 4100.0))  # Å: Balogh et al. 1999, ApJ 527, 54
MIN_PIXELS = 10  # of a window in which a mean is taken


class Spectrum(NamedTuple):
    """A spectrum in the observed frame.

    Attributes
    ----------
    wavelength_W
        Vacuum wavelengths in Å, increasing.
    flux_W
        Flux density per unit wavelength, in any unit; NaN where masked.
    redshift
        Redshift of the galaxy.
    """

    wavelength_W: Floats
    flux_W: Floats
    redshift: float


class Stack(NamedTuple):
    """Spectra on one grid in the rest frame.

    Attributes
    ----------
    wavelength_W
        Rest wavelengths in Å.
    flux_NW
        Flux densities relative to their mean in `NORMALISED`; NaN where a spectrum has no value.
    """

    wavelength_W: Floats
    flux_NW: Floats

    def mean_and_spread(self, rows: npt.NDArray[np.integer] | slice = slice(None)) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of spectra by wavelength; NaN without values."""
        chosen = self.flux_NW[rows]
        known = np.isfinite(chosen)
        count = known.sum(axis=0)
        filled = np.where(known, chosen, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = filled.sum(axis=0) / count
            spread = np.sqrt((np.where(known, chosen - mean, 0.0) ** 2).sum(axis=0) / (count - 1))
        return mean, spread


def to_rest_frame(spectrum: Spectrum, grid_W: Floats) -> Floats | None:
    """Return the normalised flux on a rest-frame grid.

    None if the spectrum does not cover `NORMALISED`.

    Parameters
    ----------
    spectrum
        The observed spectrum.
    grid_W
        Rest wavelengths in Å, increasing.

    Returns
    -------
    ndarray or None
        float64 [W]; NaN outside of the spectrum and beside masked pixels. The flux is interpolated
        linearly.
    """
    rest = spectrum.wavelength_W / (1 + spectrum.redshift)
    flux = np.interp(grid_W, rest, spectrum.flux_W, left=np.nan, right=np.nan)
    level = window_mean(grid_W, flux, NORMALISED)
    return flux / level if np.isfinite(level) and level > 0 else None


def rest_grid(spectra: list[Spectrum]) -> Floats:
    """Return a logarithmic grid of rest wavelengths in Å that covers all spectra."""
    low = min(np.log10(spectrum.wavelength_W[0] / (1 + spectrum.redshift)) for spectrum in spectra)
    high = max(np.log10(spectrum.wavelength_W[-1] / (1 + spectrum.redshift)) for spectrum in spectra)
    return 10 ** np.arange(np.ceil(low / STEP) * STEP, high, STEP)


def window_mean(wavelength_W: Floats, flux_W: Floats, window: tuple[float, float]) -> float:
    """Return the mean flux in a wavelength window.

    NaN if fewer than `MIN_PIXELS` are known.
    """
    inside = (wavelength_W >= window[0]) & (wavelength_W <= window[1]) & np.isfinite(flux_W)
    return float(flux_W[inside].mean()) if inside.sum() >= MIN_PIXELS else float("nan")


def break_4000(wavelength_W: Floats, flux_W: Floats) -> float:
    r"""Return the narrow 4000 Å break of a rest-frame spectrum.

    Old stars have a large break: about 1.3 in star-forming and 1.8 in quiescent galaxies.

    Notes
    -----
    The mean of :math:`F_\nu` in 4000 to 4100 Å over that in 3850 to 3950 Å (Balogh et al. 1999, ApJ
    527, 54). :math:`F_\nu \propto \lambda^2 F_\lambda`. NaN where a window is not covered.
    """
    frequency_flux = flux_W * wavelength_W**2
    blue, red = (window_mean(wavelength_W, frequency_flux, window) for window in BREAK)
    return red / blue if blue > 0 else float("nan")


log = get_logger(__name__)

TITLE = "Spectra of the nearest galaxies"
MIN_SPECTRA = 5  # of nearest galaxies, and twice as many of the class, below which nothing is claimed
UNREADABLE = (OSError, ValueError, TypeError, KeyError, IndexError, fits.VerifyError)
TABLE = (
    Quantity("class", "class of prototypes and galaxies"),
    Quantity("wavelength", "vacuum wavelength in the rest frame", "Angstrom"),
    Quantity("flux", "mean flux density per wavelength of the nearest galaxies, relative to 4150 to 4250 Angstrom"),
    Quantity("sigma", "standard deviation over the nearest galaxies"),
    Quantity("n", "nearest galaxies with a value there"),
    Quantity("class_flux", "mean flux density of all galaxies of the class"),
    Quantity("class_n", "galaxies of the class with a value there"),
)


@dataclass(frozen=True)
class ClassSpectra:
    """Rows of the stack for a class: those nearest to its prototypes, and all of them."""

    label: int
    nearest: Ints
    members: Ints


def spectra_section(inputs: AnalysisInputs) -> Section:
    """Return the section: stacked spectra and 4000 Å breaks of the nearest galaxies.

    The breaks are compared with those of the class.
    """
    options = inputs.plan.config.analyse
    if options.spectra is None:
        return Section("spectra", TITLE, missing="no spectra were given; name their folder as analyse.spectra.root")
    rows, stack = read_stack(inputs.curated, inputs.train.object_ids, options.spectra)
    space = "features" if "features" in inputs.neighbours else "pixels"
    classes = [
        group
        for label in range(len(inputs.class_names))
        if len((group := _class_spectra(inputs, space, label, rows)).nearest) >= MIN_SPECTRA
        and len(group.members) >= 2 * MIN_SPECTRA
    ]
    if not classes:
        reason = f"no class has {MIN_SPECTRA} nearest galaxies with spectra ({len(rows)} training galaxies have one)"
        return Section("spectra", TITLE, missing=reason)
    return Section(
        "spectra",
        TITLE,
        (
            f"{len(rows)} of {len(inputs.train.object_ids)} training galaxies have a spectrum. Each was moved to the rest "
            "frame and divided by its mean flux between 4150 and 4250 Å.",
            f"Galaxies nearest to the prototypes ({inputs.space(space)}) are "
            "compared with random samples of as many galaxies of their class. The 4000 Å break is that of Balogh et al. "
            "1999: it is large where the light comes from old stars.",
        ),
        tables=(_table(inputs, stack, classes),),
        figures=(_figure(inputs, stack, classes),),
        statements=tuple(compare_breaks(inputs, stack, classes)),
    )


def read_stack(curated: CuratedSet, object_ids: list[str], spectra: Spectra) -> tuple[Ints, Stack]:
    """Return the rows of training galaxies with a usable spectrum, and their stack.

    Raises
    ------
    CatalogError
        The folder has no spectrum of a training galaxy, or none can be used.
    """
    folder = Folder(spectra.root)
    redshifts = curated.table("train", ["redshift"])["redshift"].to_pylist()
    present = set(folder.files())
    wanted = [row for row, object_id in enumerate(object_ids) if spectra.pattern.replace("{id}", object_id) in present]
    if not wanted:
        fix = "check analyse.spectra.root and analyse.spectra.pattern"
        raise CatalogError("it has no spectrum of a training galaxy", folder.uri, fix)
    by_row: dict[int, Spectrum] = {}
    faults: list[str] = []
    with progress(len(wanted), "reading spectra", "spectra") as shown:
        for row in wanted:
            name = spectra.pattern.replace("{id}", object_ids[row])
            try:
                by_row[row] = read_spectrum(folder, name, redshifts[row])
            except UNREADABLE as error:
                faults.append(f"{name}: {' '.join(str(error).split())}")
            shown.advance()
    grid_W = rest_grid(list(by_row.values())) if by_row else np.empty(0)
    rest = {row: flux for row, spectrum in by_row.items() if (flux := to_rest_frame(spectrum, grid_W)) is not None}
    faults += [f"{object_ids[row]}: no light between 4150 and 4250 Å" for row in by_row if row not in rest]
    if not rest:
        raise CatalogError(
            f"none of its {len(wanted)} spectra can be used ({faults[0]})", folder.uri, "check the files"
        )
    if faults:
        log.warning("analyse: %d of %d spectra cannot be used (first: %s)", len(faults), len(wanted), faults[0])
    return np.array(sorted(rest)), Stack(grid_W, np.stack([rest[row] for row in sorted(rest)]))


def read_spectrum(folder: Folder, name: str, redshift: float | None) -> Spectrum:
    """Return a spectrum of a FITS file; `redshift` is None if the survey has none.

    Raises
    ------
    ValueError
        The file has no spectrum, or no redshift is known.
    """
    with folder.open(name) as stream, fits.open(stream, memmap=False) as hdus:
        tables = [hdu for hdu in hdus if getattr(hdu, "columns", None) is not None]
        for hdu in tables:
            columns = {name.lower(): name for name in hdu.columns.names}
            if "flux" in columns and ("loglam" in columns or "wavelength" in columns):
                break
        else:
            raise ValueError("no table has the columns flux and loglam or wavelength")
        flux = np.asarray(hdu.data[columns["flux"]], float).ravel()
        if "loglam" in columns:
            wavelength = 10 ** np.asarray(hdu.data[columns["loglam"]], float).ravel()
        else:
            unit = hdu.columns[columns["wavelength"]].unit or "Angstrom"
            values = np.asarray(hdu.data[columns["wavelength"]], float).ravel()
            wavelength = (values * units.Unit(unit)).to_value("Angstrom")
        if "ivar" in columns:  # inverse variance 0: masked
            flux = np.where(np.asarray(hdu.data[columns["ivar"]], float).ravel() > 0, flux, np.nan)
        if redshift is None:
            known = [table.data["Z"][0] for table in tables if "Z" in table.columns.names]
            if not known:
                raise ValueError("its redshift is known neither to the survey's table nor to the file")
            redshift = float(known[0])
    ends = wavelength[:1], wavelength[-1:]
    is_axis = len(flux) == len(wavelength) > 1 and np.isfinite(ends).all() and wavelength[0] > 0
    if not is_axis or not (np.diff(wavelength) > 0).all() or not np.isfinite(redshift) or redshift <= -1:
        what = "its wavelengths are not positive and increasing, one for each flux, or its redshift is not a number"
        raise ValueError(what)
    return Spectrum(wavelength, flux, redshift)


def _class_spectra(inputs: AnalysisInputs, space: str, label: int, rows: Ints) -> ClassSpectra:
    nearest = np.flatnonzero(np.isin(rows, nearest_of_class(inputs, space, label)))
    return ClassSpectra(label, nearest, np.flatnonzero(inputs.galaxy_labels[rows] == label))


def compare_breaks(inputs: AnalysisInputs, stack: Stack, classes: list[ClassSpectra]) -> list[Statement]:
    """Return a statement per class: the break of its nearest galaxies, less its own.

    The interval is a bootstrap over the nearest galaxies. The p-values compare with random samples
    of the class.
    """
    options = inputs.plan.config.analyse

    def of(rows: Ints) -> float:
        return break_4000(stack.wavelength_W, stack.mean_and_spread(rows)[0])

    observed, null, intervals = [], [], []
    for group in classes:
        rng = np.random.default_rng(fold_in(inputs.spec.seed, "spectra", group.label))
        count, whole = len(group.nearest), of(group.members)
        value = of(group.nearest) - whole
        resampled = [of(rng.choice(group.nearest, count)) - whole for _ in range(options.permutations)]
        null.append([of(rng.permutation(group.members)[:count]) - whole for _ in range(options.permutations)])
        observed.append(value)
        intervals.append(percentile_interval(value, resampled) if math.isfinite(value) else None)
    p_values = adjusted_p_values(np.array(observed), np.array(null).T, ["different"] * len(classes))
    statements = []
    for group, interval, p_value in zip(classes, intervals, p_values.tolist(), strict=True):
        if interval is not None:
            name = inputs.class_names[group.label].replace("_", " ")
            way = "larger" if interval.value > 0 else "smaller"
            text = f"The stacked spectrum of galaxies nearest to the prototypes of {name} has a {way} 4000 Å break than its class"
            statements.append(Statement(text, *interval, len(group.nearest), p_value))
    return statements


def _table(inputs: AnalysisInputs, stack: Stack, classes: list[ClassSpectra]) -> SectionTable:
    parts = []
    for group in classes:
        flux, sigma = stack.mean_and_spread(group.nearest)
        of_class, _ = stack.mean_and_spread(group.members)
        count = np.isfinite(stack.flux_NW[group.nearest]).sum(axis=0)
        known = count > 0
        values = {
            "class": [inputs.class_names[group.label]] * int(known.sum()),
            "wavelength": stack.wavelength_W[known],
            "flux": flux[known],
            "sigma": sigma[known],
            "n": count[known],
            "class_flux": of_class[known],
            "class_n": np.isfinite(stack.flux_NW[group.members]).sum(axis=0)[known],
        }
        parts.append(pa.table(values))
    caption = "Stacked spectra of the galaxies nearest to the prototypes of each class."
    return SectionTable("spectra", caption, pa.concat_tables(parts), TABLE, shown=False)


def _figure(inputs: AnalysisInputs, stack: Stack, classes: list[ClassSpectra]) -> SectionFigure:
    names = [f"{inputs.class_names[group.label].replace('_', ' ')} (n = {len(group.nearest)})" for group in classes]
    nearest = [stack.mean_and_spread(group.nearest) for group in classes]
    of_class = [stack.mean_and_spread(group.members)[0] for group in classes]
    return SectionFigure(
        "spectra",
        f"Stacked spectra of the galaxies nearest to the prototypes of {len(classes)} classes, over those of their class",
        "Mean spectrum of the galaxies nearest to the prototypes (blue, with one standard deviation) and of their class "
        "(black), in the rest frame.",
        stacked_spectra(names, stack.wavelength_W, nearest, of_class),
    )
