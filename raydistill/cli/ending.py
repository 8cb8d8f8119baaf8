"""Say at the end of a command what it made, and which command comes next.

It goes to stderr, because the last line of stdout is the path of the artifact.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raydistill.artifacts import kinds
from raydistill.text import WIDTH

if TYPE_CHECKING:
    from raydistill.pipeline.plan import Plan
    from raydistill.storage import Folder
    from raydistill.table import Kind


def end(plan: Plan, kind: Kind, folder: Folder, words: Sequence[str]) -> None:
    """Print what to look at in an artifact, and the next command.

    Parameters
    ----------
    plan
        The plan of the artifact.
    kind, folder
        The artifact.
    words
        The config and the overrides, as they were given.
    """
    look = [(what, f"{folder.shown}/{name}") for what, name in kind.look.items() if folder.exists(name)]
    if kind.name == kinds.EVALUATION and plan.evaluated_set.folder.exists(
        "atlas.png"
    ):  # other programs' sets have none
        look.insert(0, ("Prototypes beside images of their class", f"{plan.evaluated_set.folder.shown}/atlas.png"))
    then = kind.then
    if kind.name == kinds.CURATED and plan.config.curate.classes == "unlabelled":
        then = "generate CONFIG"
    if then:
        then = then.replace("CONFIG", shlex.join(words)).replace("FOLDER", shlex.quote(folder.shown))
        look.append((kind.before, f"raydistill {then}"))
    show(look)
    if kind.name == kinds.EVALUATION or not then:
        _show_runs(plan)


def show(look: Sequence[tuple[str, str]], then: str = "") -> None:
    """Print paths by what they show, and the next command without `raydistill`."""
    lines = [*look, *([("Next", f"raydistill {then}")] if then else [])]
    for what, text in lines:
        fits = len(what) + len(text) + 2 <= WIDTH and "\n" not in text
        print(f"{what}: {text}" if fits else f"{what}:\n  {text}", file=sys.stderr)


def _show_runs(plan: Plan) -> None:
    """Print the command that shows the runs in MLflow."""
    from raydistill.tracking.of_plan import tracker_of
    from raydistill.tracking.uris import ui_command

    tracker = tracker_of(plan)
    if tracker.enabled:
        look = [("All runs, in MLflow", ui_command(tracker.uri, between=" \\\n    "))]
        if "mlflow" in sys.modules and (page := tracker.page()) is not None:  # importing it takes seconds
            look.append(("Then open", page))
        show(look)
