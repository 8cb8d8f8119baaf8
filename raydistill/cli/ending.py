"""Say at the end of a command what it made, and which command comes next.

It goes to stderr, because the last line of stdout is the path of the artifact.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raydistill.artifacts import kinds
from raydistill.text import WIDTH

if TYPE_CHECKING:
    from raydistill.pipeline.plan import Plan
    from raydistill.storage import Folder


@dataclass(frozen=True)
class Ending:
    """The end of a command that made an artifact.

    Parameters
    ----------
    look
        Files to look at, by what they show. A file that is not there is left out.
    then
        The next command, without `raydistill`. CONFIG stands for the config and the overrides of
        this command, FOLDER for the artifact. "": none.
    what
        The words before that command.
    """

    look: tuple[tuple[str, str], ...]
    then: str = ""
    what: str = "Next"


ENDINGS = {
    kinds.SURVEY: Ending((("Pictures", "images"), ("Votes", "catalog.csv")), "curate CONFIG"),
    kinds.CURATED: Ending((("Pictures of each class", "examples.png"),), "experts CONFIG"),
    kinds.TRAJECTORIES: Ending((("Accuracy by epoch", "experts.png"),), "distill CONFIG"),
    kinds.DISTILLED: Ending(
        (("Prototypes beside images of their class", "atlas.png"), ("Loss and accuracy", "history.png")),
        "evaluate CONFIG",
    ),
    kinds.EVALUATION: Ending(
        (("Accuracy", "accuracy.png"), ("Other networks", "networks.png"), ("Confusion matrix", "confusion.png")),
        "analyse CONFIG",
    ),
    kinds.ANALYSIS: Ending((("Report", "report.html"),)),
    kinds.SEARCH: Ending(
        (("All trials", "parallel.png"), ("The best recipe", "best.yaml")), "run FOLDER/best.yaml"
    ),
    kinds.GENERATOR: Ending((("Samples beside galaxies of the survey", "previews"),), "sample CONFIG"),
    kinds.SYNTHETIC: Ending((("Pictures", "grid.png"),), "audit CONFIG"),
    kinds.AUDIT: Ending((("Report", "report.html"), ("Quiz", "quiz.html")), "augment CONFIG"),
    kinds.AUGMENTATION: Ending((("Accuracy by labelled galaxies", "few_shot.png"),)),
    kinds.DETECTION: Ending((("Frames with boxes", "frames.png"),)),
    kinds.PREDICTIONS: Ending((("Probabilities and features", "data"),), "hunt CONFIG"),
    kinds.HUNT_ROUND: Ending((("Candidates to label", "sheet.html"),), "hunt CONFIG hunt.labels=labels.csv"),
    kinds.HUNT: Ending(
        (("Finds by label", "curves.png"), ("Candidates of the last round", "sheet.html"), ("Labels", "labels.csv")),
        "hunt CONFIG hunt.oracle=null",
        "Next, to label galaxies yourself",
    ),
    kinds.ADAPTATION: Ending((("Accuracy on both surveys", "adaptation.png"),)),
}  # fmt: skip


def end(plan: Plan, kind: str, folder: Folder, words: Sequence[str]) -> None:
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
    own = ENDINGS[kind]
    look = [(what, f"{folder.shown}/{name}") for what, name in own.look if folder.exists(name)]
    if kind == kinds.EVALUATION and plan.evaluated_set.folder.exists("atlas.png"):  # other programs' sets have none
        look.insert(0, ("Prototypes beside images of their class", f"{plan.evaluated_set.folder.shown}/atlas.png"))
    then = own.then
    if kind == kinds.CURATED and plan.config.curate.classes == "unlabelled":
        then = "generate CONFIG"
    if then:
        then = then.replace("CONFIG", shlex.join(words)).replace("FOLDER", shlex.quote(folder.shown))
        look.append((own.what, f"raydistill {then}"))
    show(look)
    if kind == kinds.EVALUATION or not then:
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
