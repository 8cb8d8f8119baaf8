"""Define the command that finds rare objects."""

from __future__ import annotations

import sys

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


@app.command(epilog=EXIT_CODES)
def hunt(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False, verbose: Verbose = 0) -> None:
    """Find rare objects in a survey from a few labels.

    Open sheet.html of the round in a browser, label the candidates by keyboard and save labels.csv.
    Then give hunt.labels=labels.csv for the next round. With hunt.oracle a table of the truth
    answers, and strategies are compared. The predictions of the survey must exist.
    """
    with exit_on_error():
        plan = load_plan(config, overrides, verbose)
        from raydistill.pipeline import report
        from raydistill.pipeline import run as pipeline

        if dry_run:
            from raydistill.pipeline.hunt.specs import hunt_specs

            print_result(pipeline.dry_run(plan, hunt_specs(plan)))
            return
        result = pipeline.hunt(plan)
        report.hunt_report(result, out=sys.stderr)
        print_result(result.folder)
