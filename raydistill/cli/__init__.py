"""Define the `raydistill` command and its subcommands.

There is one per stage, `run` for all stages, and `demo` for a first look.

Logs and progress go to stderr. The last line of stdout is the path of the artifact. Heavy imports
stay inside the subcommands, so that help and usage errors are immediate.

base          the application, shared arguments, exit codes
distillation  from the survey to the evaluation, the search and predictions
generation    generators, samples and audits
hunting       the search for rare objects
surveys       adaptation to another survey
detection     detectors trained on synthetic fields
fetching      downloads of public records and cut-outs
runs          all stages in order
"""

from __future__ import annotations

import sys
from pathlib import Path

from raydistill.cli.base import app

# isort: off
# The order of these imports is that of the commands in the help.
from raydistill.cli import distillation, generation, hunting, surveys, detection, fetching, runs  # noqa: F401
# isort: on

main = app


def run_job(script: str) -> None:
    """Run the command named after a script in `jobs/`, with the script's arguments."""
    app([Path(script).stem, *sys.argv[1:]])
