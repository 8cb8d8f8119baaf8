"""The section about stability: what recurs in repeated distillations.

What is compared is the residual, prototype minus initial image. Prototypes themselves are alike in
all distillations that start from the same class means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from raydistill.distillation.residual import residual_of
from raydistill.stages.analyse.inputs import AnalysisInputs
from raydistill.stages.analyse.prototypes.gallery import Repeats, distil_repeats, plan_repeats
from raydistill.stages.analyse.report.charts import diverging_picture, heat_map, picture_rows
from raydistill.stages.analyse.science.stability import (
    ClassRecurrence,
    Ensemble,
    align_sets,
    recurrence_of_classes,
    similarity_of_classes,
)
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.statistics.testing import SIGNIFICANCE, holm

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

TITLE = "Stability"
SHOWN = 5  # sets in the figure
FEWEST = 3  # sets, for an interval
LARGEST_RATIO = 5.0  # signal-to-noise of full colour
DESCRIPTIONS = {
    "seeds": "Other seeds decide the initial images, the order of segments, and the augmentation; the experts are the same.",
    "experts": "Other experts are disjoint groups of the experts, each with a seed of its own.",
    "galaxies": "Other galaxies are disjoint parts of the training galaxies, each with experts of its own.",
    "permuted labels": "Permuted labels are a control: the same parts, with labels that say nothing; what recurs there is no "
    "property of a class.",
    "networks": "Other networks have their own experts, and a seed of their own.",
}
CLASSES = (
    Quantity(
        "varied", "what differs between the distillations: seeds, experts, galaxies or networks, with a seed each"
    ),
    Quantity("class", "class of the prototypes"),
    Quantity("same", "mean similarity of residuals to those of the class in other distillations"),
    Quantity("different", "mean similarity of residuals to those of other classes in other distillations"),
    Quantity("excess", "same minus different"),
    Quantity("low", "lower end of its 95 % interval (jackknife over distillations, Student's t)"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "distillations"),
    Quantity("p_value", "one-sided, of no excess; adjusted for all classes; unknown for two distillations"),
    Quantity("recurs", "whether the excess is significant"),
    Quantity("size", "root mean square of the mean residual; black 0, white 1"),
    Quantity("deviation", "standard deviation over distillations, mean over pixels and channels; black 0, white 1"),
    Quantity("recurring_pixels", "share of the pixels whose residual recurs at a false discovery rate of 0.05"),
)


class Pixels(NamedTuple):
    """The residual of the prototypes by pixel.

    Attributes
    ----------
    ratio_SHW
        float64, mean residual over its standard error.
    recurs_SHW
        bool, at a false discovery rate of 0.05 within a prototype.
    """

    ratio_SHW: Floats
    recurs_SHW: Bools


@dataclass(frozen=True)
class Comparison:
    """Sets that differ in one respect, and how similar their prototypes are.

    Attributes
    ----------
    repeats
        How the sets differ.
    ensemble
        Their residuals in a common pose.
    similarity_RRKK
        float64, of the classes of every two sets.
    classes
        The recurrence of each class.
    pixels
        The recurrence of each pixel.
    """

    repeats: Repeats
    ensemble: Ensemble
    similarity_RRKK: Floats
    classes: list[ClassRecurrence]
    pixels: Pixels

    @classmethod
    def of(cls, repeats: Repeats, sets: list[DistilledSet], labels_S: Ints) -> Comparison:
        """Compare the residuals of these sets.

        They are those of the last iterates: with permuted labels nothing learns, and the selected
        iterate is the initial one.
        """
        residuals = [distilled.residual(last=True).mean_SHWC for distilled in sets]
        ensemble = align_sets(residuals, labels_S)
        similarity = similarity_of_classes(residuals, labels_S)
        return cls(repeats, ensemble, similarity, recurrence_of_classes(similarity), recurring_pixels(ensemble))

    @property
    def has_intervals(self) -> bool:
        """Return whether there are enough sets for intervals and p-values."""
        return len(self.repeats.plans) >= FEWEST


def stability_section(inputs: AnalysisInputs) -> Section:
    """Return the section: prototypes of repeated distillations."""
    plan = inputs.plan
    repeats = plan_repeats(plan)
    if not repeats:
        reason = (
            "stability was not measured; set analyse.repeats=4 to distil four further sets with other seeds, each of "
            "which takes as long as the first one"
        )
        return Section("stability", TITLE, missing=reason)
    if inputs.trajectories is None:
        return Section("stability", TITLE, missing="there are no experts; run 'raydistill experts CONFIG'")
    if inputs.distilled.manifest.identity != plan.distilled.identity:
        reason = "the prototypes were not distilled by this config; analyse them with the config that distilled them"
        return Section("stability", TITLE, missing=reason)
    sets = distil_repeats(repeats)
    if any(made.counts != inputs.distilled.counts for of_repeat in sets for made in of_repeat):
        reason = (
            "parts of the galaxies have other proportions of the classes, so that their sets share the images otherwise"
        )
        return Section("stability", TITLE, missing=f"{reason}; set distill.allocation=equal")
    compared = [
        Comparison.of(repeat, made, inputs.prototype_labels) for repeat, made in zip(repeats, sets, strict=True)
    ]
    p_values = _adjusted(compared)
    return Section(
        "stability",
        TITLE,
        (
            "The distillation was repeated. " + " ".join(DESCRIPTIONS[repeat.varied] for repeat in repeats) + " The residual "
            "of a prototype is its last iterate minus the image with which its distillation began. Residuals are compared in the "
            "best of eight flips and turns. Similarity is the correlation of their differences from the mean residual.",
            "A class recurs if its residuals are more similar to those of the class in other distillations than to those of "
            "other classes. A structure that does not recur is not a property of the class." + _untried(repeats),
        ),
        tables=(_table(inputs, compared, p_values),),
        figures=tuple(figure for result in compared for figure in (_pictures(inputs, result), _matrix(inputs, result))),
        statements=tuple(
            _statement(inputs, result, label, p_value)
            for result, p_values_K in zip(compared, p_values, strict=True)
            for label, p_value in enumerate(p_values_K)
        ),
    )  # fmt: skip


def _untried(repeats: list[Repeats]) -> str:
    untried = [name for name in DESCRIPTIONS if name not in {repeat.varied for repeat in repeats}]
    return f" Not tried: other {', '.join(untried)}." if untried else ""


def _adjusted(compared: list[Comparison]) -> list[list[float | None]]:
    """Return each comparison's p-value per class, adjusted for all; None if unknown."""
    known = [result for result in compared if result.has_intervals]
    adjusted = iter(
        holm(np.array([recurrence.p_value for result in known for recurrence in result.classes])).tolist()
        if known
        else []
    )
    return [[next(adjusted) if result.has_intervals else None for _ in result.classes] for result in compared]


