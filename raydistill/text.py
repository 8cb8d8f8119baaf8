"""Write tables and intervals as text of at most 80 columns."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from raydistill.escaping import for_terminal

WIDTH = 80  # columns
# The galaxies of a simulated survey are not real. Tables, figures, logs and MLflow show these names, which are true of
# every survey, in place of those that configs and files have.
NEUTRAL = {
    "random_real": "random_images",
    "real": "survey_only",
    "real_synthetic": "survey_and_synthetic",
    "real_distilled": "survey_and_distilled",
    "real_recombined": "survey_recombined",
}


def shown_name(name: str) -> str:
    """Return the name of a training set, a method or a strategy for a person.

    >>> [shown_name(name) for name in ("random_real", "experts")]
    ['random_images', 'experts']
    """
    return NEUTRAL.get(name, name)


def text_table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return rows, of which the first is the header, as a table.

    A cell may have several lines. Columns that do not fit beside the others follow below, again
    beside the first column.
    """
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    # In a notebook, a console would show the table there and write nothing, or write colours.
    console = Console(file=io.StringIO(), width=WIDTH, force_jupyter=False, force_terminal=False)
    console.print(Text(for_terminal(title)))
    first, num_columns = 1, len(rows[0])
    while first < num_columns:
        for end in range(num_columns, first, -1):
            table = Table(box=box.SIMPLE_HEAD)
            head, *rest = ([Text(for_terminal(cell)) for cell in (row[0], *row[first:end])] for row in rows)
            for cell in head:
                table.add_column(cell)
            for cells in rest:
                table.add_row(*cells)
            if Measurement.get(console, console.options, table).maximum < WIDTH:
                break
        console.print(table)
        first = end
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return "\n".join(line for line, after in zip(lines, [*lines[1:], "end"], strict=True) if line or after)


def sentence(text: str, indent: str = "") -> str:
    """Return text in lines of at most 80 columns, the later ones indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def interval(mean: float, low: float, high: float, sign: str = "", between: str = " ") -> str:
    """Return a mean and its 95 % interval; "-" for an unknown mean.

    >>> interval(28.4, 24.4, 32.4)
    '28.4 [24.4, 32.4]'
    >>> interval(7.8, 2.1, 13.5, sign="+")
    '+7.8 [+2.1, +13.5]'
    """
    if math.isnan(mean):
        return "-"
    form = f"{sign}.{3 if abs(mean) < 1 else 1}f"
    return f"{mean:{form}}" + ("" if math.isnan(low) else f"{between}[{low:{form}}, {high:{form}}]")


def format_number(value: float) -> str:
    """Return a number with three digits."""
    if not math.isfinite(value):
        return "unknown"
    if value == 0:
        return "0"
    return f"{value:{'.0f' if 1000 <= abs(value) < 1e6 else '#.3g'}}".rstrip(".").replace("-", "\N{MINUS SIGN}")


def glossary(words: Mapping[str, str], names: Iterable[str]) -> str:
    """Return a line for each name that `words` explain."""
    return "\n".join(sentence(f"{shown_name(name)}: {words[name]}", indent="  ") for name in names if name in words)


def survey_adjective(simulated: bool) -> str:
    """Return the adjective of a survey's galaxies in pages, tables and captions."""
    return "simulated" if simulated else "real"
