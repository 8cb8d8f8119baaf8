"""Docs, docstrings, comments and messages use short sentences and standard terms.

`python -m tests.test_language` prints the median words per sentence of every page, and the number
of home-made terms in every file that has some.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
MAX_MEDIAN_WORDS = 16
MAX_COLUMNS = 100
MAX_FIRST_LINE = 80  # of a docstring
HISTORY = {"docs/log.md"}  # dated entries stay as they were written
GENERATED = {"docs/config.md", "docs/errors.md"}  # written from docstrings and error messages
FROZEN_MESSAGES = {"raydistill/stages/distill/fits.py"}  # comments of FITS headers belong to the content digest

COMMENTED = (
    "configs/**/*.yaml",
    "deploy/**/*.*",
    "deploy/Dockerfile",
    ".github/**/*.yml",
    "*.yaml",
    "*.toml",
    "Makefile",
)

# A home-made term, and the standard one.
TERMS = {
    r"mend(s|ed|ing)?": "fix",
    r"whoever": "a process that, a user who",
    r"in vain": "without success, without progress",
    r"signs? of life": "heartbeat, lease",
    r"l(ie|ies|ay|ying) level|level (galax\w+|ones)|turned level": "aligned, with a horizontal major axis",
    r"long axis": "major axis",
    r"as (they|it|galaxies) (lies?|lay) in the sky": "unaligned, with their orientation in the sky",
    r"taught|teaches|is teaching": "trained on, used for",
    r"stands? still|standing still|stood still": "stays constant, is suspended",
    r"the board|a board": "coordinator",
    r"(workers?|helpers?|nodes?|machines?|experts?) (is|are|was|were|be|being) lost": "worker died",
    r"lost (workers?|helpers?|nodes?|machines?)": "dead worker",
    r"(goes|go|going|gone) on with(out)?|the same command goes on": "resume, continue, run the command again",
    r"(goes|went|gone) on after": "resume after",
    r"housed?|houses": "package",
    r"another hand|a helper is": "worker",
    r"makers?": "holder, process that builds",
    r"made anew|makes? it anew": "built again",
    r"news": "progress",
    r"pieces? (of|an|per|a) (trajector\w+|iteration)|(several|two|four) pieces": "segment",
    r"judge[sd]?|judging": "evaluate, test",
    r"contests?": "search, comparison",
    r"paint(s|ed|ing|ers?)?": "render, simulate, renderer",
    r"levers?": "option, ablation",
    r"want of": "lack of, out of",
    r"by and by": "gradually",
    r"walk(s|ed|ing)?": "forward pass, trajectory, recompute",
    r"befalls?": "happens to",
    r"for ever": "without end, indefinitely",
    r"heed(s|ed)?": "check, obey",
    r"knocks?": "probe",
    r"dialects?(?!\n)": "catalog schema",  # "dialect" alone on a line is the key
    r"settled?": "resolve",
    r"begun": "started",
    r"told": "reported, configured",
    r"thousandfold|tenfold": "1000 times, 10 times",
    r"nobody|no one": "no process, unread",
    r"and a sentence": "and an error message",
    r"of (its|their|one's) own accord": "automatically",
}
HOME_MADE = re.compile(rf"\b({'|'.join(TERMS)})\b", re.I)
BAD_START = re.compile(r"^(Of|What|Who|Whoever|That which)\b(?![^.!?]*\?)")


def prose_pages() -> list[Path]:
    """Return README and the pages of docs, without history and generated pages."""
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    return [page for page in pages if _name(page) not in HISTORY | GENERATED]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sentences(markdown: str) -> list[str]:
    """Return the sentences of a page, without code, tables, headings or images.

    A code span is one word.
    """
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1\s*$", "\n", markdown, flags=re.M | re.S)
    text = re.sub(r"\$\$.*?\$\$", "\n", text, flags=re.S)
    text = re.sub(r"^\s*(\||#|!\[|\{).*$", "\n", text, flags=re.M)
    text = re.sub(r"^\s*([-*]|\d+\.) ", "\n\n", text, flags=re.M)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", lambda link: link[1] or "LINK", text)
    text = re.sub(r"\b(et al|Eq|vs|e\.g|i\.e|Fig|Sect)\.", r"\1", text).replace("*", "")
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    found = (sentence.strip() for block in blocks for sentence in re.split(r"(?<=[.!?])[)\"”]?\s+", block))
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def median_words(markdown: str) -> float:
    """Return the median number of words in a sentence; 0 for a page without sentences."""
    return median([len(sentence.split()) for sentence in sentences(markdown)] or [0])


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every docstring of a Python file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[:1]
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                yield body[0].lineno, str(body[0].value.value)


def comments_and_docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every docstring and every comment of a Python file."""
    yield from docstrings(source)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def hash_comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every comment of a file in YAML, TOML or shell syntax."""
    for number, line in enumerate(source.splitlines(), 1):
        if match := re.search(r"(?:^|\s)#+\s+(.*)", line):
            yield number, match[1]


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every string of three words or more.

    A key such as `survey.dialect` is one word.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) >= 3:
            yield node.lineno, re.sub(r"\w+(\.\w+)+", "KEY", _without_code(node.value))


def _without_code(text: str) -> str:
    text = re.sub(r"^(`{3,}).*?^\1\s*$", "\n", text, flags=re.M | re.S)
    return re.sub(r"``?[^`\n]+``?", "CODE", re.sub(r"\]\([^)]*\)", "]", text))


def home_made_terms(path: Path) -> list[str]:
    """Return home-made terms as "line: term", and bad starts of sentences, in a file."""
    if path.suffix != ".md":
        comments = comments_and_docstrings if path.suffix == ".py" else hash_comments
        texts = list(comments(path.read_text()))
        starts = [sentence for _, text in texts for sentence in re.split(r"(?<=[.!?])\s+|\n\n", _without_code(text))]
    else:
        texts = [(1, path.read_text())]
        starts = sentences(texts[0][1])
    terms = [f"{line}: {match[0]}" for line, text in texts for match in HOME_MADE.finditer(_without_code(text))]
    return terms + [" ".join(start.split())[:60] for start in starts if BAD_START.match(start.strip())]


def long_first_lines(source: str) -> list[str]:
    """Return the docstrings' first lines that exceed the limit, as "line: text"."""
    first = ((line, text.strip().partition("\n")[0]) for line, text in docstrings(source))
    return [f"{line}: {text}" for line, text in first if len(text) > MAX_FIRST_LINE]


