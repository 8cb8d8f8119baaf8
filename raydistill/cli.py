"""The `raydistill` command: one subcommand per stage, `run` for all of them, `demo` for a first look.

Logs and progress go to stderr; the last line of stdout is the path of the artifact. Heavy imports stay inside the
subcommands, so that help and typing errors answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from raydistill.errors import RaydistillError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Distil a galaxy survey into a few synthetic images per class that teach a network what the survey knows.",
)  # fmt: skip

ConfigPath = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of one in configs/, such as demo.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="For example distill.iterations=500.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved config and what would be written or skipped.")
]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="More log lines; twice: also Ray's and MLflow's.")
]


@app.command()
def simulate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Paint the simulated survey of a config, with simulated volunteers' votes."""
    _stage("simulate", config, overrides, dry_run, verbose)


@app.command()
def curate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Choose the classes and galaxies of a survey, and check, crop and resize their pictures."""
    _stage("curate", config, overrides, dry_run, verbose)


@app.command()
def experts(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Train the expert networks and keep their trajectories."""
    _stage("experts", config, overrides, dry_run, verbose)


@app.command()
def distill(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Match the experts' trajectories with a few synthetic images per class."""
    _stage("distill", config, overrides, dry_run, verbose)


@app.command()
def evaluate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Train fresh networks on the distilled set and on every baseline, and compare them on test galaxies.

    distilled=PATH judges any distilled set on this config's survey.
    """
    _stage("evaluate", config, overrides, dry_run, verbose)


@app.command()
def run(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Run all stages, skipping those whose artifact exists."""
    _run(config, overrides, dry_run, verbose)


@app.command()
def demo(
    config: Annotated[str, typer.Argument(metavar="[CONFIG]")] = "configs/demo.yaml",
    overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0,
) -> None:  # fmt: skip
    """The whole chain on a small simulated survey, in about five minutes on two cores."""
    _run("demo", overrides, dry_run, verbose)


def _stage(name: str, path: str, overrides: list[str] | None, dry: bool, verbose: int) -> None:
    with _sentences():
        config = _load(path, overrides, verbose)
        from raydistill.pipeline.run import dry_run, run_stage

        print(dry_run(config) if dry else run_stage(name, config))


def _run(path: str, overrides: list[str] | None, dry: bool, verbose: int) -> None:
    with _sentences():
        config = _load(path, overrides, verbose)
        from raydistill.pipeline import run as pipeline

        if dry:
            print(pipeline.dry_run(config))
            return
        report = pipeline.run(config)
        pipeline.show(config, report, out=sys.stderr)
        print(report.folder)


def _load(path: str, overrides: list[str] | None, verbose: int) -> Any:
    from raydistill import config, log

    log.setup(verbose)
    return config.load(path, overrides or [])


@contextmanager
def _sentences() -> Iterator[None]:
    """Our own errors as one sentence on stderr and their exit code; anything else is a bug and keeps its traceback."""
    try:
        yield
    except RaydistillError as error:
        print(f"raydistill: {error}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        print("raydistill: stopped; the same command goes on from where it was", file=sys.stderr)
        raise typer.Exit(130) from error


main: Callable[..., Any] = app

if __name__ == "__main__":
    main()
