"""The section about occlusion: which galaxy parts decide the experts' prediction."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from raydistill.seeding import fold_in
from raydistill.stages.analyse.inputs import AnalysisInputs
from raydistill.stages.analyse.report.charts import banded_curves, picture_rows
from raydistill.stages.analyse.science.counterfactuals import (
    area,
    bright_first,
    centre_first,
    first_to_last,
    occlusion_order,
    patch_means,
    random_order,
    replacement_curve,
)
from raydistill.stages.analyse.science.occlusion import (
    ANNULI,
    FILLS,
    NUM_CONTROLS,
    PATCHES_PER_SIDE,
    Classifier,
    Loss,
    completeness_losses,
    fills_of,
    occlude,
    patch_grid,
    ring_masks,
)
from raydistill.stages.analyse.science.stability import contrasts, poses
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.stages.experts.artifact import TrajectoryStore
from raydistill.stages.experts.classify.classifier import expert_network
from raydistill.statistics.intervals import Interval, mean_interval
from raydistill.statistics.resampling import Change, bootstrap_mean, mean_change
from raydistill.statistics.testing import holm

Floats = npt.NDArray[np.float64]
Estimates = tuple[Floats, Floats, Floats]  # with both ends of their intervals

TITLE = "Occlusion"
MAX_OF_CLASS = 50  # validation galaxies of a class whose rings are hidden
MAX_OF_CLASS_PATCHES = 12  # validation galaxies of a class whose patches are deleted and inserted
POINTS = 6  # of a deletion or insertion curve
RANDOM = "random"
LOSSES = (
    Quantity("pictures", "galaxies of the validation split, or prototypes"),
    Quantity("class", "class of the pictures; 'all classes' is the mean over classes"),
    Quantity("ring", "radii of the hidden ring, in units of half the frame's side"),
    Quantity("fill", "values that replace its pixels: the mean of their ring, or the mean picture of the class"),
    Quantity("before", "completeness of galaxies, or the experts' mean probability of a prototype's class"),
    Quantity("loss", "the fall of that number when the ring is hidden"),
    Quantity("control", "its mean fall when random patches with as many pixels are hidden"),
    Quantity("excess", "loss minus control"),
    Quantity("low", "lower end of its 95 % interval (paired bootstrap over galaxies; Student's t over experts)"),
    Quantity("high", "upper end of its 95 % interval"),
    Quantity("n", "galaxies, or experts"),
    Quantity("p_value", "two-sided, of no excess; adjusted for all statements of the section; galaxies alone"),
)
AREAS = (
    Quantity("order", "order in which patches are replaced"),
    Quantity("curve", "deletion (a smaller area means a better order) or insertion (a larger one does)"),
    Quantity("area", "mean area under the curve of the probability of the galaxy's class"),
    Quantity("low", "lower end of its 95 % bootstrap interval"),
    Quantity("high", "upper end of its 95 % bootstrap interval"),
    Quantity("gain", "how much better the area is than that of the random order of the same galaxies"),
    Quantity("gain_low", "lower end of its 95 % interval (paired bootstrap)"),
    Quantity("gain_high", "upper end of its 95 % interval"),
    Quantity("n", "galaxies"),
    Quantity("p_value", "two-sided, of no gain (Wilcoxon); adjusted for all statements of the section"),
)


class Sample(NamedTuple):
    """Validation galaxies float32 [N, H, W, 3] and their classes int64 [N].

    Black is 0 and white is 1.
    """

    pictures_NHWC: Tensor
    labels_N: Tensor

    def head(self, count: int) -> Sample:
        """Return the first galaxies of each class."""
        rows = torch.cat([(self.labels_N == label).nonzero()[:count, 0] for label in self.labels_N.unique()])
        return Sample(self.pictures_NHWC[rows], self.labels_N[rows])


class Ranking(NamedTuple):
    """The areas of an order of patches, beside those of the random order."""

    order: str
    curve: str
    area: Interval
    gain: Change


class PrototypeLoss(NamedTuple):
    """The loss of the experts' probability of a prototype's class with a ring hidden."""

    label: int
    ring: str
    fill: str
    before: float
    loss: float
    control: float
    excess: Interval
    n: int


def occlusion_section(inputs: AnalysisInputs) -> Section:
    """Return the section: losses by ring, and deletion and insertion of patches."""
    if inputs.trajectories is None:
        return Section("occlusion", TITLE, missing="there are no experts; run 'raydistill experts CONFIG'")
    sample = validation_sample(inputs)
    if not len(sample.labels_N):
        return Section("occlusion", TITLE, missing="the validation split is empty; enlarge its part in curate.split")
    describe = inputs.describer(inputs.trajectories)

    def classify(pictures_NHWC: Tensor) -> Tensor:
        pixels = (pictures_NHWC.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return torch.from_numpy(describe(pixels, "changed galaxies").probabilities_NK)

    means_KHWC = torch.from_numpy(inputs.class_means)
    seed = fold_in(inputs.spec.seed, "occlusion")
    losses = completeness_losses(classify, sample.pictures_NHWC, sample.labels_N, means_KHWC, seed)
    of_prototypes = prototype_losses(inputs, inputs.trajectories, means_KHWC, seed)
    curves, rankings = patch_rankings(inputs, sample.head(MAX_OF_CLASS_PATCHES), means_KHWC, classify, seed)
    tested = [loss for loss in losses if loss.label is not None]
    p_values = holm(np.array([*(loss.excess.p_value for loss in tested), *(curve.gain.p_value for curve in rankings)]))
    by_loss = dict(zip(map(id, tested), p_values.tolist(), strict=False))
    rank_p = p_values[len(tested) :].tolist()
    return Section(
        "occlusion",
        TITLE,
        (
            f"A ring of each picture is hidden, and the experts classify it again. The {len(ANNULI)} rings have equal "
            "areas and share out the circle that touches the frame; radii are fractions of half its side. A larger hidden "
            f"area costs more wherever it lies, so each ring is compared with {NUM_CONTROLS} controls: random patches of the "
            "circle with as many pixels. The excess is the loss of the ring minus that of its controls.",
            "Pixels are filled with the mean colour of their ring, which hides the structure along the ring and keeps the "
            "profile, or with the mean picture of the class, which hides only what differs from the class. Both leave "
            "evidence of the class, so a loss is a lower limit.",
            "Deletion replaces patches by those of the mean training galaxy, insertion brings them back (RISE, "
            "arXiv:1806.07421). The order 'prototype' starts where the prototypes of the class differ most from the others.",
        ),
        tables=(
            _loss_table(inputs, losses, by_loss, of_prototypes),
            _area_table(rankings, rank_p),
        ),
        figures=(
            _example_figure(inputs, sample),
            _loss_figure(inputs, losses, of_prototypes),
            _curve_figure(curves, len(sample.head(MAX_OF_CLASS_PATCHES).labels_N)),
        ),
        statements=(
            *(_loss_statement(inputs, loss, by_loss[id(loss)]) for loss in tested),
            *(_rank_statement(ranking, p) for ranking, p in zip(rankings, rank_p, strict=True)),
        ),
    )  # fmt: skip


def validation_sample(inputs: AnalysisInputs) -> Sample:
    """Return up to `MAX_OF_CLASS` validation galaxies of each class, in random order."""
    split = inputs.curated.load("validation")
    rng = np.random.default_rng(fold_in(inputs.spec.seed, "occlusion", "galaxies"))
    rows = torch.from_numpy(rng.permutation(len(split.labels_N)))
    return Sample(split.images_NHWC[rows].float() / 255, split.labels_N[rows]).head(MAX_OF_CLASS)


def prototype_losses(
    inputs: AnalysisInputs, store: TrajectoryStore, means_KHWC: Tensor, seed: int
) -> list[PrototypeLoss]:
    """Return the losses of the prototypes; the experts are the sample."""
    labels_S = inputs.distilled.labels
    pixels_SHWC = inputs.distilled.selected.pixels()

    def probability(pictures_SHWC: Tensor) -> Floats:
        return expert_probabilities(inputs, store, pictures_SHWC, labels_S)

    before_ES = probability(pixels_SHWC)
    of_prototypes = []
    for ring, (ring_HW, controls_CHW) in zip(ANNULI, ring_masks(pixels_SHWC, seed), strict=True):
        for fill, fill_SHWC in fills_of(pixels_SHWC, means_KHWC[labels_S]).items():
            after_ES = probability(occlude(pixels_SHWC, ring_HW, fill_SHWC))
            control_ES = np.mean([probability(occlude(pixels_SHWC, mask, fill_SHWC)) for mask in controls_CHW], axis=0)
            for label in range(len(inputs.class_names)):
                before_E, after_E, control_E = (
                    values_ES[:, (labels_S == label).numpy()].mean(axis=1)
                    for values_ES in (before_ES, after_ES, control_ES)
                )
                loss, control = float((before_E - after_E).mean()), float((before_E - control_E).mean())
                excess = mean_interval(control_E - after_E)
                of_prototypes.append(
                    PrototypeLoss(label, ring.name, fill, float(before_E.mean()), loss, control, excess, len(after_E))
                )
    return of_prototypes


@torch.inference_mode()
def expert_probabilities(
    inputs: AnalysisInputs, store: TrajectoryStore, pictures_SHWC: Tensor, labels_S: Tensor
) -> Floats:
    """Return each expert's probability of the class of each picture, float64 [E, S]."""
    normalised = inputs.curated.normalisation.apply(pictures_SHWC * 255)
    network = expert_network(store, inputs.curated, inputs.plan.config.networks)
    logits_ESK = torch.stack([network(theta_P, normalised).double() for theta_P in store.ends()])
    return logits_ESK.softmax(dim=2).gather(2, labels_S[None, :, None].expand(len(logits_ESK), -1, 1))[..., 0].numpy()


