"""Define the command that trains a detector on synthetic galaxies."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill.cli.base import EXIT_CODES, ConfigPath, DryRun, Verbose, app, run_stage, split_words

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
    path, overrides = split_words(words)
    run_stage("detect", config, overrides, dry_run, verbose, path)
