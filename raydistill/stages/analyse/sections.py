"""Define report sections: text, tables, figures, and statements with uncertainty.

A section is made once and written once, as files of the artifact `analysis`:

- `tables/NAME.ecsv` and `tables/NAME.parquet`, with units and descriptions;
- `figures/NAME.svg` and `figures/NAME.png`;
- `sections/KEY.html`: further content of the page, where there is some;
- `sections/KEY.json`: text, shown tables and statements. It is written last, so a
  section with this file is whole.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import matplotlib
import pyarrow as pa
from astropy import units
from astropy.table import Table
from matplotlib.figure import Figure

from raydistill.artifacts.records import Record, read_json
from raydistill.artifacts.tables import write_table
from raydistill.figures.drawing import CHART_DPI, STYLE
from raydistill.statistics.intervals import known
from raydistill.statistics.testing import SIGNIFICANCE
from raydistill.storage import Folder


@dataclass(frozen=True)
class Quantity:
    """A column of a table.

    Attributes
    ----------
    name
        Name of the column.
    description
        Its meaning.
    unit
        A unit that astropy reads, such as "arcsec"; "" for a number without one.
    """

    name: str
    description: str
    unit: str = ""


@dataclass(frozen=True)
class SectionTable:
    """A table of the report.

    Attributes
    ----------
    name
        Name of its files.
    caption
        The sentence above it on the page.
    rows
        The table. On the page numbers have three digits.
    quantities
        One for each column, in order.
    shown
        Whether the page shows it; a large table is only a file.
    """

    name: str
    caption: str
    rows: pa.Table
    quantities: tuple[Quantity, ...]
    shown: bool = True

    def __post_init__(self) -> None:
        if [quantity.name for quantity in self.quantities] != self.rows.column_names:
            raise ValueError(f"the table {self.name} needs a quantity for each of its columns, in order")

    @classmethod
    def of_rows(
        cls, name: str, caption: str, rows: Sequence[Sequence[Any]], quantities: tuple[Quantity, ...],
        types: Mapping[str, pa.DataType] | None = None, *, shown: bool = True,
    ) -> SectionTable:  # fmt: skip
        """Return a table of rows, each with a value per quantity; None where unknown.

        `types` gives the types of columns whose values may all be None.
        """
        columns = {
            quantity.name: pa.array([row[number] for row in rows], (types or {}).get(quantity.name))
            for number, quantity in enumerate(quantities)
        }
        return cls(name, caption, pa.table(columns), quantities, shown)


@dataclass(frozen=True)
class SectionFigure:
    """A figure of the report.

    Attributes
    ----------
    name
        Name of its files.
    alt
        The figure in words, for readers who do not see it.
    caption
        The text below it.
    figure
        The figure. Large clouds of points in it are rasterised.
    """

    name: str
    alt: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Statement:
    """A claim with its uncertainty.

    Attributes
    ----------
    text
        A sentence without the numbers.
    value
        The estimate; NaN where it cannot be made.
    low, high
        Ends of the 95 % interval; NaN where unknown.
    n
        Number of galaxies, networks or sets on which it rests.
    p_value
        Adjusted for the number of statements of its section. None: nothing was tested.
    """

    text: str
    value: float
    low: float
    high: float
    n: int
    p_value: float | None = None

    @property
    def is_significant(self) -> bool:
        """Return whether chance does not explain it; False if it was not tested."""
        return self.p_value is not None and self.p_value <= SIGNIFICANCE


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes
    ----------
    key
        Its name in links and files.
    title
        Its heading.
    introduction
        Paragraphs of text.
    tables, figures, statements
        Its content, in the order of the page.
    html
        Further content as HTML, made by a template of `analysis.pages`; "" for none.
    missing
        Where the section could not be made: the reason, and what to do. "" otherwise.
    """

    key: str
    title: str
    introduction: tuple[str, ...] = ()
    tables: tuple[SectionTable, ...] = ()
    figures: tuple[SectionFigure, ...] = ()
    statements: tuple[Statement, ...] = ()
    html: str = ""
    missing: str = ""


@dataclass(frozen=True)
class FigureRecord:
    """A written figure: its files are `figures/NAME.svg` and `figures/NAME.png`."""

    name: str
    alt: str
    caption: str

    @property
    def svg(self) -> str:
        """Return the name of the vector file."""
        return f"figures/{self.name}.svg"

    @property
    def png(self) -> str:
        """Return the name of the raster file."""
        return f"figures/{self.name}.png"


