"""Check what is mechanical in the language of docs, docstrings and comments.

Usage: python dev/lint_language.py [FILE ...]

Without files it reads all that git tracks. It prints a line per fault, and fails if there is one:
prose beyond 100 columns, long sentences of a page, long first lines of docstrings, terms that have
a standard one, and paths of one machine.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
MAX_COLUMNS = 100
MAX_FIRST_LINE = 80  # of a docstring
MAX_MEDIAN_WORDS = 16  # of the sentences of a page
SKIPPED = {
    "dev/log.md",  # dated entries stay as they were written
    "dev/lint_language.py",  # these two state the faults
    "tests/test_language.py",
}
GENERATED = {"docs/config.md", "dev/bad-inputs.md"}  # written from docstrings and error messages
SUFFIXES = {".py", ".pyi", ".md", ".yaml", ".yml", ".toml", ".sh", ".sbatch", ""}

# A term, and the standard one of machine learning, distributed systems or astronomy.
TERMS = {
    r"signs? of life": "heartbeat",
    r"lost (?:workers?|nodes?|machines?)": "dead worker",
}
TERM = re.compile(rf"\b(?:{'|'.join(TERMS)})\b", re.I)
MACHINE = re.compile(r"(?<![\w.:~*])/(?:work|Users|home/(?!me\b|ray\b|raydistill\b)[a-z]\w*)/\w+")
FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.M | re.S)


def sentences(markdown: str) -> list[str]:
    """Return the sentences of a page, without code, tables, headings or images.

    A code span is one word.
    """
    text = FENCED.sub("\n", markdown)
    text = re.sub(r"\$\$.*?\$\$", "\n", text, flags=re.S)
    text = re.sub(r"^\s*(\||#|!\[|\{).*$", "\n", text, flags=re.M)
    text = re.sub(r"^\s*([-*]|\d+\.) ", "\n\n", text, flags=re.M)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", lambda link: link[1] or "LINK", text)
    text = re.sub(r"\b(et al|Eq|vs|e\.g|i\.e|Fig|Sect)\.", r"\1", text).replace("*", "")
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    parts = (part.strip() for block in blocks for part in re.split(r"(?<=[.!?])[)\"”]?\s+", block))
    return [part for part in parts if re.search(r"\w", part)]


def page_faults(markdown: str) -> Iterator[tuple[int, str]]:
    """Yield (line, fault) of the sentences and the wrapping of a page."""
    words = median([len(sentence.split()) for sentence in sentences(markdown)] or [0])
    if words > MAX_MEDIAN_WORDS:
        yield 1, f"the median sentence has {words:g} words, more than {MAX_MEDIAN_WORDS}"
    prose = FENCED.sub(lambda code: "\n" * code[0].count("\n"), markdown)
    breakable = re.sub(r"^(\||!\[|    ).*$|`[^`\n]*`|\[[^\]\n]*\]\([^)\n]*\)", "", prose, flags=re.M)
    for number, line in enumerate(breakable.splitlines(), 1):
        if len(line) > MAX_COLUMNS:
            yield number, f"prose of {len(line)} columns, more than {MAX_COLUMNS}"


def docstring_faults(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, fault) of the first lines of a module's docstrings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if len(first) > MAX_FIRST_LINE:
                yield node.body[0].lineno, f"first line of {len(first)} characters, more than {MAX_FIRST_LINE}"


def word_faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, fault) of terms that have a standard one, and of paths of one machine."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in TERM.finditer(line):
            standard = next(new for old, new in TERMS.items() if re.fullmatch(old, match[0], re.I))
            yield number, f"'{match[0]}', the standard term is '{standard}'"
        for match in MACHINE.finditer(line):
            yield number, f"'{match[0]}' is a path of one machine"


def faults(name: str, text: str) -> list[str]:
    """Return the faults of a file as "name:line: fault", in the order of its lines."""
    faults_found = list(word_faults(text))
    if name.endswith(".md") and name not in GENERATED:
        faults_found += page_faults(text)
    if name.endswith(".py"):
        faults_found += docstring_faults(text)
    return [f"{name}:{line}: {fault}" for line, fault in sorted(faults_found)]


def tracked() -> list[str]:
    """Return the names of the text files that git tracks."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = (name for name in listed.splitlines() if Path(name).suffix in SUFFIXES and (ROOT / name).is_file())
    return [name for name in files if name not in SKIPPED]


if __name__ == "__main__":
    every = [fault for name in sys.argv[1:] or tracked() for fault in faults(name, (ROOT / name).read_text())]
    sys.exit("\n".join(every) if every else 0)
