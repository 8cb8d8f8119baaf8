"""Define the commands of synthetic galaxies: train, sample, audit and use them."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill.cli.base import EXIT_CODES, ConfigPath, DryRun, Overrides, Verbose, app, run_stage, split_words

AuditWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SET] KEY=VALUE", help="The folder of a set, then for example audit.seed=1."),
]
FilterProbability = Annotated[
    float | None,
    typer.Option("--filter", metavar="P", help="Keep images that the experts recognise with probability P or more."),
]


@app.command(epilog=EXIT_CODES)
def generate(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Train a generator of galaxies on the curated set.

    `generate.conditions` in the config says what it is given of a galaxy: votes, class, size, colour.
    Previews show samples beside real galaxies.
    """
    run_stage("generate", config, overrides, dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def sample(
    config: ConfigPath,
    overrides: Overrides = None,
    filter: FilterProbability = None,
    dry_run: DryRun = False,
    verbose: Verbose = 0,
) -> None:
    """Make synthetic galaxies: sample, inject, or simulate.

    `sample.source` in the config says where they come from, by default the generator. Its
    `sample.conditions` say what they show: classes, answers of volunteers, a table, or real
    galaxies with some answers changed. Every row and picture says that it is synthetic.
    """
    own = [] if filter is None else [f"sample.filter.min_probability={filter}"]
    run_stage("sample", config, [*(overrides or []), *own], dry_run, verbose)


@app.command(epilog=EXIT_CODES)
def audit(config: ConfigPath, words: AuditWords = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Compare a set of images with real galaxies.

    SET is the folder of a synthetic set, a distilled set, or the curated set of another survey; by
    default that of `raydistill sample CONFIG`. The result has a report and a quiz: report.html and
    quiz.html.
    """
    path, overrides = split_words(words)
    run_stage("audit", config, overrides, dry_run, verbose, path)


@app.command(epilog=EXIT_CODES)
def augment(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Compare classifiers with and without synthetic galaxies.

    `augment` in the config has the sets, the numbers of labelled galaxies and the methods. All
    classifiers take the same number of steps.
    """
    run_stage("augment", config, overrides, dry_run, verbose)
