"""Define the `raydistill` command: a subcommand per stage, `run` for all stages, `demo` for a first look.

Logs and progress go to stderr. The last line of stdout is the path of the artifact. Heavy imports
stay inside the subcommands, so that help and usage errors are immediate.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
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


class Stage(StrEnum):
    """A stage of the pipeline, by the name of its command."""

    SIMULATE = "simulate"
    CURATE = "curate"
    EXPERTS = "experts"
    DISTILL = "distill"
    EVALUATE = "evaluate"
    GENERATE = "generate"
    SAMPLE = "sample"
    AUDIT = "audit"


ConfigPath = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of one in configs/, such as demo.")
]
SurveyPath = Annotated[str, typer.Argument(metavar="SURVEY", help="A config, a curated set, or a folder of pictures.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For example distill.iterations=500.")]
AuditWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SET] KEY=VALUE", help="The folder of a set, then for example audit.seed=1."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved config and what would be written or skipped.")
]
LastStage = Annotated[
    Stage, typer.Option("--to", metavar="STAGE", help="The last stage; it and all that it needs are run.")
]
FilterProbability = Annotated[
    float | None,
    typer.Option("--filter", metavar="P", help="Keep images that the experts recognise with probability P or more."),
]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="More log lines; twice: also Ray's and MLflow's.")
]


class ExportForm(StrEnum):
    """List the names of `artifacts.export.Form`."""

    DD_RANKING = "dd-ranking"
    PNG = "png"


def _print_version(requested: bool) -> None:
    if requested:
        print(f"raydistill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")] = False,
) -> None:  # fmt: skip
    """Distil a galaxy survey into a few synthetic images per class that train a network like the survey."""


@app.command(epilog=EXIT_CODES)
def simulate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Render a simulated survey, with simulated volunteers' votes."""
    _stage("simulate", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def curate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Select classes and galaxies; check, crop and resize images."""
    _stage("curate", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def experts(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Train the expert networks and store their trajectories."""
    _stage("experts", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def distill(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Distil a few images per class that match the trajectories."""
    _stage("distill", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def evaluate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Compare networks trained on the distilled set with baselines.

    Train fresh networks on the distilled set and on every baseline, and evaluate them on test
    galaxies. distilled=PATH evaluates another distilled set on this config's survey.
    """
    _stage("evaluate", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def tune(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Search for the recipe with the best accuracy in validation.

    `search` in the config has the values of `distill` to try, and the number of trials. The best
    recipe is written as a new config.
    """
    with exit_on_error():
        plan = _plan(config, overrides, verbose)
        from raydistill.pipeline import report
        from raydistill.pipeline import run as pipeline

        if dry_run:
            print_result(pipeline.dry_run(plan, plan.search_specs()))
            return
        result = pipeline.search(plan)
        report.search_report(result, out=sys.stderr)
        print_result(result.folder)


@app.command(epilog=EXIT_CODES)
def predict(
    config: ConfigPath,
    survey: SurveyPath,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    verbose: Verbose = 0,
) -> None:
    """Predict the class of every picture of a survey.

    The trained experts of CONFIG must exist. The result has mean and spread of the class
    probabilities and the features of each picture.
    """
    with exit_on_error():
        plan = _plan(config, overrides, verbose)
        from raydistill.pipeline import run as pipeline

        own = None if survey == config else survey  # the overrides also change CONFIG's survey
        if dry_run:
            from raydistill.pipeline.predict.stage import predict_specs

            print_result(pipeline.dry_run(plan, predict_specs(plan, own)))
            return
        print_result(pipeline.predict(plan, own).folder)


@app.command(epilog=EXIT_CODES)
def generate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Train a generator of galaxies on the curated set.

    `generate.conditions` in the config says what it is given of a galaxy: votes, class, size, colour.
    Previews show samples beside real galaxies.
    """
    with exit_on_error():
        plan = _plan(config, overrides, verbose)
        from raydistill.pipeline import run as pipeline

        print_result(pipeline.dry_run(plan, plan.generator_specs()) if dry_run else pipeline.generate(plan).folder)


@app.command(epilog=EXIT_CODES)
def sample(
    config: ConfigPath,
    overrides: Overrides = None,
    filter: FilterProbability = None,
    dry_run: DryRun = False,
    verbose: Verbose = 0,
) -> None:
    """Sample synthetic galaxies from the trained generator.

    `sample.conditions` in the config says what they show: classes, answers of volunteers, a table,
    or real galaxies with some answers changed. Every row and picture says that it is synthetic.
    """
    with exit_on_error():
        own = [] if filter is None else [f"sample.filter.min_probability={filter}"]
        plan = _plan(config, [*(overrides or []), *own], verbose)
        from raydistill.pipeline import run as pipeline

        print_result(pipeline.dry_run(plan, plan.synthetic_specs()) if dry_run else pipeline.sample(plan).folder)


@app.command(epilog=EXIT_CODES)
def audit(config: ConfigPath, words: AuditWords = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Compare a set of images with real galaxies.

    SET is the folder of a synthetic set, a distilled set, or the curated set of another survey; by
    default that of `raydistill sample CONFIG`. The result has a report and a quiz: report.html and
    quiz.html.
    """
    with exit_on_error():
        overrides = list(words or [])
        path = overrides.pop(0) if overrides and "=" not in overrides[0] else None
        plan = _plan(config, overrides, verbose)
        from raydistill.pipeline import report
        from raydistill.pipeline import run as pipeline

        if dry_run:
            print_result(pipeline.dry_run(plan, plan.audit_specs(path)))
            return
        result = pipeline.audit(plan, path)
        report.audit_report(result, out=sys.stderr)
        print_result(result.folder)


@app.command(epilog=EXIT_CODES)
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    to: LastStage = Stage.EVALUATE,
    dry_run: DryRun = False,
    verbose: Verbose = 0,
) -> None:
    """Run all stages, skipping those whose artifact exists.

    --to audit trains a generator in place of a distilled set, samples it, and audits the samples.
    """
    _run(config, overrides, dry_run, verbose, to)


@app.command(epilog=EXIT_CODES)
def demo(overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Run all stages on a small simulated survey, for a first look.

    It takes about five minutes on two cores. `raydistill run demo` does the same.
    """
    _run("demo", overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def export(
    distilled_set: Annotated[
        str, typer.Argument(metavar="DISTILLED_SET", help="The folder of a finished distilled set.")
    ],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A new folder for the copy.")],
    form: Annotated[ExportForm, typer.Option("--format", help="The file format to write.")] = ExportForm.DD_RANKING,
) -> None:
    """Export a distilled set to the files of another program.

    dd-ranking: images.pt, labels.pt and lr.pt, as the package DD-Ranking loads them.
    png: a folder of images per class and a table of their labels.
    info.json has the mean and std that undo the normalisation.
    """
    with exit_on_error():
        from raydistill.artifacts.distilled import DistilledSet
        from raydistill.artifacts.export import export
        from raydistill.storage import Folder

        target = Folder(folder)
        export(DistilledSet.open(distilled_set), target, form.value)
        print_result(target)


def _stage(name: str, path: str, overrides: list[str] | None, dry: bool, verbose: int) -> None:
    with exit_on_error():
        plan = _plan(path, overrides, verbose)
        from raydistill.pipeline import run as pipeline

        if dry:
            print_result(pipeline.dry_run(plan, pipeline.specs_of(plan, name)))
        else:
            print_result(pipeline.run_stage(name, plan).folder)


def _run(path: str, overrides: list[str] | None, dry: bool, verbose: int, last: Stage = Stage.EVALUATE) -> None:
    with exit_on_error():
        plan = _plan(path, overrides, verbose)
        from raydistill.pipeline import report
        from raydistill.pipeline import run as pipeline

        if dry:
            print_result(pipeline.dry_run(plan, pipeline.specs_of(plan, last.value)))
            return
        result = pipeline.run(plan, last.value)
        if last is Stage.EVALUATE:
            report.report_of_run(plan, result, out=sys.stderr)
        elif last is Stage.AUDIT:
            report.audit_report(result, out=sys.stderr)
        print_result(result.folder)


def _plan(path: str, overrides: list[str] | None, verbose: int) -> Any:
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
    """Write the traceback of an unexpected error to a file, and return an error that names it."""
    last_line = " ".join(str(error).strip().rpartition("\n")[2].split())[:200]
    what = f"an error of raydistill itself ({type(error).__name__}: {last_line})"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="raydistill-", suffix=".log", delete=False) as log:
            traceback.print_exception(error, file=log)
    except OSError:
        traceback.print_exception(error)
        return RaydistillError(what, fix="please report the traceback above")
    return RaydistillError(what, fix=f"please report it with the traceback in {log.name}")


main: Callable[..., Any] = app


def run_job(script: str) -> None:
    """Run the command named after a script in `jobs/`, with the script's arguments."""
    app([Path(script).stem, *sys.argv[1:]])


if __name__ == "__main__":
    main()
