"""Check that the values of a config do not contradict one another.

Each value alone is valid. The checks need neither a cluster nor the survey, so a command reports a
contradiction before it starts anything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import get_args

from raydistill.config import Config, Distill
from raydistill.datasets.base import DataSet
from raydistill.distillation.recipe import Drawn
from raydistill.errors import ConfigError
from raydistill.galaxies.answers import parse_answers
from raydistill.galaxies.classes import BUILTIN_TREES, UNLABELLED, ClassTree, find_class, load_class_tree
from raydistill.galaxies.tables.grammar import parse_expression
from raydistill.galaxies.votes import PathQuestions
from raydistill.learning.architectures import ClassifierArchitecture, Custom
from raydistill.learning.timm_networks import Timm
from raydistill.log import get_logger
from raydistill.simulation.config import SimulatedSurvey
from raydistill.simulation.parameters import check_parameters
from raydistill.stages.pretrain.config import GivenWeights, Trained
from raydistill.stages.sample.config import (
    AnswerConditions,
    ClassConditions,
    GalaxyConditions,
    GeneratorSource,
    InjectionSource,
    RecombinationSource,
    SimulatorSource,
)
from raydistill.storage import Folder

ALL = "all"  # value of curate.classes: every class of a data set
SIMULATED = BUILTIN_TREES["gz2-9-lens"]  # the position of a class is its number in the simulator
MAX_ALIGNED_ROTATION = 45  # degrees by which augmentation may rotate aligned galaxies


def check(config: Config) -> None:
    """Check that the values of a config agree with one another.

    Raises
    ------
    ConfigError
        Two values contradict each other, or a network cannot be built for this image size.
    """
    _check_networks(config)
    tree = _check_classes(config)
    check_recipe(config, tree)
    if config.curate.align:
        _check_augmentation(config)
    matched = len(config.matched_experts)
    if (groups := config.analyse.expert_groups) > matched:
        what = f"{groups} groups were asked for, and {matched} experts are matched"
        raise ConfigError(what, "analyse.expert_groups", "lower it, or raise experts.num_experts")
    if config.curate.exclude is not None and isinstance(config.survey, DataSet):
        raise ConfigError("a data set has no table of galaxies", "curate.exclude", "leave it out")
    if config.distill.needs_generator:
        _check_generator(config)
    searched = config.search.space.get("init")
    if isinstance(searched, list) and not config.distill.draws and any(init in searched for init in get_args(Drawn)):
        what = "its init needs a generator, which the search opens only if the recipe itself begins with one"
        raise ConfigError(what, "search.space", "set distill.init=samples, or leave out samples and mgd3")
    _check_baselines(config)
    _check_expressions(config)
    named = None if tree is None or tree.name == UNLABELLED else tree
    _check_conditions(config, named)
    _check_source(config, named)
    _check_tracking(config)


def check_recipe(config: Config, tree: ClassTree | None) -> None:
    """Raise ConfigError if the recipe needs experts or epochs not trained or not kept.

    The number of classes limits the training images. None: those of a data set, not known yet.
    """
    check_epochs(config, _most_epochs(config, tree))
    _check_tiles(config, config.distill.multi_formation, "distill.multi_formation")
    count, chosen = config.experts.num_experts, config.distill.experts
    if chosen is not None and max(chosen) >= count:
        what = f"expert {max(chosen)} was asked for, and the experts are numbered 0 to {count - 1}"
        raise ConfigError(what, "distill.experts", "correct it, or raise experts.num_experts")
    if config.experts.keep == "ends" and config.distill.trajectories != "straight":
        what = "experts.keep=ends stores the first and the last epoch, and SGD's trajectories need every epoch"
        raise ConfigError(what, "distill.trajectories", "set it to straight, or experts.keep to all")
    if config.experts.keep == "ends" and config.distill.init == "tgdd":
        what = "experts.keep=ends stores the first and the last epoch, and init=tgdd draws from all epochs"
        raise ConfigError(what, "distill.init", "set it to dm, or experts.keep to all")


def check_epochs(config: Config, epochs: int, steps: int | None = None) -> None:
    """Raise ConfigError if the recipe needs more epochs than experts store.

    It depends on the training images, so stages check it again after curation, with the SGD `steps`
    of an epoch.
    """
    ahead = 1 if config.distill.expert_epochs == "auto" else config.distill.expert_epochs
    if steps is not None:
        ahead = config.distill.resolved(steps, epochs=epochs).expert_epochs
    if ahead > epochs:
        what = f"the target lies {ahead} epochs ahead, but experts store {epochs} only"
        raise ConfigError(what, "distill.expert_epochs", "lower it or raise experts.training.epochs")
    first = config.distill.schedule.min_start_epoch
    if first + ahead > epochs:
        what = f"the first start epoch is {first} and its target {ahead} epochs ahead, but experts store {epochs} only"
        raise ConfigError(what, "distill.schedule.min_start_epoch", "lower it or raise experts.training.epochs")


def _most_epochs(config: Config, tree: ClassTree | None) -> int:
    """Return the most epochs that experts can store; parts of a long epoch count."""
    experts, curate, survey = config.experts, config.curate, config.survey
    if experts.snapshot_steps is None:
        return experts.training.epochs
    images = [survey.num_galaxies] if isinstance(survey, SimulatedSurvey) else []
    if curate.per_class is not None and tree is not None:
        images.append(curate.per_class * len(tree.names))
    stored = experts.snapshots(min(images)).num_epochs if images else experts.max_snapshots
    return max(experts.training.epochs, stored)


def _check_networks(config: Config) -> None:
    main, *others = config.networks
    networks = {"network": main, **{f"evaluate.other_networks.{i}": network for i, network in enumerate(others)}}
    networks |= {f"analyse.networks.{i}": network for i, network in enumerate(config.analyse.networks)}
    turns = () if config.distill.outcome is None else config.distill.outcome.networks
    networks |= {f"distill.outcome.networks.{i}": network for i, network in enumerate(turns)}
    for key, architecture in networks.items():
        try:
            if isinstance(architecture, Custom | Timm):
                _check_foreign(architecture, config.curate.image_size, key == "network" and _needs_features(config))
            else:
                architecture.check(config.curate.image_size)
        except ValueError as error:
            raise ConfigError(str(error), key, "choose another network, or another curate.image_size") from error
    _check_encoder(config)
    names = Counter(network.name for network in config.networks)
    for name in [name for name, count in names.items() if count > 1]:
        what = f"two networks have the name '{name}', and their results would be mixed"
        raise ConfigError(what, "evaluate.other_networks", "leave one of them out, or give it another name")


def _check_generator(config: Config) -> None:
    """Raise ConfigError if the distillation cannot use the generator."""
    recipe = config.distill
    where = "distill.space" if recipe.space.kind == "generator" else "distill.init"
    if config.curate.whitening:
        raise ConfigError("a generator draws no whitened images", where, "leave out curate.whitening")
    if recipe.draws:
        _check_class_condition(config, where)
    if recipe.space.kind == "generator" and config.generate.model.space.kind == "latents":
        what = "a generator of latents gives no gradient of its images"
        raise ConfigError(what, "distill.space", "choose another generate.model.space, or another distill.space")


def _check_class_condition(config: Config, key: str) -> None:
    if config.generate.conditions is not None and "class" not in config.generate.conditions:
        what, fix = "samples and mgd3 need a generator that knows classes", "add class to generate.conditions"
        raise ConfigError(what, key, fix)


def _check_tiles(config: Config, tiles: int, key: str) -> None:
    side = config.curate.image_size
    if side % tiles:
        what = f"images of {side} pixels have no {tiles} equal tiles a side"
        raise ConfigError(what, key, "set it to a divisor of curate.image_size, or to 1")


def _check_baselines(config: Config) -> None:
    """Raise ConfigError if a baseline cannot be made."""
    names = set(config.evaluate.baselines)
    if "idc" in names:
        _check_tiles(config, config.evaluate.idc.tiles, "evaluate.idc.tiles")
    if names & {"el2n", "el2n_window", "forgetting"} and config.experts.keep == "ends":
        what = "experts.keep=ends stores the first and the last epoch, and el2n, el2n_window and forgetting need others"
        raise ConfigError(what, "evaluate.baselines", "leave them out, or set experts.keep to all")
    if not config.evaluate.draws:
        return
    if config.curate.whitening:
        what, fix = "a generator draws no whitened images", "leave out curate.whitening, or samples and mgd3"
        raise ConfigError(what, "evaluate.baselines", fix)
    _check_class_condition(config, "evaluate.baselines")


def _check_encoder(config: Config) -> None:
    """Raise ConfigError if an encoder's network of other code cannot be used."""
    source = config.pretrain.source
    networks = {"pretrain.network": config.pretrain.network}
    networks |= {f"pretrain.members.{i}": network for i, network in enumerate(config.pretrain.members)}
    for key, network in networks.items():
        if isinstance(network, Custom | Timm) and isinstance(source, Trained | GivenWeights):
            size = source.input_size if isinstance(source, GivenWeights) else None
            try:
                _check_foreign(network, size or config.curate.image_size, needs_features=True)
            except ValueError as error:
                fix = "choose another network, or another pretrain.source.input_size or curate.image_size"
                raise ConfigError(str(error), key, fix) from error


