"""Define the distillation commands: survey to evaluation, search and predictions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from raydistill.cli.base import (
    EXIT_CODES,
    ConfigPath,
    DryRun,
    Overrides,
    Verbose,
    app,
    exit_on_error,
    print_result,
    run_stage,
)

SurveyPath = Annotated[str, typer.Argument(metavar="SURVEY", help="A config, a curated set, or a folder of pictures.")]


class ExportForm(StrEnum):
    """List the names of `artifacts.export.Form`."""

    DD_RANKING = "dd-ranking"
    PNG = "png"
    HUGGINGFACE = "huggingface"


@app.command(epilog=EXIT_CODES)
def simulate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Render a simulated survey, with simulated volunteers' votes."""
    run_stage("simulate", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def curate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Select classes and galaxies; check, crop and resize images."""
    run_stage("curate", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def experts(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Train the expert networks and store their trajectories."""
    run_stage("experts", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def distill(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Distil a few images per class that match the trajectories."""
    run_stage("distill", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def evaluate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Compare networks trained on the distilled set with baselines.

    Train fresh networks on the distilled set and on every baseline, and evaluate them on test
    galaxies. distilled=PATH evaluates another distilled set on this config's survey.
    """
    run_stage("evaluate", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def analyse(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Measure the prototypes beside real galaxies, and write a report.

    report.html has pictures, figures and tables, with intervals; tables are also ECSV and Parquet
    files. The distilled set must exist. distilled=PATH analyses another set on this config's survey.
    """
    run_stage("analyse", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def tune(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Search for the recipe with the best accuracy in validation.

    `search` in the config has the values of `distill` to try, and the number of trials. The best
    recipe is written as a new config.
    """
    run_stage("tune", config, overrides, dry_run, verbose)


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
    own = None if survey == config else survey  # the overrides also change the survey of CONFIG
    run_stage("predict", config, overrides, dry_run, verbose, own)


@app.command(epilog=EXIT_CODES)
def export(
    artifact: Annotated[
        str, typer.Argument(metavar="SET", help="The folder of a finished distilled, curated or synthetic set.")
    ],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A new folder for the copy.")],
    form: Annotated[ExportForm, typer.Option("--format", help="The file format to write.")] = ExportForm.DD_RANKING,
) -> None:
    """Export a set of pictures to the files of another program.

    dd-ranking: images.pt, labels.pt and lr.pt of a distilled set, as the package DD-Ranking loads them.
    png: a folder of a distilled set's images per class and a table of their labels.
    huggingface: Parquet files and a card, as datasets.load_dataset(FOLDER) opens them.
    info.json has the mean and std that undo the normalisation.
    """
    with exit_on_error():
        from raydistill.artifacts.export import export, open_for_export
        from raydistill.storage import Folder

        target = Folder(folder)
        export(open_for_export(artifact, form.value), target, form.value)
        print_result(target)
