"""Simulate a Galaxy Zoo 2: galaxies with known truth, pictures, volunteers' votes.

The demo and the tests need a survey that a seed reproduces and whose true classes are known. Every
galaxy depends on `fold_in(seed, "galaxy", number)` only, so any process may simulate any chunk.

Volunteers follow the decision tree of Willett et al. 2013 and make errors. If a galaxy is small
compared to the PSF, or faint compared to the sky, they miss its features and answer "smooth". So
distant galaxies look smoother: this is the redshift bias. The `_debiased` columns correct it on
average, as those of Hart et al. 2016 do. No number here was observed.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.tree import Task
from raydistill.galaxies.trees import GZ2
from raydistill.seeding import fold_in
from raydistill.simulation.config import NUM_CLASSES, SDSS, SDSS_PSF, SimulatedSurvey, Telescope
from raydistill.simulation.render import LENS, Truth, encode_jpeg, render
from raydistill.simulation.sky import ZERO_POINT, electrons, sky_sigma

README = """This survey is simulated by raydistill. No galaxy, coordinate, vote or picture in it was observed.

catalog.csv           volunteers' votes, in the columns of the Hart et al. (2016) table of Galaxy Zoo 2
truth.csv             what was put into each galaxy: not for training; lengths are relative to R90, 0 stands for "none"
filename_mapping.csv  objid -> asset_id
images/               {asset_id}.jpg, 8.48 R90 wide: 0.02 R90 a pixel at 424 pixels
"""


SMOOTH, FEATURES, ARTIFACT = GZ2.answers[:3]


def vote_columns() -> list[str]:
    """Return the vote columns of `gz2_hart16.csv`.

    It has raw fractions for two answers only.
    """
    columns = []
    for stem in GZ2.answers:
        plain = [f"{stem}_fraction"] if stem in (SMOOTH, FEATURES) else []
        columns += [*plain, f"{stem}_weighted_fraction", f"{stem}_debiased"]
    return columns


OWN_COLUMNS = ("petro_r90", "redshift")  # of the truth, but a survey knows them too
ALL_TRUTH = {f"truth_{field.name.rstrip('_')}": field for field in fields(Truth) if field.name not in OWN_COLUMNS}
LENS_COLUMNS = ("truth_einstein_radius", "truth_arc_flux", "truth_source_offset", "truth_source_angle")
TRUTH_FIELDS = {name: field for name, field in ALL_TRUTH.items() if name not in LENS_COLUMNS}
SCHEMA = pa.schema(
    [
        ("objid", pa.string()),
        *((name, pa.float64()) for name in ("ra", "dec", *OWN_COLUMNS)),
        ("asset_id", pa.int64()),
        ("total_classifications", pa.int64()),
        ("total_votes", pa.int64()),
        *((name, pa.float32()) for name in vote_columns()),
        *((name, pa.int64() if field.type == "int" else pa.float64()) for name, field in TRUTH_FIELDS.items()),
        ("jpeg", pa.binary()),
    ]
)


def schema_of(survey: SimulatedSurvey) -> pa.Schema:
    """Return the columns of a survey: `SCHEMA`, and the truth of lenses if any."""
    lensed = [pa.field(name, pa.float64()) for name in LENS_COLUMNS] if survey.lens_fraction else []
    return pa.schema([*SCHEMA, *lensed])


def simulate_chunk(survey: SimulatedSurvey, seed: int, start: int, stop: int) -> pa.Table:
    """Simulate the galaxies `start` to `stop - 1`.

    Parameters
    ----------
    survey : SimulatedSurvey
    seed : int
    start, stop : int
        A row depends on `seed`, its number and the survey, but neither on the chunk nor on
        `num_galaxies`.

    Returns
    -------
    pyarrow.Table
        Ids, coordinates [deg], votes, truth and the encoded picture; empty if `start == stop`.

    Raises
    ------
    ConfigError
        If the range is not within the survey.
    """
    if not 0 <= start <= stop <= survey.num_galaxies:
        what = f"galaxies {start} to {stop} are not among the survey's {survey.num_galaxies}"
        raise ConfigError(what, "simulate_chunk", "give 0 <= start <= stop <= num_galaxies")
    rows = [simulate_galaxy(survey, seed, number) for number in range(start, stop)]
    return pa.Table.from_pylist(rows, schema=schema_of(survey))


def simulate_galaxy(survey: SimulatedSurvey, seed: int, number: int) -> dict[str, Any]:
    """Return one row of the survey, with all columns of truth."""
    root = fold_in(seed, "galaxy", number)
    telescope = survey.telescope
    truth = draw_truth(np.random.default_rng(fold_in(root, "truth")), survey.class_weights)
    lensing = np.random.default_rng(fold_in(root, "lens"))
    if lensing.uniform() < survey.lens_fraction:
        truth = draw_lens(truth, lensing)
    truth = replace(truth, psf_fwhm=truth.psf_fwhm * (telescope.psf_fwhm / SDSS_PSF))
    place = np.random.default_rng(fold_in(root, "place"))
    return {
        "objid": f"sim-{number:06d}",
        "ra": place.uniform(110.0, 260.0),  # the northern cap of SDSS, about
        "dec": float(np.rad2deg(np.arcsin(place.uniform(-0.05, 0.9)))),
        "petro_r90": truth.petro_r90,
        "redshift": truth.redshift,
        "asset_id": number,
        **{name: getattr(truth, field.name) for name, field in ALL_TRUTH.items()},
        **ask_volunteers(truth, np.random.default_rng(fold_in(root, "votes")), telescope),
        "jpeg": encode_jpeg(render(truth, survey.image_size, fold_in(root, "picture"), telescope)),
    }


def draw_truth(rng: np.random.Generator, class_weights: tuple[float, ...] | None = None) -> Truth:
    """Draw a galaxy of a flux-limited survey (r < 17 mag).

    Faint galaxies are smaller and more distant on average.
    """
    weights = np.ones(NUM_CLASSES) if class_weights is None else np.asarray(class_weights, float)
    label = int(rng.choice(NUM_CLASSES, p=weights / weights.sum()))
    magnitude = 17 - abs(17 - rng.normal(16, 0.7))
    petro_r90 = float(np.clip(rng.lognormal(np.log(9) + 0.12 * (16 - magnitude), 0.33), 3.2, 18))
    redshift = 0.075 * (9 / petro_r90) ** 0.9 * 10 ** (0.1 * (magnitude - 16)) * rng.lognormal(0, 0.25)
    common: dict[str, Any] = {
        "class_": label,
        "magnitude": float(magnitude),
        "petro_r90": petro_r90,
        "redshift": float(np.clip(redshift, 0.01, 0.3)),
        "psf_fwhm": float(np.clip(rng.normal(1.3, 0.12), 0.9, 1.9)),
        "position_angle": rng.uniform(0, 180),
    }
    if label <= 2:
        return Truth(**common, **draw_smooth(label, rng))
    if label <= 4:
        return Truth(**common, **draw_edge_on(label, rng))
    return Truth(**common, **draw_face_on(label, rng))


def draw_smooth(label: int, rng: np.random.Generator) -> dict[str, Any]:
    lowest, highest = ((0.82, 1.0), (0.44, 0.76), (0.2, 0.36))[label]
    return {
        "axis_ratio": rng.uniform(lowest, highest),
        "bulge_fraction": rng.uniform(0.5, 1.0) if label < 2 else rng.uniform(0.1, 0.6),
        "bulge_radius": rng.uniform(0.8, 1.6),
        "sersic_n": rng.uniform(1.2, 5.5) if label < 2 else rng.uniform(1.0, 2.5),
        "reddening": rng.normal(0.0, 0.07) - (rng.uniform(0.1, 0.45) if rng.uniform() < 0.3 else 0.0),
        "dust_lane": rng.uniform(0.6, 1.4) if rng.uniform() < 0.06 else 0.0,
    }


def draw_lens(galaxy: Truth, rng: np.random.Generator) -> Truth:
    """Return a smooth galaxy that lenses one behind it.

    Its size and magnitude are those of `galaxy`. The arcs are wider and brighter than those of most
    real lenses, so that small pictures show them.
    """
    return Truth(
        class_=LENS,
        magnitude=galaxy.magnitude,
        petro_r90=galaxy.petro_r90,
        redshift=galaxy.redshift,
        psf_fwhm=galaxy.psf_fwhm,
        position_angle=galaxy.position_angle,
        **(draw_smooth(int(rng.choice(2)), rng) | {"dust_lane": 0.0}),
        einstein_radius=rng.uniform(0.45, 0.85),
        arc_flux=rng.uniform(0.2, 0.6),
        source_offset=rng.uniform(0.0, 0.8),
        source_angle=rng.uniform(0, 360),
    )


def draw_edge_on(label: int, rng: np.random.Generator) -> dict[str, Any]:
    bulge = label == 3
    return {
        "axis_ratio": rng.uniform(0.09, 0.17) if bulge else rng.uniform(0.06, 0.13),
        "bulge_fraction": rng.uniform(0.18, 0.5) if bulge else rng.uniform(0.0, 0.05),
        "bulge_radius": rng.uniform(0.35, 0.8),
        "sersic_n": rng.uniform(1.2, 3.5),
        "reddening": rng.normal(0.06 if bulge else -0.04, 0.1),
        "dust_lane": rng.uniform(0.6, 1.8) if rng.uniform() < 0.45 else 0.0,
    }


def draw_face_on(label: int, rng: np.random.Generator) -> dict[str, Any]:
    barred, spiral = label in (5, 6), label in (5, 7)
    drawn: dict[str, Any] = {
        "axis_ratio": rng.uniform(0.45, 1.0),
        "bulge_fraction": rng.uniform(0.05, 0.4),
        "bulge_radius": rng.uniform(0.25, 0.7),
        "sersic_n": rng.uniform(1.0, 3.5),
        "reddening": rng.normal(0.0 if spiral else 0.05, 0.09),
        "clumpiness": rng.uniform(0.25, 0.9),
        "bar_angle": rng.uniform(0, 180),
    }
    if barred:
        drawn |= {"bar_length": rng.uniform(0.24, 0.46), "bar_fraction": rng.uniform(0.13, 0.28)}
    if spiral:
        drawn |= {
            "num_arms": int(rng.choice((2, 3, 4), p=(0.8, 0.1, 0.1) if barred else (0.6, 0.22, 0.18))),
            "pitch_angle": rng.uniform(11, 30),
            "winding": int(rng.choice((-1, 1))),
            "arm_fraction": rng.uniform(0.35, 0.8),
        }
    ringed = rng.uniform() < (0.15 if spiral else 0.4)
    if ringed:
        drawn["ring"] = drawn.get("bar_length", rng.uniform(0.35, 0.55)) * 1.05
    if label == 6:
        drawn |= {"bulge_fraction": rng.uniform(0.03, 0.22), "axis_ratio": rng.uniform(0.55, 1.0)}
        drawn["arm_fraction"] = rng.uniform(0.0, 0.3)  # young stars all over the disk, without arms
    if label == 8:
        disturbed = not ringed or rng.uniform() < 0.2
        drawn["arm_fraction"] = rng.uniform(0.3, 0.8) if disturbed else rng.uniform(0.0, 0.3)
        drawn["clumpiness"] = rng.uniform(0.5, 1.0) if disturbed else drawn["clumpiness"]
        drawn["companion"] = rng.uniform(0.12, 0.5) if disturbed and rng.uniform() < 0.65 else 0.0
    return drawn


def clarity(truth: Truth, telescope: Telescope = SDSS) -> float:
    """Return how visible the structure is, in [0, 1].

    The visibility falls with PSF / R90 and rises with the signal-to-noise ratio.
    """
    flux = 10 ** (0.4 * (ZERO_POINT - truth.magnitude))
    half_light_pixels = np.pi * (truth.petro_r90 / 2.3 / telescope.pixel_scale) ** 2
    signal = 0.5 * flux / half_light_pixels
    signal_to_noise = signal / np.sqrt(sky_sigma(telescope)[1] ** 2 + signal / electrons(telescope)[1])
    resolved = 1 / (1 + (truth.psf_fwhm / truth.petro_r90 / 0.3) ** 3)
    return float(resolved / (1 + (2.5 / signal_to_noise) ** 1.5))


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def answer_odds(truth: Truth, telescope: Telescope = SDSS) -> dict[str, list[float]]:
    """Return the odds (any scale) of a careful volunteer's answers, by task key."""
    clear, label = clarity(truth, telescope), truth.class_
    smooth = label <= 2 or label == LENS
    edge_on, barred, spiral = label in (3, 4), truth.bar_length > 0, truth.num_arms > 0
    blur = (truth.psf_fwhm / truth.petro_r90) ** 2
    seen_ratio = np.sqrt((truth.axis_ratio**2 + blur) / (1 + blur))  # the PSF makes galaxies rounder
    structure = 0.93 if edge_on else min(1.0, 0.7 + 0.3 * truth.arm_fraction + 0.1 * barred + 0.1 * (truth.ring > 0))
    featured = 0.07 + 0.9 * clear * structure
    if smooth:
        featured = 0.07 + 0.06 * (label == 2) + 0.5 * clear * (label == LENS)  # some call arcs a feature
    round_, cigar = sigmoid((seen_ratio - 0.79) / 0.04), sigmoid((0.4 - seen_ratio) / 0.035)
    flat = 0.06 + 0.88 * clear if edge_on else 0.7 if label == 2 else 0.3 * sigmoid((0.5 - seen_ratio) / 0.05) + 0.02
    bar = 0.06 + 0.86 * clear * min(1.0, 0.7 + 2 * truth.bar_fraction) if barred else 0.08
    arms = 0.08 + 0.86 * clear * min(1.0, 0.75 + 0.4 * truth.arm_fraction) if spiral else 0.1 + 0.1 * truth.arm_fraction
    prominence = [np.exp(-((truth.bulge_fraction - share) ** 2) / 0.03) for share in (0.0, 0.15, 0.35, 0.7)]
    bulge = sigmoid((truth.bulge_fraction - 0.1) / 0.025) * clear + 0.25 * (1 - clear)
    oddities = 0.4 * (truth.ring > 0), 0.5 * (truth.dust_lane > 0), 0.75 * (truth.companion > 0), 0.94 * (label == LENS)
    strange = 0.05 + clear * max(oddities)
    messy = float(label == 8 and not truth.companion)
    odd = [
        4.0 * (truth.ring > 0),
        0.1 + 20.0 * (label == LENS),
        0.2 + messy,
        0.2 + messy,
        0.4,
        5.0 * (truth.companion > 0),
        5.0 * (truth.dust_lane > 0),
    ]
    winding = [np.exp(-(((truth.pitch_angle - pitch) / 6) ** 2)) + 0.05 for pitch in (11, 18, 26)]
    counted = [0.05 + 0.8 * clear * (truth.num_arms == count) for count in (1, 2, 3, 4)]
    return {
        "smooth_or_features": [0.98 - featured, featured, 0.02],
        "edgeon": [flat, 1 - flat],
        "bar": [bar, 1 - bar],
        "spiral": [arms, 1 - arms],
        "bulge_prominence": prominence,
        "odd": [strange, 1 - strange],
        "rounded": [round_, max(1 - round_ - cigar, 0.02), cigar],
        "odd_feature": odd,
        "bulge_shape": [0.85 * bulge, 0.15 * bulge, 1 - bulge],
        "arms_winding": winding,
        "arms_number": [*counted, 0.05, 0.2 + 0.6 * (1 - clear)],
    }