def recurring_pixels(ensemble: Ensemble) -> Pixels:
    """Return the pixels with the same residual in all sets, by Student's t test.

    With fewer than three sets there are none.
    """
    ratio_SHW = residual_of(ensemble.pictures_RSHWC).signal_to_noise_SHW
    num_sets = len(ensemble.pictures_RSHWC)
    if num_sets < FEWEST:
        return Pixels(ratio_SHW, np.zeros(ratio_SHW.shape, bool))
    p_SHW = 2 * stats.t.sf(np.abs(ratio_SHW), num_sets - 1)
    adjusted = stats.false_discovery_control(p_SHW.reshape(len(p_SHW), -1), axis=1)
    return Pixels(ratio_SHW, (adjusted < SIGNIFICANCE).reshape(p_SHW.shape))


def _table(inputs: AnalysisInputs, compared: list[Comparison], p_values: list[list[float | None]]) -> SectionTable:
    rows = []
    for result, adjusted in zip(compared, p_values, strict=True):
        deviation_S = result.ensemble.deviation.mean(axis=(1, 2, 3))
        for label, (recurrence, p_value) in enumerate(zip(result.classes, adjusted, strict=True)):
            of_class = inputs.prototype_labels == label
            rows.append(
                (result.repeats.varied, inputs.class_names[label], recurrence.same, recurrence.different, *recurrence.excess,
                 recurrence.n, p_value, None if p_value is None else p_value < SIGNIFICANCE,
                 float(np.sqrt((result.ensemble.mean[of_class] ** 2).mean())), float(deviation_S[of_class].mean()),
                 float(result.pixels.recurs_SHW[of_class].mean()) if result.has_intervals else None)
            )  # fmt: skip
    types = {"p_value": pa.float64(), "recurs": pa.bool_(), "recurring_pixels": pa.float64()}
    caption = "Similarity of residuals over repeated distillations."
    return SectionTable.of_rows("stability", caption, rows, CLASSES, types)


