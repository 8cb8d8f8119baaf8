"""The table of stages: what commands, API, runs and docs know of each.

A stage is one package with a value `STAGE` in its `__init__`, which imports nothing but this module.
`raydistill/stages` has the shipped ones. A package of other people adds its own by an entry point
of the group `raydistill.stages`, whose value names such a `Stage`.

Names of functions and classes are given as "module:name", and imported when they are needed: most
of them import torch or Ray.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from raydistill.imports import bad_entry_point, load_entry_point

DISTIL, GENERATE, SURVEY = GROUPS = ("Distil", "Generate and search", "Survey and data")
ENTRY_POINTS = "raydistill.stages"
SHIPPED = (
    "simulate", "curate", "experts", "pretrain", "distill", "evaluate", "predict", "tune",  # the main path
    "analyse", "generate", "sample", "audit", "augment", "detect", "hunt", "similar", "adapt",
)  # fmt: skip

Reference = str | Callable[..., Any]


@dataclass(frozen=True)
class Kind:
    """A kind of artifact.

    Parameters
    ----------
    name
        Its name in manifests and folders.
    noun
        What messages call it.
    artifact
        Its class, "module:Name", with a class method `open(folder, verify=…)`.
    look
        Files to look at, by what they show. A file that is not there is left out.
    then
        The command that follows, without `raydistill`. CONFIG stands for the config and the
        overrides of the command that made it, FOLDER for the artifact. "": none.
    before
        The words before that command.
    revision
        To be increased when the code writes other data for the same config: older artifacts then
        do not match.
    """

    name: str
    noun: str
    artifact: Reference
    look: Mapping[str, str] = field(default_factory=dict)
    then: str = ""
    before: str = "Next"
    revision: int = 1


@dataclass(frozen=True)
class Argument:
    """A key of the config that the command also takes as a word without "=".

    Parameters
    ----------
    key
        The dotted key.
    name
        Its name in the help.
    defaults_to_config
        Whether the config of the command is its default, so that naming it says nothing.
    """

    key: str
    name: str
    defaults_to_config: bool = False


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline.

    Parameters
    ----------
    name
        Its command, its function in `raydistill`, and its key in a config.
    group
        Its group in the help, one of `GROUPS`.
    help
        First line of its help, and the rest after an empty line.
    example
        A command that runs with a shipped config.
    page
        Its page of the documentation.
    kinds
        The kinds of artifacts that it builds.
    spec
        Maps a plan to the `ArtifactSpec` to build, whose parents are the inputs. None: there is
        nothing to build.
    run
        Maps a plan, a tracker and the MLflow id of the enclosing run to the artifact: it builds the
        artifact, or opens it if it exists. Its inputs must exist.
    show
        Maps a config and the artifact to the text of the result, at most 80 columns wide. None: the
        result is not figures.
    purpose
        What it does, for a reader of a run's log who knows nothing else. "": the first line of
        `help`.
    argument
        The config key that the command also takes as a word without "=".
    config
        The class of its part of a config, for a stage of another package.
    """

    name: str
    group: str
    help: str
    example: str
    page: str
    kinds: tuple[Kind, ...]
    spec: Reference
    run: Reference
    show: Reference | None = None
    purpose: str = ""
    argument: Argument | None = None
    config: Reference | None = None

    @property
    def summary(self) -> str:
        """The first line of the help."""
        return self.help.partition("\n")[0]


def resolve(reference: Reference) -> Any:
    """Return what a reference names, imported if necessary."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return functools.reduce(getattr, name.split("."), import_module(module))


@functools.cache
def stages() -> dict[str, Stage]:
    """Return all stages by name: the shipped ones, then those of other packages.

    Raises
    ------
    ConfigError
        Two packages give a stage the same name, or a package's is not a stage.
    """
    stages_by_name = {name: resolve(f"raydistill.stages.{name}:STAGE") for name in SHIPPED}
    for point in entry_points(group=ENTRY_POINTS):
        stage = load_entry_point(point)
        if not isinstance(stage, Stage) or stage.group not in GROUPS:
            raise bad_entry_point(point, f"is no Stage, or its group is none of {', '.join(GROUPS)}")
        if stage.name in stages_by_name:
            from raydistill.errors import ConfigError

            what = f"the package of '{point.value}' adds a stage '{stage.name}', which exists already"
            raise ConfigError(what, ENTRY_POINTS, "uninstall it, or rename its stage")
        stages_by_name[stage.name] = stage
    return stages_by_name


def find(name: str) -> Stage:
    """Return a stage by name.

    Raises
    ------
    ConfigError
        There is no such stage.
    """
    if name not in stages():
        from raydistill.errors import ConfigError, nearest

        raise ConfigError(f"there is no stage '{name}'", "--to", nearest(name, tuple(stages())))
    return stages()[name]


@functools.cache
def kinds() -> dict[str, Kind]:
    """Return all kinds of artifacts by name."""
    return {kind.name: kind for stage in stages().values() for kind in stage.kinds}


def stage_of(kind: str) -> Stage:
    """Return the stage that builds a kind of artifact."""
    return next(stage for stage in stages().values() if any(other.name == kind for other in stage.kinds))


def revision(kind: str) -> int:
    """Return the revision of a kind; 1 for a kind that no stage builds."""
    return kinds()[kind].revision if kind in kinds() else 1
