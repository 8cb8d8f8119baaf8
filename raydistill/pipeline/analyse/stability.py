"""The section about stability: which prototypes look the same in another distillation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from raydistill.analysis.drawing import DIVERGING
from raydistill.analysis.interpretation_charts import heat_map, picture_rows
from raydistill.analysis.sections import SIGNIFICANCE, Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.artifacts.distilled import DistilledSet
from raydistill.audit.testing import holm
from raydistill.interpretation.stability import (
    ClassRecurrence,
    Ensemble,
    align_sets,
    recurrence_of_classes,
    similarity_of_classes,
)
from raydistill.pipeline.analyse.inputs import AnalysisInputs
from raydistill.pipeline.analyse.repeats import repeated_sets

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TITLE = "Stability"
SHOWN = 5  # sets in the figure
FEWEST = 3  # sets, for an interval
CLASSES = (
    Quantity("class", "class of the prototypes"),
    Quantity("same", "mean similarity to prototypes of the class in other distillations"),
    Quantity("different", "mean similarity to prototypes of other classes in other distillations"),
    Quantity("excess", "same minus different"),
    Quantity("low", "lower end of its 95 % interval (jackknife over distillations, Student's t)"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "distillations"),
    Quantity("p_value", "one-sided, of no excess; adjusted for all classes; unknown for two distillations"),
    Quantity("recurs", "whether the excess is significant"),
    Quantity("deviation", "standard deviation over distillations, mean over pixels and channels; black 0, white 1"),
    Quantity("recurring_pixels", "share of the pixels whose contrast recurs at a false discovery rate of 0.05"),
)


class Pixels(NamedTuple):
    """The contrast of the prototypes by pixel.

    Attributes
    ----------
    ratio_SHW
        float64, mean contrast over its standard error.
    recurs_SHW
        bool, at a false discovery rate of 0.05 within a prototype.
    """

    ratio_SHW: Floats
    recurs_SHW: Bools


def stability_section(inputs: AnalysisInputs) -> Section:
    """Return the section: prototypes of repeated distillations."""
    plan = inputs.plan
    count = plan.config.analyse.repeats
    if not count:
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
    sets = [inputs.distilled, *repeated_sets(plan, count)]
    pictures = [one.selected.pixels().double().numpy() for one in sets]
    labels_S = inputs.prototype_labels
    ensemble = align_sets(pictures, labels_S)
    similarity = similarity_of_classes(pictures, labels_S)
    classes = recurrence_of_classes(similarity)
    p_values = holm(np.array([one.p_value for one in classes])).tolist() if len(sets) >= FEWEST else None
    pixels = recurring_pixels(ensemble)
    return Section(
        "stability",
        TITLE,
        (
            f"The distillation was repeated on the same experts with {count} other {'seed' if count == 1 else 'seeds'}, which "
            "decide the initial images, the order of segments, and the augmentation. Prototypes are compared in the best "
            "of eight flips and turns. Similarity is the correlation of their differences from the mean prototype.",
            "A class recurs if its prototypes are more similar to those of the class in other distillations than to those of "
            "other classes. A structure that does not recur is no property of the class. Other experts and networks were not "
            "tried.",
        ),
        tables=(_table(inputs, classes, p_values, ensemble, pixels),),
        figures=(_pictures(inputs, sets, ensemble, pixels), _matrix(inputs, similarity)),
        statements=tuple(
            _statement(inputs, label, one, None if p_values is None else p_values[label])
            for label, one in enumerate(classes)
        ),
    )  # fmt: skip


def recurring_pixels(ensemble: Ensemble) -> Pixels:
    """Return which pixels have the same contrast in all sets, by Student's t test; none for fewer than three sets."""
    ratio_SHW = ensemble.signal_to_noise()
    num_sets = len(ensemble.pictures_RSHWC)
    if num_sets < FEWEST:
        return Pixels(ratio_SHW, np.zeros(ratio_SHW.shape, bool))
    p_SHW = 2 * stats.t.sf(np.abs(ratio_SHW), num_sets - 1)
    adjusted = stats.false_discovery_control(p_SHW.reshape(len(p_SHW), -1), axis=1)
    return Pixels(ratio_SHW, (adjusted < SIGNIFICANCE).reshape(p_SHW.shape))


