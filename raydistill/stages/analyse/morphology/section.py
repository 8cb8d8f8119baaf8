"""The section about morphology: do prototypes look like galaxies of their class?

It compares size, concentration, clumpiness and colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raydistill.morphology.comparison import (
    Comparison,
    band,
    compare_class,
    compare_jointly,
    find_testable,
)
from raydistill.morphology.measures import (
    FLAG,
    FURTHER,
    MEASURES,
    PROFILES,
    REASON,
    SERSIC_FLAG,
    is_valid,
    profiles_of,
    values_of,
)
from raydistill.morphology.pictures import MIN_SIDE
from raydistill.morphology.shapes import ring_centres
from raydistill.morphology.structure import NOT_MEASURED
from raydistill.seeding import fold_in
from raydistill.stages.analyse.inputs import AnalysisInputs
from raydistill.stages.analyse.morphology.charts import (
    ClassValues,
    ProfilePanel,
    measure_chart,
    profile_chart,
    structure_chart,
)
from raydistill.stages.analyse.morphology.joint import joint_statement, joint_table
from raydistill.stages.analyse.morphology.measuring import measured_pictures
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement

KEY, TITLE = "morphology", "Profiles, shape and structure"
DRAWN_PROFILES = ("brightness_profile", "red_green_profile", "green_blue_profile", "m2_profile")
PLANES = (
    ("concentration", "asymmetry"),
    ("gini", "m20"),
    ("half_light_radius", "sersic_n"),
    ("ellipticity", "m2_amplitude"),
)
COMPARED = (
    Quantity("class", "class of prototypes and galaxies"),
    Quantity("measure", "what is measured"),
    Quantity("prototypes", "mean over the prototypes with a valid value"),
    Quantity("median", "median of the class's galaxies with a valid value"),
    Quantity("p16", "their 16 % quantile"),
    Quantity("p84", "their 84 % quantile"),
    Quantity("percentile", "place of the prototypes' mean among the galaxies", "percent"),
    Quantity("percentile_low", "lower end of its 95 % interval (Wilson)", "percent"),
    Quantity("percentile_high", "upper end of its 95 % interval", "percent"),
    Quantity("n_prototypes", "prototypes with a valid value"),
    Quantity("n_outside", "prototypes outside the 2.5 to 97.5 % range of the galaxies"),
    Quantity("n", "galaxies with a valid value"),
    Quantity("p_value", "two-sided, adjusted for all measures (Westfall and Young) and classes (Bonferroni)"),
)
FLAGS = (
    Quantity("class", "class"),
    Quantity("pictures", "galaxies or prototypes"),
    Quantity("n", "measured pictures"),
    Quantity("good", "pictures with statmorph's flag 0"),
    Quantity("suspect", "pictures with flag 1; they are compared"),
    Quantity("bad", "pictures with flag 2; their structure is not compared"),
    Quantity("not_measured", "pictures that statmorph cannot measure"),
    Quantity("bad_sersic", "pictures whose Sérsic fit is flagged"),
    Quantity("reason", "the most frequent reason for flags 2 and 4"),
)
PROFILE_TABLE = (
    Quantity("class", "class"),
    Quantity("profile", "what is measured: " + "; ".join(f"{name}: {text}" for name, text in PROFILES.items())),
    Quantity("radius", "middle of the ring as a fraction of the half-frame"),
    Quantity("radius_r90", "the same in Petrosian R90; unknown where the survey has no frame_r90"),
    Quantity("median", "median of the galaxies"),
    Quantity("p16", "their 16 % quantile"),
    Quantity("p84", "their 84 % quantile"),
    Quantity("n", "galaxies with light in the ring"),
    Quantity("prototypes", "mean of the prototypes with light in the ring"),
)


def morphology_section(inputs: AnalysisInputs) -> Section:
    """Return the section: profiles and structure of prototypes against their class."""
    if (size := inputs.curated.summary.image_size) < MIN_SIDE:
        reason = f"the pictures have {size} pixels a side, and profiles need {MIN_SIDE}; raise curate.image_size"
        return Section(KEY, TITLE, missing=reason)
    prototypes, galaxies = measured_pictures(inputs)
    options, names = inputs.plan.config.analyse, inputs.class_names
    of_prototypes = [_of_class(prototypes, label) for label in range(len(names))]
    others = [_of_class(galaxies, label) for label in range(len(names))]
    classes = [label for label in range(len(names)) if len(of_prototypes[label]) and len(others[label])]
    counts = [(len(of_prototypes[label]), len(others[label])) for label in range(len(names))]
    testable = find_testable(counts, options.permutations)
    joint = compare_jointly(
        [(of_prototypes[label], others[label]) for label in classes], list(MEASURES), options.permutations,
        fold_in(inputs.spec.seed, "morphology of all classes"),
    )  # fmt: skip
    compared = {
        label: compare_class(
            of_prototypes[label],
            others[label],
            list(MEASURES),
            sum(testable) if testable[label] else 0,
            options.permutations,
            fold_in(inputs.spec.seed, "morphology", label),
        )
        for label in classes
    }
    largest = max(len(others[label]) for label in classes)
    return Section(
        KEY,
        TITLE,
        (
            "Prototypes and galaxies were measured in the same way, in pictures of the same size. The pictures are "
            "stretched, so the numbers compare pictures and are not photometry. Values of prototypes outside the range "
            "of a picture were clipped. The noise is taken as equal in all pixels, and no PSF is known, so nothing is "
            "deconvolved.",
            f"Up to {largest} training galaxies of a class were measured. Structure that statmorph flags as bad is drawn "
            "as open markers and not compared. m = 2 is measured in circles, so an inclined disk has it too.",
            "A p-value asks whether the prototypes could be galaxies of their class. It is adjusted for all measures by "
            "the step-down maximum test of Westfall and Young, and for the number of classes by Bonferroni's method. "
            "One prototype beside n galaxies cannot reach a p-value below the number of classes divided by n + 1, so it can "
            "only show that a prototype lies beyond nearly all galaxies. A missing p-value does not mean equality."
            + _untestable(names, testable),
            "The joint test of all classes asks whether prototypes deviate in the same direction in all of them. Its unit is the "
            "standard deviation of a class's pictures; deviations outside the interval are excluded at 95 %.",
        ),
        tables=(
            _comparison_table(names, compared),
            _flag_table(names, of_prototypes, others),
            joint_table(joint),
            _profile_table(inputs, of_prototypes, others),
            _measured_table("morphology_prototypes", "All numbers of all prototypes.", names, prototypes),
            _measured_table("morphology_galaxies", "All numbers of all measured galaxies.", names, galaxies),
        ),
        figures=(
            _profile_figure(inputs, of_prototypes, others),
            *_structure_figures(names, of_prototypes, others, galaxies),
        ),
        statements=(
            *(joint_statement(measure) for measure in joint if measure.num_classes > 1),
            *(
                _statement(names[label], measure)
                for label in classes
                for measure in compared[label]
                if measure.p_value is not None
            ),
            *(statement for label in classes for statement in _scatter(names[label], compared[label])),
        ),
    )


def _untestable(names: Sequence[str], testable: Sequence[bool]) -> str:
    """Return a sentence about the classes whose test cannot reach significance."""
    left_out = [name.replace("_", " ") for name, tested in zip(names, testable, strict=True) if not tested]
    return f" Not testable alone, because of too few galaxies: {', '.join(left_out)}." if left_out else ""


def _of_class(table: pa.Table, label: int) -> pa.Table:
    return table.filter(pc.equal(table["label"], label))


def _statement(class_name: str, measure: Comparison) -> Statement:
    way = "high" if measure.percentile > 50 else "low"
    number = "the prototype" if measure.num_prototypes == 1 else f"the mean of {measure.num_prototypes} prototypes"
    text = (
        f"The {MEASURES[measure.name].title} of {number} of {class_name.replace('_', ' ')} is {way} for the class: its percentile "
        "among the galaxies"
    )
    ends = measure.percentile, measure.percentile_low, measure.percentile_high
    return Statement(text, *ends, measure.num_galaxies, measure.p_value)


def _scatter(class_name: str, compared: Sequence[Comparison]) -> list[Statement]:
    """Return how far single prototypes scatter; nothing where no measure is known.

    The measures of a prototype depend on each other, so there is no interval.
    """
    tested = [measure for measure in compared if measure.p_value is not None]
    number = sum(measure.num_prototypes for measure in tested)
    if not number:
        return []
    share = 100 * sum(measure.num_outside for measure in tested) / number
    text = (
        f"Values of single prototypes of {class_name.replace('_', ' ')} outside the 2.5 to 97.5 % range of their class, in "
        "percent of all measures; 5 are expected of galaxies, n counts prototypes"
    )
    return [Statement(text, share, math.nan, math.nan, max(measure.num_prototypes for measure in tested))]


def _comparison_table(names: Sequence[str], compared: dict[int, list[Comparison]]) -> SectionTable:
    rows = [
        (
            names[label], measure.name, measure.value, measure.median, measure.low, measure.high,
            measure.percentile, measure.percentile_low, measure.percentile_high,
            measure.num_prototypes, measure.num_outside, measure.num_galaxies, measure.p_value,
        )
        for label, measures in compared.items()
        for measure in measures
    ]  # fmt: skip
    caption = "Prototypes beside the galaxies of their class."
    return SectionTable.of_rows(KEY, caption, rows, COMPARED, shown=False)


def _flag_table(names: Sequence[str], of_prototypes: Sequence[pa.Table], others: Sequence[pa.Table]) -> SectionTable:
    rows = []
    for label, class_name in enumerate(names):
        for what, table in (("galaxies", others[label]), ("prototypes", of_prototypes[label])):
            flags = table[FLAG].to_numpy()
            reasons = [reason for reason, flag in zip(table[REASON].to_pylist(), flags, strict=True) if flag > 1]
            good, suspect, not_measured = (int((flags == flag).sum()) for flag in (0, 1, NOT_MEASURED))
            bad = int(((flags > 1) & (flags < NOT_MEASURED)).sum())
            bad_sersic = int((table[SERSIC_FLAG].to_numpy() > 0).sum())
            reason = max(sorted(set(reasons)), key=reasons.count, default="")
            rows.append((class_name, what, len(table), good, suspect, bad, not_measured, bad_sersic, reason))
    return SectionTable.of_rows("morphology_flags", "Flags of the structural measures.", rows, FLAGS)


def _profile_table(inputs: AnalysisInputs, prototypes: Sequence[pa.Table], others: Sequence[pa.Table]) -> SectionTable:
    radii, scale, parts = ring_centres(), half_frame_r90(inputs), []
    for label, class_name in enumerate(inputs.class_names):
        for name in PROFILES:
            low, median, high, count = band(profiles_of(others[label], name))
            parts.append(
                pa.table(
                    {
                        "class": [class_name] * len(radii),
                        "profile": [name] * len(radii),
                        "radius": radii,
                        "radius_r90": radii * (np.nan if scale is None else scale),
                        "median": median,
                        "p16": low,
                        "p84": high,
                        "n": count.astype(np.int64),
                        "prototypes": _mean_profile(profiles_of(prototypes[label], name)),
                    }
                )
            )
    caption = "Profiles of prototypes and galaxies."
    return SectionTable("morphology_profiles", caption, pa.concat_tables(parts), PROFILE_TABLE, shown=False)


def _mean_profile(profiles_SR: np.ndarray) -> np.ndarray:
    known_SR = np.isfinite(profiles_SR)
    count_R = known_SR.sum(0)
    sums_R = np.where(known_SR, profiles_SR, 0).sum(0)
    return np.divide(sums_R, count_R, out=np.full(len(sums_R), np.nan), where=count_R > 0)


def _measured_table(name: str, caption: str, names: Sequence[str], table: pa.Table) -> SectionTable:
    columns = {column: table[column] for column in ("object_id", *MEASURES, *FURTHER, FLAG, SERSIC_FLAG, REASON)}
    rows = pa.table({"class": pa.array(names).take(table["label"]), **columns})
    quantities = (
        Quantity("class", "class"),
        Quantity("object_id", "the galaxy, or the prototype in the order of the distilled set"),
        *(Quantity(name, measure.description, measure.unit) for name, measure in (MEASURES | FURTHER).items()),
        Quantity(FLAG, "statmorph's flag: 0 good, 1 suspect, 2 bad, 4 not measured"),
        Quantity(SERSIC_FLAG, "statmorph's flag of the Sérsic fit: 0 good, 1 bad, 4 not measured"),
        Quantity(REASON, "statmorph's warnings for a flagged picture"),
    )
    return SectionTable(name, caption, rows, quantities, shown=False)


def half_frame_r90(inputs: AnalysisInputs) -> float | None:
    """Return half the picture side in Petrosian R90; None if the survey lacks it."""
    frame = getattr(inputs.plan.config.survey, "frame_r90", None)
    return None if frame is None else float(frame) * inputs.curated.summary.crop_fraction / 2


def _profile_figure(
    inputs: AnalysisInputs, of_prototypes: Sequence[pa.Table], others: Sequence[pa.Table]
) -> SectionFigure:
    panels: dict[str, dict[str, ProfilePanel]] = {}
    for label, class_name in enumerate(inputs.class_names):
        panels[class_name] = {}
        for name in DRAWN_PROFILES:
            low, median, high, _ = band(profiles_of(others[label], name))
            panels[class_name][name] = ProfilePanel(low, median, high, profiles_of(of_prototypes[label], name))
    scale = half_frame_r90(inputs)
    radius = "radius along the major axis, as a fraction of the half-frame"
    if scale is not None:
        radius += f" (1 = {scale:.3g} Petrosian R90)"
    titles = {
        "brightness_profile": "brightness",
        "red_green_profile": "red-green [mag]",
        "green_blue_profile": "green-blue [mag]",
        "m2_profile": "m = 2 amplitude",
    }
    return SectionFigure(
        "morphology_profiles",
        f"Radial profiles of {len(panels)} classes: brightness, two colours and the m = 2 amplitude, prototypes over "
        "the median and the 16 to 84 % band of galaxies",
        "Profiles of prototypes over the median and band of the training galaxies of their class. Brightness and colours "
        "are measured in ellipses, m = 2 in circles. Rings without light are left out.",
        profile_chart(ring_centres(), panels, titles, radius),
    )


def _structure_figures(
    names: Sequence[str], of_prototypes: Sequence[pa.Table], others: Sequence[pa.Table], galaxies: pa.Table
) -> tuple[SectionFigure, SectionFigure]:
    values = {
        name: {
            class_name: ClassValues(
                values_of(others[label], name)[is_valid(others[label], name)],
                values_of(of_prototypes[label], name),
                is_valid(of_prototypes[label], name),
            )
            for label, class_name in enumerate(names)
        }
        for name in MEASURES
    }
    titles = {name: measure.title for name, measure in MEASURES.items()}
    clouds = {name: np.where(is_valid(galaxies, name), values_of(galaxies, name), np.nan) for name in MEASURES}
    return (
        SectionFigure(
            "morphology_measures",
            f"{len(titles)} measures of prototypes over the ranges of the galaxies of {len(names)} classes",
            "Measures of prototypes over the ranges of the galaxies of their class. Open markers are flagged as invalid.",
            measure_chart(values, titles),
        ),
        SectionFigure(
            "morphology_structure",
            "Prototypes over the cloud of galaxies in planes of two structural measures",
            "Prototypes over the cloud of all measured galaxies. Open markers are flagged as invalid.",
            structure_chart(PLANES, values, titles, clouds),
        ),
    )