def _check_foreign(architecture: ClassifierArchitecture, image_size: int, needs_features: bool) -> None:
    """Raise ValueError unless a network that is not built in can be used."""
    from raydistill.learning.networks import build_network, check_network, embedding  # imports torch

    network = build_network(architecture, num_classes=2, image_size=image_size)
    check_network(network, num_classes=2, image_size=image_size)
    if needs_features:
        embedding(network)


def _needs_features(config: Config) -> bool:
    recipe = config.distill
    matches = recipe.starts_by_matching or recipe.objective.kind == "ridge"
    return matches or bool({"dm", "ncfm", "moderate"} & set(config.evaluate.baselines))


def _check_augmentation(config: Config) -> None:
    """Raise ConfigError if augmentation rotates galaxies that `curate.align` aligned."""
    augmentations = {
        "experts.training": config.experts.training.augmentation,
        "distill": config.distill.augmentation,
        **{f"evaluate.{key}": augmentation for key, augmentation in config.evaluate.augmentations.items()},
    }
    for key, augmentation in augmentations.items():
        if augmentation.largest_tilt > MAX_ALIGNED_ROTATION:
            what = f"curate.align aligns the galaxies, and [{', '.join(augmentation.operations)}] rotates them again"
            raise ConfigError(what, f"{key}.augmentation", "leave it out, or give operations: [mirror]")
    if config.distill.average_over == "dihedral":
        what = "curate.align aligns the galaxies, and dihedral rotates them again"
        raise ConfigError(what, "distill.average_over", "set it to mirror or none")


