"""Text from outside is shown literally in every kind of output."""

from __future__ import annotations

import csv
import io

import hypothesis.strategies as st
import pytest
from hypothesis import example, given
from markdown_it import MarkdownIt
from omegaconf import OmegaConf

from raydistill.escaping import (
    csv_text,
    for_config,
    for_markdown,
    for_terminal,
    from_csv,
    markdown_code,
    markdown_table,
)

HOSTILE = st.text(alphabet="\\${}ab:'\"?., \n|<>&;#*_`[]()!=+-@\t\r1e~'%\x1b\u202e", max_size=16)


@given(HOSTILE)
@example("${oc.env:HOME}")
@example("1e3")
@example("2020-01-01")
@example("{{ 1 }}")
@example("a: b\nname: other")
@example("!!python/object:os.system")
def test_config_gives_the_text_back(text: str) -> None:
    values = {"survey": {"licence": text, "columns": [text], "b": {text or "key": 1}}, "seed": 3, "on": True}
    read = OmegaConf.to_container(OmegaConf.create(for_config(values)), resolve=True)
    assert read == values


@given(HOSTILE)
@example("![x](http://a/b.png) <script>alert(1)</script> &lt; https")
@example("# title")
@example("1. item")
def test_markdown_shows_the_text(text: str) -> None:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(f"{for_markdown(text)}\n")
    shown = [inline for token in tokens if token.type == "inline" for inline in token.children or ()]
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}
    assert {inline.type for inline in shown} <= {"text", "text_special"}
    assert "".join(inline.content for inline in shown) == " ".join(for_terminal(text).split())


@given(st.lists(HOSTILE, min_size=1, max_size=3))
@example(["a | b", "x\ny"])
def test_table_keeps_its_columns(cells: list[str]) -> None:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown_table([["head"] * len(cells), cells]))
    assert [token.type for token in tokens].count("td_open") == len(cells)
    assert tokens[-1].type == "table_close"


@given(HOSTILE)
@example("a\n```\n<script>\n````")
def test_block_of_code_ends_where_it_should(text: str) -> None:
    tokens = MarkdownIt().parse(markdown_code(text, "yaml"))
    assert [token.type for token in tokens] == ["fence"]


@given(st.lists(HOSTILE, min_size=1, max_size=3))
@example(["=cmd|' /C calc'!A0", "-1.5", "'=x"])
def test_csv_gives_the_text_back(cells: list[str]) -> None:
    ((*read,),) = csv.reader(io.StringIO(csv_text([cells, ["end"]]).removesuffix("end\n"), newline=""))
    assert [from_csv(cell) for cell in read] == cells
    for cell in read:
        assert not cell.startswith(("=", "@", "\t", "\r"))
        if cell.startswith(("+", "-")):
            float(cell)


@pytest.mark.parametrize("number", ["-1.5", "+15.8", "-3", "-1e-7", "+.5", "-2.", "-inf"])
def test_numbers_stay_numbers(number: str) -> None:
    assert csv_text([[number, float(number)]]) == f"{number},{float(number)}\n"


@given(HOSTILE)
def test_terminal_gets_no_control_characters(text: str) -> None:
    shown = for_terminal(text)
    assert all(character in "\n\t" or character.isprintable() for character in shown)
