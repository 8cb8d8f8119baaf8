"""Define the commands that run all stages: `run` and `demo`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from raydistill.cli.base import (
    ConfigPath,
    DryRun,
    Json,
    Overrides,
    Verbose,
    command,
    exit_on_error,
    finish,
    load_plan,
    print_plan,
)
from raydistill.cli.table import MAIN


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


@command(MAIN, "raydistill run demo_hunt --to hunt", "tutorial.md")
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    to: LastStage = Stage.EVALUATE,
    dry_run: DryRun = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run all stages, skipping those whose artifact exists.

    --to audit trains a generator in place of a distilled set, samples it, and audits the samples.
    --to hunt predicts the survey, samples the synthetic sources of `hunt`, and hunts.
    --to analyse distils a set, and measures its prototypes beside galaxies of the survey.
    """
    _run_stages(config, overrides, dry_run, as_json, verbose, to)


@command(MAIN, "raydistill demo", "tutorial.md")
def demo(
    overrides: Overrides = None, dry_run: DryRun = False, as_json: Json = False, verbose: Verbose = 0
) -> None:  # fmt: skip
    """Run all stages on a small simulated survey, for a first look.

    It takes about five minutes on two cores. `raydistill run demo` does the same.
    """
    _run_stages("demo", overrides, dry_run, as_json, verbose, Stage.EVALUATE)


def _run_stages(path: str, overrides: list[str] | None, dry: bool, as_json: bool, verbose: int, last: Stage) -> None:
    with exit_on_error():
        plan = load_plan(path, overrides, verbose)
        from raydistill.pipeline import run as pipeline

        specs = pipeline.specs_of(plan, last.value)
        if dry or as_json:
            print_plan(plan, specs, dry, as_json)
            return
        artifact = None if pipeline.is_finished(specs) else pipeline.run(plan, last.value)
        words = [path, *(overrides or [])]
        finish(last.value, plan, specs[-1].folder if artifact is None else artifact.folder, words, artifact)