def prototype_importance(inputs: AnalysisInputs) -> Tensor:
    """Return the contrast of each class's prototypes by pixel, float64 [K, H, W].

    The contrast is how much they differ from the other prototypes. The mean over poses is
    taken, because the orientation of a prototype is that of no galaxy; of aligned galaxies,
    only those that keep the major axis horizontal count.
    """
    pixels = inputs.distilled.selected.pixels().double().numpy()
    turned = poses(contrasts(pixels))
    turned = turned[::2] if inputs.curated.summary.aligned else turned
    map_SHW = np.abs(turned).mean(axis=(0, 4))
    classes = range(len(inputs.class_names))
    return torch.from_numpy(np.stack([map_SHW[inputs.prototype_labels == label].mean(axis=0) for label in classes]))


def patch_rankings(
    inputs: AnalysisInputs, sample: Sample, means_KHWC: Tensor, classify: Classifier, seed: int
) -> tuple[dict[str, dict[str, Floats]], list[Ranking]]:
    """Return curves [N, points] by panel and order, and areas beside the random order."""
    pictures, labels = sample
    height, width = pictures.shape[1:3]
    patches_HW = patch_grid(height, width, max(1, round(min(height, width) / PATCHES_PER_SIDE)))
    replacement = means_KHWC[labels.unique()].mean(dim=0).expand_as(pictures)
    importance_NHW = prototype_importance(inputs)[labels]
    orders = {
        RANDOM: random_order(len(labels), int(patches_HW.max()) + 1, seed),
        "centre first": centre_first(len(labels), patches_HW),
        "bright first": bright_first(pictures, patches_HW),
        "prototype": first_to_last(patch_means(importance_NHW, patches_HW)),
        "occlusion of single patches": occlusion_order(classify, pictures, replacement, labels, patches_HW),
    }
    curves: dict[str, dict[str, Floats]] = {"deletion": {}, "insertion": {}}
    for name, order in orders.items():
        arguments = labels, patches_HW, order, POINTS
        curves["deletion"][name] = replacement_curve(classify, pictures, replacement, *arguments)
        curves["insertion"][name] = replacement_curve(classify, replacement, pictures, *arguments)
    rankings = []
    for curve, by_order in curves.items():
        baseline = area(by_order[RANDOM])
        for name, values in by_order.items():
            areas, sign = area(values), 1 if curve == "deletion" else -1
            if name != RANDOM:
                gain = mean_change(sign * baseline, sign * areas, fold_in(seed, name, curve))
                rankings.append(Ranking(name, curve, bootstrap_mean(areas, fold_in(seed, name, curve)), gain))
    return curves, rankings


