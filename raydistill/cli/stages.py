"""Make the command of each stage from the table of stages."""

from typing import Annotated

import typer

from raydistill import table
from raydistill.cli.base import ConfigPath, DryRun, Json, Verbose, command, run_stage


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
        run_stage(stage, config, list(words or []), dry_run, as_json, verbose)

    command(stage.group, stage.example, stage.page, name=stage.name, help=stage.help)(run)


for _stage in table.stages().values():
    _add(_stage)
