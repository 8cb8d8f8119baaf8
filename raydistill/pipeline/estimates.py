"""Estimate the time and the disk that artifacts take on this machine.

Known are the number of galaxies of a simulated or a finished curated set, and the work of built-in
networks (`distillation.cost_model`). Nothing is said of other artifacts, of GPUs and of clusters. The
figures are right within a factor of about two (dev/log.md has times of the demo).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from raydistill.artifacts import kinds
from raydistill.artifacts.records import read_json
from raydistill.distillation.cost_model import EAGER_FLOPS, EAGER_STEP_SECONDS
from raydistill.learning.architectures import ConvNet
from raydistill.learning.options.training import Training
from raydistill.pipeline.plan import Plan
from raydistill.simulation.config import SimulatedSurvey
from raydistill.stages.curate.summary import Summary

START_SECONDS = 8.0  # of the workers of a stage: imports, and Ray's own start
RENDERED_PER_SECOND = 25.0  # galaxies, on one core (`stages.simulate.stage`)
CURATED_PER_SECOND = 150.0  # pictures, on one core (docs/benchmarks.md)
CORES_OF_FLOPS = 2  # of `EAGER_FLOPS`
RENDERED_BYTES = 3000  # of a galaxy: picture, votes and truth
PNG_SHARE = 0.8  # of the bytes of the pixels
COPIES = 12  # float32 copies of the images in a distilled set: figures, FITS and frames included
VALIDATION_RATES = 3  # networks that try each learning rate


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes of an artifact; None where nothing can be said."""

    seconds: float | None = None
    bytes: float | None = None


def estimate(plan: Plan, kind: str) -> Estimate:
    """Return the time and the disk that an artifact of the plan takes."""
    resources = plan.config.resources
    if resources.gpus or resources.distill_gpus or os.environ.get("RAY_ADDRESS"):
        return Estimate()
    by_kind = {
        kinds.SURVEY: _survey,
        kinds.CURATED: _curated,
        kinds.TRAJECTORIES: _trajectories,
        kinds.DISTILLED: _distilled,
        kinds.EVALUATION: _evaluation,
    }
    return by_kind[kind](plan) if kind in by_kind else Estimate()


def network_size(network: ConvNet, num_classes: int, image_size: int, channels: int = 3) -> tuple[float, int]:
    """Return the FLOPs of an image's forward pass, and the number of parameters."""
    flops, parameters, side = 0, 0, image_size
    for depth in range(network.depth):
        weights = 9 * (network.width if depth else channels) * network.width
        flops += 2 * weights * side**2
        parameters += weights + network.width * (1 if network.norm == "none" else 3)
        side //= 2
    last = network.width * side**2 * num_classes
    return flops + 2 * last, parameters + last + num_classes


def _seconds(flops: float, steps: float, cores: int) -> float:
    """Return the time of eager work that so many cores share, with the start."""
    arithmetic = flops / (EAGER_FLOPS["cpu"] * cores / CORES_OF_FLOPS)
    return START_SECONDS + max(arithmetic, steps * EAGER_STEP_SECONDS["cpu"] / cores)


def _cores(plan: Plan, tasks: int) -> int:
    own = os.cpu_count() or 1
    return max(1, min(plan.config.resources.workers or own, own, tasks))


@dataclass(frozen=True)
class _Sizes:
    """The training images, all images, and the work of one image."""

    train: int
    total: int
    num_classes: int
    flops: float
    parameters: int


def _sizes(plan: Plan) -> _Sizes | None:
    """Return the sizes of a plan; None if the survey or the network is not known."""
    config = plan.config
    if not isinstance(config.network, ConvNet):
        return None
    if plan.curated.exists:
        classes = read_json(plan.curated.folder, "summary.json", Summary).classes
        train, total, count = sum(one.train for one in classes), sum(one.kept for one in classes), len(classes)
    elif isinstance(config.survey, SimulatedSurvey):
        count = len(plan.class_tree.names)
        total = min(config.survey.num_galaxies, count * (config.curate.per_class or config.survey.num_galaxies))
        train = round(total * config.curate.split[0])
    else:
        return None
    if not train:
        return None
    return _Sizes(train, total, count, *network_size(config.network, count, config.curate.image_size))


