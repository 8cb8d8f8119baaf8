"""Make the command of each stage from its row of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from raydistill.cli.base import ConfigPath, DryRun, Json, Overrides, Verbose, command, run_stage
from raydistill.cli.table import STAGES, Row

SetWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SET] KEY=VALUE", help="The folder of a set, then for example audit.seed=1."),
]
SurveyPath = Annotated[str, typer.Argument(metavar="SURVEY", help="A config, a curated set, or a folder of pictures.")]
TargetPath = Annotated[
    str, typer.Argument(metavar="TARGET", help="The config of another survey, or the folder of its curated set.")
]
FilterProbability = Annotated[
    float | None,
    typer.Option("--filter", metavar="P", help="Keep images that the experts recognise with probability P or more."),
]


def _add(name: str, row: Row) -> None:
    def plain(
        config: ConfigPath,
        overrides: Overrides = None,
        dry_run: DryRun = False,
        as_json: Json = False,
        verbose: Verbose = 0,
    ) -> None:
        run_stage(name, config, overrides, dry_run, as_json, verbose)

    def of_set(
        config: ConfigPath, words: SetWords = None, dry_run: DryRun = False, as_json: Json = False, verbose: Verbose = 0
    ) -> None:
        overrides = list(words or [])
        path = overrides.pop(0) if overrides and "=" not in overrides[0] else None
        run_stage(name, config, overrides, dry_run, as_json, verbose, path)

    def of_survey(
        config: ConfigPath, survey: SurveyPath, overrides: Overrides = None, dry_run: DryRun = False, as_json: Json = False,
        verbose: Verbose = 0,
    ) -> None:  # fmt: skip
        own = None if survey == config else survey  # the overrides also change the survey of CONFIG
        run_stage(name, config, overrides, dry_run, as_json, verbose, own)

    def of_target(
        config: ConfigPath, target: TargetPath, overrides: Overrides = None, dry_run: DryRun = False, as_json: Json = False,
        verbose: Verbose = 0,
    ) -> None:  # fmt: skip
        run_stage(name, config, overrides, dry_run, as_json, verbose, target)

    def filtered(
        config: ConfigPath, overrides: Overrides = None, filter: FilterProbability = None, dry_run: DryRun = False,
        as_json: Json = False, verbose: Verbose = 0,
    ) -> None:  # fmt: skip
        own = [] if filter is None else [f"sample.filter.min_probability={filter}"]
        run_stage(name, config, [*(overrides or []), *own], dry_run, as_json, verbose)

    functions: dict[str, Callable[..., None]] = {
        "": plain,
        "SET": of_set,
        "SURVEY": of_survey,
        "TARGET": of_target,
        "FILTER": filtered,
    }
    command(row.group, row.example, row.page, name=name, help=row.help)(functions[row.argument])


for _name, _row in STAGES.items():
    _add(_name, _row)
