"""Define the commands of released sets: `sets`, `verify` and `release`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from raydistill import shipped
from raydistill.cli.base import ConfigPath, Overrides, Verbose, command, exit_on_error, print_result, show
from raydistill.table import DISTIL


@command(DISTIL, "raydistill sets", "how-to/share.md")
def sets() -> None:
    """List the distilled sets that come with raydistill.

    raydistill.open("NAME") opens one in Python, and `raydistill verify NAME` evaluates it again.
    """
    with exit_on_error():
        from raydistill.stages.distill.artifact import DistilledSet
        from raydistill.text import text_table

        rows, pictures = [("name", "images", "classes", "pixels", "balanced accuracy")], []
        for name in shipped.set_names():
            distilled = DistilledSet.open(str(shipped.SETS / name), verify=False)
            card, shape = distilled.card, distilled.images.shape
            accuracy = str(card.balanced_accuracy) if card else ""
            numbers = (str(shape[0]), str(len(distilled.class_names)), str(shape[-1]))
            rows.append((name, *numbers, accuracy))
            pictures.append((f"Picture of {name}", f"{distilled.folder.shown}/grid.png"))
        print_result(text_table("Distilled sets that come with raydistill", rows))
        show(pictures, f"verify {shlex.quote(rows[-1][0])}")


@command(DISTIL, "raydistill verify demo", "how-to/share.md")
def verify(
    place: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="A name of `raydistill sets`, or all of them; the folder of a distilled set; or a YAML file that "
            "describes the files of another project.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [KEY=VALUE]...",
            help="The config of a survey and its protocol. Default: that of the card.",
        ),
    ] = None,
    verbose: Verbose = 0,
) -> None:
    """Evaluate a set again, and compare its accuracy with the published one.

    Networks are trained on the set by the protocol of its card, and tested on the survey's galaxies. The
    exit code is 6 if the means differ by more than other networks explain.
    """
    with exit_on_error():
        from raydistill import log
        from raydistill.exporting.verify import is_at_hand, verify

        log.setup(verbose)
        config = words[0] if words and "=" not in words[0] else None
        overrides = (words or [])[0 if config is None else 1 :]
        wanted = shipped.set_names() if place == "all" else [place]
        absent = [name for name in wanted if place == "all" and not is_at_hand(name)]
        found = []
        for name in (name for name in wanted if name not in absent):
            found.append(verify(name, config, overrides))
            print_result(str(found[-1]))
        if absent:
            show([("Left out, because their surveys are not at hand", ", ".join(absent))], "fetch gz2")
        for verified in found:
            verified.check()


@command(DISTIL, "raydistill release demo --to my-set", "how-to/share.md")
def release(
    config: ConfigPath,
    overrides: Overrides = None,
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="A new folder for the set.")] = "released",
) -> None:
    """Release a distilled set with a card, so that others can check it.

    The folder has the selected images, a picture, the ids of the galaxies that it has seen, and a card:
    config, protocol, balanced accuracy, licence and citation. It has no picture of the survey.
    """
    with exit_on_error():
        from raydistill.exporting.release import release
        from raydistill.storage import Folder

        target = Folder(to)
        release(config, overrides or [], target)
        show([("Card", f"{target.shown}/card.json")], f"verify {shlex.quote(target.shown)}")
        print_result(target)
