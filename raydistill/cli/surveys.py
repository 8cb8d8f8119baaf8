"""Define the commands about other surveys: adapt networks to one."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill.cli.base import EXIT_CODES, ConfigPath, DryRun, Overrides, Verbose, app, run_stage

TargetPath = Annotated[
    str, typer.Argument(metavar="TARGET", help="The config of another survey, or the folder of its curated set.")
]


@app.command(epilog=EXIT_CODES)
def adapt(
    config: ConfigPath,
    target: TargetPath,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    verbose: Verbose = 0,
) -> None:
    """Adapt networks to another survey without its labels.

    Networks trained on CONFIG's survey are aligned with the unlabelled galaxies of TARGET. The report
    compares source, target without and with the alignment, and networks trained on the target's
    labels, which nothing else uses. Both curated sets must exist.
    """
    run_stage("adapt", config, overrides, dry_run, verbose, target)
