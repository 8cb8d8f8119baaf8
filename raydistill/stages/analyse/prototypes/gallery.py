"""The section about the prototypes: gallery, differences of classes, table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import ray

from raydistill.artifacts.manifest import open_manifest
from raydistill.figures.pages import picture
from raydistill.galaxies.answers import describe_votes
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.lease import AlreadyBuilt, hold_lease
from raydistill.runtime.resources import choose_distill_cpus, ensure_schedulable
from raydistill.runtime.tasks import run_tasks
from raydistill.stages.analyse.inputs import AnalysisInputs, Pixels, to_bytes
from raydistill.stages.analyse.report.charts import difference_matrix, diverging_picture, picture_rows
from raydistill.stages.analyse.report.page import GalleryRow, Neighbour, gallery, survey_links
from raydistill.stages.analyse.sections import Quantity, Section, SectionFigure, SectionTable, Statement
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.config import TrainingPart
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.figures import distances_in_any_pose
from raydistill.stages.distill.report import publish
from raydistill.stages.distill.stage import run_trainer
from raydistill.stages.distill.task import make_task
from raydistill.stages.distill.trainer import is_finished
from raydistill.stages.experts import artifact as trajectories
from raydistill.tracking.tracker import Run

SHOWN = 8  # neighbours in the gallery
MAX_ROWS = 60  # of the table on the page
MAX_TYPICAL = 300  # galaxies whose distance to their nearest neighbour is measured


def prototypes_section(inputs: AnalysisInputs) -> Section:
    """Return the section: pictures, and how far each prototype is from real galaxies."""
    nearest = inputs.neighbours["pixels"]
    typical = typical_distance(inputs)
    ratio = nearest.distances_SK[:, 0] / typical
    return Section(
        "prototypes",
        "Prototypes",
        (
            "Each prototype stands beside the mean of its class, the mean of the galaxies nearest to it, and these "
            "galaxies. Nearness is the difference of pixel values for the best of eight flips and turns.",
            "Point at a galaxy, or reach it with the Tab key, for its id, votes and links.",
        ),
        tables=(prototype_table(inputs),),
        figures=(residuals(inputs), differences(inputs)),
        statements=(
            Statement(
                "Smallest distance of a prototype to a training galaxy, over the median distance of a training galaxy to "
                "its nearest neighbour; a copy would have 0",
                float(ratio.min()),
                math.nan,
                math.nan,
                len(ratio),
            ),
        ),
        html=gallery(_rows(inputs), inputs.distilled.counts, frames(inputs)),
    )


def frames(inputs: AnalysisInputs) -> dict[int, Pixels]:
    """Return the images of the distillation up to the published ones, by iteration."""
    published = inputs.distilled.selected.iteration
    earlier = {number: images for number, images in inputs.distilled.frames().items() if number < published}
    return earlier | {published: inputs.prototypes}


def typical_distance(inputs: AnalysisInputs) -> float:
    """Return the median nearest-neighbour distance of training galaxies, in any pose."""
    images = inputs.train.images_NHWC.numpy()
    rng = np.random.default_rng(inputs.spec.seed)
    chosen = np.sort(rng.permutation(len(images))[:MAX_TYPICAL])
    distances = np.sort(distances_in_any_pose(images[chosen], images), axis=1)
    return float(np.median(distances[:, min(1, distances.shape[1] - 1)]))  # the first is the galaxy itself


def _rows(inputs: AnalysisInputs) -> list[GalleryRow]:
    names, firsts = inputs.class_names, inputs.distilled.first_rows
    images = inputs.train.images_NHWC.numpy()
    table = inputs.curated.table("train", ["object_id", "ra", "dec", "votes"])
    rows = []
    for label, name in enumerate(names):
        nearest = inputs.neighbours["pixels"]
        nearest_rows = nearest.rows_SK[firsts[label]][: inputs.plan.config.analyse.neighbours]
        shown = nearest_rows[:SHOWN]
        details = table.take(pa.array(shown)).to_pylist()
        neighbours = [
            _neighbour(inputs, images[row], detail, distance)
            for row, detail, distance in zip(shown, details, nearest.distances_SK[firsts[label]], strict=False)
        ]
        mean = images[nearest_rows].mean(axis=0) / 255
        rows.append(
            GalleryRow(
                name,
                inputs.curated.summary.classes[label].train,
                picture(to_bytes(inputs.class_means[label]), f"mean of the galaxies of {name}"),
                picture(to_bytes(mean), f"mean of the {len(nearest_rows)} galaxies nearest to a prototype of {name}"),
                neighbours,
            )
        )
    return rows


def _neighbour(inputs: AnalysisInputs, pixels: Pixels, detail: dict[str, object], distance: float) -> Neighbour:
    tree = TREES[inputs.curated.summary.tree or GZ2.name]
    votes = detail["votes"]
    ra, dec = (None if detail[name] is None else float(detail[name]) for name in ("ra", "dec"))  # type: ignore[arg-type]
    return Neighbour(
        picture(pixels, f"galaxy {detail['object_id']}"),
        str(detail["object_id"]),
        inputs.class_names[int(detail["label"])],  # type: ignore[call-overload]
        f"{distance:.3f}",
        describe_votes(np.array(votes, float), tree) if votes is not None else [],
        {} if inputs.curated.summary.simulated else survey_links(ra, dec),
    )


def residuals(inputs: AnalysisInputs) -> SectionFigure:
    """Return the figure of what the distillation added to the initial images."""
    distilled = inputs.distilled
    initial, made = (images.pixels().double().numpy() for images in (distilled.initial, distilled.selected))
    added_SHW = (made - initial).mean(axis=3)
    largest = max(float(np.abs(added_SHW).max()), 1e-6)
    rows = [
        (name.replace("_", " "), [initial[first].clip(0, 1), made[first].clip(0, 1), diverging_picture(added_SHW[first] / largest)])
        for first, name in zip(distilled.first_rows, inputs.class_names, strict=True)
    ]  # fmt: skip
    return SectionFigure(
        "residuals",
        f"Initial image, prototype and their difference for {len(rows)} classes, at most {largest:.2f}",
        "The first image of each class before the distillation, the prototype, and their difference in brightness: what the "
        f"networks add to the initial image. Orange: brighter; blue: fainter; the strongest colour is {largest:.2f} of the "
        "range from black to white. A single set shows noise too; the section on stability says what recurs.",
        picture_rows(rows, ["initial", "prototype", "difference"]),
    )


def differences(inputs: AnalysisInputs) -> SectionFigure:
    """Return the figure of all differences between the mean prototypes of two classes."""
    pixels = inputs.distilled.selected.pixels().numpy().mean(axis=3)
    means = np.stack([of_class.mean(axis=0) for of_class in np.split(pixels, inputs.distilled.first_rows[1:])])
    figure, largest = difference_matrix(means, inputs.class_names)
    return SectionFigure(
        "class_differences",
        f"Differences of brightness between the mean prototypes of all pairs of {len(means)} classes, at most {largest:.2f}",
        "Mean brightness of the prototypes of the class on the left, minus that of the class on top. Orange: the class on "
        f"the left is brighter; blue: the class on top is. The strongest colour is {largest:.2f} of the range from black to "
        "white.",
        figure,
    )


def prototype_table(inputs: AnalysisInputs) -> SectionTable:
    """Return a row per prototype: nearest galaxy, and the experts' class probability."""
    ids: Sequence[str] = inputs.train.object_ids
    nearest = inputs.neighbours["pixels"]
    labels = inputs.prototype_labels
    columns: dict[str, list[object]] = {
        "prototype": list(range(len(labels))),
        "class": [inputs.class_names[label] for label in labels],
        "nearest_galaxy": [ids[row] for row in nearest.rows_SK[:, 0]],
        "nearest_class": [inputs.class_names[inputs.galaxy_labels[row]] for row in nearest.rows_SK[:, 0]],
        "distance": nearest.distances_SK[:, 0].tolist(),
        "target": inputs.distilled.selected.targets_SK.numpy()[np.arange(len(labels)), labels].astype(float).tolist(),
    }
    quantities = [
        Quantity("prototype", "number of the prototype, sorted by class"),
        Quantity("class", "class of its label"),
        Quantity("nearest_galaxy", "id of the nearest training galaxy"),
        Quantity("nearest_class", "class of that galaxy"),
        Quantity("distance", "root mean square difference of pixel values in [0, 1], for the best flip or turn"),
        Quantity("target", "probability of its class in its label; 1 for a hard label"),
    ]
    if inputs.described is not None:
        columns["experts"] = inputs.described[1].probabilities_NK[np.arange(len(labels)), labels].tolist()
        quantities.append(Quantity("experts", "probability of its class that the experts give, mean over experts"))
    caption = "The prototypes, their nearest training galaxies, and how the experts classify them."
    shown = len(labels) <= MAX_ROWS
    return SectionTable("prototypes", caption, pa.table(columns), tuple(quantities), shown)