def checked_files() -> list[Path]:
    """Return the pages and the modules in which home-made terms are not allowed."""
    folders = ("raydistill", "tests", "benchmarks", "jobs", "examples")
    modules = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    settings = [path for pattern in COMMENTED for path in sorted(ROOT.glob(pattern))]
    return [*prose_pages(), *(path for path in modules if path != Path(__file__).resolve()), *settings]


@pytest.mark.parametrize("page", prose_pages(), ids=_name)
def test_median_sentence_of_a_page_is_short(page: Path) -> None:
    assert median_words(page.read_text()) <= MAX_MEDIAN_WORDS


@pytest.mark.parametrize("path", checked_files(), ids=_name)
def test_standard_terms_are_used(path: Path) -> None:
    assert home_made_terms(path) == []


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "raydistill").rglob("*.py")) if _name(path) not in FROZEN_MESSAGES],
    ids=_name,
)
def test_messages_use_standard_terms(path: Path) -> None:
    assert [
        f"{line}: {match[0]}" for line, text in messages(path.read_text()) for match in HOME_MADE.finditer(text)
    ] == []


@pytest.mark.parametrize("path", [path for path in checked_files() if path.suffix == ".py"], ids=_name)
def test_first_line_of_a_docstring_is_short(path: Path) -> None:
    assert long_first_lines(path.read_text()) == []


def test_long_first_lines_are_found() -> None:
    source = f'"""Module."""\n\ndef short():\n    """{"x" * 80}"""\n\ndef long():\n    """{"x" * 81}\n\n    More."""\n'
    assert long_first_lines(source) == ["7: " + "x" * 81]


@pytest.mark.parametrize("page", prose_pages(), ids=_name)
def test_prose_wraps_at_100_columns(page: Path) -> None:
    prose = re.sub(r"^(`{3,}|~{3,}).*?^\1\s*$", "", page.read_text(), flags=re.M | re.S)
    breakable = re.sub(r"^(\||!\[|    ).*$|`[^`]*`|\[[^\]]*\]\([^)]*\)", "", prose, flags=re.M)
    assert [line for line in breakable.splitlines() if len(line) > MAX_COLUMNS] == []


def test_sentences_are_counted_as_a_reader_would() -> None:
    page = "# What\n\nOne two `a b c` four. Five [six seven](x.md)!\n\n- A list item\n\n| a | table |\n\n```text\ncode\n```\n"
    assert [len(sentence.split()) for sentence in sentences(page)] == [4, 3, 3]
    assert median_words(page) == 3


def test_comments_of_settings_are_read() -> None:
    source = "# one\nkey: a#b  # two\nrun: |\n\techo x # three\n"
    assert list(hash_comments(source)) == [(1, "one"), (2, "two"), (4, "three")]


def test_home_made_terms_are_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('"""Who mends it."""\nx = 1  # a sign of life; `mend` is a name\n')
    assert home_made_terms(path) == ["1: mends", "2: sign of life", "Who mends it."]
    assert [text for _, text in messages('raise E(f"set survey.dialect to {x}", "one word")')] == ["set KEY to "]


if __name__ == "__main__":
    for page in prose_pages():
        count, words = len(sentences(page.read_text())), median_words(page.read_text())
        longest = max([len(sentence.split()) for sentence in sentences(page.read_text())] or [0])
        print(f"{_name(page):44} {count:4} sentences, median {words:4.1f} words, longest {longest}")
    for path in checked_files():
        if terms := home_made_terms(path):
            print(f"{_name(path):60} {len(terms):3}  {', '.join(terms[:6])}")
