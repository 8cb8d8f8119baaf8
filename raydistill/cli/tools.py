"""Define the commands that need no plan: `fetch`, `export` and `configs`."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import textwrap
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from raydistill import shipped
from raydistill.cli.base import Json, Verbose, app, command, epilog, exit_on_error, print_result, require_dry_run, show
from raydistill.fetching.records import KAGGLE, RECORDS, Record, find_record
from raydistill.table import SURVEY

# Define `raydistill fetch`: a command per public record, and one for cut-outs.

To = Annotated[str, typer.Option(metavar="FOLDER", help="Destination; each record has a folder in it.")]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar="RAYDISTILL_FETCH_BASE_URL",
        help="A mirror, as wget --recursive makes it: its folders have the names of the hosts.",
    ),
]  # fmt: skip
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Accept a mirror or a redirect without https. 127.0.0.1 needs no https.")
]
Parallel = Annotated[int, typer.Option(help="Files that are downloaded at the same time.")]
Attempts = Annotated[int, typer.Option(min=1, help="Attempts without any progress, after which the command ends.")]
KeepArchives = Annotated[bool, typer.Option("--keep-archives", help="Keep archives after they are unpacked.")]
FetchDryRun = Annotated[bool, typer.Option("--dry-run", help="Show files, addresses and licence, and fetch nothing.")]
PAGE = "how-to/fetch.md"

fetch = typer.Typer(
    no_args_is_help=True, epilog=epilog("raydistill fetch efigi --to data", PAGE), rich_markup_mode=None,
    help="Download public records of galaxies, or cut-outs by position. An interrupted download resumes.",
)  # fmt: skip
app.add_typer(fetch, name="fetch", rich_help_panel=SURVEY)


def _add_command(record: Record) -> None:
    size = record.size or "size not published"

    @fetch.command(
        record.name,
        epilog=epilog(f"raydistill fetch {record.name} --to data", PAGE),
        short_help=f"{record.title}. {size[:1].upper()}{size[1:]}; {record.licence}.",
        help=f"{record.title}.\n\nSize: {size}. Licence: {record.licence}. Please cite: {record.citation}. "
        f"See {record.homepage}.",
    )
    def command(
        to: To = "data",
        base_url: BaseUrl = None,
        insecure: Insecure = False,
        parallel: Parallel = 4,
        attempts: Attempts = 8,
        keep_archives: KeepArchives = False,
        dry_run: FetchDryRun = False,
        as_json: Json = False,
        verbose: Verbose = 0,
    ) -> None:
        with exit_on_error():
            from raydistill import log
            from raydistill.fetching import runner
            from raydistill.fetching.http import Patience
            from raydistill.storage import Folder

            log.setup(verbose)
            if dry_run or as_json:
                rows = runner.describe_records([record.name], Path(to), base_url)
                require_dry_run(dry_run)
                print_result(json.dumps(rows, indent=2) if as_json else _as_text(rows[0]))
                return
            (fetched,) = runner.fetch(
                record.name,
                to=to,
                base_url=base_url,
                insecure=insecure,
                parallel=parallel,
                keep_archives=keep_archives,
                patience=Patience(attempts=attempts),
            )
            config = fetched.config
            path = None if config is None else Folder(config).shown
            show([] if path is None else [("Config", path)], _next(path))
            print_result(fetched.folder)


def _as_text(row: dict[str, Any]) -> str:
    """Return the description of a record for a person."""
    lines = [
        f"{row['title']} ({row['record']})",
        f"Folder:   {row['folder']}, {'complete' if row['complete'] else 'to fetch'}",
        f"Size:     {row['size']}",
        f"Licence:  {row['licence']}",
        f"Citation: {row['citation']}",
        *(f"File:     {file['name']}\n          {file['url']}" for file in row["files"]),
        "Nothing was fetched. --json has the checksums too.",
    ]
    return "\n".join(lines)


def _next(config: str | None) -> str:
    return "configs --show own_survey > my.yaml" if config is None else f"curate {shlex.quote(config)}"


for _record in RECORDS.values():
    _add_command(_record)


@fetch.command(
    epilog=epilog("raydistill fetch kaggle", PAGE),
    short_help="Kaggle's Galaxy Zoo challenge: needs an account, so its own tool fetches it.",
)
def kaggle() -> None:
    """Say how to fetch the Galaxy Zoo challenge of Kaggle, which needs an account."""
    with exit_on_error():
        find_record("kaggle")


kaggle.__doc__ = f"{kaggle.__doc__} The command is: {KAGGLE}."


@fetch.command(
    epilog=epilog("raydistill fetch cutouts table.csv --survey legacy", PAGE),
    short_help="A picture of each galaxy of a table, from SDSS or the Legacy Surveys.",
)
def cutouts(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="A table with object ids and positions, in any format.")
    ],
    to: Annotated[str, typer.Option(metavar="FOLDER", help="Destination of the pictures.")] = "cutouts",
    survey: Annotated[str, typer.Option(help="sdss or legacy.")] = "sdss",
    pixels: Annotated[int, typer.Option(help="Side of a picture in pixels.")] = 424,
    scale: Annotated[
        float | None,
        typer.Option(help="Arcseconds a pixel. Default: the picture spans 8.48 R90 of its galaxy, as in Galaxy Zoo 2."),
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="Data release of SDSS (dr17) or layer of the Legacy Surveys (ls-dr10).")
    ] = None,
    rate: Annotated[float, typer.Option(help="Most requests a second.")] = 2.0,
    parallel: Annotated[int, typer.Option(help="Pictures that are fetched at the same time.")] = 2,
    object_id: Annotated[str | None, typer.Option("--id", metavar="NAME", help="Column of the object ids.")] = None,
    ra: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the right ascension.")] = None,
    dec: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the declination.")] = None,
    r90: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the Petrosian R90 in arcseconds.")] = None,
    hdu: Annotated[str | None, typer.Option(metavar="NAME", help="Table of a file with several.")] = None,
    base_url: BaseUrl = None,
    insecure: Insecure = False,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts for each picture.")] = 4,
    verbose: Verbose = 0,
) -> None:
    """Fetch a JPEG of each galaxy of a table by its position, named by its object id.

    Pictures that are there are not fetched again. failures.csv lists galaxies without a picture.
    """
    with exit_on_error():
        from raydistill import log
        from raydistill.fetching.cutouts import CutoutRequest, fetch_cutouts
        from raydistill.fetching.http import Patience
        from raydistill.storage import Folder

        log.setup(verbose)
        names = {"id": object_id, "ra": ra, "dec": dec, "petro_r90": r90}
        report = fetch_cutouts(
            table,
            to,
            CutoutRequest(survey, pixels, scale, release),
            columns={role: name for role, name in names.items() if name},
            hdu=int(hdu) if hdu and hdu.isdecimal() else hdu,
            rate=rate,
            parallel=parallel,
            base_url=base_url,
            insecure=insecure,
            patience=Patience(attempts=attempts, stall_seconds=30),
        )
        show([("Pictures", Folder(report.folder).shown)], "configs --show own_survey > my.yaml")
        print_result(report.folder)


# Define the commands that need no plan: `export` and `configs`.


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
        str,
        typer.Argument(
            metavar="SET",
            help="The folder of a finished distilled, curated or synthetic set, or a name of `raydistill sets`.",
        ),
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
        export(open_for_export(shipped.set_folder(artifact), form.value), target, form.value)
        what, name, code = _LOOK[form]
        code = f"python -c {shlex.quote(code.replace('FOLDER', repr(target.shown)))}"
        show([(what, f"{target.shown}/{name}"), ("Next", code)])
        print_result(target)


@command(SURVEY, "raydistill quantities runs/efigi9/predictions-… t.csv --column T quantities", "how-to/predict.md")
def quantities(
    artifact: Annotated[str, typer.Argument(metavar="PREDICTIONS", help="The folder of predictions with features.")],
    known: Annotated[str, typer.Argument(metavar="TABLE", help="A table with the values of some of the galaxies.")],
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A new folder for the tables.")],
    column: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="A column or an expression of columns; may be given several times."),
    ],
    object_id: Annotated[str | None, typer.Option("--id", metavar="NAME", help="Column of the object ids.")] = None,
    seed: Annotated[int, typer.Option(help="Divides the galaxies of known value.")] = 0,
) -> None:
    """Predict quantities of galaxies, such as redshift or size, with 95 % intervals.

    A regression on the stored features is fitted to three fifths of the galaxies whose value the table
    knows. One fifth calibrates its intervals, and the last fifth tests them.
    """
    with exit_on_error():
        from raydistill.stages.predict.artifact import PredictionSet
        from raydistill.stages.predict.quantities import write_quantities
        from raydistill.storage import Folder

        target = Folder(folder)
        lines = write_quantities(PredictionSet.open(artifact), known, column, object_id, seed, target)
        show([*lines, ("Picture", f"{target.shown}/quantities.png")])
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