def _table(
    inputs: AnalysisInputs, classes: list[ClassRecurrence], p_values: list[float] | None, ensemble: Ensemble, pixels: Pixels
) -> SectionTable:  # fmt: skip
    deviation_S = ensemble.deviation.mean(axis=(1, 2, 3))
    rows = []
    for label, one in enumerate(classes):
        own = inputs.prototype_labels == label
        p_value = None if p_values is None else p_values[label]
        rows.append(
            (inputs.class_names[label], one.same, one.different, *one.excess, one.n, p_value,
             None if p_value is None else p_value < SIGNIFICANCE, float(deviation_S[own].mean()),
             None if p_values is None else float(pixels.recurs_SHW[own].mean()))
        )  # fmt: skip
    types = {"p_value": pa.float64(), "recurs": pa.bool_(), "recurring_pixels": pa.float64()}
    columns = {
        own.name: pa.array([row[number] for row in rows], types.get(own.name)) for number, own in enumerate(CLASSES)
    }
    return SectionTable(
        "stability", "Similarity of prototypes over repeated distillations.", pa.table(columns), CLASSES
    )


def _pictures(inputs: AnalysisInputs, sets: list[DistilledSet], ensemble: Ensemble, pixels: Pixels) -> SectionFigure:
    first_of_class = np.arange(len(inputs.class_names)) * inputs.distilled.images_per_class
    shown = range(min(len(sets), SHOWN))
    largest = max(float(np.nanmax(ensemble.deviation.mean(axis=3))), 1e-6)
    rows = []
    for name, number in zip(inputs.class_names, first_of_class, strict=True):
        deviation_HW = ensemble.deviation[number].mean(axis=2) / largest
        contrast = DIVERGING(0.5 + 0.5 * np.sign(pixels.ratio_SHW[number]) * pixels.recurs_SHW[number])[..., :3]
        rows.append(
            (name.replace("_", " "), [*ensemble.pictures_RSHWC[: len(shown), number], ensemble.mean[number],
             np.repeat(deviation_HW[..., None], 3, axis=2), contrast])
        )  # fmt: skip
    titles = [*(f"set {number + 1}" for number in shown), "mean", "deviation", "recurs"]
    return SectionFigure(
        "stability_prototypes",
        f"The first prototype of {len(rows)} classes in {len(sets)} distillations, with mean and deviation.",
        f"The first prototype of each class in {len(shown)} of {len(sets)} distillations, in a common pose; their mean; "
        f"their standard deviation (white: {largest:.2g}); and the pixels that are brighter (orange) or fainter (blue) "
        "than the mean prototype in all of them. White there: the contrast does not recur.",
        picture_rows(rows, titles),
    )


def _matrix(inputs: AnalysisInputs, similarity_RRKK: Floats) -> SectionFigure:
    between = ~np.eye(len(similarity_RRKK), dtype=bool)
    names = [one.replace("_", " ") for one in inputs.class_names]
    return SectionFigure(
        "stability_similarity",
        f"Mean similarity of the prototypes of {len(names)} classes in different distillations.",
        "Mean similarity of the prototypes of two classes in different distillations; a class that recurs has its largest "
        "number on the diagonal.",
        heat_map(similarity_RRKK[between].mean(axis=0), names, names, lowest=-1.0),
    )


def _statement(inputs: AnalysisInputs, label: int, one: ClassRecurrence, p_value: float | None) -> Statement:
    name = inputs.class_names[label].replace("_", " ")
    if p_value is None:
        text = f"Similarity of the prototypes of {name} to their class in another distillation, minus that to other classes"
    elif p_value < SIGNIFICANCE:
        text = (
            f"Prototypes of {name} recur; similarity to their class in other distillations, minus that to other classes"
        )
    else:
        text = f"Prototypes of {name} do not recur; similarity to their class, minus that to other classes"
    return Statement(text, *one.excess, one.n, p_value)
