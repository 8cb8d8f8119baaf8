"""Define the command that finds rare objects."""

from __future__ import annotations

from raydistill.cli.base import EXIT_CODES, ConfigPath, DryRun, Overrides, Verbose, app, run_stage


@app.command(epilog=EXIT_CODES)
def hunt(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Find rare objects in a survey from a few labels.

    Open sheet.html of the round in a browser, label the candidates by keyboard and save labels.csv.
    Then give hunt.labels=labels.csv for the next round. With hunt.oracle a table of the truth
    answers, and strategies are compared. The predictions of the survey must exist.
    """
    run_stage("hunt", config, overrides, dry_run, verbose)