def _loss_table(
    inputs: AnalysisInputs, losses: list[Loss], p_values: dict[int, float], of_prototypes: list[PrototypeLoss]
) -> SectionTable:
    names = inputs.class_names
    rows: list[tuple[object, ...]] = [
        ("galaxies", "all classes" if loss.label is None else names[loss.label], loss.ring, loss.fill, loss.before,
         loss.loss.interval.value, loss.control, *loss.excess.interval, loss.excess.n, p_values.get(id(loss)))
        for loss in losses
    ]  # fmt: skip
    rows += [
        (
            "prototypes",
            names[row.label],
            row.ring,
            row.fill,
            row.before,
            row.loss,
            row.control,
            *row.excess,
            row.n,
            None,
        )
        for row in of_prototypes
    ]
    caption = "Loss of completeness when a ring is hidden, and its excess over random patches of the same area."
    return SectionTable.of_rows("occlusion", caption, rows, LOSSES, {"p_value": pa.float64()})


def _area_table(rankings: list[Ranking], p_values: list[float]) -> SectionTable:
    rows = [
        (ranking.order, ranking.curve, *ranking.area, *ranking.gain.interval, ranking.gain.n, p)
        for ranking, p in zip(rankings, p_values, strict=True)
    ]
    caption = "Area under the curves of deletion and insertion, and the gain over a random order of patches."
    return SectionTable.of_rows("deletion_insertion", caption, rows, AREAS)


