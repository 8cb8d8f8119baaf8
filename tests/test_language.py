"""The lint of docs and docstrings finds what it should, and nothing else."""

from __future__ import annotations

import lint_language as lint
import pytest

LONG = "word " * 30 + "end."
CODE = "```text\n" + "x" * 200 + "\n```\n"


def test_sentences_are_counted_as_a_reader_would() -> None:
    page = "# What\n\nOne two `a b c` four. Five [six seven](x.md)!\n\n- A list item\n\n| a | table |\n\n```text\ncode\n```\n"
    assert [len(sentence.split()) for sentence in lint.sentences(page)] == [4, 3, 3]


@pytest.mark.parametrize(
    ("name", "text", "faults"),
    [
        ("a.md", f"# Title\n\nShort text.\n\n{CODE}\n| {'x' * 200} |\n\n[a](http://{'x' * 200}) and `{'x' * 200}`.\n", []),
        ("a.md", f"{CODE}\n{'word ' * 14}{'x' * 31} y.\n", ["a.md:5: prose of 104 columns, more than 100"]),
        ("a.md", LONG.replace(" ", "\n"), ["a.md:1: the median sentence has 31 words, more than 16"]),
        ("docs/config.md", LONG, []),
        ("a.py", f'"""{"x" * 80}"""\n', []),
        ("a.py", f'x = 1\n\n\ndef f():\n    """{"x" * 81}\n\n    More."""\n',
         ["a.py:5: first line of 81 characters, more than 80"]),
        ("a.py", "# The news was told: a walk is settled.\n", []),
        ("a.yaml", "a: 1\n# A sign of life.\n", ["a.yaml:2: 'sign of life', the standard term is 'heartbeat'"]),
        ("a.sh", "cd /home/somebody/raydistill\n", ["a.sh:1: '/home/somebody/raydistill' is a path of one machine"]),
        ("a.sh", "cd /home/ray/raydistill; ls https://a.b/work/c\n", []),
    ],
)  # fmt: skip
def test_faults_are_found(name: str, text: str, faults: list[str]) -> None:
    assert lint.faults(name, text) == faults
