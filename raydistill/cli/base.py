"""Define the Typer application, the shared arguments and the exit codes."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from raydistill import __version__
from raydistill.errors import RaydistillError, find_known_error

EXIT_CODES = """Exit codes:

\b
  0    done
  1    an error of raydistill itself; please report it
  2    the config or the command line is wrong
  3    an artifact, the vote table or the images cannot be used
  4    training or matching diverged
  5    the Ray cluster lacks the requested resources, or its connection was lost
  130  stopped by Ctrl-C (143: by SIGTERM); run the same command again to resume
"""

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, epilog=EXIT_CODES,
    help="Distil a galaxy survey into a few synthetic images per class that train a network like the survey.",
)  # fmt: skip

ConfigPath = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of one in configs/, such as demo.")
]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For example distill.iterations=500.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved config and what would be written or skipped.")
]
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
    name: str, path: str, overrides: list[str] | None, dry: bool, verbose: int, *arguments: str | None
) -> None:
    """Run one stage of a config, or print what it would write.

    A stage whose artifact exists is skipped. `arguments` are the stage's own, as `pipeline.run.run_stage` takes them.
    """
    with exit_on_error():
        plan = load_plan(path, overrides, verbose)
        from raydistill.pipeline import run as pipeline

        specs = pipeline.specs_of_stage(name, plan, *arguments)
        if dry:
            print_result(pipeline.dry_run(plan, specs))
            return
        folder = specs[-1].folder if pipeline.is_finished(specs) else pipeline.run_stage(name, plan, *arguments).folder
        show(name, plan, folder)
        print_result(folder)


def split_words(words: list[str] | None) -> tuple[str | None, list[str]]:
    """Return the folder of a set that may come first, and the overrides."""
    overrides = list(words or [])
    return (overrides.pop(0) if overrides and "=" not in overrides[0] else None), overrides


def show(name: str, plan: Any, folder: Any) -> None:
    """Print the results of a stage to stderr, if it has any that fit there."""
    from raydistill.pipeline.report import PRINTERS

    if name in PRINTERS:
        from raydistill.artifacts.opening import open_artifact

        PRINTERS[name](plan, open_artifact(folder), sys.stderr)


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