# Repeat distillation with other seeds, experts or networks in parallel Ray tasks.
#
# Each repetition has another `distill.seed`, and is a distilled set with the identity of a run of its
# own config. A finished one is not made again, and one whose worker died resumes from its checkpoint.

log = get_logger(__name__)


@dataclass(frozen=True)
class Repeats:
    """Sets that are compared with each other.

    Attributes
    ----------
    varied
        "seeds", "experts", "galaxies", "permuted labels" or "networks".
    names
        A short name of each set, such as "seed 1".
    plans
        The plan of each set.
    """

    varied: str
    names: tuple[str, ...]
    plans: tuple[Plan, ...]


def plan_repeats(plan: Plan) -> list[Repeats]:
    """Return the repeats that `analyse` asks for, in the order of the report.

    The plan's own set is one of those with other seeds, and one of those with other networks. It is
    not among those of disjoint groups of experts, because it was matched to all experts.
    """
    options, recipe = plan.config.analyse, plan.config.distill
    repeats = []
    if options.repeats:
        seeds = range(recipe.seed, recipe.seed + options.repeats + 1)
        plans = tuple(plan.with_recipe(replace(recipe, seed=seed)) for seed in seeds)
        repeats.append(Repeats("seeds", tuple(f"seed {seed}" for seed in seeds), plans))
    if options.expert_groups:
        groups = _expert_groups(plan)
        plans = tuple(
            plan.with_recipe(replace(recipe, seed=recipe.seed + number, experts=group))
            for number, group in enumerate(groups, 1)
        )
        repeats.append(Repeats("experts", tuple(_name_group(group) for group in groups), plans))
    parts = tuple(f"part {number}" for number in range(1, options.disjoint + 1))
    if options.disjoint:
        repeats.append(Repeats("galaxies", parts, tuple(plans_of_parts(plan, permute=False))))
    if options.permuted:
        repeats.append(Repeats("permuted labels", parts, tuple(plans_of_parts(plan, permute=True))))
    if options.networks:
        names = (plan.config.headline[1], *(network.name for network in options.networks))
        repeats.append(Repeats("networks", names, (plan, *plans_of_networks(plan))))
    return repeats


