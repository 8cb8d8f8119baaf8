"""docs/commands.md, the help of every command as the command line prints it.

`python -m tests.unit.test_commands_reference` writes the document again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from raydistill.cli import app
from raydistill.table import GROUPS

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"
HEAD = """# Commands

`raydistill COMMAND --help` prints the text of a command. [Errors](errors.md) explains the exit codes.
`raydistill --version` shows the version, `raydistill --install-completion` installs completion for the shell.
"""


def help_of(*words: str) -> str:
    """Return the help of a command, 80 columns wide, without the exit codes."""
    result = CliRunner().invoke(app, [*words, "--help"], prog_name="raydistill", env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    lines = result.output.partition("Exit codes:")[0].splitlines()
    return "\n".join(line.rstrip() for line in lines).strip()


def index(commands: Mapping[str, Any]) -> str:
    """Return a table of the commands by group, with an example of each."""
    lines = []
    for group in GROUPS:
        lines += [f"\n| {group} | | example |", "|---|---|---|"]
        for name, command in commands.items():
            if command.rich_help_panel == group:
                example = command.epilog.partition("\n")[0].removeprefix("Example: ")
                purpose = command.help.partition("\n\n")[0].replace("\n", " ")
                lines.append(f"| [`{name}`](#{name}) | {purpose} | `{example}` |")
    return "\n".join(lines)


def document() -> str:
    """Return the text of docs/commands.md."""
    commands = getattr(get_command(app), "commands")  # noqa: B009, of Typer's own group
    blocks = [f"## {name}\n\n```text\n{help_of(name)}\n```\n" for name in commands]
    return "\n".join([HEAD + index(commands) + "\n", *blocks])


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == document(), "run: python -m tests.unit.test_commands_reference"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
