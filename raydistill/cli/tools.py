"""Define the commands that need no plan: `export` and `configs`."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from enum import StrEnum
from typing import Annotated

import typer

from raydistill import shipped
from raydistill.cli.base import command, exit_on_error, print_result, show
from raydistill.table import SURVEY


class ExportForm(StrEnum):
    """List the names of `exporting.export.Form`."""

    DD_RANKING = "dd-ranking"
    PNG = "png"
    HUGGINGFACE = "huggingface"


# A file of a copy by what it shows, and Python that opens the copy at FOLDER.
_LOOK = {
    ExportForm.DD_RANKING: ("Images", "images.pt", "import torch; print(torch.load(FOLDER + '/images.pt').shape)"),
    ExportForm.PNG: ("Labels", "labels.csv", "import pandas; print(pandas.read_csv(FOLDER + '/labels.csv'))"),
    ExportForm.HUGGINGFACE: ("Card", "README.md", "import datasets; print(datasets.load_dataset(FOLDER))"),
}


@command(SURVEY, "raydistill export SET cards --format huggingface", "how-to/share.md")
def export(
    artifact: Annotated[
        str, typer.Argument(metavar="SET", help="The folder of a finished distilled, curated or synthetic set.")
    ],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A new folder for the copy.")],
    form: Annotated[ExportForm, typer.Option("--format", help="The file format to write.")] = ExportForm.DD_RANKING,
) -> None:
    """Export a set of pictures to the files of another program.

    dd-ranking: images.pt, labels.pt and lr.pt of a distilled set, as the package DD-Ranking loads them.
    png: a folder of a distilled set's images per class and a table of their labels.
    huggingface: Parquet files and a card, as datasets.load_dataset(FOLDER) opens them.
    info.json has the mean and std that undo the normalisation.
    """
    with exit_on_error():
        from raydistill.exporting.export import export, open_for_export
        from raydistill.storage import Folder

        target = Folder(folder)
        export(open_for_export(artifact, form.value), target, form.value)
        what, name, code = _LOOK[form]
        code = f"python -c {shlex.quote(code.replace('FOLDER', repr(target.shown)))}"
        show([(what, f"{target.shown}/{name}"), ("Next", code)])
        print_result(target)


@command(SURVEY, "raydistill configs --show demo > my.yaml", "config.md")
def configs(
    shown: Annotated[
        str | None, typer.Option("--show", metavar="NAME", help="Print the file of one, to read or to copy.")
    ] = None,
) -> None:
    """List the configs that come with raydistill.

    Give a name in place of CONFIG, or copy a file and change it. `extends=methods/NAME` gives a
    config the recipe of a paper.
    """
    with exit_on_error():
        if shown is not None:
            print_result(_text_of(shown))
            show([], f"run {shlex.quote(shown)} --dry-run")
            return
        print_result("\n".join([*_listed(""), "", "Methods, for extends=methods/NAME:", *_listed("methods")]))
        show([], "configs --show own_survey > my.yaml")


def _text_of(name: str) -> str:
    from raydistill.errors import ConfigError, nearest

    path = shipped.find(name)
    if path is None:
        raise ConfigError(f"there is no shipped config '{name}'", "--show", nearest(name, tuple(shipped.names())))
    return path.read_text().rstrip("\n")


def _listed(folder: str) -> list[str]:
    """Return a line per config: its name, and what its header says."""
    names = shipped.names(folder)
    indent, width = max(map(len, names)) + 2, shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    lines = []
    for name in names:
        path = shipped.find(f"{folder}/{name}" if folder else name)
        assert path is not None
        lines.append(textwrap.fill(f"{name:{indent}}{shipped.describe(path)}", width, subsequent_indent=" " * indent))
    return lines
