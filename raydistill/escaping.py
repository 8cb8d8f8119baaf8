"""Write text from outside so that its readers show it literally.

Names, licences and captions come from tables, archives and servers. They are never a template. Each
kind of output has one function here; pages are escaped by Jinja (`figures.pages`).

for_terminal     log lines and errors, without control characters and passwords
for_config       a YAML config, without interpolation
for_markdown     a line of Markdown, without HTML, links and pictures; markdown_table
csv_text         CSV whose cells are not formulas; from_csv reads a cell back
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

QUOTE = '"'
EMPTY = QUOTE * 2  # a row of one empty cell; an empty line is not a row
# Control characters except tab and line feed, the marks that change the direction of text, and the surrogates that
# stand for bytes that are not UTF-8.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PASSWORD = re.compile(r"(?<=://)[^/\s?#@]*:[^/\s?#]*@")
_MARKDOWN = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)|^[#+=-]|(?<=^\d)[.)]")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_FORMULA = re.compile("'*[=+@\t\r-]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE | re.ASCII)


def for_terminal(text: str) -> str:
    r"""Return text without passwords, and with its control characters shown.

    >>> print(for_terminal("red: \x1b[31m"))
    red: \x1b[31m
    >>> print(for_terminal("caf\udce9"))
    caf\xe9
    """
    return _CONTROL.sub(_escaped, hide_passwords(text))


def hide_passwords(text: str) -> str:
    """Return text whose addresses have no user and password.

    >>> hide_passwords("https://me:secret@mirror.org/a")
    'https://…@mirror.org/a'
    """
    return _PASSWORD.sub("…@", text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()


def is_utf8(text: str) -> bool:
    """Return whether text can be stored.

    Python reads bytes of a name that are not UTF-8 as surrogates, which no file can hold.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def for_config(values: Mapping[str, Any]) -> str:
    """Return the YAML of a config that gives the values back, uninterpolated."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(literal(dict(values))))


def literal(value: Any) -> Any:
    r"""Return values whose texts OmegaConf resolves to themselves.

    >>> print(literal({"licence": "${oc.env:HOME}"})["licence"])
    \${oc.env:HOME}
    """
    if isinstance(value, Mapping):
        return {key: literal(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [literal(child) for child in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def for_markdown(text: object) -> str:
    r"""Return text as one line of Markdown that shows it literally.

    >>> print(for_markdown("a | <b> [c](d) gz2_ring"))
    a \| &lt;b&gt; \[c\](d) gz2_ring
    """
    line = _MARKDOWN.sub(r"\\\g<0>", " ".join(for_terminal(str(text)).split()))
    return _ENTITY.sub("&amp;", line).replace("<", "&lt;").replace(">", "&gt;")


def markdown_table(rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown; the first row is its header, cells are literal."""
    head, *others = [[for_markdown(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))


def markdown_code(text: str, language: str = "") -> str:
    """Return a block of code, whose fence is longer than any backticks in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def csv_text(rows: Iterable[Iterable[object]], line_end: str = "\n") -> str:
    r"""Return CSV that a spreadsheet shows and does not calculate.

    Text that begins as a formula gets an apostrophe; numbers stay. `from_csv` removes it.

    >>> csv_text([["=1+1", "-1.5", "'=x", -2]])
    "'=1+1,-1.5,''=x,-2\n"
    """
    lines = (",".join(map(_csv_cell, row)) for row in rows)
    return "".join(f"{line or EMPTY}{line_end}" for line in lines)


def _csv_cell(cell: object) -> str:
    text = "" if cell is None else str(cell)
    if isinstance(cell, str) and _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    return f'"{text.replace(QUOTE, QUOTE * 2)}"' if re.search('[",\r\n]', text) else text


def from_csv(cell: str) -> str:
    """Return the text of a cell that `csv_text` wrote."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