def _survey(plan: Plan) -> Estimate:
    survey = plan.config.survey
    assert isinstance(survey, SimulatedSurvey)
    seconds = START_SECONDS + survey.num_galaxies / RENDERED_PER_SECOND / _cores(plan, survey.num_galaxies)
    return Estimate(seconds, RENDERED_BYTES * survey.num_galaxies)


def _curated(plan: Plan) -> Estimate:
    survey = plan.config.survey
    if not isinstance(survey, SimulatedSurvey):
        return Estimate()
    count = survey.num_galaxies
    seconds = START_SECONDS + count / CURATED_PER_SECOND / _cores(plan, count)
    return Estimate(seconds, count * 3 * plan.config.curate.image_size**2 * PNG_SHARE)


def _fit(training: Training, flops: float, images: int) -> tuple[float, float]:
    """Return the FLOPs and the steps of a training."""
    batch = min(training.batch_size, images)
    steps = training.epochs * training.steps_per_epoch(images) * (2 if training.flat else 1)
    return 3 * flops * batch * steps, steps


def _trajectories(plan: Plan) -> Estimate:
    if (sizes := _sizes(plan)) is None:
        return Estimate()
    experts = plan.config.experts
    flops, steps = _fit(experts.training, sizes.flops, sizes.train)
    stored = 2 if experts.keep == "ends" else len(experts.snapshots(sizes.train).stored)
    count = experts.num_experts
    seconds = _seconds(count * flops, count * steps, _cores(plan, count))
    return Estimate(seconds, 4.0 * count * stored * sizes.parameters)


def _distilled(plan: Plan) -> Estimate:
    if (sizes := _sizes(plan)) is None:
        return Estimate()
    config, recipe = plan.config, plan.config.distill
    steps_per_epoch = config.experts.snapshots(sizes.train).steps_between
    resolved = recipe.resolved(steps_per_epoch, epochs=config.experts.training.epochs)
    images = sizes.num_classes * recipe.images_per_class // recipe.multi_formation**2
    steps = recipe.iterations * recipe.trajectories_per_step * resolved.student_steps
    flops = 12 * sizes.flops * recipe.batch_of(images) * recipe.versions * steps
    validations = math.ceil(recipe.iterations / recipe.validate_every) + 1
    tried = validations * recipe.validation_networks * recipe.validation_epochs
    flops += 3 * sizes.flops * images * tried
    cores = config.resources.distill_cpus or _cores(plan, 99)
    return Estimate(_seconds(flops, 2 * steps + tried, cores), COPIES * 12.0 * images * config.curate.image_size**2)


def _evaluation(plan: Plan) -> Estimate:
    if (sizes := _sizes(plan)) is None or plan.config.evaluate.other_networks:
        return Estimate()
    config, evaluate = plan.config, plan.config.evaluate
    images = sizes.num_classes * config.distill.images_per_class
    sets = len(evaluate.baselines) + (2 if config.distill.ema else 1)
    flops = steps = networks = 0.0
    for protocol in evaluate.protocols.values():
        count = sets * (VALIDATION_RATES * (len(protocol.lr_grid) + 1) + evaluate.num_networks)
        own_flops, own_steps = _fit(protocol.training, sizes.flops, images)
        flops, steps, networks = flops + count * own_flops, steps + count * own_steps, networks + count
    own_flops, own_steps = _fit(evaluate.full_data, sizes.flops, sizes.train)
    flops += evaluate.full_data_networks * own_flops + networks * sizes.flops * (sizes.total - sizes.train)
    steps += evaluate.full_data_networks * own_steps
    return Estimate(_seconds(flops, steps, _cores(plan, int(networks))), 1e6)