def plans_of_networks(plan: Plan) -> list[Plan]:
    """Return a plan per network of `analyse.networks`, with its own experts and seed."""
    recipe = plan.config.distill
    plans = []
    for number, network in enumerate(plan.config.analyse.networks, 1):
        distill = replace(recipe, seed=recipe.seed + number)
        evaluate = replace(plan.config.evaluate, other_networks=())  # their names must differ from the network's
        plans.append(Plan(replace(plan.config, network=network, distill=distill, evaluate=evaluate)))
    return plans


def plans_of_parts(plan: Plan, *, permute: bool) -> list[Plan]:
    """Return a plan per disjoint part of the training galaxies, with its own seed."""
    config, count = plan.config, plan.config.analyse.disjoint
    return [
        Plan(replace(
            config, experts=replace(config.experts, seed=config.experts.seed + 1 + number),
            curate=replace(config.curate, part=TrainingPart(number, count, permute)),
            distill=replace(config.distill, seed=config.distill.seed + number),
        ))
        for number in range(count)
    ]  # fmt: skip


def plans_with_experts(plan: Plan) -> list[Plan]:
    """Return the plans of repeats that need experts of their own."""
    kinds = (False, True) if plan.config.analyse.permuted else (False,)
    parts = [other for permute in kinds for other in plans_of_parts(plan, permute=permute)]
    return [*parts, *plans_of_networks(plan)]


def _expert_groups(plan: Plan) -> list[tuple[int, ...]]:
    """Return disjoint groups of the recipe's experts; sizes differ by at most one."""
    chosen = plan.config.matched_experts
    count = plan.config.analyse.expert_groups
    return [chosen[first::count] for first in range(count)]


def _name_group(group: tuple[int, ...]) -> str:
    return f"expert{'s' if len(group) > 1 else ''} {', '.join(map(str, group))}"


def distil_repeats(repeats: list[Repeats]) -> list[list[DistilledSet]]:
    """Return the distilled sets of all plans; those that are missing are distilled.

    Raises
    ------
    ArtifactMissing
        The experts of another network do not exist.
    DivergenceError
        A matching loss or its gradient is not finite.
    """
    plans = {plan.distilled.identity: plan for repeat in repeats for plan in repeat.plans}
    missing = [plan for plan in plans.values() if not plan.distilled.exists]
    for plan in missing:
        open_manifest(plan.trajectories.folder, trajectories.KIND, verify=False)
    if missing:
        resources = missing[0].config.resources
        threads = choose_distill_cpus(resources, len(missing), max_useful=1)
        ensure_schedulable(resources, threads)
        log.info("analyse: %d further distillations", len(missing))
        task = ray.remote(num_cpus=threads, num_gpus=resources.distill_gpus, max_retries=resources.max_restarts)(
            _distill
        )
        ready = [plan.with_resolved_paths() for plan in missing]
        with progress(len(plans), "repeating", "distillations", start=len(plans) - len(missing)) as shown:
            for _ in run_tasks(ready, lambda plan: task.remote(plan, threads), resources):
                shown.advance(1)
    return [[DistilledSet.open(plan.distilled.folder) for plan in repeat.plans] for repeat in repeats]


def _distill(plan: Plan, threads: int) -> None:
    """Distil one set and commit it, unless another process has done so."""
    spec = plan.distilled
    with suppress(AlreadyBuilt), hold_lease(spec) as check_held:
        curated = CuratedSet.open(plan.curated.folder, verify=False)  # the driver has verified it
        if not is_finished(spec.folder):
            for _ in run_trainer(make_task(plan, curated, Run(), threads)):
                pass
        publish(plan.config, spec, curated, Run())
        check_held()
        spec.commit()