AGREEMENT = 18.0  # Dirichlet concentration: agreement of careful volunteers about one galaxy
CARELESS = 0.06  # share of volunteers who answer at random; the weights of Willett et al. 2013 remove them


def ask_volunteers(truth: Truth, rng: np.random.Generator, telescope: Telescope = SDSS) -> dict[str, Any]:
    """Return the votes of about 44 volunteers: totals, and fractions of each answer.

    The fractions are raw, weighted and debiased.
    Fractions refer to volunteers who were asked; they are 0 if no volunteer was asked. The weights
    follow Willett et al. 2013 (MNRAS 435, 2835), Eq. 1.
    """
    count = max(1, int(rng.poisson(44)))
    careless = rng.uniform(size=count) < CARELESS
    consistency = np.where(careless, rng.uniform(0.2, 0.6, count), 0.6)
    weights = np.minimum(1.0, (consistency / 0.6) ** 8.5)  # Willett et al. 2013, eq. 1
    odds = answer_odds(truth, telescope)
    givers: dict[str, npt.NDArray[np.bool_]] = {}
    row: dict[str, Any] = {"total_classifications": count, "total_votes": 0}
    for task in GZ2.tasks:
        chances = np.asarray(odds[task.key], float) + 1e-3
        shared = rng.dirichlet(AGREEMENT * chances / chances.sum())
        chosen = rng.choice(len(chances), size=count, p=shared)
        chosen = np.where(careless, rng.integers(len(chances), size=count), chosen)
        asked = (
            np.any([givers[stem] for stem in task.asked_after], axis=0) if task.asked_after else np.full(count, True)
        )
        if ARTIFACT in givers:
            asked &= ~givers[ARTIFACT]  # after "artifact" no further task is asked
        hits = (chosen[None] == np.arange(len(chances))[:, None]) & asked
        givers |= {answer.column: hit for answer, hit in zip(task.answers, hits, strict=True)}
        row["total_votes"] += int(hits.sum())
        row |= tally(task, hits, weights, truth.redshift)
    return row


