"""Cells run in a real kernel, and the tests read their outputs."""

from __future__ import annotations

from typing import Any

import nbformat
from nbclient import NotebookClient


def outputs_of(*cells: str) -> list[list[dict[str, Any]]]:
    """Run cells in one kernel; return the outputs of each."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    return [cell["outputs"] for cell in notebook.cells]


def text_of(outputs: list[dict[str, Any]]) -> str:
    return "".join(output.get("text", "") for output in outputs)


def test_a_cell_shows_one_bar_whatever_number_of_loops_it_runs() -> None:
    setup = "import raydistill as rd; from raydistill import log\nrd.setup_logging()"
    loops = """
for outcome in ("first", "last <b>"):
    with log.progress(2, outcome, "parts") as outer:
        for _ in range(2):
            with log.progress(None, "inner", "pieces") as inner:
                inner.advance()
            outer.advance(loss=0.5)
    log.get_logger("raydistill").warning("after %s", outcome)
"""
    _, outputs, again = outputs_of(setup, loops, loops)
    for cell in (outputs, again):
        bar, *others = [output["data"] for output in cell if output["output_type"] == "display_data"]
        assert not others
        assert '<progress value="2" max="2">' in bar["text/html"]
        assert "last &lt;b&gt;: 2/2 parts" in bar["text/html"]
        assert "inner" not in bar["text/html"]
        assert bar["text/plain"].startswith("last <b>: 2/2 parts, ")
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}, "stderr is red in a notebook"
    assert "after first" in text_of(outputs)
    assert "after last <b>" in text_of(outputs)


def test_config_is_a_table_of_the_keys_that_differ() -> None:
    (config,) = outputs_of('import raydistill as rd\nrd.load_config("demo")')
    data = config[0]["data"]
    assert len(data["text/plain"]) < 400
    assert "<td>curate.split</td><td>[0.6, 0.15, 0.25]</td>" in data["text/html"]
