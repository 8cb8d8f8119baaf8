"""Define the commands of synthetic galaxies: train, sample, audit and use them."""

from __future__ import annotations

import sys
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
    load_plan,
    print_result,
)

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
    with exit_on_error():
        plan = load_plan(config, overrides, verbose)
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
    """Make synthetic galaxies: sample, inject, or simulate.

    `sample.source` in the config says where they come from, by default the generator. Its
    `sample.conditions` say what they show: classes, answers of volunteers, a table, or real
    galaxies with some answers changed. Every row and picture says that it is synthetic.
    """
    with exit_on_error():
        own = [] if filter is None else [f"sample.filter.min_probability={filter}"]
        plan = load_plan(config, [*(overrides or []), *own], verbose)
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
        plan = load_plan(config, overrides, verbose)
        from raydistill.pipeline import report
        from raydistill.pipeline import run as pipeline
        from raydistill.pipeline.audit.specs import audit_specs

        if dry_run:
            print_result(pipeline.dry_run(plan, audit_specs(plan, path)))
            return
        result = pipeline.audit(plan, path)
        report.audit_report(result, out=sys.stderr)
        print_result(result.folder)


@app.command(epilog=EXIT_CODES)
def augment(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Compare classifiers with and without synthetic galaxies.

    `augment` in the config has the sets, the numbers of labelled galaxies and the methods. All
    classifiers take the same number of steps.
    """
    with exit_on_error():
        plan = load_plan(config, overrides, verbose)
        from raydistill.pipeline import run as pipeline
        from raydistill.pipeline.augment.specs import augmentation_specs

        if dry_run:
            print_result(pipeline.dry_run(plan, augmentation_specs(plan)))
            return
        from raydistill.pipeline.augment.printing import augmentation_report

        result = pipeline.run_augment(plan)
        augmentation_report(result, out=sys.stderr)
        print_result(result.folder)