# Answers that distance hides: the decrease of their log-odds per unit of redshift, measured in
# the simulation.
BIAS_SLOPE = {FEATURES: 9.0, "t03_bar_a06_bar": 6.0, "t04_spiral_a08_spiral": 6.0}


def tally(
    task: Task, hits: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64], redshift: float
) -> dict[str, float]:
    """Return the columns of one task.

    `hits` `[answers, volunteers]` marks the answers given.
    """
    plain = hits.sum(1) / max(1, hits.sum())
    weighted = (hits * weights).sum(1) / max((hits * weights).sum(), 1e-12)
    gain = np.exp([BIAS_SLOPE.get(answer.column, 0.0) * (redshift - 0.03) for answer in task.answers])
    debiased = weighted * gain / max((weighted * gain).sum(), 1e-12)
    row: dict[str, float] = {}
    for answer, fraction, heavy, corrected in zip(task.answers, plain, weighted, debiased, strict=True):
        stem = answer.column
        row |= {f"{stem}_fraction": fraction, f"{stem}_weighted_fraction": heavy, f"{stem}_debiased": corrected}
    return row


IDENTITY = ("objid", "sample", "ra", "dec", "petro_r90", "redshift", "total_classifications", "total_votes")


def write_survey(folder: str | Path, tables: Iterable[pa.Table], schema: pa.Schema = SCHEMA) -> int:
    """Write the public release's layout into `folder`; return the number of galaxies.

    `catalog.csv` (votes, no truth), `truth.csv`, `filename_mapping.csv`, `images/{asset_id}.jpg`,
    `README.txt`. One table of `simulate_chunk` is in memory at a time, and the same tables give the
    same bytes. `schema` is that of the tables. The CSV files get their names last, so a killed
    writer leaves no catalogue. Existing files are replaced. CatalogError if there are no rows.
    """
    truth = [name for name in schema.names if name in ALL_TRUTH]
    labelled_schema = schema.append(pa.field("sample", pa.string()))
    files = {
        "catalog.csv": [*IDENTITY, *vote_columns()],
        "truth.csv": ["objid", "sample", *OWN_COLUMNS, *truth],
        "filename_mapping.csv": ["objid", "sample", "asset_id"],
    }
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "README.txt").write_text(README, encoding="utf-8")
    options = csv.WriteOptions(quoting_style="none")
    count = 0
    with ExitStack() as stack:
        writers = {}
        for name, columns in files.items():
            file_schema = pa.schema([labelled_schema.field(column) for column in columns])
            writers[name] = stack.enter_context(
                csv.CSVWriter(folder / f"{name}.part", file_schema, write_options=options)
            )
        for table in tables:
            labelled = table.append_column("sample", pa.array(["simulated"] * len(table), pa.string()))
            for name, columns in files.items():
                writers[name].write_table(labelled.select(columns))
            for asset_id, jpeg in zip(table["asset_id"].to_pylist(), table["jpeg"].to_pylist(), strict=True):
                (folder / "images" / f"{asset_id}.jpg").write_bytes(jpeg)
            count += len(table)
    if not count:
        raise CatalogError("no galaxy to write", str(folder), "give at least one table of simulate_chunk with rows")
    for name in files:
        (folder / f"{name}.part").replace(folder / name)
    return count
