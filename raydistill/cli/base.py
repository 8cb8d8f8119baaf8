"""Define the Typer application, the shared arguments and the exit codes."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from raydistill import __version__, shipped, table
from raydistill.artifacts import kinds
from raydistill.errors import RaydistillError, find_known_error
from raydistill.text import WIDTH

if TYPE_CHECKING:
    from raydistill.pipeline.plan import Plan
    from raydistill.storage import Folder
    from raydistill.table import Kind


EXIT_CODES = """Exit codes:

\b
  0    done
  1    an error of raydistill itself; please report it
  2    the config or the command line is wrong
  3    an artifact, the vote table or the images cannot be used
  4    training or matching diverged
  5    the Ray cluster lacks the requested resources, or its connection was lost
  6    a published figure was not found again
  130  stopped by Ctrl-C (143: by SIGTERM); run the same command again to resume
"""

START = """Begin with `raydistill demo`. `raydistill configs` lists the shipped configs, and
`raydistill COMMAND --help` has an example of each command. Documentation: docs/index.md in the source of raydistill."""


class _Groups(TyperGroup):
    """List the commands in their groups."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for group in table.GROUPS:
            commands = [(name, self.commands[name]) for name in self.commands]
            listed = [
                (name, command) for name, command in commands if getattr(command, "rich_help_panel", None) == group
            ]
            with formatter.section(group):
                formatter.write_dl([(name, command.get_short_help_str(limit=100)) for name, command in listed])


app = typer.Typer(
    cls=_Groups, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
    epilog=f"{START}\n\n{EXIT_CODES}",
    help="Distil a galaxy survey into a few synthetic images per class that train a network like the survey.",
)  # fmt: skip


def epilog(example: str, page: str) -> str:
    """Return what the help of a command ends with."""
    return f"Example: {example}\n\nDocumentation: docs/{page} in the source of raydistill\n\n{EXIT_CODES}"


