"""Define the command that trains a detector on synthetic galaxies."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from raydistill.cli.base import (
    EXIT_CODES,
    ConfigPath,
    DryRun,
    Verbose,
    app,
    exit_on_error,
    load_plan,
    print_result,
)

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SET] KEY=VALUE", help="The folder of a synthetic set, then for example detect.steps=800."),
]


@app.command(epilog=EXIT_CODES)
def detect(config: ConfigPath, words: Words = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Train a detector on synthetic galaxies; test it on real frames.

    SET is the folder of a synthetic set; by default that of `raydistill sample CONFIG`. The galaxies
    are placed into larger fields with exact boxes and masks, which are written in the format of COCO.
    """
    with exit_on_error():
        overrides = list(words or [])
        path = overrides.pop(0) if overrides and "=" not in overrides[0] else None
        plan = load_plan(config, overrides, verbose)
        from raydistill.pipeline import run as pipeline
        from raydistill.pipeline.detect.specs import detection_specs

        if dry_run:
            print_result(pipeline.dry_run(plan, detection_specs(plan, path)))
            return
        from raydistill.pipeline.detect.printing import detection_report

        result = pipeline.detect(plan, path)
        detection_report(result, out=sys.stderr)
        print_result(result.folder)