def _check_classes(config: Config) -> ClassTree | None:
    """Check the classes; return them, or None for all those of a data set."""
    classes = config.curate.classes
    if config.experts.targets == "counts" and isinstance(config.survey, DataSet):
        what = "a data set has no votes, which experts.targets=counts needs"
        raise ConfigError(what, "experts.targets", "set it to hard")
    if isinstance(config.survey, DataSet):
        if classes == ALL:
            return None
        if classes in BUILTIN_TREES:
            what = f"'{classes}' are classes of galaxies, and the survey is a data set with its own"
            raise ConfigError(what, "curate.classes", "set it to all, or to a list of class names")
    try:
        tree = load_class_tree(classes)
        if config.experts.targets == "counts" and tree.name != UNLABELLED:
            PathQuestions.of(tree)
    except ConfigError as error:
        where = f"curate.classes, {error.where}" if error.where else "curate.classes"
        raise ConfigError(error.what, where, error.fix) from error
    return tree


def _check_expressions(config: Config) -> None:
    """Raise ConfigError if a condition or a property is not an expression."""
    exclude, properties = config.curate.exclude, config.analyse.properties
    if exclude is not None:
        parse_expression(exclude.where, "curate.exclude.where")
    config.hunt.check()
    for expression in properties.columns if properties is not None else ():
        parse_expression(expression, "analyse.properties.columns")