def _example_figure(inputs: AnalysisInputs, sample: Sample) -> SectionFigure:
    one_each = sample.head(1)
    pictures = one_each.pictures_NHWC
    means = fills_of(pictures, pictures)["ring mean"]
    (first, *_, last) = ring_masks(pictures, 0)
    shown = (first.ring_HW, last.ring_HW, last.controls_CHW[0])
    changed = [pictures, *(occlude(pictures, mask, means) for mask in shown)]
    rows = [
        (inputs.class_names[label].replace("_", " "), [variant[number].numpy() for variant in changed])
        for number, label in enumerate(one_each.labels_N.tolist())
    ]
    return SectionFigure(
        "occlusion_examples",
        f"A validation galaxy of each of {len(rows)} classes, unchanged, without the centre, without the outermost ring, "
        "and without random patches.",
        "A validation galaxy of each class, and the same galaxy with the innermost ring, the outermost ring, and random "
        "patches of the same area filled with the mean colour of their rings.",
        picture_rows(rows, ["galaxy", f"no {ANNULI[0].name}", f"no {ANNULI[-1].name}", "control"]),
    )  # fmt: skip


def _loss_figure(inputs: AnalysisInputs, losses: list[Loss], of_prototypes: list[PrototypeLoss]) -> SectionFigure:
    rings = [annulus.name for annulus in ANNULI]
    curves: dict[str, dict[str, Estimates]] = {}
    for label, name in enumerate(inputs.class_names):
        lines = {}
        for fill in FILLS:
            of_ring = {loss.ring: loss.excess.interval for loss in losses if (loss.label, loss.fill) == (label, fill)}
            if of_ring:
                lines[f"galaxies, {fill}"] = _estimates([of_ring[ring] for ring in rings])
        of_class = [loss for loss in of_prototypes if (loss.label, loss.fill) == (label, FILLS[0])]
        lines[f"prototypes, {FILLS[0]}"] = _estimates([loss.excess for loss in of_class])
        shown = max((loss.excess.n for loss in losses if loss.label == label), default=0)
        curves[f"{name} (n = {shown})"] = lines
    middle = np.array([math.sqrt((annulus.inner**2 + annulus.outer**2) / 2) for annulus in ANNULI])
    return SectionFigure(
        "occlusion",
        f"Excess loss of {len(curves)} classes by the radius of the hidden ring.",
        "Loss of completeness of validation galaxies, and of the experts' probability of the prototypes' class, when a "
        "ring is hidden, minus that of random patches of the same area. Bands are 95 % intervals over the n galaxies of a "
        "class; a single galaxy has none.",
        banded_curves(curves, middle, ("radius, in units of half the frame's side", "loss minus control")),
    )


def _estimates(intervals: list[Interval]) -> Estimates:
    values, low, high = np.array(intervals).T
    return values, low, high


def _curve_figure(curves: dict[str, dict[str, Floats]], count: int) -> SectionFigure:
    drawn = {
        f"{panel} (n = {count})": {name: _band(values_NP) for name, values_NP in by_order.items()}
        for panel, by_order in curves.items()
    }
    return SectionFigure(
        "deletion_insertion",
        "Probability of the class while patches of galaxies are deleted and inserted in several orders.",
        "Mean probability of a galaxy's class while its patches are replaced by those of the mean galaxy (deletion), and "
        "while they come back (insertion). Bands are 95 % bootstrap intervals over galaxies.",
        banded_curves(
            drawn, np.linspace(0, 1, POINTS + 1), ("share of the patches", "probability of the class"), RANDOM, (0, 1)
        ),
    )


def _band(curves_NP: Floats) -> Estimates:
    """Return the mean curve with both ends of its band."""
    mean, low, high = np.array([bootstrap_mean(column, 0) for column in curves_NP.T]).T
    return mean, low, high


def _loss_statement(inputs: AnalysisInputs, loss: Loss, p_value: float) -> Statement:
    assert loss.label is not None
    name = inputs.class_names[loss.label].replace("_", " ")
    text = f"Hiding the ring {loss.ring} ({loss.fill}) of {name} costs more completeness than hiding random patches, excess"
    return Statement(text, *loss.excess.interval, loss.excess.n, p_value)


def _rank_statement(ranking: Ranking, p_value: float) -> Statement:
    if ranking.curve == "deletion":
        text = f"Deleting patches in the order '{ranking.order}' lowers the probability sooner than a random order"
    else:
        text = f"Inserting patches in the order '{ranking.order}' raises the probability sooner than a random order"
    text += ", gain of area"
    return Statement(text, *ranking.gain.interval, ranking.gain.n, p_value)
