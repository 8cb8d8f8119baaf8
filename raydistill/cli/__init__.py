"""Define the `raydistill` command and its subcommands.

There is one per stage, `run` for all stages, and `demo` for a first look.

Logs and progress go to stderr. The last line of stdout is the path of the artifact. Heavy imports
stay inside the subcommands, so that help and usage errors are immediate.

base      the application, shared arguments, exit codes, and what a command says at its end
stages    the commands of the stages, from the table of stages; `run` and `demo`
released  sets that come with raydistill, and their figures
tools     downloads of public records and cut-outs, copies for other programs, the shipped configs
"""

from __future__ import annotations

from raydistill.cli.base import app
from raydistill.cli.supervisor import supervise

# isort: off
# The order of these imports is that of the commands in the help.
from raydistill.cli import stages, released, tools
# isort: on


def main() -> None:
    """Run the command of this process's arguments."""
    supervise(app)