def _check_conditions(config: Config, tree: ClassTree | None) -> None:
    """Raise ConfigError if `sample.conditions` has an unknown class or wrong answers.

    The classes of a data set, and the votes of a set without classes, are known after curation
    only, and `tree` is None.
    """
    conditions = config.sample.conditions
    if conditions is None or tree is None:
        return
    if isinstance(conditions, AnswerConditions | GalaxyConditions):
        parse_answers(conditions.answers, tree.tree, "sample.conditions.answers")
    if isinstance(conditions, ClassConditions):
        for name in conditions.classes:
            find_class(name, tree.names, "sample.conditions.classes")


def _check_source(config: Config, tree: ClassTree | None) -> None:
    """Raise ConfigError if `sample.source` has an unknown class or parameter.

    `tree` is as in `_check_conditions`.
    """
    source, where = config.sample.source, "sample.source"
    if isinstance(source, SimulatorSource):
        classes = {name: find_class(name, SIMULATED.names, f"{where}.classes") for name in source.classes}
        check_parameters(source.parameters, classes, f"{where}.parameters")
    if tree is None:
        return
    named: dict[str, tuple[str | None, ...]]
    if isinstance(source, GeneratorSource):
        named = {"start_classes": source.start_classes}
    elif isinstance(source, InjectionSource | RecombinationSource):
        named = {"classes": source.classes, "label": (source.label,)}
    else:
        named = {"label": (source.label,)}
    for key, values in named.items():
        for value in values:
            if value is not None:
                find_class(value, tree.names, f"{where}.{key}")


def _check_tracking(config: Config) -> None:
    """Raise ConfigError if MLflow would misread the name of its database's folder."""
    folder = Folder(config.output) / config.name
    special = re.search(r"\?|%[0-9A-Fa-f]{2}", folder.uri)  # a query and an escape of SQLAlchemy's URLs
    if special and folder.is_local and config.tracking.enabled and not config.tracking.uri:
        what = f"MLflow cannot keep its database in '{folder}', because of the '{special[0]}'"
        raise ConfigError(what, "output", "rename the folder, or set tracking.enabled=false")


# Warn of classes that are too small to distil or to evaluate.

log = get_logger(__name__)

# An accuracy that n galaxies measure has a standard error of at most .5 / √n. Below `FEW_TEST`
# galaxies it may exceed this limit, and a difference between two methods may be chance.
MAX_STANDARD_ERROR = 0.15
FEW_TEST = 12  # the smallest n with .5 / √n <= MAX_STANDARD_ERROR
SHOWN = 10  # names in a warning


def warn_of_few_test(counts: Mapping[str, int]) -> None:
    """Warn of classes of uncertain accuracy; `counts` are test galaxies by class."""
    if few := {name: count for name, count in counts.items() if count < FEW_TEST}:
        what = (
            "curate: too few test galaxies to evaluate a class: %s; with fewer than %d, the standard error of its accuracy "
            "may exceed %g (.5/√n); add galaxies, merge classes, or enlarge the test part of curate.split"
        )
        log.warning(what, _show(few), FEW_TEST, MAX_STANDARD_ERROR)


def warn_of_few_training(counts: Mapping[str, int], recipe: Distill, stage: str) -> None:
    """Warn of classes with fewer training galaxies than distilled images."""
    wanted = zip(counts.items(), recipe.counts(tuple(counts.values())), strict=True)
    if few := {name: count for (name, count), images in wanted if 0 < count < images}:
        what = (
            "%s: fewer training galaxies than distilled images: %s; initial images and baselines repeat them; "
            "add galaxies, merge classes, or lower distill.images_per_class"
        )
        log.warning(what, stage, _show(few))


def _show(counts: Mapping[str, int]) -> str:
    """Return names with their counts, the smallest first."""
    ordered = sorted(counts.items(), key=lambda entry: entry[1])
    shown = ", ".join(f"{name} ({count})" for name, count in ordered[:SHOWN])
    return shown if len(ordered) <= SHOWN else f"{shown} and {len(ordered) - SHOWN} more"
