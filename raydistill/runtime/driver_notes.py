"""Notes of a command for its supervisor, in memory that outlives the command.

A note is a kind and words:

opened  tracking URI and id of an MLflow run
closed  the id of the run
lost    the part of Ray that died
kept    there is a supervisor
ended   the command has said how it ended
"""

from __future__ import annotations

import json
import os

MOST_BYTES = 2**16  # of the notes of a usual command
_memory: int | None = None


def keep() -> None:
    """Keep the notes of this process and of its forks.

    Keep none if a limit of file sizes admits few bytes.
    """
    global _memory
    _memory = os.memfd_create("raydistill")
    try:
        note("kept", " " * MOST_BYTES)
    except OSError:
        _memory = None


def are_kept() -> bool:
    """Return whether a supervisor will read the notes."""
    return _memory is not None


def note(kind: str, *words: str) -> None:
    """Add a note; without a supervisor do nothing."""
    if _memory is not None:
        os.write(_memory, json.dumps([kind, *words]).encode() + b"\n")


def read(kind: str) -> list[list[str]]:
    """Return the words of all notes of a kind."""
    assert _memory is not None
    os.lseek(_memory, 0, os.SEEK_SET)
    with os.fdopen(os.dup(_memory)) as file:
        notes = [json.loads(line) for line in file]
    return [words for other, *words in notes if other == kind]