def _pictures(inputs: AnalysisInputs, result: Comparison) -> SectionFigure:
    first_of_class = inputs.distilled.first_rows
    num_sets, varied = len(result.repeats.plans), result.repeats.varied
    shown = min(num_sets, SHOWN)
    names = result.repeats.names[:shown]
    mean = result.ensemble.mean.mean(axis=3)
    largest = max(float(np.abs(mean).max()), 1e-6)
    rows = []
    for name, number in zip(inputs.class_names, first_of_class, strict=True):
        grey_RHW = result.ensemble.pictures_RSHWC[:shown, number].mean(axis=3)
        ratio_HW = result.pixels.ratio_SHW[number]
        sign_HW = np.sign(ratio_HW) * result.pixels.recurs_SHW[number]
        rows.append(
            (name.replace("_", " "), [*(diverging_picture(grey_HW / largest) for grey_HW in grey_RHW),
             diverging_picture(mean[number] / largest), diverging_picture(ratio_HW / LARGEST_RATIO), diverging_picture(sign_HW)])
        )  # fmt: skip
    return SectionFigure(
        f"stability_{varied.replace(' ', '_')}_residuals",
        f"The first residual of {len(rows)} classes for {num_sets} different {varied}, with mean and signal-to-noise.",
        f"What the distillation added to the initial image, for {shown} of {num_sets} different {varied}, in a common pose: "
        f"brighter in orange, fainter in blue, full colour at {largest:.2g} (white is 1). Then the mean over all, its "
        f"signal-to-noise (full colour at {LARGEST_RATIO:g}), and the pixels that recur. White there: the residual does not "
        "recur.",
        picture_rows(rows, [*(name.replace("-", "\n", 1) for name in names), "mean", "signal /\nnoise", "recurs"]),
    )


def _matrix(inputs: AnalysisInputs, result: Comparison) -> SectionFigure:
    between = ~np.eye(len(result.similarity_RRKK), dtype=bool)
    names = [name.replace("_", " ") for name in inputs.class_names]
    varied = result.repeats.varied
    return SectionFigure(
        f"stability_{varied.replace(' ', '_')}_similarity",
        f"Mean similarity of the residuals of {len(names)} classes for different {varied}.",
        f"Mean similarity of the residuals of two classes for different {varied}; a class that recurs has its largest "
        "number on the diagonal.",
        heat_map(result.similarity_RRKK[between].mean(axis=0), names, names, lowest=-1.0),
    )


def _statement(inputs: AnalysisInputs, result: Comparison, label: int, p_value: float | None) -> Statement:
    recurrence, varied = result.classes[label], result.repeats.varied
    name = inputs.class_names[label].replace("_", " ")
    difference = f"similarity to their class for other {varied}, minus that to other classes"
    if p_value is None:
        text = f"Residuals of {name}: {difference}"
    elif p_value < SIGNIFICANCE:
        text = f"Residuals of {name} recur with other {varied}; {difference}"
    else:
        text = f"It is not shown that residuals of {name} recur with other {varied}; {difference}"
    return Statement(text, *recurrence.excess, recurrence.n, p_value)
