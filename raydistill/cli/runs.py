"""Define the commands that run all stages: `run` and `demo`."""

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
    load_plan,
    print_result,
    show,
)


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
    PREDICT = "predict"
    HUNT = "hunt"
    ANALYSE = "analyse"


LastStage = Annotated[
    Stage, typer.Option("--to", metavar="STAGE", help="The last stage; it and all that it needs are run.")
]


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
    --to hunt predicts the survey, samples the synthetic sources of `hunt`, and hunts.
    --to analyse distils a set, and measures its prototypes beside real galaxies.
    """
    _run_stages(config, overrides, dry_run, verbose, to)


@app.command(epilog=EXIT_CODES)
def demo(overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Run all stages on a small simulated survey, for a first look.

    It takes about five minutes on two cores. `raydistill run demo` does the same.
    """
    _run_stages("demo", overrides, dry_run, verbose)


def _run_stages(path: str, overrides: list[str] | None, dry: bool, verbose: int, last: Stage = Stage.EVALUATE) -> None:
    with exit_on_error():
        plan = load_plan(path, overrides, verbose)
        from raydistill.pipeline import run as pipeline

        specs = pipeline.specs_of(plan, last.value)
        if dry:
            print_result(pipeline.dry_run(plan, specs))
            return
        folder = specs[-1].folder if pipeline.is_finished(specs) else pipeline.run(plan, last.value).folder
        show(last.value, plan, folder)
        print_result(folder)