@dataclass(frozen=True)
class TableRecord:
    """A written table: its files are `tables/NAME.ecsv` and `tables/NAME.parquet`.

    `columns` and `rows` are empty where the page does not show it.
    """

    name: str
    caption: str
    num_rows: int
    columns: list[dict[str, str]]
    rows: list[list[Any]]

    @property
    def ecsv(self) -> str:
        """Return the name of the text file."""
        return f"tables/{self.name}.ecsv"

    @property
    def parquet(self) -> str:
        """Return the name of the Parquet file."""
        return f"tables/{self.name}.parquet"


@dataclass(frozen=True)
class SectionRecord(Record):
    """A written section: the contents of `sections/KEY.json`."""

    key: str
    title: str
    introduction: list[str]
    tables: list[TableRecord]
    figures: list[FigureRecord]
    statements: list[Statement]
    has_html: bool = False
    missing: str = ""

    @property
    def files(self) -> list[str]:
        """Return the names of all files of the section."""
        tables = [name for table in self.tables for name in (table.ecsv, table.parquet)]
        figures = [name for figure in self.figures for name in (figure.svg, figure.png)]
        return [section_file(self.key), *([html_file(self.key)] if self.has_html else []), *tables, *figures]

    @property
    def significant(self) -> list[Statement]:
        """Return the statements that chance does not explain."""
        return [statement for statement in self.statements if statement.is_significant]

    @property
    def insignificant(self) -> list[Statement]:
        """Return the statements that were tested and that chance may explain."""
        return [
            statement for statement in self.statements if statement.p_value is not None and not statement.is_significant
        ]

    @property
    def descriptive(self) -> list[Statement]:
        """Return the statements that were not tested."""
        return [statement for statement in self.statements if statement.p_value is None]


def section_file(key: str) -> str:
    """Return the name of a section's JSON file."""
    return f"sections/{key}.json"


def html_file(key: str) -> str:
    """Return the name of the file with a section's further content."""
    return f"sections/{key}.html"


def write_section(folder: Folder, section: Section) -> SectionRecord:
    """Write the files of a section, its JSON file last."""
    tables = [_write_table(folder, table) for table in section.tables]
    figures = [_write_figure(folder, figure) for figure in section.figures]
    if section.html:
        folder.write(html_file(section.key), section.html.encode())
    record = SectionRecord(
        section.key,
        section.title,
        list(section.introduction),
        tables,
        figures,
        list(section.statements),
        bool(section.html),
        section.missing,
    )
    folder.write(section_file(section.key), record.to_json())
    return record


def read_section(folder: Folder, key: str) -> SectionRecord:
    """Return a written section."""
    return read_json(folder, section_file(key), SectionRecord)


def _write_table(folder: Folder, table: SectionTable) -> TableRecord:
    astropy_table = to_astropy(table.rows, table.quantities, table.caption)
    text = io.StringIO()
    astropy_table.write(text, format="ascii.ecsv")
    folder.write(f"tables/{table.name}.ecsv", text.getvalue().encode())
    described = with_metadata(table.rows, table.quantities, table.caption)
    write_table(folder, f"tables/{table.name}.parquet", described)
    columns = [asdict(quantity) for quantity in table.quantities] if table.shown else []
    rows = [[known(cell) for cell in row.values()] for row in table.rows.to_pylist()] if table.shown else []
    return TableRecord(table.name, table.caption, len(table.rows), columns, rows)


def _write_figure(folder: Folder, figure: SectionFigure) -> FigureRecord:
    record = FigureRecord(figure.name, figure.alt, figure.caption)
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": figure.name, "svg.fonttype": "path"}):
        with folder.writing(record.svg) as path:
            figure.figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, dpi=CHART_DPI)
        with folder.writing(record.png) as path:
            figure.figure.savefig(path, format="png", metadata={"Software": None}, dpi=CHART_DPI)
    return record


def to_astropy(rows: pa.Table, quantities: Sequence[Quantity], caption: str) -> Table:
    """Return a table with units and descriptions; unknown numbers are masked."""
    table = Table.from_pandas(rows.to_pandas())
    for quantity in quantities:
        column = table[quantity.name]
        column.description = quantity.description
        if quantity.unit:
            column.unit = units.Unit(quantity.unit)
    table.meta["caption"] = caption
    return table


def with_metadata(rows: pa.Table, quantities: Sequence[Quantity], caption: str) -> pa.Table:
    """Return a table whose Parquet schema holds units and descriptions."""
    notes: list[Mapping[str, str]] = [
        {"unit": quantity.unit, "description": quantity.description} for quantity in quantities
    ]
    fields = [column.with_metadata(note) for column, note in zip(rows.schema, notes, strict=True)]
    return rows.cast(pa.schema(fields, metadata={"caption": caption}))