def command(
    group: str, example: str, page: str, **options: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command with its group, an example and a page of the docs."""
    return app.command(epilog=epilog(example, page), rich_help_panel=group, **options)


def _complete_config(incomplete: str) -> list[str]:
    """Return the shipped configs and the YAML files that begin like this."""
    names = [*shipped.names(), *(str(path) for path in Path().glob("*.yaml"))]
    return [name for name in names if name.startswith(incomplete)]


ConfigPath = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        autocompletion=_complete_config,
        help="A YAML file, or the name of a shipped one: `raydistill configs` lists them.",
    ),
]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For example distill.iterations=500.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be built or skipped, with time and disk; build nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="With --dry-run: the artifacts and the resolved config as JSON.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="More log lines; twice: also Ray's and MLflow's.")
]


def _print_version(requested: bool) -> None:
    if requested:
        print(f"raydistill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")] = False,
) -> None:  # fmt: skip
    """Distil a galaxy survey into a few synthetic images per class.

    They train a network like the survey.
    """


def run_stage(
    name: str, path: str, words: list[str], dry: bool, as_json: bool, verbose: int, whole: bool = False
) -> None:
    """Run one stage of a config, or print what it would write.

    A stage whose artifact exists is skipped. The first of `words` may be the value of the stage's
    argument. If `whole`, all that the stage needs is run too, and `words` are overrides alone.
    """
    with exit_on_error():
        stage = table.find(name)
        if not whole:
            words = _spelled_out(stage, path, words)
        plan = load_plan(path, words, verbose)
        from raydistill.pipeline import run as pipeline

        spec = pipeline.spec_of(plan, name)
        if dry or as_json:
            print_plan(plan, spec, dry, as_json)
            return
        artifact = None
        if not pipeline.is_finished(spec):
            artifact = pipeline.run(plan, name) if whole else pipeline.run_stage(name, plan)
        finish(stage, plan, artifact or spec, [path, *words])


def _spelled_out(stage: table.Stage, path: str, words: list[str]) -> list[str]:
    """Return the words with the key of the stage's argument."""
    if stage.argument is None or not words or "=" in words[0]:
        return words
    if stage.argument.defaults_to_config and words[0] == path:
        return words[1:]
    return [f"{stage.argument.key}={words[0]}", *words[1:]]


def print_plan(plan: Any, spec: Any, dry: bool, as_json: bool) -> None:
    """Print what would be built, for a person or as JSON."""
    from raydistill.pipeline import preview
    from raydistill.pipeline.run import lineage

    require_dry_run(dry)
    specs = lineage(spec)
    print_result(preview.as_json(plan, specs) if as_json else preview.as_text(plan, specs))


def require_dry_run(dry: bool) -> None:
    """Raise ConfigError for `--json` without `--dry-run`."""
    if not dry:
        from raydistill.errors import ConfigError

        raise ConfigError("the option is for a dry run", "--json", "add --dry-run")


def finish(stage: table.Stage, plan: Any, made: Any, words: list[str]) -> None:
    """Print the result of a stage, what to look at, the next command, and the path.

    `made` is the artifact, or the spec of one that existed before.
    """
    from raydistill.artifacts.manifest import kind_of

    if stage.show is not None:
        from raydistill.artifacts.display import open_artifact
        from raydistill.pipeline.specs import ArtifactSpec

        artifact = open_artifact(made.folder) if isinstance(made, ArtifactSpec) else made
        print(table.resolve(stage.show)(plan.config, artifact), file=sys.stderr)
    end(plan, table.kinds()[kind_of(made.folder)], made.folder, words)
    print_result(made.folder)


def load_plan(path: str, overrides: list[str] | None, verbose: int) -> Any:
    """Set up logging, and return the plan of a config."""
    from raydistill import config, log
    from raydistill.pipeline.plan import Plan

    log.setup(verbose)
    return Plan(config.load(path, overrides or []))


def print_result(result: object) -> None:
    """Print to stdout; a reader such as `| head` may already have closed it."""
    try:
        print(result, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports it again at exit


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn any exception into one sentence on stderr and an exit code."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        print("raydistill: stopped; run the same command again to resume", file=sys.stderr)
        raise typer.Exit(130 if isinstance(error, KeyboardInterrupt) else 143) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        known = find_known_error(error) or _report_bug(error)
        print(f"raydistill: {known}", file=sys.stderr)
        raise typer.Exit(known.exit_code) from error


def _report_bug(error: Exception) -> RaydistillError:
    """Write an unexpected error's traceback to a file; return an error that names it."""
    last_line = " ".join(str(error).strip().rpartition("\n")[2].split())[:200]
    what = f"an error of raydistill itself ({type(error).__name__}: {last_line})"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="raydistill-", suffix=".log", delete=False) as log:
            traceback.print_exception(error, file=log)
    except OSError:
        traceback.print_exception(error)
        return RaydistillError(what, fix="please report the traceback above")
    return RaydistillError(what, fix=f"please report it with the traceback in {log.name}")


# Say at the end of a command what it made, and which command comes next.
#
# It goes to stderr, because the last line of stdout is the path of the artifact.


def end(plan: Plan, kind: Kind, folder: Folder, words: Sequence[str]) -> None:
    """Print what to look at in an artifact, and the next command.

    Parameters
    ----------
    plan
        The plan of the artifact.
    kind, folder
        The artifact.
    words
        The config and the overrides, as they were given.
    """
    look = [(what, f"{folder.shown}/{name}") for what, name in kind.look.items() if folder.exists(name)]
    if kind.name == kinds.EVALUATION and plan.evaluated_set.folder.exists(
        "atlas.png"
    ):  # other programs' sets have none
        look.insert(0, ("Prototypes beside images of their class", f"{plan.evaluated_set.folder.shown}/atlas.png"))
    then = kind.then
    if kind.name == kinds.CURATED and (tree := plan.known_classes) and tree.name == "unlabelled":
        then = "generate CONFIG"
    if then:
        again = {word.partition("=")[0] for word in then.split() if "=" in word}  # keys that it sets itself
        given = shlex.join(word for word in words if word.partition("=")[0] not in again)
        places = {"CONFIG": given, "FOLDER": shlex.quote(folder.shown)}
        then = re.sub("CONFIG|FOLDER", lambda found: places[found[0]], then)  # at once: a path may hold either
        look.append((kind.before, f"raydistill {then}"))
    show(look)
    if kind.name == kinds.EVALUATION or not then:
        _show_runs(plan)


def show(look: Sequence[tuple[str, str]], then: str = "") -> None:
    """Print paths by what they show, and the next command without `raydistill`."""
    lines = [*look, *([("Next", f"raydistill {then}")] if then else [])]
    for what, text in lines:
        fits = len(what) + len(text) + 2 <= WIDTH and "\n" not in text
        print(f"{what}: {text}" if fits else f"{what}:\n  {text}", file=sys.stderr)


def _show_runs(plan: Plan) -> None:
    """Print the command that shows the runs in MLflow."""
    from raydistill.tracking.tracker import tracker_of
    from raydistill.tracking.uris import ui_command

    tracker = tracker_of(plan)
    if tracker.enabled:
        look = [("All runs, in MLflow", ui_command(tracker.uri, between=" \\\n    "))]
        if "mlflow" in sys.modules and (page := tracker.page()) is not None:  # importing it takes seconds
            look.append(("Then open", page))
        show(look)
