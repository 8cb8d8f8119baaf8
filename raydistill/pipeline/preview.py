"""Show what a run would build: for a person, and as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill

from raydistill import table
from raydistill.artifacts import kinds
from raydistill.artifacts.records import read_json
from raydistill.config import plain
from raydistill.distillation.cost_model import EAGER_FLOPS, EAGER_STEP_SECONDS
from raydistill.learning.architectures import ConvNet
from raydistill.learning.augment import GROUPS
from raydistill.learning.options import Training
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import lineage
from raydistill.pipeline.specs import ArtifactSpec
from raydistill.simulation.config import SimulatedSurvey
from raydistill.stages.curate.summary import Summary
from raydistill.text import WIDTH, text_table


def as_json(plan: Plan, artifacts: Sequence[ArtifactSpec]) -> str:
    """Return JSON: the resolved config, and which of these artifacts exist."""
    specs = [{"kind": artifact.kind, "path": artifact.folder.uri, "exists": artifact.exists} for artifact in artifacts]
    return json.dumps({"config": plain(plan.config), "artifacts": specs}, indent=1)


def as_text(plan: Plan, artifacts: Sequence[ArtifactSpec]) -> str:
    """Return a table of the lineage of an artifact, and the sums of time and disk.

    What is neither finished nor needed was removed after others were made of it.
    """
    needed = {one.identity for last in artifacts[-1:] for one in lineage(last, needed=True)}
    rows = [("stage", "artifact", "", "time", "disk")]
    seconds, size, unknown = 0.0, 0.0, []
    for artifact in artifacts:
        stage = table.stage_of(artifact.kind).name
        name = artifact.folder.shown.removeprefix(f"{plan.root.shown}/")
        if artifact.exists:
            rows.append((stage, name, "exists", "", ""))
            continue
        if artifact.identity not in needed:
            rows.append((stage, name, "not needed", "", ""))
            continue
        estimated = estimate(artifact.plan or plan, artifact.kind)
        rows.append((stage, name, "to build", duration(estimated.seconds), volume(estimated.bytes)))
        seconds, size = seconds + (estimated.seconds or 0), size + (estimated.bytes or 0)
        if estimated.seconds is None:
            unknown.append(stage)
    lines = [text_table(f"{plan.config.name}, in {plan.root.shown}", rows)]
    if seconds:
        without = f", without {', '.join(dict.fromkeys(unknown))}" if unknown else ""
        lines.append(
            fill(f"Together {duration(seconds)} on {os.cpu_count()} cores and {volume(size)}{without}.", WIDTH)
        )
    lines.append("Nothing was built. --dry-run --json prints the whole config.")
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """Return about how long something takes; "" if it is unknown.

    >>> [duration(one) for one in (None, 12, 95, 5000, 200_000)]
    ['', 'about 10 s', 'about 2 min', 'about 1.4 h', 'about 2.3 days']
    """
    if seconds is None:
        return ""
    if seconds < 55:
        return f"about {max(10 * round(seconds / 10), 5)} s"
    for unit, length, digits in (("min", 60, 0), ("h", 3600, 1), ("days", 86400, 1)):
        if seconds < {"min": 3570, "h": 86400}.get(unit, float("inf")):
            return f"about {seconds / length:.{digits}f} {unit}"
    raise AssertionError


def volume(size: float | None) -> str:
    """Return about how much disk something takes; "" if it is unknown.

    >>> [volume(one) for one in (None, 40_000, 12_300_000, 4_560_000_000)]
    ['', 'about 1 MB', 'about 12 MB', 'about 4.6 GB']
    """
    if size is None:
        return ""
    return f"about {size / 1e9:.1f} GB" if size >= 1e9 else f"about {max(size / 1e6, 1):.0f} MB"


# Estimate the time and the disk that artifacts take on this machine.
#
# Known are the number of galaxies of a simulated or a finished curated set, and the work of built-in
# networks (`distillation.cost_model`). Nothing is said of other artifacts, of GPUs and of clusters. The
# figures are right within a factor of about two (dev/log.md has times of the demo).

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
    if resources.use_gpus or os.environ.get("RAY_ADDRESS"):
        return Estimate()
    by_kind = {
        kinds.SURVEY: _survey,
        kinds.CURATED: _curated,
        kinds.TRAJECTORIES: _trajectories,
        kinds.DISTILLED: _distilled,
        kinds.EVALUATION: _evaluation,
    }
    return by_kind[kind](plan) if kind in by_kind else Estimate()


def network_size(network: ConvNet, num_classes: int, image_size: int) -> tuple[float, int]:
    """Return the FLOPs of an image's forward pass, and the number of parameters."""
    flops, parameters, side = 0, 0, image_size
    for depth in range(network.depth):
        weights = 9 * (network.width if depth else 3) * network.width
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
    cores = os.cpu_count() or 1
    return max(1, min(plan.config.resources.workers or cores, cores, tasks))


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
        train, total, count = sum(entry.train for entry in classes), sum(entry.kept for entry in classes), len(classes)
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
    if recipe.objective.kind == "ridge":
        return _for_heads(plan, sizes)
    steps_per_epoch = config.experts.snapshots(sizes.train).steps_between
    resolved = recipe.resolved(steps_per_epoch, epochs=config.experts.training.epochs)
    images = recipe.num_images(sizes.num_classes) // recipe.multi_formation**2
    steps = recipe.iterations * recipe.trajectories_per_step * resolved.student_steps
    flops = 12 * sizes.flops * recipe.batch_of(images) * recipe.versions * steps
    validations = math.ceil(recipe.iterations / recipe.validate_every) + 1
    tried = validations * recipe.validation_networks * recipe.validation_epochs
    flops += 3 * sizes.flops * images * tried
    cores = config.resources.distill_cpus or _cores(plan, 99)
    return Estimate(_seconds(flops, 2 * steps + tried, cores), COPIES * 12.0 * images * config.curate.image_size**2)


def _for_heads(plan: Plan, sizes: _Sizes) -> Estimate:
    """Return the estimate of a set for heads.

    Features of real images are computed once, and those of the images in each iteration.
    """
    config, recipe = plan.config, plan.config.distill
    encoders = len(recipe.encoders or config.matched_experts)
    images = recipe.num_images(sizes.num_classes)
    versions = len(GROUPS[recipe.augmentation.symmetries])
    flops = encoders * versions * sizes.flops * (sizes.train + 3 * images * recipe.iterations)
    steps = encoders * recipe.iterations
    return Estimate(_seconds(flops, steps, 1), COPIES * 12.0 * images * config.curate.image_size**2)


def _evaluation(plan: Plan) -> Estimate:
    if (sizes := _sizes(plan)) is None or len(plan.config.networks) > 1:
        return Estimate()
    config, evaluate = plan.config, plan.config.evaluate
    if not config.trained_networks:
        return Estimate(START_SECONDS, 1e6)
    images = config.distill.num_images(sizes.num_classes)
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
