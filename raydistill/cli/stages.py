"""Define the commands that build artifacts: one per stage, `run` and `demo`."""

import sys
from typing import Annotated

import typer

from raydistill import table
from raydistill.cli.base import ConfigPath, DryRun, Json, Overrides, Verbose, command, run_stage
from raydistill.errors import ConfigError

# Define the commands that run all stages: `run` and `demo`.

LAST = "evaluate"
LastStage = Annotated[
    str, typer.Option("--to", metavar="STAGE", help="The last stage; it and all that it needs are run.")
]


@command(table.DISTIL, "raydistill run demo_hunt --to hunt", "tutorial.md")
def run(
    config: ConfigPath,
    overrides: Overrides = None,
    to: LastStage = LAST,
    dry_run: DryRun = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Run all stages, skipping those whose artifact exists.

    --to audit trains a generator in place of a distilled set, samples it, and audits the samples.
    --to hunt predicts the survey, samples the synthetic sources of `hunt`, and hunts.
    --to analyse distils a set, and measures its prototypes beside galaxies of the survey.
    """
    run_stage(to, config, overrides or [], dry_run, as_json, verbose, whole=True)


@command(table.DISTIL, "raydistill demo", "tutorial.md")
def demo(
    overrides: Overrides = None, dry_run: DryRun = False, as_json: Json = False, verbose: Verbose = 0
) -> None:  # fmt: skip
    """Run all stages on a small simulated survey, for a first look.

    It takes about five minutes on two cores. `raydistill run demo` does the same.
    """
    run_stage(LAST, "demo", overrides or [], dry_run, as_json, verbose, whole=True)


# Make the command of each stage from the table of stages.


def _add(stage: table.Stage) -> None:
    metavar = "[KEY=VALUE]..."
    key, name = (stage.argument.key, stage.argument.name) if stage.argument else ("", "")
    about = f"The value of {key}, then for example {key}=…" if key else "For example distill.iterations=500."

    def run(
        config: ConfigPath,
        words: Annotated[
            list[str] | None, typer.Argument(metavar=f"[{name}] {metavar}" if name else metavar, help=about)
        ] = None,
        dry_run: DryRun = False,
        as_json: Json = False,
        verbose: Verbose = 0,
    ) -> None:
        run_stage(stage.name, config, words or [], dry_run, as_json, verbose)

    command(stage.group, stage.example, stage.page, name=stage.name, help=stage.help)(run)


try:
    _stages = table.stages()
except ConfigError as error:  # of a package that adds a stage
    print(f"raydistill: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
for _stage in _stages.values():
    _add(_stage)
